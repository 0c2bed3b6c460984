"""Prepares a study to run: finds what is done, what is in the way, how long the rest takes, and its tasks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from mzprobe.compute import Compute
from mzprobe.config import RunConfig
from mzprobe.execution.core import Needs, Task
from mzprobe.settings import StudyConfig, StudyRun
from mzprobe.study import refusal
from mzprobe.study.dataset import DatasetTask
from mzprobe.study.plan import Prices, refuse_missing_steps
from mzprobe.study.strays import strays
from mzprobe.study.tasks import Recipe, study_tasks
from mzprobe.study.todo import AgentToDo, study_todo


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A study whose files have been examined; nothing has been written yet."""

    name: str
    settings: StudyConfig
    runs: Sequence[StudyRun]
    recipe: Recipe
    dataset: DatasetTask | None  # task that records its episodes, if it has a dataset
    others: Mapping[Path, str]  # folders of the dataset and its agent that hold another one, with the reason
    todo: Sequence[AgentToDo]
    beside: Mapping[Path, str]  # tables of others, with the reason if they cannot be drawn with its own; see `strays`
    prices: Prices
    look_again: Callable[..., list[AgentToDo]]  # what there is to do by now; takes `renewed` as `study_todo` does

    @property
    def lock(self) -> Path:
        """Path that one command at a time holds while it runs the study."""
        return self.recipe.checkpoints / self.name

    @property
    def refused(self) -> str | None:
        """Reason why the study cannot begin, with the remedy; None if it can."""
        apart = {path: why for path, why in self.beside.items() if why}
        return refusal(self.todo, dataset=self.others, overwrite=self.recipe.overwrite, apart=apart)

    def tasks(self, total: Needs, most: Sequence[Needs]) -> list[Task]:
        """Returns the tasks that are not done; with more cores than agents, processes share a probe's episodes."""
        workers = max(1, min(total.cores // len(self.todo), max(one.cores for one in most)))
        recorded = self.dataset is not None and self.dataset.recorded and all(agent.trained for agent in self.todo)
        return study_tasks(
            self.todo,
            replace(self.recipe, workers=workers),
            dataset=None if recorded else self.dataset,
            seconds=self.prices.by_probe(),
        )


def prepare(
    name: str,
    settings: StudyConfig,
    runs: Sequence[StudyRun],
    *,
    config: RunConfig,
    recipe: Recipe,
    datasets: Path,
    priced_on: Compute,
) -> Prepared:
    """Examines the files of a study.

    Args:
        name: name of the study, without folder or suffix.
        settings: settings of the study.
        runs: runs of the study.
        config: its preset with its overrides, by which the agent of its dataset is trained.
        recipe: settings that its tasks share.
        datasets: folder of all datasets.
        priced_on: how networks run on this machine, where speeds are measured.

    Raises:
        UsageError: see `refuse_missing_steps`.
    """
    for run in runs:
        refuse_missing_steps(settings, run.config)
    dataset = None
    if settings.dataset:
        dataset = DatasetTask(
            study=name,
            settings=settings.dataset,
            config=config,
            datasets=datasets,
            checkpoints=recipe.checkpoints,
            analyses=recipe.analyses,
            command=recipe.command,
        )
    others = dataset.others() if dataset else {}
    look = partial(
        study_todo,
        settings,
        runs,
        checkpoints=recipe.checkpoints,
        analyses=recipe.analyses,
        compute=recipe.compute,
    )
    todo = look(renewed=bool(others))
    return Prepared(
        name=name,
        settings=settings,
        runs=runs,
        recipe=recipe,
        dataset=dataset,
        others=others,
        todo=todo,
        beside=dict(strays(todo, recipe.compute)),
        prices=Prices(todo, compute=priced_on, dataset=dataset),
        look_again=look,
    )
