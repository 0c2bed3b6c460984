"""Progress of a study or a run, read from files alone, since another command may be at work there or was killed.

Nothing is written, locked or verified. Training steps are the last ones saved.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NamedTuple

from mzprobe.checkpoints import RECORD, SEED_NAME, seed_of, step_of, steps_of
from mzprobe.config import RunConfig
from mzprobe.errors import MzprobeError, UsageError
from mzprobe.files import read_object
from mzprobe.locks import in_use
from mzprobe.settings import StudyConfig, StudyDataset, StudyRun
from mzprobe.study.dataset import dataset_agent, other_datasets, record_path
from mzprobe.study.todo import TableToDo, study_todo
from mzprobe.tables import TABLE_NAME, TIMING, read_record
from mzprobe.toml import lies_here
from mzprobe.training.clock import FILE as TIMES
from mzprobe.training.resume import states_of, step_of_state

# An agent that no command works on is "waiting" if the study runs; otherwise "not begun", or "stopped" before its last
# training step. "other settings": what lies in its place was made with other settings than the study's.
Standing = Literal[
    "not begun", "waiting", "training", "stopped", "trained", "probing", "recording", "done", "other settings"
]


@dataclass(frozen=True, kw_only=True)
class TableStatus:
    """Progress of a probe of an agent."""

    probe: str
    done: int  # checkpoints that are done
    wanted: int | None  # checkpoints to do in all; None if no study states them
    running: bool


@dataclass(frozen=True, kw_only=True)
class AgentStatus:
    """Progress of the training and the probes of an agent."""

    label: str
    standing: Standing
    step: int  # training step of the last saved state or checkpoint
    steps: int | None  # training steps in all; None if unknown
    rate: float | None  # training steps per second since the previous checkpoint
    recent_return: float | None
    evaluation: float | None
    losses: dict[str, float]
    left: float | None  # seconds of training left at that rate; None if it is not training
    tables: tuple[TableStatus, ...]


@dataclass(frozen=True, kw_only=True)
class StudyStatus:
    """Progress of a study or a run."""

    name: str
    running: str  # process that works on it, in words; empty if there is none
    agents: tuple[AgentStatus, ...]
    dataset: AgentStatus | None = None  # agent of the study's dataset; its only table counts the recorded episodes

    @property
    def done(self) -> bool:
        """Whether nothing is left to do; for a run without a study, whether all agents are trained and idle."""
        return all(agent.standing == "done" for agent in self.every)

    @property
    def begun(self) -> bool:
        """Whether any agent has begun."""
        return any(agent.standing != "not begun" for agent in self.every)

    @property
    def every(self) -> tuple[AgentStatus, ...]:
        """All agents, with that of the dataset first."""
        return (*([self.dataset] if self.dataset else []), *self.agents)

    @property
    def left(self) -> float | None:
        """Seconds until all agents are trained, with as many at a time as now; None if none trains at a known rate."""
        at_once = sum(agent.standing == "training" for agent in self.agents)
        rates = [agent.rate for agent in self.agents if agent.rate]
        if not at_once or not rates:
            return None
        waiting = [(agent.steps or 0) - agent.step for agent in self.agents if agent.standing == "waiting"]
        begun = sum(agent.left or 0.0 for agent in self.agents if agent.standing == "training")
        return (begun + sum(waiting) / fmean(rates)) / at_once


def status_of_study(
    name: str,
    study: StudyConfig,
    runs: Sequence[StudyRun],
    *,
    config: RunConfig,
    checkpoints: Path,
    analyses: Path,
    datasets: Path = Path("datasets"),
) -> StudyStatus:
    """Returns the progress of a study.

    Args:
        name: name of the study.
        study: settings of the study.
        runs: runs of the study.
        config: its preset with its overrides, by which the agent of its dataset is trained.
        checkpoints: folder of all checkpoints.
        analyses: folder of all tables.
        datasets: folder of all datasets.
    """
    agents, dataset, others = [], None, {}
    if study.dataset:
        others = other_datasets(name, study.dataset, config, checkpoints=checkpoints, datasets=datasets)
    for agent in study_todo(study, runs, checkpoints=checkpoints, analyses=analyses, renewed=bool(others)):
        tables = tuple(_of_study(table) for table in agent.tables)
        found = _agent(agent.label, agent.folder, agent.run.config.training.steps, tables)
        agents.append(replace(found, standing="other settings") if agent.other else found)
    if study.dataset:
        dataset = _dataset(study.dataset, name, checkpoints, analyses, datasets)
        dataset = replace(dataset, standing="other settings") if others else dataset
    running = _held_by(checkpoints / name, [*agents, *([dataset] if dataset else [])])
    if running:
        agents = [_awaited(agent) for agent in agents]
        dataset = _awaited(dataset) if dataset else None
    return StudyStatus(name=name, running=running, agents=tuple(agents), dataset=dataset)


def _dataset(settings: StudyDataset, study: str, checkpoints: Path, analyses: Path, datasets: Path) -> AgentStatus:
    """Returns the progress of the agent whose episodes a study records; its only table counts these episodes."""
    try:
        recorded = int(read_object(record_path(analyses, study)).get("episodes", 0))
    except (TypeError, ValueError):
        recorded = 0
    table = TableStatus(
        probe="episodes",
        done=min(recorded, settings.episodes),
        wanted=settings.episodes,
        running=in_use(datasets / study) is not None,
    )
    found = _agent("dataset", dataset_agent(checkpoints, study, settings), settings.step, (table,))
    return replace(found, standing="recording") if found.standing == "probing" else found


def _awaited(agent: AgentStatus) -> AgentStatus:
    """Returns the status of an agent of a running study, which is `waiting` rather than `not begun` or `stopped`."""
    return replace(agent, standing="waiting") if agent.standing in ("not begun", "stopped") else agent


def status_of_run(name: str, *, checkpoints: Path, analyses: Path) -> StudyStatus:
    """Returns the progress of a run's agents and of the tables that exist, without the settings of a study.

    Raises:
        UsageError: if there is no such run.
    """
    folder = checkpoints / name
    found = [path for path in folder.iterdir() if SEED_NAME.fullmatch(path.name)] if folder.is_dir() else []
    if not found:
        remedy = f"for the study give {name}.toml" if lies_here(name) else "give another one, or another --checkpoints"
        raise UsageError(f"there is no run {name} under {checkpoints}: {remedy}")
    agents = []
    for path in sorted(found, key=seed_of):
        known = sorted((analyses / name).glob(f"*/{path.name}.parquet"))
        tables = [_table(one.parent.name, one, None) for one in known if TABLE_NAME.fullmatch(one.name)]
        asked = tuple(table for table in tables if table.probe != TIMING)
        agents.append(_agent(path.name.replace("-", " "), path, None, asked))
    return StudyStatus(name=name, running=_held_by(folder, agents), agents=tuple(agents))


def _held_by(folder: Path, agents: Sequence[AgentStatus]) -> str:
    held = in_use(folder)
    if held:
        return f"process {held.process} on {held.host}"
    busy = any(agent.standing in ("training", "probing", "recording") for agent in agents)
    return "a command of its own" if busy else ""


def _of_study(table: TableToDo) -> TableStatus:
    """Returns the progress of a study's table; one made with other settings counts as not begun."""
    found = _table(table.probe, table.path, table.wanted)
    return replace(found, done=0 if table.other else table.done)


