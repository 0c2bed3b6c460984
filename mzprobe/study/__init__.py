"""Studies: which agents and probes, in what order; agents side by side in processes of their own."""

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import Any

from mzprobe.checkpoints import agent_folder
from mzprobe.config import HorizonConfig, RunConfig, StudyConfig
from mzprobe.errors import Interrupted, MzprobeError
from mzprobe.probes.runner import HORIZON, run_probe
from mzprobe.training.trainer import Progress, Trainer


@dataclass(frozen=True, kw_only=True)
class AgentTask:
    """What one process does: train an agent, then probe its checkpoints."""

    run: str
    seed: int
    config: RunConfig
    horizon: HorizonConfig
    checkpoints: Path
    analyses: Path
    command: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a process says of its agent."""

    seed: int
    phase: str  # train, or the name of a probe
    done: int
    total: int
    training: Progress | None = None


@dataclass(frozen=True)
class Failure:
    """Why an agent could not be finished."""

    sentence: str


def run_study(
    name: str,
    study: StudyConfig,
    config: RunConfig,
    *,
    checkpoints: Path,
    analyses: Path,
    command: str,
    processes: int | None = None,
    on_report: Callable[[Report], None] = lambda _: None,
) -> None:
    """Trains and probes every agent that is not done yet.

    Args:
        name: of the run.
        study: agents and probes.
        config: of the run.
        checkpoints: folder of all checkpoints.
        analyses: folder of all tables.
        command: that a reader can type to make all of it.
        processes: agents at a time; by default as many as there are cores.
        on_report: told of progress.

    Raises:
        Interrupted: on Ctrl-C or SIGTERM; every agent has saved its state.
        MzprobeError: the first failure of an agent; the others are finished.
    """
    tasks = [
        AgentTask(
            run=name,
            seed=seed,
            config=config,
            horizon=study.horizon,
            checkpoints=checkpoints,
            analyses=analyses,
            command=command,
        )
        for seed in study.seeds
    ]
    # Spawned, not forked: torch and numba do not survive a fork, and Windows and macOS have none.
    context = multiprocessing.get_context("spawn")
    reports, stop = context.Queue(), context.Event()
    waiting, running = list(tasks), list[Any]()
    failures: list[Failure] = []
    count = processes or os.cpu_count() or 1
    try:
        while waiting or running:
            while waiting and len(running) < count:
                task = waiting.pop(0)
                running.append(context.Process(target=_run_agent, args=(task, reports, stop), name=f"seed {task.seed}"))
                running[-1].start()
            running = [process for process in running if not _has_ended(process, failures)]
            failures += _relayed(reports, on_report)
    except (KeyboardInterrupt, Interrupted):
        stop.set()
        while any(process.is_alive() for process in running):
            _relayed(reports, on_report)  # a process ends only when its reports have been taken
        raise Interrupted("stopped, every agent saved: run the same command again to resume") from None
    if failures:
        raise MzprobeError(f"{failures[0].sentence} (the other agents are not affected)")


def _has_ended(process: Any, failures: list[Failure]) -> bool:
    """Whether a process is over; one that was killed leaves a failure behind."""
    if process.is_alive():
        return False
    if process.exitcode != 0:
        failures.append(Failure(f"the process of {process.name} died: run the same command again to resume"))
    return True


def _relayed(reports: Any, on_report: Callable[[Report], None]) -> list[Failure]:
    """Passes on what there is to report; gives the failures among it."""
    failures = []
    try:
        message = reports.get(timeout=0.1)
        while True:
            if isinstance(message, Failure):
                failures.append(message)
            else:
                on_report(message)
            message = reports.get_nowait()
    except Empty:
        return failures


def _run_agent(task: AgentTask, reports: Any, stop: Any) -> None:
    """Runs in a process of its own. Ctrl-C reaches all processes of a terminal; only the parent acts on it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def must_stop() -> bool:
        return stop.is_set() or not parent.is_alive()

    try:
        _train_and_probe(task, reports.put, must_stop)
    except Interrupted:
        pass  # the parent asked for it, or is gone
    except MzprobeError as error:
        reports.put(Failure(f"seed {task.seed}: {error}"))
    except Exception as error:
        traceback.print_exc()
        reports.put(Failure(f"seed {task.seed}: an unexpected {type(error).__name__} ({error})"))
    if not parent.is_alive():
        reports.cancel_join_thread()  # nobody is left to take the reports


def _train_and_probe(task: AgentTask, report: Callable[[Report], None], must_stop: Callable[[], bool]) -> None:
    trainer = Trainer(task.config, seed=task.seed, run=task.run, out=task.checkpoints, command=task.command)
    reported = 0.0

    def trained(progress: Progress) -> None:
        nonlocal reported
        if time.monotonic() < reported + 0.2 and progress.step < progress.steps:
            return
        reported = time.monotonic()
        trainer.stop = must_stop()
        report(Report(seed=task.seed, phase="train", done=progress.step, total=progress.steps, training=progress))

    def probed(done: int, total: int) -> None:
        report(Report(seed=task.seed, phase=HORIZON.name, done=done, total=total))
        if must_stop():
            raise Interrupted("stopped between two checkpoints of a probe")

    trainer.train(trained)
    run_probe(
        HORIZON,
        agent_folder(task.checkpoints, task.run, task.seed),
        task.horizon,
        analyses=task.analyses,
        command=task.command,
        on_checkpoint=probed,
    )
