"""A command that is killed before any operation on a file, and given again: the bytes of an undisturbed one, no more.

`MZPROBE_KILLS=all` kills before every operation; else a long list of them is sampled.
"""

import os
import random
import shutil
import signal

import pytest
from forks import everything
from killed import CASES, copied

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked and killed on POSIX only")


def by_time(*names):
    """Names of cases as parameters, those of long ones marked."""
    long = ("screens", "horizon", "figures", "study", "recorded")
    return [pytest.param(name, marks=[pytest.mark.slow] if name in long else []) for name in names]


@pytest.fixture
def killed(forks, start, undisturbed, tmp_path):
    """Kills a case before an operation, gives the command again, and says what is then not as it should be."""

    def run(name, number):
        folder = tmp_path / f"{name}-{number}"
        copied(CASES[name], start, folder)
        (ended,) = forks.run(folder, CASES[name].arguments, kill_at=number)
        if not {ended.code} <= {-signal.SIGKILL, 1}:  # 1 where a study's process was killed
            return [f"ended with {ended.code}: {ended.said}"]
        if ended.left:
            return [f"a process outlives the kill before operation {number}"]
        found = compared(forks, CASES[name], folder, undisturbed(name)[0])
        where = f"killed before operation {number} ({ended.operations[number - 1]}): "
        shutil.rmtree(folder)
        return [where + problem for problem in found]

    return run


def compared(forks, case, folder, whole):
    """What a command that is given again says or leaves that it should not."""
    (again,) = forks.run(folder, case.arguments)
    there = everything(folder)
    problems = [] if again.code == 0 else [f"then {again.code}: {again.said}"]
    problems += [f"{path} is missing" for path in whole if path not in there]
    problems += [f"{path} is left" for path in there if path not in whole]
    return problems + [f"{path} differs" for path in whole if path in there and there[path] != whole[path]]


def points(operations, count):
    """Numbers of operations before which to kill: the last one, and others by lot."""
    last = len(operations)
    if os.environ.get("MZPROBE_KILLS") == "all" or last <= count:
        return range(1, last + 1)
    return [*sorted(random.Random(last).sample(range(1, last), count - 1)), last]


@pytest.mark.parametrize("name", by_time(*CASES))
def test_an_undisturbed_command_leaves_nothing_hidden(undisturbed, name):
    files, operations = undisturbed(name)
    assert [path for path in files if "/." in f"/{path}"] == []
    assert operations[-1].startswith("os.remove")  # its lock
    assert {operation.partition(" ")[0] for operation in operations} >= {"open", "os.mkdir", "os.rename", "os.remove"}


@pytest.mark.parametrize("name", ["train", "cross", "claims", "collect", "pack", "seal"])
def test_a_killed_command_is_made_good_by_the_same_one(undisturbed, killed, name):
    for number in points(undisturbed(name)[1], 2):
        assert killed(name, number) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_command_killed_before_any_operation_is_made_good_by_the_same_one(undisturbed, killed, name):
    problems = [
        problem for number in points(undisturbed(name)[1], CASES[name].kills) for problem in killed(name, number)
    ]
    assert problems == []
