"""What a study costs beside its work: a plan of 10,000 tasks, 1,000 that do nothing, and a small study of four agents.

    python benchmarks/study_tasks.py

Targets: a plan in under 5 s, from nothing and where all of it is done; under 2 % of a study that takes hours. The study
is one of 1,000 agents and nine probes each; where it is done, its files are made by hand: records without weights, and
tables of a row a checkpoint. Of the four agents it says what share of all core seconds this process took, which gives
out the tasks, and how much of the time two cores had one. Ray is left out where it is not installed; its cluster has a
node of two cores.
"""

from _timing import SMALLEST  # isort: skip - sets the threads before numpy loads

import os
import resource
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from mzprobe.checkpoints import agent_folder
from mzprobe.compute import Compute
from mzprobe.execution.core import Executor, Needs
from mzprobe.execution.local import Local
from mzprobe.execution.schedule import makespan
from mzprobe.files import canonical_json
from mzprobe.probes.registry import PROBES
from mzprobe.records.versions import versions
from mzprobe.settings import HorizonConfig, OnlineConfig, StudyConfig, StudyRun, load_study, study_runs
from mzprobe.study.tasks import Recipe, study_tasks
from mzprobe.study.todo import study_todo
from mzprobe.tables import Table, table_bytes, table_path

AGENTS = 3 if SMALLEST else 1000
TASKS = 10 if SMALLEST else 1000


@dataclass
class Nothing:
    """A task that is over at once."""

    name: str
    label: str = "nothing"
    after: tuple[str, ...] = ()
    needs: Needs = field(default_factory=Needs)

    def run(self, _report: object, _must_stop: object) -> None:
        """Does nothing."""


def planned(settings: StudyConfig, runs: tuple[StudyRun, ...], root: Path, what: str) -> None:
    """Plans the study, prices left out: they are measured once a run, however many agents it has."""
    began, cores = time.perf_counter(), time.process_time()
    todo = study_todo(settings, runs, checkpoints=root / "checkpoints", analyses=root / "analyses")
    recipe = Recipe(checkpoints=root / "checkpoints", analyses=root / "analyses", command="here")
    tasks = study_tasks(todo, recipe)
    makespan(tasks, {task.name: 1.0 for task in tasks}, Needs(cores=2, memory=1 << 40))
    count = len(todo) * (1 + len(settings.probes()))
    took, core_seconds = time.perf_counter() - began, time.process_time() - cores
    print(f"plan of {count:,} tasks, {what}: {took:.1f} s ({core_seconds:.1f} core seconds), {len(tasks):,} to do")


def made(settings: StudyConfig, run: StudyRun, root: Path) -> None:
    """Makes the files by which a study is known to be done."""
    config, training = run.config.model_dump(mode="json"), run.config.training
    steps = [step for step in range(training.steps + 1) if training.is_checkpoint(step)]
    environment = {"name": "cartpole", "source": "", "observation_shape": [4]}
    environment |= {"num_actions": 2, "gamma": 0.99, "time_limit": 500}
    record = canonical_json({"config": config, "weights_sha256": "a" * 64, "metrics": {}}).encode()
    for seed in settings.seeds:
        for step in steps:
            folder = agent_folder(root / "checkpoints", run.name, seed) / f"step-{step:07d}"
            folder.mkdir(parents=True)
            (folder / "checkpoint.json").write_bytes(record)
            (folder / "targets.safetensors").touch()
    for name, (given, chosen) in settings.probes().items():
        probe, rows = PROBES[name], chosen or PROBES[name].steps or steps
        frame = pd.DataFrame({"seed": 0, "training_step": [one for one in rows for _ in rows]})
        frame = frame.assign(**dict.fromkeys(probe.units.keys() - {"seed", "training_step"}, 0.0))
        if probe.pair:
            frame[probe.pair] = [one for _ in rows for one in rows]
        table = {
            "probe": name,
            "run": run.name,
            "seed": 0,
            "settings": given.model_dump(mode="json"),
            "config": config,
            "environment": environment,
            "versions": versions("cartpole"),
            "compute": Compute().record(),
            "commands": dict.fromkeys(map(str, rows), "here"),
            "checkpoints": dict.fromkeys(map(str, rows), "a" * 64),
        }
        data = table_bytes(Table(frame=frame, units=probe.units, record=table))
        for seed in settings.seeds:
            path = table_path(root / "analyses", run.name, probe.table(given), seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def timed(executor: Executor, what: str) -> None:
    """Tasks a second, when processes have started."""
    ended: list[float] = []
    tasks = [Nothing(f"task {number}") for number in range(TASKS)]
    began = time.perf_counter()
    executor.run(tasks, on_state=lambda *_: ended.append(time.perf_counter()))
    took, started = ended[-1] - ended[2], ended[2] - began
    print(f"{TASKS:,} empty tasks, {what}: {TASKS / took:,.0f} tasks/s, the first after {started:.1f} s")


def studied(root: Path) -> None:
    """A study of four agents, by two processes."""
    settings = StudyConfig(
        preset="cartpole",
        seeds=tuple(range(1 if SMALLEST else 4)),
        overrides={"training.steps": 10 if SMALLEST else 300, "training.warmup_environment_steps": 200},
        online=OnlineConfig(episodes=2 if SMALLEST else 10),
        horizon=HorizonConfig(states=4 if SMALLEST else 20),
    )
    places = {"checkpoints": root / "checkpoints", "analyses": root / "analyses"}
    todo = study_todo(settings, study_runs("four", settings), **places)
    tasks = study_tasks(todo, Recipe(**places, command="here"))
    spans: dict[str, list[float]] = {task.name: [] for task in tasks}
    began, own, theirs = time.perf_counter(), time.process_time(), _of_children()
    Local(processes=2).run(tasks, on_state=lambda task, *_: spans[task.name].append(time.perf_counter()))
    wall, own, theirs = time.perf_counter() - began, time.process_time() - own, _of_children() - theirs
    busy = sum(last - first for first, last in spans.values()) / (2 * wall)
    print(
        f"a study of {len(tasks)} tasks: {wall:.0f} s, {theirs:.0f} core seconds of tasks, {own:.2f} of this process "
        f"({own / (own + theirs):.2%} of all, {own / wall:.2%} of the time); two cores had a task {busy:.0%} of that"
    )


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    settings, _ = load_study("cartpole-quick")
    settings = settings.model_copy(update={"seeds": tuple(range(AGENTS))})
    runs = study_runs("cartpole-quick", settings)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        planned(settings, runs, root, "from nothing")
        made(settings, runs[0], root)
        planned(settings, runs, root, "all done")
    with tempfile.TemporaryDirectory() as folder:
        studied(Path(folder))
    timed(Local(processes=2), "two processes of this machine")
    try:
        import ray
    except ImportError:
        print("Ray is not installed: left out")
        return
    from mzprobe.execution.on_ray import OnRay

    here = os.path.dirname(os.path.abspath(__file__))
    os.environ["PYTHONPATH"] = os.pathsep.join([here, *filter(None, sys.path)])  # where its workers find this file
    # A cluster of its own, whatever runs here.
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=80 << 20)
    import study_tasks  # by its name, as the workers know it

    study_tasks.timed(OnRay(), "a Ray cluster of one node")
    ray.shutdown()


if __name__ == "__main__":
    main()
