"""Finds what of a study is done and what is left to do, from the files that exist and their records.

Only the footers of tables and the records of checkpoints are read, and of tables about pairs also the columns of steps.
Seals are verified when a table or a checkpoint is continued or drawn.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mzprobe.checkpoints import agent_folder
from mzprobe.compute import Compute
from mzprobe.config import RunConfig
from mzprobe.errors import MzprobeError
from mzprobe.files import leftovers
from mzprobe.probes.question import Question
from mzprobe.probes.registry import PROBES
from mzprobe.records.digests import own_code, without_places
from mzprobe.records.versions import versions
from mzprobe.settings import ProbeConfig, StudyConfig, StudyRun
from mzprobe.study.dataset import dataset_sha256
from mzprobe.study.there import Records
from mzprobe.tables import TIMING, differing, read_record, table_path
from mzprobe.training.clock import FILE as TIMES
from mzprobe.training.resume import states_of, step_of_state
from mzprobe.trust import modules_of


@dataclass(frozen=True, kw_only=True)
class TableToDo:
    """Table of a probe of an agent: what it will hold, and what is missing."""

    probe: str
    path: Path
    settings: ProbeConfig
    steps: tuple[int, ...]  # training steps that the study names; empty means the probe's own, or all
    wanted: tuple[int, ...]  # training steps that it will hold
    missing: Mapping[int, int]  # steps of `wanted` not measured yet; the value counts the missing pairs, else it is 1
    other: str = ""  # reason why the existing table cannot be continued, as a clause; empty if it can
    fixed: bool = False  # whether --overwrite cannot remove that reason; it cannot for a table that was rounded

    @property
    def done(self) -> int:
        """Number of checkpoints that need no more work."""
        return len(self.wanted) - len(self.missing)


@dataclass(frozen=True, kw_only=True)
class AgentToDo:
    """Agent of a study: how far it is trained, and its tables."""

    run: StudyRun
    seed: int
    folder: Path  # folder of its checkpoints
    timing: Path  # path of the table of its training times
    step: int  # training step of the last saved state or checkpoint
    trained: bool  # whether its training has nothing left to do or to tidy up
    tables: tuple[TableToDo, ...]
    other: str = ""  # how the existing agent differs from the study's, as a clause; empty if it does not
    timing_other: str = ""  # reason why the existing table of times cannot be continued, as a clause

    @property
    def label(self) -> str:
        """Name of the agent in progress and failures: its seed, after its variant if it has one."""
        return f"{self.run.variant} seed {self.seed}" if self.run.variant else f"seed {self.seed}"

    @property
    def steps_left(self) -> int:
        """Training steps left to do; all of them if another agent must be put aside."""
        steps = self.run.config.training.steps
        return steps if self.other else max(0, steps - self.step)

    def open_tables(self) -> list[TableToDo]:
        """Returns the tables that need work; all of them if the agent is not trained, as its weights are unknown."""
        return [table for table in self.tables if table.missing or not self.trained]


def study_todo(
    study: StudyConfig,
    runs: Sequence[StudyRun],
    *,
    checkpoints: Path,
    analyses: Path,
    compute: Compute | None = None,
    renewed: bool = False,
) -> list[AgentToDo]:
    """Returns every agent of a study, seed by seed, so that an interrupted study has all variants of the first seeds.

    Args:
        study: settings of the study.
        runs: runs of the study.
        checkpoints: folder of all checkpoints.
        analyses: folder of all tables.
        compute: how networks run; the defaults of `Compute` if None.
        renewed: whether the study's dataset will be recorded again, so that agents that learned from it do not count.
    """
    compute = compute or Compute()
    expected = [_expected(study, run, compute, analyses, renewed=renewed) for run in runs]
    return [
        _agent(run, seed, known, checkpoints, analyses)
        for seed in study.seeds
        for run, known in zip(runs, expected, strict=True)
    ]


def in_the_way(
    todo: Sequence[AgentToDo], *, dataset: Mapping[Path, str] | None = None, overwrite: bool = False
) -> str | None:
    """Describes, as a clause, what exists where the study would write and cannot be continued; None if nothing does.

    Args:
        todo: every agent of the study.
        dataset: folders for its dataset and its agent that hold another one, each with the reason.
        overwrite: whether to count only tables that --overwrite does not replace.
    """
    kept = [table for agent in todo for table in agent.tables if table.other and (table.fixed or not overwrite)]
    met = [("table", f"{table.path} {table.other}") for table in kept]
    if not overwrite:
        met = [
            *(("dataset", f"{folder} {why}") for folder, why in (dataset or {}).items()),
            *(("agent", f"{agent.folder} {agent.other}") for agent in todo if agent.other),
            *met,
            *(("table", f"{agent.timing} {agent.timing_other}") for agent in todo if agent.timing_other),
        ]
    if not met:
        return None
    (_, first), *rest = met
    others = Counter(what for what, _ in rest)
    more = " and ".join(f"{count} {what}{'s' * (count > 1)}" for what, count in others.items())
    return f"{first}; {more} {'are' if others.total() > 1 else 'is'} not the study's either" if more else first


@dataclass(frozen=True, kw_only=True)
class _Expected:
    """Content of a run's records if they were made now."""

    config: dict[str, Any]
    versions: dict[str, str]
    compute: dict[str, str]
    dataset: str | None  # as for `Records.unlike`: SHA-256 of the study's dataset if the run learns from it
    steps: tuple[int, ...]  # training steps of its checkpoints
    probes: tuple[tuple[Question, ProbeConfig, dict[str, Any], tuple[int, ...]], ...]


