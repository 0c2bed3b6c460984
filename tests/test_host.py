"""What the machine brings (locale, time zone, umask, backends, streams, folders) stops nothing and changes no byte."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import mzprobe
from mzprobe.files import canonical_json, new_directory, write_directory, write_file
from mzprobe.probes.registry import PROBES
from mzprobe.probes.runner import ProbeRun, run_probe
from mzprobe.settings import HorizonConfig
from mzprobe.tables import read_table, write_table

PACKAGE = Path(mzprobe.__file__).parent
HOME = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PACKAGE.parent)}
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
ODD = {
    "bare": {"MPLBACKEND": "module://no_such_notebook.backend", "TERM": "dumb", "COLUMNS": "0", **ASCII},
    "dressed": {
        "HOME": "/proc/nowhere",
        "MPLBACKEND": "TkAgg",
        "COLUMNS": "7",
        "NO_COLOR": "1",
        "TZ": "Mars/Olympus-97:61",
        "LC_ALL": "xx_XX.ISO-8859-5",
    },
}


def started(*arguments, environment=None, shell='exec "$@"', cwd=None, **options):
    """A command in a process of its own, from a shell that arranges what it finds; without this process's variables."""
    return subprocess.run(
        ["sh", "-c", shell, "sh", sys.executable, *options.pop("python", ()), "-m", "mzprobe", *map(str, arguments)],
        cwd=cwd,
        env=HOME | (os.environ if environment is None else environment),
        capture_output=True,
        timeout=120,
        **options,
    )


def contents_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def tables(tmp_path_factory, agent):
    """Folder of tables with one probe of the tiny agent. Only for reading."""
    folder = tmp_path_factory.mktemp("tables")
    config = HorizonConfig(states=4, episodes=1, horizon=2)
    path = run_probe(ProbeRun(probe=PROBES["horizon"], agent=agent, config=config, analyses=folder))
    table = read_table(path)
    odd = "mzprobe eval-horizon agents/\udcc3\udca9"  # a path of another locale, which is no UTF-8, as older tables had
    record = {**table.record, "commands": dict.fromkeys(table.record["commands"], odd)}
    write_table(path, replace(table, record=record))
    return folder


@pytest.fixture(scope="module")
def plain(tables, tmp_path_factory):
    """The files and the words of figures and claims where nothing is odd."""
    folder = tmp_path_factory.mktemp("plain")
    done = [started(name, "tiny", "--analyses", tables, "--out", "out", cwd=folder) for name in ("figures", "claims")]
    assert [one.returncode for one in done] == [0, 0]
    return contents_of(folder / "out"), started("claims", "tiny", "--json", "--analyses", tables, cwd=folder).stdout


# Bytes


@pytest.mark.slow
@pytest.mark.parametrize(("odd", "umask"), [("bare", 0o077), ("dressed", 0)])
def test_figures_and_claims_are_the_same_bytes_wherever_they_are_made(tmp_path, tables, plain, odd, umask):
    elsewhere = tmp_path / "d\xe9j\xe0 vu"
    elsewhere.mkdir()
    (elsewhere / "matplotlibrc").write_text("axes.titlepad: 40\npath.sketch: 5, 100, 2\nsavefig.dpi: 7\n")
    said = {}
    for name, more in (("figures", ()), ("claims", ()), ("claims", ("--json",))):
        done = started(
            name,
            "tiny",
            *more,
            *("--analyses", os.path.relpath(tables, elsewhere), "--out", "out"),
            environment=ODD[odd],
            cwd=elsewhere,
            shell=f'umask {umask:o} && exec "$@"',
            python=("-X", "warn_default_encoding", "-W", "default::EncodingWarning"),
        )
        assert done.returncode == 0, done.stderr
        assert f"{PACKAGE}".encode() not in done.stderr  # no warning and no traceback comes from a file of ours
        said[name, *more] = done.stdout
    files, findings = plain
    assert contents_of(elsewhere / "out") == files
    assert len(files) == 4
    assert said["claims", "--json"] == findings
    assert {path.stat().st_mode & 0o777 for path in (elsewhere / "out").rglob("*.*")} == {0o666 & ~umask}
    assert {path.stat().st_mode & 0o777 for path in (elsewhere / "out", elsewhere / "out/tiny")} == {0o777 & ~umask}


@pytest.mark.slow
@pytest.mark.parametrize("odd", ODD)
def test_an_agent_is_the_same_bytes_wherever_it_is_trained(tmp_path, tiny_arguments, contents, odd):
    train = ("train", "cartpole", *tiny_arguments(training__steps=20))
    for folder, environment in (("plain", None), ("d\xe9j\xe0 vu", ODD[odd])):
        (tmp_path / folder).mkdir()
        done = started(*train, environment=environment, cwd=tmp_path / folder)
        assert done.returncode == 0, done.stderr
        assert b"Traceback" not in done.stderr
    plain, other = (
        contents(tmp_path / folder / "checkpoints/cartpole/seed-0") for folder in ("plain", "d\xe9j\xe0 vu")
    )
    assert other == plain


def test_json_escapes_what_is_no_utf_8_and_reads_it_back():
    record = {"command": "mzprobe train \udcc3\udca9.toml", "who": "Zo\xeb"}
    text = canonical_json(record)
    assert json.loads(text.encode()) == record
    assert "Zo\xeb" in text  # as ever


