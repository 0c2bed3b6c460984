"""Runs tasks in processes of this machine, one thread each, and leaves no process behind when stopped.

A process takes one task after another, since importing torch takes longer than many of them. Every process has a pipe
of its own and shares no lock with another, so one that is killed does not block the rest. Once no task waits to begin,
idle cores are lent to running tasks that can spread.
"""

import multiprocessing
import os
import pickle
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from mzprobe._kernel import compiling_told
from mzprobe.errors import Interrupted, InUse, MzprobeError, MzprobeWarning, said_of_unexpected, warnings_to
from mzprobe.execution.core import (
    COMPILING,
    Failure,
    Needs,
    OnState,
    Report,
    Spreading,
    Task,
    Warned,
    refuse_failures,
    stopped,
)
from mzprobe.execution.schedule import Schedule
from mzprobe.system import signals
from mzprobe.system.cgroups import usable_cores
from mzprobe.system.memory import available
from mzprobe.system.orphans import run_pickled

_GRACE = 2.0  # seconds that a task has to stop and save by itself once its parent is gone
_STOP = b""  # sent in place of a task, so that the process ends
_LENT = b"cores "  # sent to a busy process, with the number that it may use beside its own; no pickle begins so


@dataclass(frozen=True)
class Ended:
    """Message that a task has ended, well or not. A process whose task failed takes no further one."""

    well: bool


@dataclass(frozen=True, kw_only=True)
class Local:
    """Executor in processes of this machine.

    Args:
        processes: maximum number at a time; by default the number of cores that this process may use.
        cards: numbers of the graphics cards for tasks that need one. A process that has one sees no other.
    """

    processes: int | None = None
    cards: tuple[int, ...] = ()

    def total(self) -> Needs:
        """See `Executor.total`; the memory is what is free now."""
        return Needs(cores=self.processes or usable_cores(), memory=available(), cards=len(self.cards))

    def most(self) -> tuple[Needs, ...]:
        """See `Executor.most`."""
        return (self.total(),)

    def run(
        self,
        tasks: Sequence[Task],
        *,
        on_report: Callable[[Report], None] = lambda _: None,
        on_state: OnState = lambda _task, _state, _said: None,
    ) -> None:
        """See `Executor.run`."""
        _Pool(tasks, self.total(), self.cards, on_report, on_state).run()


@dataclass(eq=False)
class _Worker:
    """A process, and the task that it is running, if any."""

    process: Any
    pipe: Connection
    card: int | None
    task: Task | None = None
    lent: int = 0  # idle cores that its task may use beside its own
    ending: bool = False  # whether it takes no further task and its pipe is about to close


