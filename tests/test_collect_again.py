"""A command that records a dataset again: it finds its own, and nobody else's."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from recordings import every_file

from mzprobe.datasets.collect import collect, load_player
from mzprobe.errors import UsageError
from mzprobe.files import sealed

pytest.importorskip("minari")

ASKED = ("collect", "cartpole", "--policy", "random", "--episodes", "3", "--out", "a-v0")

pytestmark = pytest.mark.usefixtures("minaris_place")


def test_the_same_command_finds_what_it_wrote(run_cli, tmp_path):
    code, before, said = run_cli(*ASKED)
    assert code == 0, said
    files = every_file(tmp_path / "a-v0")
    code, again, said = run_cli(*ASKED)
    assert (code, said) == (0, "")
    assert again == before.replace("a-v0: ", "a-v0 is there already: ")
    assert re.match(r"a-v0 is there already: 3 episodes, \d+ steps, return ", again)
    assert every_file(tmp_path / "a-v0") == files


def test_steps_are_found_too(run_cli, tmp_path):
    asked = ("collect", "cartpole", "--policy", "random", "--steps", "60", "--out", "a-v0")
    assert run_cli(*asked)[0] == 0
    assert " is there already: " in run_cli(*asked)[1]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="processes are killed on POSIX only")
def test_a_command_that_was_killed_after_its_last_rename_is_done(run_cli, tmp_path):
    code = (
        "import os, signal, sys\nfrom mzprobe import cli, files\n"
        "real = os.replace\n"
        "def replace(old, new):\n    real(old, new)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"sys.argv = {['mzprobe', *ASKED]!r}\n"
        "os.replace = replace\ncli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == -9
    assert (tmp_path / "a-v0" / "mzprobe.json").exists()
    code, out, said = run_cli(*ASKED)
    assert (code, said) == (0, "")
    assert "a-v0 is there already: 3 episodes" in out


@pytest.mark.parametrize(
    "other",
    [
        ("collect", "cartpole", "--policy", "random", "--episodes", "4", "--out", "a-v0"),
        ("collect", "cartpole", "--policy", "random", "--out", "a-v0"),
        ("collect", "cartpole", "--policy", "random", "--steps", "1", "--out", "a-v0"),
        ("collect", "cartpole", "--policy", "random", "--episodes", "3", "--seed", "1", "--out", "a-v0"),
        ("collect", "lunarlander", "--policy", "random", "--episodes", "3", "--out", "a-v0"),
        ("collect", "nowhere", "--episodes", "3", "--out", "a-v0"),
    ],
)
def test_another_request_is_refused(run_cli, tmp_path, other):
    assert run_cli(*ASKED)[0] == 0
    files = every_file(tmp_path / "a-v0")
    code, out, said = run_cli(*other)
    assert (code, out) == (2, "")
    assert said == "error: a-v0 exists and is not replaced: remove it or choose another --out\n"
    assert every_file(tmp_path / "a-v0") == files


def edited(changes):
    """The record of `a-v0` with changes, sealed anew."""
    path = Path("a-v0/mzprobe.json")
    path.write_bytes(sealed({**json.loads(path.read_bytes()), **changes}))


@pytest.mark.parametrize(
    "changes",
    [
        {"versions": {"mzprobe": "0.0.0"}},
        {"environment": {"name": "cartpole"}},
        {"policy": "prior"},
        {"seed": 1},
        {"command": "mzprobe collect"},
    ],
)
def test_what_the_same_command_would_not_write_again_is_refused(run_cli, changes):
    # The same words, under another version or of another checkpoint: other bytes.
    assert run_cli(*ASKED)[0] == 0
    edited(changes)
    assert run_cli(*ASKED)[2] == "error: a-v0 exists and is not replaced: remove it or choose another --out\n"


def test_what_was_damaged_is_not_taken_for_done(run_cli, tmp_path):
    assert run_cli(*ASKED)[0] == 0
    part = tmp_path / "a-v0" / "data" / "1" / "part-0.arrow"
    part.write_bytes(part.read_bytes()[:-1])
    code, out, said = run_cli(*ASKED)
    assert (code, out) == (1, "")
    assert said.startswith("error: the data of a-v0 are truncated or edited")
    assert said.count("\n") == 1


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "[" * 5000])
def test_what_is_no_dataset_is_refused(run_cli, tmp_path, text):
    (tmp_path / "a-v0").mkdir()
    (tmp_path / "a-v0" / "mzprobe.json").write_text(text)
    assert "a-v0 exists and is not replaced" in run_cli(*ASKED)[2]


@pytest.mark.skipif(os.name == "nt", reason="there are no such files")
def test_neither_a_pipe_nor_a_link_to_nowhere_is_replaced(run_cli, tmp_path):
    (tmp_path / "a-v0").mkdir()
    os.mkfifo(tmp_path / "a-v0" / "mzprobe.json")
    assert "a-v0 exists and is not replaced" in run_cli(*ASKED)[2]
    (tmp_path / "b-v0").symlink_to("nowhere")
    assert "b-v0 exists and is not replaced" in run_cli(*ASKED[:-1], "b-v0")[2]


def test_numbers_of_episodes_and_steps_count_whatever_the_command_says(tmp_path):
    player = load_player("cartpole", "random")
    whole = collect(player, tmp_path / "a-v0", episodes=3)
    assert not whole.before
    for asked in ({"episodes": 3}, {"steps": whole.steps}):
        again = collect(player, tmp_path / "a-v0", **asked)
        assert again.before
        assert (again.steps, again.returns.tolist()) == (whole.steps, whole.returns.tolist())
    last = int(whole.returns[-1])  # CartPole gives 1 a step
    assert collect(player, tmp_path / "a-v0", steps=whole.steps - last + 1).before
    for asked in ({"episodes": 2}, {"episodes": 4}, {"steps": whole.steps + 1}, {"steps": whole.steps - last}):
        with pytest.raises(UsageError, match="exists and is not replaced"):
            collect(player, tmp_path / "a-v0", **asked)
