"""Studies: their agents and probes, what is done already, and the tasks for the rest."""

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
    """Runs the tasks of a study that are not done yet, after putting aside what they would overwrite.

    Args:
        todo: every agent of the study.
        tasks: tasks that are not done, as made from `todo`.
        executor: executor that runs the tasks.
        dataset: folders for the study's dataset and its agent that hold another one, each with the reason.
        overwrite: whether tables made with other settings are replaced, and agents and datasets put aside.
        on_report: called with every report of progress.
        on_state: called when a task begins, ends or fails; see `Executor.run`.

    Raises:
        Interrupted: on Ctrl-C, SIGTERM or SIGHUP; every agent has saved its state.
        InUse: if another command is writing what would be put aside.
        UsageError: before anything is done, if `refusal` finds an obstacle.
        MzprobeError: the first failure of an agent; the others are finished.
    """
    refused = refusal(todo, dataset=dataset, overwrite=overwrite)
    if refused:
        raise UsageError(refused)
    # The agent's folder shows that something must be put aside, so it moves last: a killed command can be repeated.
    for folder in reversed([*(dataset or {})]):  # first the episodes, then the agent that played them
        put_aside(folder)
    for agent in todo:
        for path in (*tables_of(agent), agent.folder) if agent.other else ():
            put_aside(path)
    executor.run(tasks, on_report=on_report, on_state=on_state)
    for agent in todo:  # a killed command may have left locks and partial files beside finished work
        for path in (agent.folder, agent.timing, *(table.path for table in agent.tables)):
            tidy(path)


def refusal(
    todo: Sequence[AgentToDo],
    *,
    dataset: Mapping[Path, str] | None = None,
    overwrite: bool,
    apart: Mapping[Path, str] | None = None,
) -> str | None:
    """Returns why a study cannot begin, with the remedy; None if it can.

    Args:
        todo: every agent of the study.
        dataset: folders for its dataset and its agent that hold another one, each with the reason.
        overwrite: whether what was made with other settings may be replaced or put aside.
        apart: tables of others that cannot be drawn with the study's own, each with the reason.
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
