"""Running a probe over the checkpoints of an agent: one table, written after every checkpoint, resumable."""

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from mzprobe.agents import Agent, Origin
from mzprobe.compute import Compute
from mzprobe.errors import MzprobeError, UsageError
from mzprobe.files import remove_leftovers
from mzprobe.locks import held
from mzprobe.probes.cost import Cost
from mzprobe.probes.planning_workers import Workers
from mzprobe.probes.question import Question
from mzprobe.records.digests import code, own_code, section, without_places
from mzprobe.records.versions import machine, versions
from mzprobe.settings import ActingConfig, ProbeConfig
from mzprobe.sources.core import GIVEN, NAMING, Source
from mzprobe.sources.own import Own
from mzprobe.tables import Table, continued, differing, flat, read_table, settings_beside, table_path, write_table
from mzprobe.trust import named_code

_OTHER_TABLE = "choose another folder for tables, remove it, or replace it with --overwrite"


@dataclass(frozen=True, kw_only=True)
class ProbeRun:
    """A run of a probe over one agent: the question, its settings, the checkpoints, and the place of the table."""

    probe: Question
    agent: Path  # folder of the agent's checkpoints
    config: ProbeConfig
    analyses: Path  # folder of all tables
    steps: tuple[int, ...] = ()  # training steps; empty means the question's usual steps, or all
    source: Source = field(default_factory=Own)
    compute: Compute = field(default_factory=Compute)
    overwrite: bool = False  # whether to replace a table made with other settings
    workers: int = 1  # number of processes that share the episodes, for questions that allow it
    idle: Callable[[], int] | None = None  # returns the number of other cores now idle, each for one more process
    allow: tuple[str, ...] = ()  # modules whose code a checkpoint may name
    locked: bool = False  # whether the caller holds the lock of the table
    together: tuple[str, ...] = ()  # folders of tables made in the same study, with the same behaviour policy

    def path(self) -> Path:
        """Returns the path of the table, named after the recorded run and seed, whatever the folders are called.

        Raises:
            UsageError: as in `checkpoints`.
        """
        first = self.source.origin(next(iter(self.checkpoints().values())))
        return table_path(self.analyses, first.run, self.probe.table(self.config), first.seed)

    def command(self, origin: Origin) -> str:
        """Returns a command that makes the same rows: all settings that affect them, whatever the user typed.

        Args:
            origin: provenance of a checkpoint of the agent.
        """
        settings, usual = (flat(config.model_dump(mode="json")) for config in (self.config, type(self.config)()))
        changed = {key: value for key, value in settings.items() if value != usual.get(key)}
        if origin.source == "memory":
            asked = "".join(f", {key}={value!r}" for key, value in changed.items())
            return f"mzprobe.ask(agents, {self.probe.name!r}{asked})"
        own = origin.source == "own"
        words = ["mzprobe", self.probe.command, f"checkpoints/{origin.run}" if own else self.agent.name]
        words += [word for key, value in changed.items() for word in ("--set", f"{key}={_said(value)}")]
        words += [] if own else ["--source", origin.source]
        naming = [f"{key}={getattr(origin, key)}" for key in NAMING if origin.facts.get(key) == GIVEN]
        facts = [*origin.config.get("given", []), *naming]
        words += [word for fact in facts for word in ("--agent", fact)] if not own else []
        usual, compute = Compute().record(), self.compute.record()
        words += [f"--{key}={compute[key]}" for key in ("device", "precision") if compute[key] != usual[key]]
        return shlex.join(words)

    def load(self, folder: Path) -> Agent:
        """Loads the agent of a checkpoint."""
        return self.source.load(folder, compute=self.compute, allow=self.allow)

    def players(self, folder: Path) -> dict[str, Any]:
        """Returns the argument `players` of the measure; empty if this process plays the checkpoint's episodes."""
        if not self.probe.shared or (self.workers == 1 and self.idle is None):
            return {}
        players = Workers(
            source=self.source,
            checkpoint=folder,
            compute=self.compute,
            workers=self.workers,
            idle=self.idle,
            allow=self.allow,
        )
        return {"players": players}

    def checkpoints(self) -> dict[int, Path]:
        """Returns the checkpoints to measure by training step, in order.

        Raises:
            UsageError: if the agent has no checkpoints, a requested step has none, or none holds the file that the
                question needs.
        """
        there = self.source.checkpoints(self.agent)
        if not there:
            raise UsageError(f"{self.agent} holds no checkpoints: train the agent with mzprobe train")
        wanted = self.steps or self.probe.usual_steps(there)
        if self.probe.file and not wanted:
            there = {step: path for step, path in there.items() if (path / self.probe.file).exists()}
            if not there:
                raise UsageError(f"{self.agent} {self.probe.without}")
        missing = [step for step in wanted if step not in there]
        if missing:
            raise UsageError(
                f"{self.agent} has no checkpoint at step {missing[0]}: choose with --step among "
                f"{', '.join(map(str, there))}"
            )
        return {step: there[step] for step in sorted(set(wanted) or there)}


