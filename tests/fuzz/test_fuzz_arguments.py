"""Odd words on the command line: what was asked for, or one sentence; no traceback, no wait, no file of the user's
touched."""

import hashlib
import os
import shutil
import signal
import stat

import pytest
from spoiling import inputs, tried
from studies import variants_file

WORDS = ["", " ", ".", "..", "[/x]", "[bold]", "[red]a[/red]", ":smile:", "a\nb", "a\tb", "\x1b[31m", "x" * 5000]
WORDS += [
    "x" * 250,
    "x/" * 2400 + "x",
    ".a:b",
    "a:b",
    "gym:",
    ":",
    "-",
    "--",
    "-x",
    "--seed",
    "é",
    "\u202e",
    "%s",
    "{x}",
]
WORDS += [
    "~",
    "cartpole",
    "run",
    "1e9",
    "-1",
    "9" * 5000,
    "0",
    "nan",
    "true",
    "null",
    "../up",
    "a=b",
    "training.steps=0",
]
WORDS += ["{x}", "~", "a=b", "/dev/null/x", "/proc/x"]  # and no "/": verify would look at all of it
# What lies in the folder: of each kind, under a name that says it.
FILES = ["file", "folder", "pipe", "zero", "broken", "loop", "[bold]", "closed"]
ENDINGS = ["", ".toml", "/seed-0", "/seed-0/step-0000000", "/x", "/"]
SEEDS = ["0", "-1", "9" * 30, "x", "1.5", "true"]


@pytest.fixture
def place(tmp_path, monkeypatch, agent):
    """A folder with all kinds of files in it, as the working directory."""
    outside, tmp_path = tmp_path, tmp_path / "one" / "two"
    tmp_path.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for ending in ("", ".toml"):
        (tmp_path / f"file{ending}").write_text("x = [", "utf-8")
        (tmp_path / f"folder{ending}").mkdir()
        os.mkfifo(tmp_path / f"pipe{ending}")
        (tmp_path / f"zero{ending}").symlink_to("/dev/zero")
        (tmp_path / f"broken{ending}").symlink_to("nowhere")
        (tmp_path / f"loop{ending}").symlink_to(f"loop{ending}")
    for made in ("checkpoint.json", "model.safetensors"):
        for kind in ("pipe", "zero", "broken"):
            folder = tmp_path / f"{kind}-{made}" / "seed-0" / "step-0000000"
            shutil.copytree(agent / "step-0000000", folder)
            (folder / made).unlink()
            shutil.move(made_of(tmp_path, kind), folder / made)
    variants_file(tmp_path / "[bold].toml", {"training.steps": 0}, "")
    tables = tmp_path / "analyses" / "[run]" / "horizon"
    tables.mkdir(parents=True)
    os.mkfifo(tables / "seed-0.parquet")
    (tmp_path / "analyses" / "zeros" / "horizon").mkdir(parents=True)
    (tmp_path / "analyses" / "zeros" / "horizon" / "seed-0.parquet").symlink_to("/dev/zero")
    shutil.copytree(agent.parent, tmp_path / "checkpoints" / "[bold]")
    return outside


def made_of(folder, kind):
    path = folder / "made"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if kind == "zero" else "nowhere")
    return path


def listing(folder):
    """Every file with what it is: the hash of a file, the aim of a link."""
    found = {}
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            found[path] = os.readlink(path)
        elif stat.S_ISREG(mode):
            found[path] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[path] = stat.S_IFMT(mode)
    return found


@pytest.mark.slow
def test_arguments(place, run_cli, in_time, tiny_arguments):
    agents = ["checkpoints/[bold]", *(f"{kind}-{made}" for kind in ("pipe", "zero", "broken") for made in MADE)]
    paths = [f"{name}{ending}" for name in FILES for ending in ENDINGS] + agents

    def one_of(generator, *lists):
        words = lists[generator.integers(len(lists))]
        return words[generator.integers(len(words))]

    def command(generator):
        def word():
            return one_of(generator, WORDS, paths)

        tiny = tiny_arguments(training__steps=0)
        kinds = {
            "train": ["train", word(), *tiny, "--name", word(), "--out", word()],
            "train a name": ["train", "cartpole", *tiny, "--name", word(), "--seed", one_of(generator, SEEDS)],
            "train out": ["train", "cartpole", *tiny, "--name", "x", "--out", word()],
            "set": ["train", "cartpole", "--set", word(), "--set", f"training.steps={word()}", "--steps", "0"],
            "dataset": ["train", "cartpole", *tiny, one_of(generator, ["--offline", "--demonstrations"]), word()],
            "probe": ["eval-online", word(), "--out", word(), "--dry-run", "--episodes", "1"],
            "probe an agent": ["eval-horizon", one_of(generator, agents), "--step", "0", "--states", word()],
            "probe out": ["eval-online", agents[0], "--step", "0", "--episodes", "1", "--out", word()],
            "figures": ["figures", word(), "--analyses", one_of(generator, ["analyses"], paths), "--out", word()],
            "claims": ["claims", one_of(generator, WORDS, ["[run]", "zeros"]), "--out", word()],
            "pack": ["pack", one_of(generator, WORDS, ["[run]", "zeros"]), "--out", word()],
            "verify": ["verify", word(), word()],
            "seal": ["seal", word(), one_of(generator, ["analyses"], paths)],
            "collect": ["collect", word(), "--policy", "random", "--episodes", "1", "--out", word()],
            "collect of": ["collect", "cartpole", "--policy", "random", "--episodes", "1", "--out", word()],
            "study": ["study", word(), "--dry-run"],
            "look": ["look", word(), "--episodes", "1"],
            "inspect": ["inspect", word(), "--time", "0"],
            "play": ["play", word(), "--steps", "1"],
            "verify-source": ["verify-source", word(), "--episodes", "1"],
            "compare": ["compare", word(), word(), "--out", word()],
            "report": ["report", one_of(generator, WORDS, ["[run]", "zeros"]), "--out", word()],
            "status": ["status", word()],
            "a word": [word(), word()],
        }
        return one_of(generator, list(kinds.items()))

    def run(generator, _seed):
        kind, words = command(generator)
        before = listing(place)
        in_time()
        code, out, said = run_cli(*words)
        signal.alarm(0)
        after = listing(place)
        assert {path: after.get(path) for path in before} == before, words
        assert "Traceback" not in said + out, words
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        told = words[0] == "verify" and code == 1  # what is wrong, a line each
        assert told or len(errors) == (code != 0), (words, code, said)
        assert "an unexpected" not in said, (words, said)
        for path in set(after) - set(before):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        return kind, "done" if code == 0 else f"refused with {code}"

    assert tried("arguments", inputs(60, 0.03), run) >= {"done", "refused with 2"}


MADE = ("checkpoint.json", "model.safetensors")
