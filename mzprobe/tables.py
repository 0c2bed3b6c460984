"""Tables on disk: long Parquet files that hold their units, their settings and their provenance."""

import io
import json
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mzprobe.config import FREE_KEYS, of_record
from mzprobe.errors import MzprobeError, MzprobeWarning, UsageError
from mzprobe.files import read_bytes, write_file
from mzprobe.records.digests import OWN
from mzprobe.records.schemas import TableRecord
from mzprobe.records.seals import table_sha256

_RECORD, _SEAL = b"mzprobe", b"mzprobe_sha256"  # keys of the schema's metadata
_ROOM = 1 << 26  # bytes; more than reading needs beside the table itself
_AGAIN = "remove it and run its probe again"
_PARTS = ("settings", "config", "dataset", "compute", "versions")  # parts of a record that affect its numbers
TIMING = "timing"  # table of times, which answers no question
FORMER = {"search_error": "search"}  # former names of questions and their folders, used in older tables
TABLE_NAME = re.compile(r"seed-(0|[1-9]\d*)\.parquet")  # name of a table's file


@dataclass(frozen=True, kw_only=True)
class Table:
    """Table of one probe and one agent, or of all agents of a run (see `read_run`)."""

    frame: pd.DataFrame  # long table, one row per observation
    units: dict[str, str]  # unit of every column
    record: dict[str, Any]  # probe, settings, checkpoints, configuration, versions, command


def table_path(analyses: Path, run: str, probe: str, seed: int) -> Path:
    """Returns the path of an agent's table; in the folder of the probe's former name if only that holds it."""
    folder, name = analyses / run, f"seed-{seed}.parquet"
    path = folder / probe / name
    if probe not in FORMER or path.exists():
        return path
    former = folder / FORMER[probe] / name
    return former if former.exists() else path


def write_table(path: Path, table: Table) -> None:
    """Writes a table; equal tables produce equal bytes.

    Raises:
        ValueError: if a column has no unit.
    """
    write_file(path, table_bytes(table))


def table_bytes(table: Table) -> bytes:
    """Returns the content of a table's file.

    Raises:
        ValueError: if a column has no unit.
    """
    missing = set(table.frame.columns) - set(table.units)
    if missing:
        raise ValueError(f"columns without a unit: {', '.join(sorted(missing))}")
    arrow = pa.Table.from_pandas(table.frame, preserve_index=False)
    record = json.dumps({"units": table.units, "sealed": True, **table.record}, sort_keys=True).encode()
    metadata = {_RECORD: record, _SEAL: table_sha256(arrow, record).encode()}
    buffer = io.BytesIO()
    floats = [field.name for field in arrow.schema if pa.types.is_floating(field.type)]
    arrow = arrow.replace_schema_metadata(None)
    with pq.ParquetWriter(
        buffer,
        arrow.schema,
        compression="zstd",
        compression_level=15,
        use_dictionary=[name for name in arrow.schema.names if name not in floats],
        write_statistics=False,
        store_schema=False,  # Arrow's own copy would hold the record a second time
        use_byte_stream_split=floats,  # floats rarely repeat, but their leading bytes do
    ) as writer:
        writer.write_table(arrow)
        writer.add_key_value_metadata(metadata)
    return buffer.getvalue()


def continued(path: Path, record: Mapping[str, Any], *, remedy: str) -> Table | None:
    """Reads an existing table that is to be continued or kept; returns None if there is none.

    Args:
        path: path of the table.
        record: record that the table would have if it were made now.
        remedy: end of the error message, what to do if the records differ.

    Raises:
        UsageError: if the records differ (see `differing`).
        MzprobeError: if it cannot be read.
    """
    if not path.exists():
        return None
    old = read_table(path)
    unlike = differing(old.record, record)
    if unlike:
        raise UsageError(f"{path} was made with other {unlike}: {remedy}")
    return old


def rounded(table: Table, bits: int) -> Table:
    """Rounds a table's floats to `bits` significant binary digits, half to even, so that its file is smaller.

    Equal numbers stay equal and the order is kept, except that near numbers may become equal; zeros and signs are
    unchanged. A table can be rounded only once; its record states the number of bits.

    Raises:
        UsageError: if it has been rounded before.
    """
    if "bits" in table.record:
        raise UsageError(f"the table was rounded to {table.record['bits']} bits already: round what the probe wrote")
    frame = table.frame.copy()
    for name in (name for name, kind in frame.dtypes.items() if kind == np.float64):
        mantissa, exponent = np.frexp(frame[name].to_numpy())
        frame[name] = np.ldexp(np.round(np.ldexp(mantissa, bits)), exponent - bits)
    return Table(frame=frame, units=table.units, record={**table.record, "bits": bits})


