"""The plan of a study before it runs: what is done, what is left, and how long that takes on this machine."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from mzprobe import envs, networks
from mzprobe.agents import Agent
from mzprobe.checkpoints import Checkpoint, spec_record
from mzprobe.compute import Compute
from mzprobe.config import RunConfig
from mzprobe.errors import UsageError
from mzprobe.execution.core import Needs, Task
from mzprobe.execution.schedule import makespan
from mzprobe.probes.cost import Cost, Speeds, own_episodes
from mzprobe.probes.registry import PROBES
from mzprobe.settings import StudyConfig, StudyRun
from mzprobe.sources.own import load_agent
from mzprobe.study.dataset import DatasetTask, dataset_config
from mzprobe.study.price import steps_played, training_seconds
from mzprobe.study.todo import AgentToDo, TableToDo
from mzprobe.study.training import TRAIN
from mzprobe.trust import modules_of


@dataclass(frozen=True, kw_only=True)
class Planned:
    """Plan of one probe of a study, over all agents."""

    name: str
    done: int  # checkpoints that are done
    left: int  # checkpoints still to be measured
    cost: Cost  # upper bound for the checkpoints left
    seconds: float  # approximate core seconds for these


class Prices:
    """Estimates the time left for a study on this machine, in core seconds: each thread of a task takes a core.

    Speeds are measured when first needed, once for all runs that are equally fast.

    Args:
        todo: every agent of the study.
        compute: how networks run; the defaults of `Compute` if None.
        dataset: task that records its episodes, if it has one.
    """

    def __init__(
        self, todo: Sequence[AgentToDo], *, compute: Compute | None = None, dataset: DatasetTask | None = None
    ) -> None:
        self.todo = todo
        self.dataset = dataset
        self.compute = compute or Compute()
        self._speeds: dict[str, Speeds] = {}  # by the settings they depend on
        self._training: dict[str, float] = {}  # core seconds of training from start to end, by run
        self._checkpoints: dict[tuple[str, str, int], tuple[Cost, float]] = {}  # of one, by run, probe and others
        self._tables: dict[tuple[Any, ...], tuple[Cost, float]] = {}  # of a table, by run, probe and what it lacks

    @cached_property
    def recording(self) -> float:
        """Core seconds left for the study's dataset, at most: training its agent, then playing all episodes needed."""
        if self.dataset is None or self.dataset.recorded:
            return 0.0
        settings = self.dataset.settings
        config = dataset_config(self.dataset.config, settings)
        speeds, looked_at = self._speed(config), 1 + len(config.training.checkpoints()) * bool(settings.returns)
        episodes = own_episodes(speeds.agent, settings.episodes * looked_at)
        trained = training_seconds(config, speeds) * self.dataset.steps_left() / max(1, config.training.steps)
        return (trained + speeds.seconds(episodes, trees=settings.episodes)) * config.training.threads

    def training(self, agent: AgentToDo) -> float:
        """Returns the core seconds left of an agent's training."""
        name, config = agent.run.name, agent.run.config
        if not agent.steps_left:
            return 0.0
        if name not in self._training:
            self._training[name] = training_seconds(config, self._speed(config)) * config.training.threads
        return self._training[name] * agent.steps_left / config.training.steps

    def _left(self, run: StudyRun, table: TableToDo) -> tuple[Cost, float]:
        checkpoints = Counter(table.missing.values())
        key = (run.name, table.probe, *checkpoints.items())
        if key not in self._tables:
            cost, seconds = Cost(), 0.0
            for others, count in checkpoints.items():
                of_one, needed = self._checkpoint(run, table, others)
                cost, seconds = cost + of_one * count, seconds + needed * count
            self._tables[key] = cost, seconds
        return self._tables[key]

    def _checkpoint(self, run: StudyRun, table: TableToDo, others: int) -> tuple[Cost, float]:
        key = (run.name, table.probe, others)
        if key not in self._checkpoints:
            speeds, probe = self._speed(run.config), PROBES[table.probe]
            cost = probe.price(speeds.agent, table.settings, others)
            seconds = speeds.seconds(cost, trees=probe.side_by_side(table.settings))
            self._checkpoints[key] = cost, seconds * run.config.training.threads
        return self._checkpoints[key]

    def _speed(self, config: RunConfig) -> Speeds:
        """Returns the speeds for a configuration; variants that differ only in how they learn share them."""
        training = config.training
        hangs_on = f"{config.environment} {config.network} {config.search} {training.plan_in} {training.threads}"
        if hangs_on not in self._speeds:
            self._speeds[hangs_on] = Speeds(_untrained(config, self.compute))
        return self._speeds[hangs_on]

    def planned(self) -> Iterator[Planned]:
        """Yields the plan of each probe of the study, in order."""
        for index, first in enumerate(self.todo[0].tables):
            tables = [(agent.run, agent.tables[index]) for agent in self.todo]
            priced = Counter(id(self._left(run, table)) for run, table in tables)
            known = {id(one): one for one in self._tables.values()}
            yield Planned(
                name=first.probe,
                done=sum(table.done for _, table in tables),
                left=sum(len(table.missing) for _, table in tables),
                cost=sum((known[one][0] * count for one, count in priced.items()), Cost()),
                seconds=sum(known[one][1] * count for one, count in priced.items()),
            )

    def by_task(self) -> dict[str, float]:
        """Returns the core seconds of each task that is not done, by its name."""
        found = {} if self.dataset is None else {self.dataset.name: self.recording}
        for agent in self.todo:
            if not agent.trained:
                found[f"{agent.label} {TRAIN}"] = self.training(agent)
            for table in agent.open_tables():
                found[f"{agent.label} {table.probe}"] = self._left(agent.run, table)[1]
        return found

    def by_probe(self) -> dict[tuple[str, str], float]:
        """Returns the core seconds left of each probe for the agent with the most, by name of run and probe."""
        found: dict[tuple[str, str], float] = {}
        for agent in self.todo:
            for table in agent.tables:
                key = (agent.run.name, table.probe)
                found[key] = max(found.get(key, 0.0), self._left(agent.run, table)[1])
        return found


