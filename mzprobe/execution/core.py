"""What an executor receives, tasks with their needs, and what it reports about them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, Self, runtime_checkable

from mzprobe.errors import Interrupted, MzprobeError

COMPILING = "compiling kernels, once on this machine"  # a phase of a task
State = Literal["begun", "done", "failed", "again"]  # again: where it ran is lost, and it begins elsewhere


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a task takes while it runs, or what there is for tasks in all."""

    cores: int = 1
    memory: int = 0  # bytes, about
    cards: int = 0


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a task says of itself."""

    label: str  # of the task
    phase: str  # train, record, the name of a probe, or that kernels are compiled before
    done: float
    total: int | None  # None where it is not known
    note: str = ""  # how it goes, in a few words


@dataclass(frozen=True)
class Failure:
    """Why a task could not be finished."""

    sentence: str
    in_use: bool = False  # whether since another command was at it


@dataclass(frozen=True)
class Warned:
    """What the user should know of an agent, whose work goes on."""

    sentence: str


class Task(Protocol):
    """A piece of work; pickled to where it is done. Done a second time, it finds that there is nothing to do."""

    @property
    def name(self) -> str:
        """Tells it from all other tasks: `seed 0 horizon`."""
        ...

    @property
    def label(self) -> str:
        """Whose it is, for reports and failures: `seed 0`, or with the variant in front."""
        ...

    @property
    def needs(self) -> Needs:
        """What it takes."""
        ...

    @property
    def after(self) -> tuple[str, ...]:
        """Names of the tasks that must be done before."""
        ...

    def run(self, report: Callable[[Report], None], must_stop: Callable[[], bool]) -> None:
        """Does it, reporting on the way; raises `Interrupted` soon after it must stop."""
        ...


@runtime_checkable
class Spreading(Protocol):
    """What a task is too that can use further cores while it runs, with the same result."""

    @property
    def spreads(self) -> bool:
        """Whether it can, as it is."""
        ...

    def spread(self, idle: Callable[[], int]) -> Self:
        """The same task, which asks now and then how many cores beside its own are idle."""
        ...


OnState = Callable[[Task, State, str], None]


class Executor(Protocol):
    """Who does tasks."""

    def total(self) -> Needs:
        """What it has for tasks that run at a time."""
        ...

    def most(self) -> Needs:
        """What a single task can have of that: a cluster has several machines."""
        ...

    def run(
        self,
        tasks: Sequence[Task],
        *,
        on_report: Callable[[Report], None] = lambda _: None,
        on_state: OnState = lambda _task, _state, _said: None,
    ) -> None:
        """Does all tasks; the first ones first, as far as their order and their needs allow.

        Args:
            tasks: in the order in which they matter.
            on_report: told of progress.
            on_state: told when a task begins and ends, and why it failed.

        Warnings of mzprobe's are given by this process, with the task's label.

        Raises:
            Interrupted: on Ctrl-C, SIGTERM or SIGHUP; every task has stopped.
            MzprobeError: the failures of tasks; all that does not come after them is done.
        """
        ...


def stopped() -> Interrupted:
    """What is said when all tasks have been stopped."""
    return Interrupted("stopped, every agent saved: run the same command again to resume")


def refuse_failures(failures: Sequence[tuple[Task, str]], tasks: Sequence[Task]) -> None:
    """Says which agents could not be finished, and why the first one.

    Args:
        failures: tasks that failed, and why.
        tasks: all of them, in order.

    Raises:
        MzprobeError: if there is any.
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
    """The tasks that come after one that failed, directly or not; `tasks` are in an order in which they can be done."""
    lost = set(failed)
    waiting = []
    for task in tasks:
        if task.name not in lost and not lost.isdisjoint(task.after):
            lost.add(task.name)
            waiting.append(task)
    return waiting
