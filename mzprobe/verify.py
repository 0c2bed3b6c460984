"""Verifies that checkpoints, states of training, tables and datasets below a folder are what mzprobe wrote."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mzprobe.checkpoints import RECORD, SEED_NAME, STEP_NAME, read_checkpoint, step_of
from mzprobe.errors import MzprobeError, UsageError
from mzprobe.files import refuse_absent
from mzprobe.tables import FORMER, TABLE_NAME, look_at
from mzprobe.training.resume import is_state, read_file, read_state

_DATASET = Path("data") / "metadata.json"


@dataclass(frozen=True, kw_only=True)
class Examined:
    """Result of examining one thing that mzprobe wrote."""

    path: Path
    kind: str  # checkpoint, state, table or dataset
    problem: str = ""  # one sentence, empty if nothing is wrong
    sealed: bool = True  # whether it has a digest to compare with


def examine(paths: Sequence[Path]) -> Iterator[Examined]:
    """Examines everything below the paths, in order of their names; skips hidden folders.

    Raises:
        UsageError: if a path does not exist, is a file but no table, or is neither a folder nor a file.
        MzprobeError: if a folder cannot be listed.
    """
    for path in paths:
        refuse_absent(path, remedy="give a folder, or a table")
        if not (path.is_dir() or path.is_file()):
            raise UsageError(f"{path} is neither a folder nor a file: give a folder, or a table")
        yield from _below(path)


def tables_below(paths: Sequence[Path]) -> list[Path]:
    """Returns the tables below the paths; a path that is a file counts as a table.

    Raises:
        UsageError: if there is none.
    """
    found = []
    for root in paths:
        below = sorted(root.rglob("seed-*.parquet"))
        found += [root] if root.is_file() else [path for path in below if TABLE_NAME.fullmatch(path.name)]
    if not found:
        raise UsageError(f"there are no tables below {', '.join(map(str, paths))}: give a folder of tables, or one")
    return found


def _below(path: Path) -> Iterator[Examined]:
    if path.is_file() or TABLE_NAME.fullmatch(path.name):
        if path.suffix != ".parquet":
            raise UsageError(f"{path} is no table: give a folder, or a table")
        yield _examined(path, "table", _table)
    elif (path / RECORD).exists() or STEP_NAME.fullmatch(path.name):
        yield _examined(path, "checkpoint", _checkpoint)
    elif is_state(path):
        yield _examined(path, "state", _state)
    elif (path / _DATASET).exists():
        yield _examined(path, "dataset", _dataset)
    else:
        for child in _children(path):
            if not child.name.startswith(".") and (child.is_dir() or TABLE_NAME.fullmatch(child.name)):
                yield from _below(child)


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as reason:
        raise MzprobeError(f"{folder} cannot be read ({reason.strerror}): give a folder that can") from None


def _examined(path: Path, kind: str, look: Callable[[Path], bool]) -> Examined:
    try:
        return Examined(path=path, kind=kind, sealed=look(path))
    except MzprobeError as problem:
        return Examined(path=path, kind=kind, problem=str(problem))


def _checkpoint(path: Path) -> bool:
    found = read_checkpoint(path)
    if step_of(path) != found.training_step:
        raise MzprobeError(f"{path} holds step {found.training_step}: rename it to step-{found.training_step:07d}")
    _refuse_other_seed(path, path.parent, found.seed)
    return True


def _state(path: Path) -> bool:
    _, record = read_state(path)
    for digest in record.files:
        read_file(path.parent.parent, digest)
    _refuse_other_seed(path, path.parent.parent, record.seed)
    return True


def _refuse_other_seed(path: Path, agent: Path, seed: int) -> None:
    named = SEED_NAME.fullmatch(agent.name)
    if named and int(named[1]) != seed:
        raise MzprobeError(f"{path} is of seed {seed}: move it back to the folder of that agent, or remove it")


def _table(path: Path) -> bool:
    if path.is_dir():
        raise MzprobeError(f"{path} is a folder in the place of a table: remove it and run its probe again")
    table, sealed = look_at(path)
    run, probe = table.record["run"], table.record["probe"]
    in_a_run = path.parent.name.startswith((probe, FORMER.get(probe, probe)))  # False if moved out of its run
    if in_a_run and path.parent.parent.name != run:
        raise MzprobeError(f"{path} is a table of run {run}: rename {path.parent.parent}, or move it back")
    return sealed


def _dataset(path: Path) -> bool:
    from mzprobe.datasets.reading import verify_files  # optional dependency, needed only here

    metadata, _ = verify_files(str(path), path)
    return "mzprobe" in metadata  # datasets that Minari wrote have no digest
