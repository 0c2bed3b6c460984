"""The tasks of a study: training each agent, and then running each of its probes, as far as they are not done."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from mzprobe import envs
from mzprobe.checkpoints import seed_of
from mzprobe.compute import Compute
from mzprobe.config import RunConfig
from mzprobe.errors import Interrupted
from mzprobe.execution.core import Needs, Report, Task
from mzprobe.probes.registry import PROBES
from mzprobe.probes.runner import ProbeRun, run_probe
from mzprobe.study.dataset import DatasetTask
from mzprobe.study.timing import write_timing
from mzprobe.study.todo import AgentToDo, TableToDo
from mzprobe.study.training import PROCESS, SECONDS, TRAIN, train_agent
from mzprobe.training.replay import bytes_of_buffer
from mzprobe.training.trainer import Trainer
from mzprobe.trust import modules_of


@dataclass(frozen=True, kw_only=True)
class TrainTask:
    """Task that trains an agent and writes the table of its training times."""

    label: str
    run_name: str
    seed: int
    config: RunConfig
    checkpoints: Path
    analyses: Path
    command: str
    compute: Compute = field(default_factory=Compute)
    memory: int = 0  # bytes of its replay buffer
    after: tuple[str, ...] = ()
    overwrite: bool = False  # whether a table of times from another configuration is replaced

    @property
    def name(self) -> str:
        """See `Task.name`."""
        return f"{self.label} {TRAIN}"

    @property
    def needs(self) -> Needs:
        """One core for each thread, memory for a process and the replay buffer, and the card of its device, if any."""
        return Needs(cores=self.config.training.threads, memory=PROCESS + self.memory, cards=_cards(self.compute))

    def run(self, report: Callable[[Report], None], must_stop: Callable[[], bool]) -> None:
        """Trains the agent, from its saved state if there is one; see `Task.run`."""
        trainer = Trainer(
            self.config,
            seed=self.seed,
            run=self.run_name,
            out=self.checkpoints,
            command=self.command,
            compute=self.compute,
        )
        train_agent(trainer, self.label, report, must_stop)
        write_timing(trainer.folder, self.analyses, command=self.command, overwrite=self.overwrite)


@dataclass(frozen=True, kw_only=True)
class ProbeTask:
    """Task that runs one probe of an agent."""

    run_of: ProbeRun
    name: str
    label: str = ""  # by default `seed` and the agent's seed
    after: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.label:
            object.__setattr__(self, "label", f"seed {seed_of(self.run_of.path().with_suffix(''))}")

    @property
    def needs(self) -> Needs:
        """One core for each process that plays its episodes, their memory, and the card of its device, if any."""
        run = self.run_of
        cores = run.workers if run.probe.shared else 1
        return Needs(cores=cores, memory=cores * (PROCESS + run.compute.memory), cards=_cards(run.compute))

    @property
    def spreads(self) -> bool:
        """Whether idle cores can play some of its episodes; not on a card, where processes would hinder each other."""
        return self.run_of.probe.shared and self.run_of.compute.on_cpu

    def spread(self, idle: Callable[[], int]) -> Self:
        """See `Spreading.spread`."""
        return replace(self, run_of=replace(self.run_of, idle=idle)) if self.spreads else self

    def run(self, report: Callable[[Report], None], must_stop: Callable[[], bool]) -> None:
        """Measures what its table does not hold yet; see `Task.run`."""
        reported, whole = 0.0, -1

        def probed(done: float, total: int) -> None:
            nonlocal reported, whole
            # Hundreds of reports per second would keep the parent process busy.
            if done >= whole + 1 or time.monotonic() >= reported + SECONDS:
                reported, whole = time.monotonic(), int(done)
                report(Report(label=self.label, phase=self.run_of.probe.name, done=done, total=total))
            if must_stop():
                raise Interrupted("stopped inside a probe: the checkpoints that are done are kept")

        run_probe(self.run_of, on_progress=probed)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings that all tasks of a study share."""

    checkpoints: Path  # folder of all checkpoints
    analyses: Path  # folder of all tables
    command: str  # command that makes all outputs, for their records
    compute: Compute = field(default_factory=Compute)
    workers: int = 1  # processes that share the episodes of a probe, if it supports that
    overwrite: bool = False  # whether tables made with other settings are replaced


def study_tasks(
    todo: Sequence[AgentToDo],
    recipe: Recipe,
    *,
    dataset: DatasetTask | None = None,
    seconds: Mapping[tuple[str, str], float] | None = None,
) -> list[Task]:
    """Returns the tasks that are not done, agent by agent: its training, then its probes, longest first.

    Args:
        todo: every agent of the study.
        recipe: settings that all tasks share.
        dataset: task that records the episodes that agents learn from, if any.
        seconds: approximate time of a probe of an agent, by name of run and probe; 0 for those that are missing.
    """
    longest = seconds or {}
    new = {agent.run.name: agent.run.config for agent in todo if not agent.trained}
    memory = {run: _replayed(config) for run, config in new.items()}
    tasks: list[Task] = [replace(dataset, memory=_replayed(dataset.config))] if dataset else []
    for agent in todo:
        run, trained = agent.run, tuple[str, ...]()
        if not agent.trained:
            fed = (dataset.name,) if dataset and run.config.dataset.path is not None else ()
            train = _train(agent, recipe, memory=memory[run.name], after=fed)
            tasks.append(train)
            trained = (train.name,)
        of_agent = [(longest.get((run.name, table.probe), 0.0), table) for table in agent.open_tables()]
        of_agent.sort(key=lambda priced: -priced[0])
        tasks += [_probe(agent, table, recipe, after=trained) for _, table in of_agent]
    return tasks


def _train(agent: AgentToDo, recipe: Recipe, *, memory: int, after: tuple[str, ...]) -> TrainTask:
    return TrainTask(
        label=agent.label,
        run_name=agent.run.name,
        seed=agent.seed,
        config=agent.run.config,
        checkpoints=recipe.checkpoints,
        analyses=recipe.analyses,
        command=recipe.command,
        compute=recipe.compute,
        memory=memory,
        after=after,
        overwrite=recipe.overwrite,
    )


def _probe(agent: AgentToDo, table: TableToDo, recipe: Recipe, *, after: tuple[str, ...]) -> ProbeTask:
    run = ProbeRun(
        probe=PROBES[table.probe],
        agent=agent.folder,
        config=table.settings,
        analyses=recipe.analyses,
        steps=table.steps,
        compute=recipe.compute,
        workers=recipe.workers,
        overwrite=recipe.overwrite and bool(table.other),
        allow=modules_of(agent.run.config),
        together=tuple(one.path.parent.name for one in agent.tables),
    )
    return ProbeTask(run_of=run, name=f"{agent.label} {table.probe}", label=agent.label, after=after)


def _cards(compute: Compute) -> int:
    return 0 if compute.on_cpu else 1


def _replayed(config: RunConfig) -> int:
    """Estimates the bytes of the replay buffer of a run."""
    environment = envs.make(config.environment.name, **config.environment.options)
    return bytes_of_buffer(environment, config.training)
