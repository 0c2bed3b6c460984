"""What a waiting user sees: bars whose times are what they say, compilation that is announced, quick refusals."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
from mutations import ROOT
from numba.core import event
from rich.progress import Progress

from mzprobe._kernel import compiling_told
from mzprobe.console import PhaseBars, progress_bars


@pytest.fixture
def clock():
    """Seconds, to be set."""
    return SimpleNamespace(now=0.0)


@pytest.fixture
def bars(clock):
    """Bars that are not drawn, by that clock, with the columns of the real ones."""
    shown = progress_bars()
    return Progress(*shown.columns, get_time=lambda: clock.now, disable=True)


def times(bars, task=0):
    """What stands under the time of a bar."""
    column = bars.columns[-1]
    column._renderable_cache.clear()  # of half a second
    return column(bars.tasks[task]).plain


def test_a_task_that_waits_shows_no_time(bars, clock):
    PhaseBars(bars, ["seed 0"])
    clock.now = 26.0
    assert bars.tasks[0].description == "seed 0 waiting"
    assert times(bars) == ""


def test_the_time_gone_is_not_called_the_time_left(bars, clock):
    phases = PhaseBars(bars, ["seed 0"])
    phases.show("seed 0", "train", done=0, total=None)
    clock.now = 26.0
    assert times(bars) == "0:00:26"
    phases.show("seed 0", "train", done=10, total=40)
    clock.now = 36.0
    phases.show("seed 0", "train", done=20, total=40)
    assert times(bars) == "0:00:36, 0:00:20 left"


def test_the_clock_of_a_phase_runs_though_the_one_before_had_as_many_steps(bars, clock):
    phases = PhaseBars(bars, ["seed 0"])
    for begun, phase in enumerate(("horizon", "cross")):
        clock.now = 100.0 * begun
        phases.show("seed 0", phase, done=0, total=4)
        clock.now += 10.0
        phases.show("seed 0", phase, done=1, total=4)
        clock.now += 10.0
        phases.show("seed 0", phase, done=2, total=4)
        assert times(bars).startswith("0:00:20, 0:00:"), phase
        phases.show("seed 0", phase, done=4, total=4)
        assert times(bars) == "0:00:20", phase


def test_a_kernel_that_is_compiled_is_told_once_and_those_of_others_are_not():
    told = []

    def compiles(module):
        def function():
            pass

        function.__module__ = module
        with event.trigger_event("numba:compile", data={"dispatcher": SimpleNamespace(py_func=function)}):
            pass

    with compiling_told(lambda: told.append("compiling")):
        compiles("somebody.kernels")
        assert told == []
        compiles("mzprobe.search.tree")
        compiles("mzprobe.search.tree")
    compiles("mzprobe.search.tree")
    assert told == ["compiling"]


WRONG = [
    ["tpyo"],
    ["train", "--stpes", "3"],
    ["train", "cartpoel"],
    ["train", "cartpole", "--set", "training.stpes=3"],
    ["study", "cartpole-quik"],
    ["eval-horizon", "nothere"],
    ["eval-horizon", "nothere", "--set", "states=many"],
    ["figures", "nothere"],
    ["claims", "nothere"],
    ["look", "nothere"],
    ["verify", "nothere"],
]
REFUSED = """
import sys
from mzprobe.cli import main
for arguments in {wrong}:
    sys.argv[1:] = arguments
    try:
        main()
    except SystemExit as ended:
        assert ended.code == 2, (arguments, ended.code)
    heavy = sorted({{"torch", "numba", "pandas", "matplotlib"}} & {{*sys.modules}})
    assert not heavy, (arguments, heavy)
"""


def test_what_is_mistyped_is_refused_before_anything_heavy_is_imported(tmp_path):
    script = REFUSED.format(wrong=WRONG)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("error: ") == len(WRONG)
