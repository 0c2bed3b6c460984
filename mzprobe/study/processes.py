"""Agents side by side: one process each, reports passed on, nothing left running behind a stop.

Every process has a pipe of its own, and shares no lock with another: one that is killed blocks nobody.
"""

import multiprocessing
import os
import pickle
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from mzprobe import signals
from mzprobe._kernel import compiling_told
from mzprobe.errors import Interrupted, MzprobeError, MzprobeWarning, said_of_unexpected, warnings_to
from mzprobe.orphans import run_pickled
from mzprobe.training.trainer import Progress

COMPILING = "compiling kernels, once on this machine"  # a phase of a task
_GRACE = 2.0  # seconds for a task whose parent is gone to stop and save by itself


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a process says of its agent."""

    label: str  # of the task
    phase: str  # train, record, the name of a probe, or that kernels are compiled before
    done: float
    total: int | None  # None where it is not known
    training: Progress | None = None


@dataclass(frozen=True)
class Failure:
    """Why an agent could not be finished."""

    sentence: str


@dataclass(frozen=True)
class Warned:
    """What the user should know of an agent, whose work goes on."""

    sentence: str


class Task(Protocol):
    """The work on one agent; pickled to its process."""

    @property
    def label(self) -> str:
        """Tells it from the other tasks: `seed 0`, or with the variant in front."""
        ...

    def run(self, report: Callable[[Report], None], must_stop: Callable[[], bool]) -> None:
        """Does it, reporting on the way; raises `Interrupted` soon after it must stop."""
        ...


def run_tasks(
    tasks: Sequence[Task], *, processes: int | None = None, on_report: Callable[[Report], None] = lambda _: None
) -> None:
    """Runs tasks in processes of their own.

    Args:
        tasks: one an agent.
        processes: at a time; by default as many as there are cores.
        on_report: told of progress.

    Warnings of mzprobe's are given by this process, with the task's label.

    Raises:
        Interrupted: on Ctrl-C, SIGTERM or SIGHUP; every task has stopped.
        MzprobeError: the first failure of a task; the others are finished.
    """
    # Spawned, not forked: torch and numba do not survive a fork, and Windows and macOS have none.
    context = multiprocessing.get_context("spawn")
    waiting, running = list(tasks), dict[Any, Any]()  # process by its pipe
    failures: list[Failure] = []
    count = processes or os.cpu_count() or 1
    try:
        while waiting or running:
            while waiting and len(running) < count:
                task = waiting.pop(0)
                ours, theirs = context.Pipe()
                called = pickle.dumps((_run, task))
                process = context.Process(
                    target=run_pickled, args=(called, theirs), kwargs={"after": _GRACE}, name=task.label
                )
                try:
                    with signals.held_back():
                        process.start()
                finally:
                    theirs.close()  # only then does the pipe end with the process
                running[ours] = process
            _relay(running, failures, on_report)
    except (KeyboardInterrupt, Interrupted):
        for pipe in running:
            with suppress(OSError):  # it has ended by itself
                pipe.send("stop")
        while running:
            _relay(running, failures, on_report)  # a process ends only when its reports have been taken
        raise Interrupted("stopped, every agent saved: run the same command again to resume") from None
    if failures:
        raise MzprobeError(f"{failures[0].sentence} (the other agents are not affected)")


def _relay(running: dict[Any, Any], failures: list[Failure], on_report: Callable[[Report], None]) -> None:
    """Passes on what there is to report, and keeps the failures; a process whose pipe is closed has ended."""
    ready: list[Any] = wait(list(running), timeout=0.1)
    for pipe in ready:
        try:
            message = pipe.recv()
        except (EOFError, OSError):
            process = running.pop(pipe)
            process.join()
            if process.exitcode != 0:
                failures.append(Failure(f"the process of {process.name} died: run the same command again to resume"))
            continue
        if isinstance(message, Failure):
            failures.append(message)
        elif isinstance(message, Warned):
            warnings.warn(message.sentence, MzprobeWarning, stacklevel=4)
        else:
            on_report(message)


def _run(task: Task, pipe: "Connection[Any, Any]") -> None:
    """Runs in a process of its own, which stops when the parent says so."""

    def must_stop() -> bool:
        try:
            return pipe.poll()  # the parent says so, or is gone, which closes its end
        except OSError:
            return True

    def report(said: Report | Failure | Warned) -> None:
        with suppress(OSError):  # the parent is gone
            pipe.send(said)

    def compiling() -> None:
        report(Report(label=task.label, phase=COMPILING, done=0, total=None))

    try:
        with (
            warnings_to(lambda sentence: report(Warned(f"{task.label}: {sentence}"))),
            compiling_told(compiling),
        ):
            task.run(report, must_stop)
    except Interrupted:
        pass  # the parent asked for it, or is gone
    except MzprobeError as error:
        report(Failure(f"{task.label}: {error}"))
    except Exception as error:
        if not isinstance(error, MemoryError | OSError):
            traceback.print_exc()
        report(Failure(f"{task.label}: {said_of_unexpected(error, remedy='report the traceback above')}"))
