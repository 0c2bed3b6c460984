"""Tasks that do next to nothing, and a study's tasks done one after the other in this process."""

from dataclasses import dataclass, field

from mzprobe.execution.core import Needs
from mzprobe.execution.local import Local
from mzprobe.study import run_study
from mzprobe.study.tasks import Recipe, study_tasks
from mzprobe.study.todo import study_todo


class Alone:
    """Of a task that is the only one of its label, needs a core and waits for nobody."""

    needs = Needs()
    after = ()

    @property
    def name(self):
        return self.label


@dataclass
class Job:
    """Writes its name into a file, as often as it is done."""

    name: str
    path: str
    after: tuple = ()
    needs: Needs = field(default_factory=Needs)

    @property
    def label(self):
        return self.name.partition(" ")[0]

    def run(self, _report, _must_stop):
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(f"{self.name}\n")


def tasks_of(study, runs, root, *, dataset=None, **recipe):
    """Every agent of a study and the tasks that are to be done for it, in folders under `root`."""
    checkpoints, analyses = root / "checkpoints", root / "analyses"
    todo = study_todo(study, runs, checkpoints=checkpoints, analyses=analyses)
    made = Recipe(checkpoints=checkpoints, analyses=analyses, **{"command": "mzprobe study tiny", **recipe})
    return todo, study_tasks(todo, made, dataset=dataset)


def done_here(study, runs, root, report=lambda _: None, must_stop=lambda: False, **recipe):
    """Does those tasks in this process, one after the other."""
    for task in tasks_of(study, runs, root, **recipe)[1]:
        task.run(report, must_stop)


def done_at_once(study, runs, root, *, processes=2, on_report=lambda _: None, executor=None, **recipe):
    """Does those tasks in processes, or as an executor does."""
    todo, tasks = tasks_of(study, runs, root, **recipe)
    overwrite = recipe.get("overwrite", False)
    executor = executor or Local(processes=processes)
    run_study(todo, tasks, executor=executor, overwrite=overwrite, on_report=on_report)
