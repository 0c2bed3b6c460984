"""Processes that share the episodes of the planning probe: the same rows, and nothing left running."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from mzprobe.checkpoints import read_checkpoint, steps_of
from mzprobe.compute import Compute
from mzprobe.errors import Interrupted, MzprobeError
from mzprobe.probes.planning import UNITS, measure_planning, play
from mzprobe.probes.planning_workers import Workers
from mzprobe.probes.registry import PROBES
from mzprobe.probes.runner import ProbeRun, run_probe
from mzprobe.settings import PlanningConfig
from mzprobe.sources.own import Own, load_agent

CONFIG = PlanningConfig(episodes=5, simulations=(3,), horizon=3)
CELLS = list(UNITS)[2 : list(UNITS).index("episode")]


def table_of(agent, out, workers):
    run = ProbeRun(
        probe=PROBES["planning"],
        agent=agent,
        config=CONFIG,
        analyses=out,
        steps=(40,),
        workers=workers,
    )
    return run_probe(run).read_bytes()


def asked(agent, count, on_progress):
    path = steps_of(agent)[-1]
    workers = Workers(source=Own(), checkpoint=path, compute=Compute(), workers=count)
    return measure_planning(load_agent(read_checkpoint(path)), CONFIG, players=workers, on_progress=on_progress)


@pytest.mark.slow
def test_processes_change_no_byte_of_a_table(agent, tmp_path):
    assert table_of(agent, tmp_path / "shared", 2) == table_of(agent, tmp_path / "alone", 1)
    assert not multiprocessing.active_children()


class Lent:
    """Players in this process, of whom there are more from some call on."""

    def __init__(self, agent, counts):
        self.agent, self.counts, self.played = agent, iter(counts), []

    def count(self):
        return next(self.counts)

    def play(self, jobs, config, on_done):
        self.played += jobs
        on_done(0.5)
        return [play(self.agent, config, job) for job in jobs]


def test_cores_that_become_idle_take_the_episodes_that_are_left_and_no_row_differs(agent):
    own = load_agent(read_checkpoint(steps_of(agent)[-1]))
    alone = measure_planning(own, CONFIG)
    players, told = Lent(own, [1, 1, 1, 3]), []
    rows = measure_planning(own, CONFIG, players=players, on_progress=told.append)
    pd.testing.assert_frame_equal(rows, alone)
    assert [(job.cell, job.first, job.last) for job in players.played[:4]] == [
        (3, 0, 1),
        (3, 1, 3),
        (3, 3, 5),
        (4, 0, 1),
    ]
    cells = alone.groupby(CELLS, sort=False)["simulations"].first() + 1
    before = cells.iloc[:3].sum() / cells.sum()
    assert told[-1] == pytest.approx((1 + before) / 2)
    assert told == sorted(told)


def test_a_stop_is_heard_within_an_episode(agent):
    told = []

    def stop(done):
        told.append(done)
        if len(told) == 3:
            raise Interrupted("stopped")

    path = steps_of(agent)[-1]
    with pytest.raises(Interrupted):
        measure_planning(load_agent(read_checkpoint(path)), CONFIG, on_progress=stop)
    assert told == [0.0] * 3  # the first of the jobs has many more steps


def test_an_interruption_leaves_no_process_behind(agent):
    def stop(_):
        assert multiprocessing.active_children()
        raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        asked(agent, 2, stop)
    assert not multiprocessing.active_children()


def test_a_process_that_is_killed_is_said_in_one_sentence(agent):
    def kill(_):
        for process in multiprocessing.active_children():
            os.kill(process.pid, signal.SIGKILL)

    with pytest.raises(MzprobeError, match="a process that played episodes died: run the same command again"):
        asked(agent, 2, kill)
    assert not multiprocessing.active_children()


PARENT = """
import sys
from pathlib import Path
from mzprobe.checkpoints import read_checkpoint
from mzprobe.compute import Compute
from mzprobe.probes.planning import measure_planning
from mzprobe.probes.planning_workers import Workers
from mzprobe.settings import PlanningConfig
from mzprobe.sources.own import Own, load_agent

if __name__ == "__main__":
    import multiprocessing

    def told(_):
        print(*(process.pid for process in multiprocessing.active_children()), flush=True)

    path = Path(sys.argv[1])
    workers = Workers(source=Own(), checkpoint=path, compute=Compute(), workers=2)
    config = PlanningConfig(episodes=200, simulations=(128,), horizon=64)
    measure_planning(load_agent(read_checkpoint(path)), config, players=workers, on_progress=told)
"""


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes where Linux shows them")
def test_processes_end_with_a_parent_that_is_killed(agent, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT, "utf-8")
    command = [sys.executable, str(script), str(steps_of(agent)[-1])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        children = []
        while len(children) < 2:
            line = parent.stdout.readline()
            assert line, "it ended by itself"
            children = [int(pid) for pid in line.split()]
        assert all(map(running, children))
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 60
        while any(map(running, children)) and time.monotonic() < deadline:
            time.sleep(0.1)
    assert not any(map(running, children))


@pytest.mark.parametrize(("processes", "workers"), [(1, [1, 1, 1]), (5, [1, 1, 1]), (6, [2, 2, 2]), (7, [2, 2, 2])])
def test_a_study_shares_planning_out_where_processes_are_left(run_cli, monkeypatch, tmp_path, processes, workers):
    given = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mzprobe.probes.cost._SECONDS", 0.01)
    monkeypatch.setattr("mzprobe.study.run_study", lambda _todo, tasks, **_: given.extend(tasks))
    run_cli("study", "cartpole-quick", "--processes", processes)
    planning = [task for task in given if task.name.endswith("planning")]
    assert [task.run_of.workers for task in planning] == [task.needs.cores for task in planning] == workers
    others = [task.needs.cores for task in given if not task.name.endswith(("planning", "train"))]
    assert set(others) == {1}