def run_probe(run: ProbeRun, *, on_progress: Callable[[float, int], None] = lambda _done, _total: None) -> Path:
    """Measures an agent's checkpoints that its table does not hold yet.

    The table is written after every checkpoint.

    Args:
        run: the probe, the agent and the settings.
        on_progress: called with the number of checkpoints done, including the fraction of the current one, and their
            total.

    Returns:
        The path of the table.

    Raises:
        UsageError: if a step has no checkpoint, the checkpoints are of different agents, the existing table was made
            with other settings and `overwrite` is not set or was rounded, or tables beside it are about another
            behaviour policy.
        InUse: if another command is writing the table.
    """
    path = run.path()
    _begun(run, run.checkpoints())  # raises before the lock creates a folder
    with nullcontext() if run.locked else held(path):
        _measure(run, on_progress)
        remove_leftovers(path.parent, path.name)
    return path


def _measure(run: ProbeRun, on_progress: Callable[[float, int], None]) -> None:
    chosen = run.checkpoints()
    path, record, frames = _begun(run, chosen)
    load = lru_cache(maxsize=None if run.probe.pair else 1)(run.load)
    for done, (step, folder) in enumerate(chosen.items()):
        on_progress(done, len(chosen))
        missing = _missing(run.probe, frames, step, chosen)
        if not missing:
            continue
        if "bits" in record:
            raise UsageError(f"{path} is rounded, nothing can be added to it: {_OTHER_TABLE}")
        agent, others = load(folder), [load(chosen[other]) for other in missing]
        rows = run.probe.ask(
            agent,
            run.config,
            *([others] if run.probe.pair else []),
            **run.players(folder),
            on_progress=lambda share, done=done: on_progress(done + share, len(chosen)),
        )
        frames[step] = _merged(run.probe, frames.get(step), rows)
        record["commands"][str(step)] = run.command(agent.origin)
        record["code"][str(step)] = code()
        for at, seen in zip((step, *missing), (agent, *others), strict=True):
            record["checkpoints"][str(at)] = seen.origin.weights_sha256
            if seen.origin.beyond_support is not None:
                record["beyond_support"][str(at)] = seen.origin.beyond_support
        frame = pd.concat([frames[step] for step in sorted(frames)], ignore_index=True)
        units = {name: unit for name, unit in run.probe.units.items() if name in frame}
        write_table(path, Table(frame=frame, units=units, record=record))
    on_progress(len(chosen), len(chosen))