def read_table(path: Path) -> Table:
    """Reads a table and verifies its seal; warns if it has none, as tables of older versions.

    Raises:
        UsageError: if it is missing.
        MzprobeError: if it is truncated or edited, not a table of mzprobe, or not of the agent that its name says.
    """
    table, sealed = look_at(path)
    if not sealed:
        warnings.warn(
            f"{path} has no seal, as older tables: look at it with mzprobe seal --dry-run, then seal it",
            MzprobeWarning,
            stacklevel=2,
        )
    return table


def look_at(path: Path) -> tuple[Table, bool]:
    """Reads a table and verifies its seal, if any; returns the table and whether it has one.

    Raises:
        UsageError: as in `read_table`.
        MzprobeError: as in `read_table`.
    """
    data = read_bytes(path, error=UsageError, remedy="make it with the probe's command")
    try:
        # Not pq.read_table: its threads may still hold the bytes when Python exits, which would then abort.
        arrow = pq.ParquetFile(io.BytesIO(data), pre_buffer=False).read(use_threads=False)
        written = arrow.schema.metadata[_RECORD]
        if not arrow.schema.metadata.keys() <= {_RECORD, _SEAL}:
            # The damage may be in the seal's key, and the table would then pass for an older one without a seal.
            raise MzprobeError(f"{path} is damaged or edited (it holds what no table does): {_AGAIN}")
        values, seal = json.loads(written), arrow.schema.metadata.get(_SEAL)
        if seal is None and isinstance(values, dict) and values.get("sealed"):  # not an older table
            raise MzprobeError(f"{path} is damaged or edited (its seal is gone): {_AGAIN}")
        if seal is not None and seal.decode() != table_sha256(arrow, written):
            raise MzprobeError(f"{path} is damaged or edited (its sha256 is not the recorded one): {_AGAIN}")
        frame = arrow.to_pandas(use_threads=False)
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, RecursionError):
        # Decompression fails alike for lack of memory and for damage; this raises MemoryError in the first case.
        bytearray(_ROOM + 16 * len(data))
        raise MzprobeError(f"{path} is truncated or not a table of mzprobe: {_AGAIN}") from None
    record = TableRecord.of(values, source=path, error=MzprobeError, remedy=_AGAIN)
    _refuse_other_rows(path, frame, record)
    units = values.pop("units")
    values.pop("sealed", None)
    return Table(frame=frame, units=units, record=values), seal is not None


def read_record(path: Path) -> dict[str, Any]:
    """Reads the record of a table from its footer alone, without checking its rows and seal.

    Raises:
        MzprobeError: if it is truncated or not a table of mzprobe.
    """
    try:
        if not path.is_file():
            raise ValueError("a pipe or a device may never end")
        with pa.OSFile(str(path)) as file:  # given a path, Arrow would first resolve its file system
            values = json.loads(pq.read_metadata(file).metadata[_RECORD])
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, RecursionError):
        raise MzprobeError(f"{path} is truncated or not a table of mzprobe: {_AGAIN}") from None
    TableRecord.of(values, source=path, error=MzprobeError, remedy=_AGAIN)
    found: dict[str, Any] = values
    return found


def _refuse_other_rows(path: Path, frame: pd.DataFrame, record: TableRecord) -> None:
    """Refuses a table whose rows or file name do not match its record."""
    named = TABLE_NAME.fullmatch(path.name)
    if named and int(named[1]) != record.seed:
        raise MzprobeError(f"{path} holds the table of seed {record.seed}: rename it, or {_AGAIN}")
    if frame.empty:
        raise MzprobeError(f"{path} has no rows: {_AGAIN}")
    columns = Counter(frame.columns)
    known = {"seed", "training_step", *record.units}
    wrong = sorted(name for name in known | {*columns} if columns[name] != 1 or name not in record.units)
    if wrong:
        raise MzprobeError(f"{path} has other columns than its record says ({', '.join(wrong)}): {_AGAIN}")
    if not (frame["seed"] == record.seed).all():
        raise MzprobeError(f"{path} has rows of another seed than {record.seed}: {_AGAIN}")
    if {str(step) for step in frame["training_step"].unique()} != {*record.commands}:
        raise MzprobeError(f"{path} has rows of other training steps than its record says: {_AGAIN}")


def read_run(analyses: Path | str, run: str, probe: str) -> Table:
    """Reads the tables of all agents of a run as one, in which `seed` tells the agents apart.

    Raises:
        UsageError: if there is none, one belongs to another run, or agents were measured with different settings,
            configurations or versions.
        MzprobeError: if a table cannot be read.
    """
    table = find_run(Path(analyses), run, probe)
    if table is None:
        raise UsageError(
            f"run {run} has no table {probe} under {analyses}: give another run, probe or folder, or make it"
        )
    return table