# Modes


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o027, 0o077])
def test_what_is_written_has_the_modes_that_the_umask_leaves(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_file(tmp_path / "one", b"1")
        write_file(tmp_path / "one", b"2")
        for _ in range(2):  # the second time one is there already
            write_directory(tmp_path / "some", {"a": b"1"})
        with new_directory(tmp_path / "new") as folder:
            (folder / "a").write_bytes(b"1")
    finally:
        os.umask(before)
    modes = {str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    folders, files = 0o777 & ~umask, 0o666 & ~umask
    assert modes == {"one": files, "some": folders, "some/a": files, "new": folders, "new/a": files}


# Backends


def backend_after(importing, named):
    """The backend that matplotlib goes by after an import, and the variable's value; or what Python said."""
    code = f"import {importing}, matplotlib as m, os; print(m.rcParams._get_backend_or_none(), os.getenv('MPLBACKEND'))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **HOME, "MPLBACKEND": named}, capture_output=True, text=True
    )
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("named", ["svg", "pdf", "module://mzprobe.console", ""])
def test_a_backend_that_is_there_is_left_to_the_users_own_figures(named):
    assert backend_after("mzprobe._matplotlib", named) == backend_after("matplotlib", named)


@pytest.mark.slow
@pytest.mark.parametrize("importing", ["mzprobe.figures", "mzprobe.figures.style"])
def test_a_backend_that_is_not_there_does_not_keep_figures_from_being_imported(importing):
    assert "not a valid value for backend" in backend_after("matplotlib", "nonsense")
    assert backend_after(importing, "nonsense") == "None nonsense"


@pytest.mark.slow
def test_a_backend_chosen_before_stays():
    code = "import matplotlib as m; m.use('pdf'); import mzprobe.figures; print(m.get_backend())"
    environment = {**os.environ, **HOME, "MPLBACKEND": "svg"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip().lower() == "pdf"


# Streams and folders


def piped_to_nobody(*arguments, both=False, python=("-m", "mzprobe")):
    """A command whose reader has gone before it began: its exit code, and what it says on stderr."""
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [sys.executable, *python, *map(str, arguments)],
        stdout=theirs,
        stderr=theirs if both else subprocess.PIPE,
        env={**os.environ, **HOME},
        timeout=120,
    )
    os.close(theirs)
    return done.returncode, done.stderr or b""


@pytest.mark.slow
@pytest.mark.parametrize("command", [("--version",), ("--help",), ("train", "nowhere.toml")])
@pytest.mark.parametrize("both", [False, True])
def test_nobody_reading_is_no_traceback(tmp_path, command, both):
    code, said = piped_to_nobody(*command, both=both)
    assert code == (2 if "train" in command and not both else 1)
    assert said.count(b"\n") == ("train" in command and not both)
    assert b"Traceback" not in said


@pytest.mark.slow
def test_what_others_print_to_nobody_is_no_traceback():
    code = """
import sys
from mzprobe import cli
sys.stdout = open(1, "w", closefd=False)  # keeps what is printed to the end
print("as an environment may")
sys.argv = ["mzprobe", "train", "nowhere.toml"]
cli.main()
"""
    exit_code, said = piped_to_nobody("-c", code, python=())
    assert exit_code == 2
    assert said.startswith(b"error: nowhere.toml does not exist")
    assert said.count(b"\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("command", ["figures", "claims"])
@pytest.mark.parametrize("both", [False, True])
def test_files_are_written_though_nobody_reads(tmp_path, tables, plain, command, both):
    code, said = piped_to_nobody(command, "tiny", "--analyses", tables, "--out", tmp_path / "out", both=both)
    assert code == 1
    assert b"Traceback" not in said
    assert b"BrokenPipe" not in said
    written = contents_of(tmp_path / "out")
    assert written == {name: data for name, data in plain[0].items() if name in written}
    assert len(written) == {"figures": 3, "claims": 1}[command]


@pytest.mark.slow
def test_closed_streams_are_no_exception_and_get_into_no_file(tmp_path, tables, plain):
    for closed in (">&-", "2>&-", "<&- >&- 2>&-"):
        out = tmp_path / closed
        done = started("figures", "tiny", "--analyses", tables, "--out", out, shell=f'exec "$@" {closed}')
        assert done.returncode == 0, done.stderr
        assert b"Traceback" not in done.stderr
        written = contents_of(out)
        assert written == {name: data for name, data in plain[0].items() if name in written}
        assert len(written) == 3


@pytest.mark.slow
def test_closed_streams_still_give_an_exit_code():
    assert started("--version", shell='exec "$@" >&- 2>&-').returncode == 0
    assert started("train", "nowhere.toml", shell='exec "$@" >&- 2>&-').returncode == 2


def test_a_removed_working_folder_is_one_sentence(tmp_path):
    (tmp_path / "gone").mkdir()
    shell = 'cd gone && rmdir ../gone && exec "$@"'
    done = started("train", "cartpole", "--steps", "0", cwd=tmp_path, shell=shell)
    assert (done.returncode, done.stdout) == (2, b"")
    sentence = b"error: the working directory is gone (No such file or directory): change into one that exists\n"
    assert done.stderr == sentence


@pytest.mark.slow
@pytest.mark.parametrize("environment", ODD.values(), ids=ODD)
def test_help_and_errors_can_be_said_anywhere(tmp_path, environment):
    assert started("train", "--help", environment=environment, cwd=tmp_path).returncode == 0
    done = started("train", "d\xe9j\xe0.toml", environment=environment, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"does not exist" in done.stderr
    assert b"Traceback" not in done.stderr
