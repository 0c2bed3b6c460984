"""Studies: which agents and probes they have, what is done already, and in what order the rest is done."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mzprobe.errors import UsageError
from mzprobe.execution.core import Executor, OnState, Report, Task
from mzprobe.locks import tidy
from mzprobe.study.aside import put_aside
from mzprobe.study.strays import tables_of
from mzprobe.study.todo import AgentToDo, in_the_way


def run_study(
    todo: Sequence[AgentToDo],
    tasks: Sequence[Task],
    *,
    executor: Executor,
    dataset: Mapping[Path, str] | None = None,
    overwrite: bool = False,
    on_report: Callable[[Report], None] = lambda _: None,
    on_state: OnState = lambda _task, _state, _said: None,
) -> None:
    """Does what is not done yet.

    Args:
        todo: every agent of the study.
        tasks: made of that.
        executor: who does them.
        dataset: folders where the study's dataset goes and another lies, with why.
        overwrite: whether tables that were made otherwise are replaced, and agents that were begun otherwise put aside.
        on_report: told of progress.
        on_state: told when a task begins and ends, and why it failed.

    Raises:
        Interrupted: on Ctrl-C, SIGTERM or SIGHUP; every agent has saved its state.
        UsageError: before anything is done, if what lies there was made otherwise.
        MzprobeError: the first failure of an agent; the others are finished.
    """
    refused = refusal(todo, dataset=dataset, overwrite=overwrite)
    if refused:
        raise UsageError(refused)
    # What shows that something makes room goes aside last, so that a killed command is carried on with.
    for folder in reversed([*(dataset or {})]):  # the episodes, then the agent that played them
        put_aside(folder)
    for agent in todo:
        for path in (*tables_of(agent), agent.folder) if agent.other else ():
            put_aside(path)
    executor.run(tasks, on_report=on_report, on_state=on_state)
    for agent in todo:  # what a killed command left beside what it had finished
        for path in (agent.folder, agent.timing, *(table.path for table in agent.tables)):
            tidy(path)


def refusal(
    todo: Sequence[AgentToDo],
    *,
    dataset: Mapping[Path, str] | None = None,
    overwrite: bool,
    apart: Mapping[Path, str] | None = None,
) -> str | None:
    """Why a study cannot begin, with the remedy; None where it can.

    Args:
        todo: every agent of it.
        dataset: folders where its dataset goes and another lies, with why.
        overwrite: whether what was made otherwise may be replaced.
        apart: tables that are not its own and cannot be drawn with them, with why.
    """
    if apart:
        path, why = next(iter(apart.items()))
        return f"{path} {why}: move it elsewhere, or give this study a folder of its own, such as --under runs"
    met, always = (in_the_way(todo, dataset=dataset, overwrite=one) for one in (overwrite, True))
    if met is None:
        return None
    act = "put it aside" if dataset or any(agent.other for agent in todo) else "replace it"
    how = "" if always else f"{act} with --overwrite, or "
    return f"{met}: {how}give this study a folder of its own, such as --under runs"