@dataclass
class _Pool:
    """Processes of one run of tasks."""

    tasks: Sequence[Task]
    total: Needs
    cards: tuple[int, ...]
    on_report: Callable[[Report], None]
    on_state: OnState
    workers: dict[Connection, _Worker] = field(default_factory=dict)
    failures: list[tuple[Task, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.schedule = Schedule(self.tasks, self.total)

    def run(self) -> None:
        """Runs all tasks."""
        try:
            while not self.schedule.over:
                while (task := self.schedule.next()) is not None:
                    self._begin(task)
                self._lend()
                self._relay()
        except (KeyboardInterrupt, Interrupted):
            self._end_all()
            raise stopped() from None
        except BaseException:
            self._end_all()
            raise
        self._end_all()
        refuse_failures(self.failures, self.tasks)

    def _begin(self, task: Task) -> None:
        """Gives a task to an idle process, or to a new one."""
        called = pickle.dumps(task)
        card = self._free_card() if task.needs.cards and self.cards else None
        idle = [worker for worker in self.workers.values() if worker.task is None and not worker.ending]
        worker = next((one for one in idle if one.card == card), None)
        if worker is None:
            if idle and len(self.workers) >= self.total.cores:  # the wrong card: makes room
                self._end(idle[0])
            worker = self._started(card)
        worker.task, worker.lent = task, 0
        worker.process.name = task.label
        self.on_state(task, "begun", "")
        with suppress(OSError):  # it has just died, which `_relay` will notice
            worker.pipe.send_bytes(called)

    def _lend(self) -> None:
        """Tells tasks that can spread how many idle cores they may use, shared out among them."""
        idle = self.schedule.idle()
        if not idle.cores:
            return
        at_work = [(worker, worker.task) for worker in self.workers.values() if worker.task is not None]
        those = [(worker, task) for worker, task in at_work if isinstance(task, Spreading) and task.spreads]
        for place, (worker, task) in enumerate(those):
            needs = self.schedule.needs(task)
            fitting = idle.memory * needs.cores // (needs.memory * len(those)) if needs.memory else idle.cores
            lent = min((idle.cores + len(those) - 1 - place) // len(those), fitting)
            if lent != worker.lent:
                worker.lent = lent
                with suppress(OSError):  # as in `_begin`
                    worker.pipe.send_bytes(_LENT + str(lent).encode())

    def _free_card(self) -> int:
        busy = {worker.card for worker in self.workers.values() if worker.task is not None}
        return next(card for card in self.cards if card not in busy)

    def _started(self, card: int | None) -> _Worker:
        # Spawned, not forked: torch and numba do not survive a fork, and not every system has one.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        called = pickle.dumps((_serve, card))
        process = context.Process(target=run_pickled, args=(called, theirs), kwargs={"after": _GRACE})
        try:
            with signals.held_back():
                process.start()
        finally:
            theirs.close()  # so that the pipe closes when the process ends
        worker = self.workers[ours] = _Worker(process, ours, card)
        return worker

    def _end(self, worker: _Worker) -> None:
        """Ends a process that has no task."""
        with suppress(OSError):  # it has ended by itself
            worker.pipe.send_bytes(_STOP)
        worker.process.join()
        worker.pipe.close()
        del self.workers[worker.pipe]

    def _end_all(self) -> None:
        """Stops running tasks, which save first, and ends all processes."""
        for pipe in self.workers:
            with suppress(OSError):
                pipe.send_bytes(_STOP)
        while self.workers:
            self._relay()  # a process ends only once its reports have been read

    def _relay(self) -> None:
        """Handles the messages that have arrived; a process whose pipe is closed has ended."""
        ready: list[Any] = wait(list(self.workers), timeout=0.1)
        for pipe in ready:
            worker = self.workers[pipe]
            try:
                message = pipe.recv()
            except (EOFError, OSError):
                self._lost(worker)
                continue
            self._heard(worker, message)

    def _lost(self, worker: _Worker) -> None:
        del self.workers[worker.pipe]
        worker.process.join()
        worker.pipe.close()
        if worker.task is not None:
            self._failed(worker, f"the process of {worker.task.label} died: run the same command again to resume")

    def _heard(self, worker: _Worker, message: Any) -> None:
        task = worker.task
        assert task is not None  # an idle process sends nothing
        if isinstance(message, Failure):
            self._failed(worker, message.sentence)
        elif isinstance(message, Warned):
            warnings.warn(message.sentence, MzprobeWarning, stacklevel=6)
        elif isinstance(message, Ended):
            worker.task = None
            if message.well:
                self.schedule.done(task)
                self.on_state(task, "done", "")
            else:
                worker.ending = True  # it was asked to stop
                self.schedule.failed(task)
        else:
            self.on_report(message)

    def _failed(self, worker: _Worker, sentence: str) -> None:
        task, worker.task, worker.ending = worker.task, None, True
        assert task is not None
        self.failures.append((task, sentence))
        self.schedule.failed(task)
        self.on_state(task, "failed", sentence)


def _serve(card: int | None, pipe: "Connection[Any, Any]") -> None:
    """Runs tasks in a worker process until the parent says to stop, or one fails."""
    if card is not None:
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = seen.split(",")[card] if seen else str(card)  # before CUDA starts
    ear = _Ear(pipe)
    while (called := ear.next_task()) is not None and _run(called, ear):
        pass


@dataclass
class _Ear:
    """Messages from the parent, as a worker process receives them."""

    pipe: "Connection[Any, Any]"
    lent: int = 0  # idle cores that the task may use beside its own
    stopped: bool = False  # whether the parent has said to stop, or is gone and its end closed

    def next_task(self) -> bytes | None:
        """Waits for the next task and returns it pickled, or None if there is to be none."""
        called = None
        while not self.stopped and called is None:
            called = self._hear()
        self.lent = 0  # they were lent to the task that has just ended
        return called

    def must_stop(self) -> bool:
        """Whether the task must stop.

        No message that is read here is a task: the parent sends the next one only after this one has ended.
        """
        try:
            while not self.stopped and self.pipe.poll():
                self._hear()
        except OSError:
            self.stopped = True
        return self.stopped

    def idle(self) -> int:
        """Returns the number of idle cores that the task may use beside its own."""
        return 0 if self.must_stop() else self.lent

    def _hear(self) -> bytes | None:
        try:
            said = self.pipe.recv_bytes()
        except (EOFError, OSError):
            said = _STOP
        if said.startswith(_LENT):
            self.lent = int(said.removeprefix(_LENT))
            return None
        self.stopped = said == _STOP
        return None if self.stopped else said


def _run(called: bytes, ear: _Ear) -> bool:
    """Runs a pickled task, which stops when the parent says so, and returns whether it is done."""

    def say(message: Report | Failure | Warned | Ended) -> None:
        with suppress(OSError):  # the parent is gone
            ear.pipe.send(message)

    said = run_here(called, report=say, warn=say, must_stop=ear.must_stop, idle=ear.idle)
    say(Ended(said is None) if not isinstance(said, Failure) else said)
    return said is None


def run_here(
    called: bytes,
    *,
    report: Callable[[Report], None],
    warn: Callable[[Warned], None],
    must_stop: Callable[[], bool],
    idle: Callable[[], int] | None = None,
) -> Failure | Interrupted | None:
    """Runs a pickled task in this process.

    Args:
        called: the pickled task.
        report: called with progress.
        warn: called with warnings for the user.
        must_stop: returns whether the task must stop.
        idle: returns the number of idle cores that a task that spreads may use beside its own; None if there are none.

    Returns:
        None if the task is done, the `Interrupted` if it was stopped, else why it failed.
    """
    label = "a task"
    try:
        task: Task = pickle.loads(called)
        label = task.label
        if idle is not None and isinstance(task, Spreading):
            task = task.spread(idle)

        def compiling() -> None:
            report(Report(label=label, phase=COMPILING, done=0, total=None))

        with warnings_to(lambda sentence: warn(Warned(f"{label}: {sentence}"))), compiling_told(compiling):
            task.run(report, must_stop)
    except Interrupted as stop:
        return stop  # the parent asked for it, or is gone
    except MzprobeError as error:
        return Failure(f"{label}: {error}", isinstance(error, InUse))
    except Exception as error:
        if not isinstance(error, MemoryError | OSError):
            traceback.print_exc()
        return Failure(f"{label}: {said_of_unexpected(error, remedy='report the traceback above')}")
    return None