def _table(probe: str, path: Path, wanted: Sequence[int] | None) -> TableStatus:
    try:
        there = {int(step) for step in read_record(path)["commands"]} if path.exists() else set()
    except MzprobeError:
        there = set()
    return TableStatus(
        probe=probe,
        done=len(there if wanted is None else there & set(wanted)),
        wanted=None if wanted is None else len(wanted),
        running=in_use(path) is not None,
    )


def _agent(label: str, folder: Path, steps: int | None, tables: tuple[TableStatus, ...]) -> AgentStatus:
    kept, states = steps_of(folder), states_of(folder)
    saved = read_object(states[-1] / "state.json") if states else {}
    record = read_object(kept[-1] / RECORD) if kept else {}
    step = max([step_of(path) for path in kept[-1:]] + [step_of_state(path) for path in states[-1:]], default=0)
    try:
        told = _told(saved, record)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):  # malformed records
        told = _told({}, {})
    steps = told.steps if steps is None else steps
    training, rate = in_use(folder) is not None, _rate(folder, step)
    return AgentStatus(
        label=label,
        standing=_standing(training, step, steps, bool(kept or states), tables),
        step=step,
        steps=steps,
        rate=rate,
        recent_return=told.recent_return,
        evaluation=told.evaluation,
        losses=told.losses,
        left=max(0.0, (steps - step) / rate - _age(states[-1])) if training and steps and rate and states else None,
        tables=tables,
    )


class _Told(NamedTuple):
    """Results of training so far, as an agent's files record them."""

    steps: int | None
    recent_return: float | None
    evaluation: float | None
    losses: dict[str, float]


def _told(saved: Mapping[str, Any], record: Mapping[str, Any]) -> _Told:
    """Reads the results of training from a state, or else from a checkpoint; raises various errors if malformed."""
    steps = (saved or record).get("config", {}).get("training", {}).get("steps")
    metrics = record.get("metrics", {})
    recent = fmean(saved["recent"]) if saved.get("recent") else metrics.get("recent_return")
    evaluations = saved.get("evaluations") or metrics.get("evaluations") or []
    losses = saved.get("last_losses") or metrics.get("losses") or {}
    return _Told(
        steps=None if steps is None else int(steps),
        recent_return=None if recent is None else float(recent),
        evaluation=float(evaluations[-1]["mean_return"]) if evaluations else None,
        losses={str(name): float(loss) for name, loss in losses.items()},
    )


def _standing(training: bool, step: int, steps: int | None, begun: bool, tables: tuple[TableStatus, ...]) -> Standing:
    if training:
        return "training"
    if any(table.running for table in tables):
        return "probing"
    if not begun:
        return "not begun"
    if steps is not None and step < steps:
        return "stopped"
    return "done" if all(table.wanted is None or table.done >= table.wanted for table in tables) else "trained"


def _rate(folder: Path, step: int) -> float | None:
    """Returns the training steps per second from the last checkpoint before `step` until now; None if unknown."""
    times = read_object(folder / TIMES)
    try:
        now = sum(times["now"]["seconds"].values())
        rows = [(row["training_step"], sum(row["seconds"].values())) for row in times["rows"]]
        before, seconds = max((row for row in rows if row[0] < step), default=(0, 0.0))
        return (step - before) / (now - seconds) if now > seconds and step > before else None
    except (KeyError, TypeError, AttributeError):
        return None


def _age(path: Path) -> float:
    """Returns the seconds since a path was last modified; 0 if it no longer exists."""
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return 0.0