def _said(value: Any) -> str:
    """Returns the text of a setting as `--set` reads it."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def remaining_cost(run: ProbeRun) -> tuple[int, Cost]:
    """Returns the number of checkpoints that a run has still to measure, and an upper bound on their cost.

    Raises:
        UsageError: as in `run_probe` and `Question.price`.
    """
    chosen = run.checkpoints()
    _, _, frames = _begun(run, chosen)
    missing = [len(_missing(run.probe, frames, step, chosen)) for step in chosen]
    left = [policies for policies in missing if policies]
    if not left:
        return 0, Cost()
    agent = run.load(next(iter(chosen.values())))  # all checkpoints cost the same
    return len(left), sum((run.probe.price(agent, run.config, policies) for policies in left), Cost())


def lost_steps(run: ProbeRun) -> list[int]:
    """Returns the training steps that are lost when a run replaces a table made with other settings.

    Raises:
        UsageError: as in `run_probe`.
    """
    if not run.overwrite:
        return []
    chosen = run.checkpoints()
    path, _, kept = _begun(run, chosen)
    if kept or not path.is_file():
        return []
    try:
        return sorted({*map(int, read_table(path).frame["training_step"])} - {*chosen})
    except MzprobeError:  # damaged: there is nothing to lose
        return []


def _begun(run: ProbeRun, chosen: Mapping[int, Path]) -> tuple[Path, dict[str, Any], dict[int, pd.DataFrame]]:
    """Returns the table's path, its record, and its rows by training step, empty if the table is new or replaced.

    Raises:
        UsageError: if the table cannot be begun or continued, as in `run_probe`.
        MzprobeError: if the existing table cannot be read and `run.overwrite` is not set.
    """
    path = run.path()
    origins = {step: run.source.origin(folder) for step, folder in chosen.items()}
    records = {step: _record(run, origin) for step, origin in origins.items()}
    record = next(iter(records.values()))
    for step, own in records.items():
        _refuse_other_agents(chosen[step], record, own)
    try:
        old = continued(path, record, remedy=_OTHER_TABLE)
        if old is not None:
            _refuse_other_rows(path, old, run.probe, origins)
    except MzprobeError:
        if not run.overwrite:
            raise
        old = None
    if old is None:
        _refuse_others_acting(path, run)
        return path, record, {}
    for part in ("commands", "code", "checkpoints", "beyond_support"):
        record[part] = old.record.get(part, {})  # older versions recorded fewer of them
    if "bits" in old.record:
        record["bits"] = old.record["bits"]
    return path, record, {int(str(step)): rows for step, rows in old.frame.groupby("training_step")}


def _refuse_others_acting(path: Path, run: ProbeRun) -> None:
    """Refuses a new table beside other questions' tables about another behaviour policy, since figures would mix them.

    Raises:
        UsageError: if there is such a table, outside the folders `run.together`.
    """
    for beside, unlike in acting_unlike(path.parent.parent, run.config):
        if beside.parent.name not in (path.parent.name, *run.together):
            raise UsageError(
                f"{beside} is about a behaviour policy with other {unlike}: ask with the same --acting, or give "
                "another folder with --out"
            )


def acting_unlike(folder: Path, config: ProbeConfig) -> Iterator[tuple[Path, str]]:
    """Yields the tables in a run's folder that are about another behaviour policy, with the settings that differ.

    One table of each question is examined.
    """
    own, usual = (flat(acting.model_dump(mode="json")) for acting in (config.acting, ActingConfig()))
    for beside, settings in settings_beside(folder):
        theirs = flat(settings.get("acting") or {})
        unlike = [f"acting.{name}" for name, value in own.items() if theirs.get(name, usual[name]) != value]
        if settings and unlike:
            yield beside, ", ".join(unlike)


def _refuse_other_rows(path: Path, old: Table, probe: Question, origins: Mapping[int, Origin]) -> None:
    """Refuses to add to a table with other columns, or with other weights of a requested step.

    Raises:
        UsageError: if columns or weights differ.
    """
    columns = probe.odd_columns(old.frame)
    if columns:
        raise UsageError(f"{path} was made with other columns ({', '.join(columns)}): {_OTHER_TABLE}")
    for step, origin in origins.items():
        known = old.record["checkpoints"].get(str(step))
        if known is not None and known != origin.weights_sha256:
            named = "name this agent apart with --agent run=NAME or seed=N, " if "given" in origin.config else ""
            raise UsageError(f"{path} holds step {step} of other weights: {named}{_OTHER_TABLE}")


def _record(run: ProbeRun, first: Origin) -> dict[str, Any]:
    environment = first.environment["name"]
    threads = section(first.config, "training").get("threads", run.compute.threads)
    return {
        "probe": run.probe.name,
        "run": first.run,
        "seed": first.seed,
        "settings": run.config.model_dump(mode="json"),
        "source": first.source,
        **({"facts": dict(first.facts)} if first.facts else {}),  # source of each fact that the agent's file lacks
        **({"differences": list(first.differences)} if first.differences else {}),
        "config": without_places(dict(first.config)),
        "environment": dict(first.environment),
        "versions": versions(environment) | own_code(_modules(run, first)),
        "compute": run.compute.record(),
        "machine": machine(environment, network=first.network, device=run.compute.device, threads=threads),
        "commands": {},  # by training step
        "code": {},  # by training step, the SHA-256 of mzprobe's sources
        "checkpoints": {},  # by training step, the SHA-256 of the weights
        **({"dataset": without_places(dict(first.dataset))} if first.dataset else {}),
        "beyond_support": {},  # by training step, counts of targets beyond the support, where the checkpoint has them
    }


def _modules(run: ProbeRun, origin: Origin) -> list[str]:
    """Returns the modules of the question, the environment, the network and the adapter, which may be a user's own."""
    reader = getattr(run.source, "adapter", run.source)
    named = [module for _, _, module in named_code(origin.config)]
    return [*run.probe.modules, type(reader).__module__, *named, *getattr(run.source, "modules", ())]


def _missing(probe: Question, frames: Mapping[int, pd.DataFrame], step: int, chosen: Mapping[int, Path]) -> list[int]:
    """Returns the steps that checkpoint `step` still has to be measured with.

    For a question about pairs, these are the chosen steps that its rows do not yet have as second checkpoints.
    Otherwise it is the step itself if it has no rows.
    """
    rows = frames.get(step)
    if not probe.pair:
        return [step] if rows is None else []
    known = set() if rows is None else set(rows[probe.pair].unique().tolist())
    return [other for other in chosen if other not in known]


def _merged(probe: Question, old: pd.DataFrame | None, new: pd.DataFrame) -> pd.DataFrame:
    if old is None or not probe.pair:
        return new
    # Rows of each second checkpoint are in order already; stable sorting keeps that order.
    return pd.concat([old, new]).sort_values(probe.pair, kind="stable", ignore_index=True)


def _refuse_other_agents(checkpoint: Path, first: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    unlike = differing(first, own) or ", ".join(name for name in ("run", "seed") if first[name] != own[name])
    if unlike:
        raise UsageError(
            f"{checkpoint} is of another agent than the first checkpoint asked for (other {unlike}): choose with "
            "--step, or move it to a folder of its own"
        )
