"""Processes that share the episodes of the planning probe: the same rows, and nothing left running."""

import multiprocessing
import os
import signal

import pytest

from mzprobe.checkpoints import read_checkpoint, steps_of
from mzprobe.errors import Interrupted, MzprobeError
from mzprobe.probes.planning import measure_planning
from mzprobe.probes.planning_workers import Workers
from mzprobe.probes.registry import PROBES
from mzprobe.probes.runner import ProbeRun, run_probe
from mzprobe.probes.sampling import load_agent
from mzprobe.settings import PlanningConfig

CONFIG = PlanningConfig(episodes=5, simulations=(3,), horizon=3)


def table_of(agent, out, workers):
    run = ProbeRun(
        probe=PROBES["planning"],
        agent=agent,
        config=CONFIG,
        analyses=out,
        command="mzprobe here",
        steps=(40,),
        workers=workers,
    )
    return run_probe(run).read_bytes()


def asked(agent, count, on_progress):
    path = steps_of(agent)[-1]
    workers = Workers(checkpoint=path, device="cpu", batch_size=64, count=count)
    return measure_planning(load_agent(read_checkpoint(path)), CONFIG, players=workers, on_progress=on_progress)


def test_processes_change_no_byte_of_a_table(agent, tmp_path):
    assert table_of(agent, tmp_path / "shared", 2) == table_of(agent, tmp_path / "alone", 1)
    assert not multiprocessing.active_children()


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