def horizons_apart(study: StudyConfig, runs: Sequence[StudyRun]) -> str:
    """Returns a note if variants would be probed up to different horizons, which do not compare; otherwise empty."""
    unrolled = sorted({run.config.training.unroll_steps for run in runs})
    open_ended = [name for name, (settings, _) in study.probes().items() if getattr(settings, "horizon", 0) is None]
    if len(unrolled) == 1 or not open_ended:
        return ""
    lengths = ", ".join(map(str, unrolled))
    return (
        f"note: {', '.join(open_ended)} will end at the unroll length of each variant ({lengths}): give their sections "
        "a horizon to compare them"
    )


def in_all(tasks: Sequence[Task], seconds: Mapping[str, float], total: Needs) -> float:
    """Estimates the seconds from start to end; a task on several cores takes proportionally less.

    Args:
        tasks: tasks of the study.
        seconds: core seconds of each task, by name; 0 for those that are missing.
        total: resources for all tasks that run at the same time.
    """
    # Not at most the cores in `total`: a task has all its threads even where fewer tasks may run at a time.
    shared = {task.name: seconds.get(task.name, 0.0) / max(1, task.needs.cores) for task in tasks}
    return makespan(tasks, shared, total)


def training_planned(study: StudyConfig, todo: Sequence[AgentToDo]) -> str:
    """Describes in words how many agents a study trains, and what is left of that."""
    runs = {agent.run.name: agent.run.config for agent in todo}
    left = [agent for agent in todo if agent.steps_left]
    agents = f"{len(todo)} agent{'s' if len(todo) > 1 else ''}"
    if study.variants:
        agents += f" ({len(runs)} variants)"
    if not left:
        return f"{agents}, all trained"
    lengths = sorted({config.training.steps for config in runs.values()})
    steps = f"{lengths[0]:,}" if len(lengths) == 1 else f"{lengths[0]:,} to {lengths[-1]:,}"
    environment_steps = sum(steps_played(agent.run.config, agent.steps_left) for agent in left)
    taken = f"some {environment_steps:,}" if environment_steps else "no"
    if all(agent.steps_left == agent.run.config.training.steps for agent in todo):
        return f"{agents}, {steps} training steps each, {taken} environment steps"
    begun = sum(agent.steps_left < agent.run.config.training.steps for agent in left)
    said = f"{len(todo) - len(left)} trained, {begun} begun" if begun else f"{len(todo) - len(left)} trained"
    return (
        f"{agents}, {steps} training steps each, {said}: {sum(agent.steps_left for agent in left):,} training steps to "
        f"do, {taken} environment steps"
    )


def refuse_missing_steps(study: StudyConfig, config: RunConfig) -> None:
    """Refuses a study if one of its probes needs a checkpoint, or a file in one, that training will not write.

    Raises:
        UsageError: naming the probe and, unless no checkpoint will have the file, the step.
    """
    for name, (_, steps) in study.probes().items():
        if PROBES[name].file and (config.offline or not config.training.audited_positions):
            raise UsageError(
                f"the study's probe {name} looks at positions of a replay buffer, and there will be none: train on "
                "episodes of one's own, with training.audited_positions above 0, or leave the section out"
            )
        for step in steps or PROBES[name].steps:
            if PROBES[name].file and step == 0:
                raise UsageError(
                    f"the study's probe {name} looks at step 0, before which nothing was played: choose others with "
                    f"steps.{name}"
                )
            if step > config.training.steps or not config.training.is_checkpoint(step):
                raise UsageError(
                    f"the study's probe {name} looks at step {step}, where there will be no checkpoint: add it to "
                    f"training.checkpoint_steps, or choose others with steps.{name}"
                )


def _untrained(config: RunConfig, compute: Compute) -> Agent:
    """Returns an untrained agent of a run, which is as fast as a trained one."""
    environment = envs.make(config.environment.name, **config.environment.options)
    network = networks.build(config.network, environment.spec, torch.Generator().manual_seed(0))
    checkpoint = Checkpoint(
        run="planned",
        seed=0,
        training_step=0,
        environment_steps=0,
        config=config,
        environment=spec_record(environment),
        metrics={},
        versions={},
        command="",
        weights=network.weight_arrays(),
        weights_sha256="",
        allow=modules_of(config),  # the user has allowed what the study names
    )
    return load_agent(checkpoint, compute=compute)