def find_run(analyses: Path, run: str, probe: str) -> Table | None:
    """Reads the tables of a run as `read_run` does, but returns None if there is none."""
    folders = (analyses / run / name for name in (FORMER.get(probe, probe), probe))
    found = {path.name: path for folder in folders for path in tables_in(folder)}
    paths = [found[name] for name in sorted(found, key=lambda name: (len(name), name))]
    if not paths:
        return None
    tables = [read_table(path) for path in paths]
    for path, table in zip(paths, tables, strict=True):
        if table.record["run"] != run:
            raise UsageError(
                f"{path} is a table of run {table.record['run']}: rename {analyses / run}, or remove the table"
            )
    for path, table in zip(paths, tables, strict=True):
        other = differing(tables[0].record, table.record)
        if other:
            raise UsageError(
                f"{path} and {paths[0]} were made with other {other}: make them alike with --overwrite, or remove one"
            )
    frame = _with_places(pd.concat([table.frame for table in tables], ignore_index=True))
    return Table(frame=frame, units=tables[0].units, record={"agents": [table.record for table in tables]})


def tables_in(folder: Path) -> list[Path]:
    """Returns the tables in a folder, sorted by name; ignores copies such as `seed-0 (1).parquet`."""
    return sorted(path for path in folder.glob("seed-*.parquet") if TABLE_NAME.fullmatch(path.name))


def settings_beside(run: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yields one table of each question in a run's folder, with its recorded settings; skips unreadable tables."""
    firsts = (next(iter(tables_in(folder)), None) for folder in sorted(run.glob("*")))
    for path in (one for one in firsts if one is not None and one.is_file()):
        try:
            record = json.loads(pq.read_schema(path).metadata[_RECORD])
            yield path, dict(record["settings"])
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, RecursionError):
            continue  # reading its rows will report the error


def own_prior(frame: pd.DataFrame) -> "pd.Series[bool]":
    """Returns which rows of a planning table evaluate the prior in their model's own place, or use no policy prior."""
    own = frame["model"].map({"learned": "latent", "true": "state"})
    return (frame["prior"] != "policy") | (frame["prior_at"] == own) | (frame["model"] == "none")


def near_an_end(frame: pd.DataFrame) -> "pd.Series[bool]":
    """Returns which rows of a table of errors belong to a state near the end of an episode.

    That is a state from which at least one of the sequences scored at its training step ends the episode, at the
    longest horizon and among the policies of all columns of the matrix.
    """
    return frame.groupby(["seed", "training_step", "state"])["end_within"].transform("max").astype(bool)


def own_temperature(frame: pd.DataFrame) -> pd.DataFrame:
    """Keeps a matrix's rows of policies at the temperature that collected data at their step.

    Older tables hold only such rows, without the column.
    """
    return frame[frame["own_temperature"]] if "own_temperature" in frame else frame


def _with_places(frame: pd.DataFrame) -> pd.DataFrame:
    """Adds the columns `prior_at` and `counted_from` to an older planning table; returns any other table unchanged.

    The values are those that older versions always used.
    """
    if "prior" not in frame or "prior_at" in frame or "model" not in frame:
        return frame
    place = frame["model"].map({"learned": "latent"}).fillna("state").where(frame["prior"] == "policy", "none")
    start = pd.Series("root", index=frame.index).where(
        (frame["simulations"] > 0) & (frame["leaf"] == "rollout"), "none"
    )
    return frame.assign(prior_at=place, counted_from=start)


def commands_of(table: Table) -> list[str]:
    """Returns the commands that made the tables of a run, each once."""
    records = table.record["agents"]
    commands = [record["commands"][step] for record in records for step in sorted(record["commands"], key=int)]
    return list(dict.fromkeys(commands))


def differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Returns the first part in which two records differ, such as `settings (states)`; empty if their numbers match.

    `FREE_KEYS` are ignored, since a run may have been continued. A dataset may have been moved, so where both
    records have its SHA-256, that is compared instead of `dataset.path`. Older tables do not record their device; a
    part `dataset` or `compute` that either record lacks is not compared.
    """
    if all(old.get(part) == new.get(part) for part in _PARTS):  # the usual case; the comparison below is slow
        return ""
    known = bool(old.get("dataset") and new.get("dataset"))
    ignored = FREE_KEYS | {"dataset.path"} if known else FREE_KEYS
    for part in _PARTS:
        if part in ("dataset", "compute") and not (old.get(part) and new.get(part)):
            continue
        before, after = (flat(_complete(part, record.get(part, {}))) for record in (old, new))
        if part == "versions":
            before, after = _of_both(before, after)
        names = sorted({name for name in {*before, *after} if before.get(name) != after.get(name)} - ignored)
        if names:
            return f"{part} ({', '.join(names)})"
    return ""


def _of_both(*versions: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields both versions without digests of a user's own code that only one of them has.

    Such code belongs to another agent, or was not recorded yet.
    """
    shared = set.intersection(*map(set, versions))
    for one in versions:
        yield {name: said for name, said in one.items() if name in shared or not said.startswith(OWN)}


def _complete(part: str, values: Any) -> Any:
    """Completes a part of a record with keys that older versions lacked, at the values that these versions used."""
    if part == "compute":
        return {"precision": "highest", **values}
    try:
        return of_record(values, "").model_dump(mode="json") if part == "config" else values
    except UsageError:
        return values


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested values to a dict with dotted keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found
