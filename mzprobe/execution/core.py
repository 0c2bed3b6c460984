"""Protocols of tasks and executors, and the messages that running tasks send."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, Self, runtime_checkable

from mzprobe.errors import Interrupted, MzprobeError

COMPILING = "compiling kernels, once on this machine"  # phase in the reports of a task
State = Literal["begun", "done", "failed", "again"]  # again: its worker or node was lost, and it starts over


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Resources that a task takes while it runs, or that are available for all tasks together."""

    cores: int = 1
    memory: int = 0  # bytes, approximately
    cards: int = 0


@dataclass(frozen=True, kw_only=True)
class Report:
    """Progress of a task, as the task reports it."""

    label: str  # label of the task
    phase: str  # train, record, the name of a probe, or `COMPILING`
    done: float
    total: int | None  # None if unknown
    note: str = ""  # state of the work, in a few words


@dataclass(frozen=True)
class Failure:
    """Reason why a task could not be finished."""

    sentence: str
    in_use: bool = False  # whether the reason is that another command was using the agent


@dataclass(frozen=True)
class Warned:
    """Warning for the user about an agent whose work continues."""

    sentence: str


class Task(Protocol):
    """A piece of work, pickled to where it runs. Running it a second time finds nothing left to do."""

    @property
    def name(self) -> str:
        """Unique name, such as `seed 0 horizon`."""
        ...

    @property
    def label(self) -> str:
        """Name of its agent, for reports and failures: `seed 0`, or with the variant in front."""
        ...

    @property
    def needs(self) -> Needs:
        """Resources that it takes while it runs."""
        ...

    @property
    def after(self) -> tuple[str, ...]:
        """Names of the tasks that must be done before it."""
        ...

    def run(self, report: Callable[[Report], None], must_stop: Callable[[], bool]) -> None:
        """Runs the task, reporting progress on the way.

        Raises:
            Interrupted: soon after `must_stop` returns True.
            MzprobeError: if the task cannot be done.
        """
        ...


@runtime_checkable
class Spreading(Protocol):
    """A task that can also use extra cores while it runs, with the same result."""

    @property
    def spreads(self) -> bool:
        """Whether it can use extra cores with its present settings."""
        ...

    def spread(self, idle: Callable[[], int]) -> Self:
        """Returns the same task, which calls `idle` now and then for the number of idle cores beside its own."""
        ...


OnState = Callable[[Task, State, str], None]


class Executor(Protocol):
    """Runs tasks."""

    def total(self) -> Needs:
        """Returns the resources for all tasks that run at the same time."""
        ...

    def most(self) -> tuple[Needs, ...]:
        """Returns the part of `total` that each machine has, at least one: a task can have no more than one of them."""
        ...

    def run(
        self,
        tasks: Sequence[Task],
        *,
        on_report: Callable[[Report], None] = lambda _: None,
        on_state: OnState = lambda _task, _state, _said: None,
    ) -> None:
        """Runs all tasks, the first ones first, as far as their dependencies and needs allow.

        Warnings of mzprobe are issued in this process, with the task's label in front.

        Args:
            tasks: tasks in order of importance.
            on_report: called with every report of progress.
            on_state: called with a task, its new state and the reason, if it failed or begins again; otherwise the
                reason is empty.

        Raises:
            Interrupted: on Ctrl-C, SIGTERM or SIGHUP, after every task has stopped.
            MzprobeError: if tasks failed, once all tasks that do not depend on them are done.
        """
        ...


def stopped() -> Interrupted:
    """Returns the error to raise once all tasks have been stopped."""
    return Interrupted("stopped, every agent saved: run the same command again to resume")


def refuse_failures(failures: Sequence[tuple[Task, str]], tasks: Sequence[Task]) -> None:
    """Raises an error that names the agents that could not be finished, with the reason of the first one.

    Args:
        failures: the tasks that failed, each with its reason.
        tasks: all tasks, in order.

    Raises:
        MzprobeError: if any task failed.
    """
    if not failures:
        return
    place = {task.name: index for index, task in enumerate(tasks)}
    ordered = sorted(failures, key=lambda failure: place[failure[0].name])
    labels = list(dict.fromkeys(task.label for task, _ in ordered))
    said = [f"{', '.join(labels[1:])} failed too"] if labels[1:] else []
    waiting = _waiting_for({task.name for task, _ in failures}, tasks)
    if waiting:
        need = "task that needs it was" if len(waiting) == 1 else "tasks that need it were"
        said.append(f"{len(waiting)} {need} not done")
    if {task.label for task in tasks} - {task.label for task in waiting} - {*labels}:
        said.append("the other agents are not affected")
    raise MzprobeError(ordered[0][1] + (f" ({', '.join(said)})" if said else ""))


def _waiting_for(failed: set[str], tasks: Sequence[Task]) -> list[Task]:
    """Returns the tasks that depend on a failed one, directly or indirectly.

    Predecessors must come before the tasks that depend on them in `tasks`.
    """
    lost = set(failed)
    waiting = []
    for task in tasks:
        if task.name not in lost and not lost.isdisjoint(task.after):
            lost.add(task.name)
            waiting.append(task)
    return waiting