def made_by(config: RunConfig) -> dict[str, str]:
    """Returns the versions of packages and code that the records of a run would state if it were trained now."""
    return versions(config.environment.name) | own_code(modules_of(config))


def _expected(study: StudyConfig, run: StudyRun, compute: Compute, analyses: Path, *, renewed: bool) -> _Expected:
    training = run.config.training
    study_name = run.name.removesuffix(f"-{run.variant}")
    own = study.dataset is not None and Path(run.config.dataset.path or "").name == study_name
    return _Expected(
        dataset=("" if renewed else dataset_sha256(analyses, study_name)) if own else None,
        config=without_places(run.config.model_dump(mode="json")),
        versions=made_by(run.config),
        compute=compute.record(),
        steps=training.checkpoints(),
        probes=tuple(
            (PROBES[name], settings, settings.model_dump(mode="json"), steps)
            for name, (settings, steps) in study.probes().items()
        ),
    )


def _agent(run: StudyRun, seed: int, expected: _Expected, checkpoints: Path, analyses: Path) -> AgentToDo:
    folder = agent_folder(checkpoints, run.name, seed)
    records = Records.of(folder)
    kept = records.kept
    other = records.unlike(expected.config, dataset=expected.dataset)
    step = max([*kept, *(step_of_state(state) for state in states_of(folder)[-1:])], default=0)
    timing = table_path(analyses, run.name, TIMING, seed)
    new = {"settings": {}, "config": expected.config, "versions": expected.versions, **records.made_with}
    saved = bool(kept) and not other and _is_saved(folder, kept, run.config.training.steps)
    trained = saved and _is_timed(folder, kept, timing, new)
    if other:
        records = Records({})  # the tables will be those of a new agent
    tables = [
        _table(probe, settings, dumped, steps, records, expected, analyses, run, seed)
        for probe, settings, dumped, steps in expected.probes
    ]
    if other:
        tables = [_of_another(table) for table in tables]
    return AgentToDo(
        run=run,
        seed=seed,
        folder=folder,
        timing=timing,
        step=step,
        trained=trained,
        tables=tuple(tables),
        other=other,
        timing_other="" if trained else _timing_unlike(timing, new),
    )


def _of_another(table: TableToDo) -> TableToDo:
    """Returns the table of an agent that must be put aside: if it exists, all its steps are missing."""
    if table.other or not table.path.exists():
        return table
    return replace(table, other="is of the agent that is there so far", missing=dict.fromkeys(table.wanted, 1))


def _is_saved(folder: Path, kept: Mapping[int, Path], steps: int) -> bool:
    """Whether an agent has its last checkpoint, and nothing is left of a command that was killed while writing."""
    states = states_of(folder)
    if max(kept) < steps or len(states) > 1 or leftovers(folder) or leftovers(folder / "resume"):
        return False
    return not states or step_of_state(states[0]) >= max(kept)


def _is_timed(folder: Path, kept: Mapping[int, Path], timing: Path, new: Mapping[str, Any]) -> bool:
    """Whether the table of times is this agent's, up to its last checkpoint; True if no times were kept."""
    if not (folder / TIMES).exists():
        return True
    try:
        record = read_record(timing)
    except MzprobeError:
        return False
    same = not differing({**record, "versions": {}}, {**new, "versions": {}})
    return same and str(max(kept)) in record["commands"]


