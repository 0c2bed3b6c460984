"""A study made ready to run: what is done, what stands in its way, what the rest takes, and the tasks that do it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mzprobe.compute import Compute
from mzprobe.config import RunConfig
from mzprobe.execution.core import Executor, Task
from mzprobe.settings import StudyConfig, StudyRun
from mzprobe.study import refusal
from mzprobe.study.dataset import DatasetTask
from mzprobe.study.plan import Prices, refuse_missing_steps
from mzprobe.study.strays import strays
from mzprobe.study.tasks import Recipe, study_tasks
from mzprobe.study.todo import AgentToDo, study_todo


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A study whose files have been looked at; nothing has been written yet."""

    name: str
    settings: StudyConfig
    runs: Sequence[StudyRun]
    recipe: Recipe
    dataset: DatasetTask | None  # that records its episodes, if the study has any
    others: Mapping[Path, str]  # folders where another dataset lies, with the reason why it is another
    todo: Sequence[AgentToDo]
    beside: Mapping[Path, str]  # tables of other seeds, with the reason why they cannot be drawn with its own, if any
    prices: Prices

    @property
    def lock(self) -> Path:
        """Path that one command at a time holds while it runs the study."""
        return self.recipe.checkpoints / self.name

    @property
    def refused(self) -> str | None:
        """Why the study cannot begin, with the remedy; None if it can."""
        apart = {path: why for path, why in self.beside.items() if why}
        return refusal(self.todo, dataset=self.others, overwrite=self.recipe.overwrite, apart=apart)

    def look_again(self, *, renewed: bool = False) -> list[AgentToDo]:
        """What there is to do now; see `study_todo`."""
        return study_todo(
            self.settings,
            self.runs,
            checkpoints=self.recipe.checkpoints,
            analyses=self.recipe.analyses,
            compute=self.recipe.compute,
            renewed=renewed,
        )

    def tasks(self, executor: Executor) -> list[Task]:
        """The tasks that are not done; where there are more cores than agents, probes share their episodes."""
        workers = max(1, min(executor.total().cores // len(self.todo), executor.most().cores))
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
    """Looks at what is there of a study.

    Args:
        name: of the study, without folder or suffix.
        settings: of the study.
        runs: of the study.
        config: its preset with its overrides, which the agent of its dataset is trained by.
        recipe: shared by its tasks.
        datasets: folder of all datasets.
        priced_on: how numbers are made on this machine, where speeds are measured.

    Raises:
        UsageError: if a probe looks at a step that will have no checkpoint.
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
    todo = study_todo(
        settings,
        runs,
        checkpoints=recipe.checkpoints,
        analyses=recipe.analyses,
        compute=recipe.compute,
        renewed=bool(others),
    )
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
    )
