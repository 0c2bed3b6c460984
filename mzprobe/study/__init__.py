"""Studies: which agents and probes, in what order; agents side by side in processes of their own."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
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


def run_study(
    name: str,
    study: StudyConfig,
    config: RunConfig,
    *,
    checkpoints: Path,
    analyses: Path,
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
            command=f"mzprobe study {name}",
        )
        for seed in study.seeds
    ]
    # Spawned, not forked: torch and numba do not survive a fork, and Windows and macOS have none.
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        reports, stop = manager.Queue(), manager.Event()
        count = min(processes or os.cpu_count() or 1, len(tasks))
        with ProcessPoolExecutor(count, mp_context=context, initializer=_ignore_interrupts) as pool:
            futures = [pool.submit(_run_agent, task, reports, stop) for task in tasks]
            try:
                _relay(futures, reports, on_report)
            except (KeyboardInterrupt, Interrupted):
                stop.set()
                wait(futures)
                raise Interrupted("stopped, every agent saved: run the same command again to resume") from None
            _raise_first(futures)


def _ignore_interrupts() -> None:
    """Ctrl-C reaches every process of a terminal; only the parent acts on it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run_agent(task: AgentTask, reports: Any, stop: Any) -> None:
    """Runs in a process of its own."""
    trainer = Trainer(task.config, seed=task.seed, run=task.run, out=task.checkpoints, command=task.command)

    def trained(progress: Progress) -> None:
        if progress.step % 25 == 0:
            trainer.stop = stop.is_set()
            report = Report(seed=task.seed, phase="train", done=progress.step, total=progress.steps, training=progress)
            reports.put(report)

    def probed(done: int, total: int) -> None:
        reports.put(Report(seed=task.seed, phase=HORIZON.name, done=done, total=total))
        if stop.is_set():
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


def _relay(futures: list[Future[None]], reports: Any, on_report: Callable[[Report], None]) -> None:
    """Passes reports on until every process is done."""
    while True:
        try:
            on_report(reports.get(timeout=0.2))
        except Empty:
            if all(future.done() for future in futures):
                return


def _raise_first(futures: list[Future[None]]) -> None:
    for future in futures:
        try:
            future.result()
        except BrokenProcessPool:
            raise MzprobeError("a process of the study was killed: run the same command again to resume") from None