def _timing_unlike(timing: Path, new: Mapping[str, Any]) -> str:
    """Returns why the existing table of times cannot be continued; empty if it can, or there is none."""
    if not timing.exists():
        return ""
    try:
        unlike = differing(read_record(timing), new)
    except MzprobeError as reason:
        return str(reason).removeprefix(f"{timing} ").partition(":")[0]
    return f"was made with other {unlike}" if unlike else ""


def _table(
    probe: Question,
    settings: ProbeConfig,
    dumped: dict[str, Any],
    steps: tuple[int, ...],
    records: Records,
    expected: _Expected,
    analyses: Path,
    run: StudyRun,
    seed: int,
) -> TableToDo:
    path = table_path(analyses, run.name, probe.table(settings), seed)
    wanted = _wanted(probe, steps, records.kept, expected.steps)
    every: Mapping[int, int] = {step: len(wanted) if probe.pair else 1 for step in wanted}
    other, fixed, missing = "", False, every
    if path.exists():
        by = expected.versions | own_code(probe.modules)
        new = {"settings": dumped, "config": expected.config, "versions": by}
        new |= {"compute": expected.compute, **records.made_with}
        other, fixed, missing = _there(path, probe, new, records, every)
    gone = [step for step in missing if records.kept and max(records.kept) >= max(expected.steps) > 0]
    gone = [step for step in gone if step not in records.kept]
    if gone and not other:
        other, fixed = f"is to hold step {gone[0]}, of which its agent has no checkpoint", True
    return TableToDo(
        probe=probe.name,
        path=path,
        settings=settings,
        steps=steps,
        wanted=wanted,
        missing=missing,
        other=other,
        fixed=fixed,
    )


def _there(
    path: Path, probe: Question, new: Mapping[str, Any], records: Records, every: Mapping[int, int]
) -> tuple[str, bool, Mapping[int, int]]:
    """Returns why a table cannot be continued, if so, whether because it is rounded, and which steps it lacks."""
    try:
        record = read_record(path)
        missing = _missing(path, probe, {int(step) for step in record["commands"]}, every)
    except MzprobeError as reason:
        return str(reason).removeprefix(f"{path} ").partition(":")[0], False, every
    known: dict[str, str] = record.get("checkpoints", {})
    for step, digest in known.items():
        if (records.weights(int(step)) or digest) != digest:
            return f"holds step {step} of other weights", False, every
    if "bits" in record:
        if any(int(step) not in records.kept for step in known):
            return "is rounded, as results that are shipped, and its agent is not here", True, every
        if missing:
            return "is rounded, so that nothing can be added to it", True, missing
    unlike = differing(record, new)
    columns = probe.odd_columns(record["units"])
    if columns and not unlike:
        unlike = f"columns ({', '.join(columns)})"
    return (f"was made with other {unlike}", False, every) if unlike else ("", False, missing)


def _missing(path: Path, probe: Question, there: set[int], every: Mapping[int, int]) -> dict[int, int]:
    """Returns the steps that a table lacks, each with 1 or, if the probe is about pairs, with the number missing.

    Raises:
        MzprobeError: if the columns of a table about pairs cannot be read.
    """
    if not probe.pair:
        return {step: 1 for step in every if step not in there}
    try:
        columns = ["training_step", probe.pair]
        with pa.OSFile(str(path)) as file:
            read = pq.ParquetFile(file, pre_buffer=False).read(columns=columns, use_threads=False)
        steps, others = (read[name].to_numpy().tolist() for name in columns)
    except (pa.ArrowException, OSError, KeyError, ValueError):
        raise MzprobeError(f"{path} is truncated or not a table of mzprobe: remove it") from None
    known = {*zip(steps, others, strict=True)}
    left = {step: sum((step, other) not in known for other in every) for step in every}
    return {step: count for step, count in left.items() if count}


def _wanted(
    probe: Question, steps: Sequence[int], kept: Mapping[int, Path], expected: Sequence[int]
) -> tuple[int, ...]:
    """Returns the training steps that `ProbeRun.checkpoints` will choose for a probe once the agent is trained."""
    ends = max(kept, default=-1) >= max(expected)  # trained that far, or further
    there = sorted(kept if ends else {*kept, *expected})
    wanted = tuple(steps) or probe.usual_steps(there)
    if wanted or not probe.file:
        return tuple(sorted(set(wanted))) or tuple(there)
    # The file holds parts of training: it does not exist at step 0, nor in checkpoints that were made without it.
    return tuple(step for step in there if ((kept[step] / probe.file).exists() if step in kept else step > 0))
