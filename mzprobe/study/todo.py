"""What of a study is done, and what there is still to do: known from the files that are there and their records.

A table is looked at in its footer, a checkpoint in its record; neither rows nor weights are read. Whoever goes on with
them, or draws them, verifies their seals.
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
from mzprobe.provenance import versions
from mzprobe.recording import own_code, without_places
from mzprobe.settings import ProbeConfig, StudyConfig, StudyRun
from mzprobe.study.dataset import dataset_sha256
from mzprobe.study.there import Records
from mzprobe.tables import TIMING, differing, read_record, table_path
from mzprobe.training.clock import FILE as TIMES
from mzprobe.training.resume import states_of, step_of_state
from mzprobe.trust import modules_of


@dataclass(frozen=True, kw_only=True)
class TableToDo:
    """A probe of an agent: how much of its table is there."""

    probe: str
    path: Path
    settings: ProbeConfig
    steps: tuple[int, ...]  # training steps asked for, as the study says; none means the probe's own, or all
    wanted: tuple[int, ...]  # training steps that it is to hold
    missing: Mapping[int, int]  # of these, those still to be measured; of a pair, with how many others
    other: str = ""  # why what lies there cannot be gone on with
    fixed: bool = False  # whether that is for a reason which no --overwrite changes, such as that it was rounded

    @property
    def done(self) -> int:
        """Checkpoints that need no more work."""
        return len(self.wanted) - len(self.missing)


@dataclass(frozen=True, kw_only=True)
class AgentToDo:
    """An agent of a study: how far it is trained, and its tables."""

    run: StudyRun
    seed: int
    folder: Path  # of its checkpoints
    timing: Path  # table of what its training took
    step: int  # training steps that are saved
    trained: bool  # whether nothing of its training is left to do, and nothing to tidy up
    tables: tuple[TableToDo, ...]
    other: str = ""  # what the agent that lies there was begun with otherwise
    timing_other: str = ""  # why its training could not go on with the table of times that lies there

    @property
    def label(self) -> str:
        """How it is called where progress and failures are said: the seed, behind its variant if it has one."""
        return f"{self.run.variant} seed {self.seed}" if self.run.variant else f"seed {self.seed}"

    @property
    def steps_left(self) -> int:
        """Training steps to do; all of them where another agent has to make room."""
        steps = self.run.config.training.steps
        return steps if self.other else max(0, steps - self.step)

    def open_tables(self) -> list[TableToDo]:
        """The tables that are to be gone on with: all of an agent that is not trained, whose weights are not known."""
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
    """Every agent of a study, seed by seed, so that an interrupted study has all variants of the first ones.

    Args:
        study: its probes and seeds.
        runs: of it.
        checkpoints: folder of all checkpoints.
        analyses: folder of all tables.
        compute: how its numbers are made.
        renewed: whether the study's dataset is to be recorded anew, so that whoever learned from it is another agent.
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
    """What lies where the study would write and cannot be gone on with, in one clause; None where nothing does.

    Args:
        todo: of the study.
        dataset: folders where its dataset goes and another lies, with why.
        overwrite: whether only what no --overwrite replaces counts.
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
    """What the records of a run hold when they are made now."""

    config: dict[str, Any]
    versions: dict[str, str]
    compute: dict[str, str]
    dataset: str | None  # SHA-256 of the study's, where the run learns from that and it is recorded; "" if it will be
    steps: tuple[int, ...]  # training steps of checkpoints
    probes: tuple[tuple[Question, ProbeConfig, dict[str, Any], tuple[int, ...]], ...]


def made_by(config: RunConfig) -> dict[str, str]:
    """Versions of packages and code that records name for a run of this configuration that is trained here and now."""
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
        records = Records({})  # the tables are to be those of an agent to come
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
    """A table of an agent that makes room for another one, none of whose numbers are in it."""
    if table.other or not table.path.exists():
        return table
    return replace(table, other="is of the agent that is there so far", missing=dict.fromkeys(table.wanted, 1))


def _is_saved(folder: Path, kept: Mapping[int, Path], steps: int) -> bool:
    """Whether an agent has its last checkpoint, and whoever wrote it was not killed before all was as it should be."""
    states = states_of(folder)
    if max(kept) < steps or len(states) > 1 or leftovers(folder) or leftovers(folder / "resume"):
        return False
    return not states or step_of_state(states[0]) >= max(kept)


def _is_timed(folder: Path, kept: Mapping[int, Path], timing: Path, new: Mapping[str, Any]) -> bool:
    """Whether the table of times says what this agent's training took, where that was kept."""
    if not (folder / TIMES).exists():
        return True
    try:
        record = read_record(timing)
    except MzprobeError:
        return False
    same = not differing({**record, "versions": {}}, {**new, "versions": {}})
    return same and str(max(kept)) in record["commands"]


def _timing_unlike(timing: Path, new: Mapping[str, Any]) -> str:
    """Why the times of a training cannot be added to the table of times that lies there, if it does."""
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
    """Why a table cannot be gone on with, whether since it is rounded, and what it lacks."""
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
    """What a table lacks: steps, or of a pair the others that a step has not been asked about yet."""
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
    """The training steps that a probe will look at when the agent is trained: as its `ProbeRun` finds them then."""
    ends = max(kept, default=-1) >= max(expected)  # it is trained, maybe further
    there = sorted(kept if ends else {*kept, *expected})
    wanted = tuple(steps) or probe.usual_steps(there)
    if wanted or not probe.file:
        return tuple(sorted(set(wanted))) or tuple(there)
    # What is kept of training is not there before it, and not in a checkpoint that was made without.
    return tuple(step for step in there if ((kept[step] / probe.file).exists() if step in kept else step > 0))
