"""The same command twice at once: one does all of it, the other waits, or finds it done, or says who is at work.

`MZPROBE_TIMES` is how often they meet in the slow tests.
"""

import os

import pytest
from forks import everything
from killed import CASES, copied

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked on POSIX only")

TIMES = int(os.environ.get("MZPROBE_TIMES", "2"))
WAITING = ("figures", "claims")  # what takes moments waits for its like
QUICK = ("train", "cross", "claims", "collect", "pack")


@pytest.fixture
def twice(forks, start, undisturbed, tmp_path):
    """Runs a case twice, or more often, in one folder; gives how each ended, what lies there, and what should."""

    def run(name, order, time, *, count=2):
        folder = copied(CASES[name], start, tmp_path / f"{name}-{order}-{time}")
        ended = forks.run(folder, *[CASES[name].arguments] * count, order=order)
        return ended, everything(folder), undisturbed(name)[0]

    return run


def refused(ended):
    """Whether a command says in one sentence that another is at work."""
    said = [line for line in ended.said.splitlines() if line.startswith("error: ")]
    assert len(said) <= 1
    assert "Traceback" not in ended.said
    return ended.code == 1 and len(said) == 1 and " is in use by " in said[0] and said[0].endswith("or stop it")


def check(name, ended, there, whole):
    assert there == whole
    assert not any(one.left for one in ended)
    codes = [one.code for one in ended]
    assert 0 in codes, [one.said for one in ended]
    for one in ended:
        assert one.code == 0 or (name not in WAITING and refused(one)), one.said
    return codes


@pytest.mark.parametrize("name", QUICK)
def test_two_that_come_to_the_lock_together_do_it_once(twice, name):
    check(name, *twice(name, "together", 0))


@pytest.mark.parametrize("name", QUICK)
def test_one_that_comes_to_the_lock_when_the_other_is_done_finds_it_done(twice, name):
    assert check(name, *twice(name, "late", 0)) == [0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train", "claims", "collect"])
def test_six_at_once_are_as_two(twice, name):
    check(name, *twice(name, "together", 0, count=6))


@pytest.mark.slow
@pytest.mark.parametrize("order", ["free", "together", "late"])
@pytest.mark.parametrize("name", [name for name in CASES if name != "recorded"])
def test_two_at_once_again_and_again(twice, name, order):
    for time in range(TIMES):
        codes = check(name, *twice(name, order, time))
        assert order != "late" or codes == [0, 0]
