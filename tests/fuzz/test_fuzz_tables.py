"""Spoilt tables: each is what it was, or refused in one sentence; no other exception, no damaged number believed.

Records that are edited and sealed anew may say other things than before. What is then taken must go into figures.
"""

import io
import json
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from spoiling import BYTES, changed, inputs, is_a_sentence, tried
from stored_tables import store

from mzprobe.errors import MzprobeError
from mzprobe.figures import made_by
from mzprobe.figures.output import title_of
from mzprobe.records.seals import table_sha256
from mzprobe.tables import commands_of, differing, read_run, read_table
from mzprobe.verify import examine


@pytest.fixture(scope="module")
def analyses(tmp_path_factory):
    """Tables of two runs and of two agents."""
    root = tmp_path_factory.mktemp("tables")
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(
        [
            {"seed": seed, "training_step": step, "state": state, "policy": name, "error": generator.normal()}
            for seed in (0, 1)
            for step in (0, 20)
            for state in range(30)
            for name in ("prior", "random")
        ]
    )
    frame.loc[3, "error"] = np.nan
    for run in ("made", "other"):
        store(root, frame.assign(error=frame["error"] + (run == "other")), run=run)
    return root


def read_raw(path):
    table = pq.read_table(io.BytesIO(path.read_bytes()))
    return table, dict(table.schema.metadata)


def rows_changed(generator, path, _others):
    """Other rows, columns or numbers under the old seal and record."""
    table, metadata = read_raw(path)
    frame = table.to_pandas()
    row, column = generator.integers(len(frame)), frame.columns[generator.integers(len(frame.columns))]
    place = generator.integers(6)
    if place == 0:
        frame = frame.drop(index=row)
    elif place == 1:
        frame = frame.drop(columns=column)
    elif place == 2:
        frame = pd.concat([frame, frame.iloc[[row]]])
    elif place == 3:
        frame = frame.sample(frac=1, random_state=int(row))
    elif place == 4:
        frame = frame.rename(columns={column: f"{column}2"})
    else:
        value = frame.loc[row, column]
        frame.loc[row, column] = "another" if isinstance(value, str) else -value - 1
    write_raw(path, pa.Table.from_pandas(frame, preserve_index=False), metadata)


def record_edited(generator, path, _others):
    """Another record under the old seal."""
    table, metadata = read_raw(path)
    metadata[b"mzprobe"] = edited(generator, metadata[b"mzprobe"])
    write_raw(path, table, metadata)


def record_resealed(generator, path, _others):
    table, metadata = read_raw(path)
    metadata[b"mzprobe"] = edited(generator, metadata[b"mzprobe"])
    metadata[b"mzprobe_sha256"] = table_sha256(table, metadata[b"mzprobe"]).encode()
    write_raw(path, table, metadata)


def seal_changed(generator, path, _others):
    table, metadata = read_raw(path)
    seals = [b"", b"x", b"\xff", b"0" * 64, metadata[b"mzprobe_sha256"].upper()]
    metadata[b"mzprobe_sha256"] = seals[generator.integers(len(seals))]
    write_raw(path, table, metadata)


def exchanged(generator, path, others):
    shutil.copy(others[generator.integers(len(others))], path)


def edited(generator, record):
    return json.dumps(changed(generator, json.loads(record))).encode()


def write_raw(path, table, metadata):
    pq.write_table(table.replace_schema_metadata(metadata), path)


CHANGES = (*BYTES, rows_changed, record_edited, record_resealed, record_resealed, seal_changed, exchanged)


def test_tables(analyses, tmp_path):
    whole = {path: read_table(path) for path in sorted(analyses.rglob("*.parquet"))}
    parents = {path: tmp_path / path.relative_to(analyses) for path in whole}

    def spoilt(generator, seed):
        source = list(whole)[generator.integers(len(whole))]
        copied = shutil.copytree(analyses, tmp_path, dirs_exist_ok=True)
        path, change = parents[source], CHANGES[seed % len(CHANGES)]
        others = [other for other in whole if other != source]
        if change in BYTES:
            change(generator, [path, parents[others[0]]] if change.__name__ == "swapped" else [path])
        else:
            change(generator, path, others)
        try:
            (found,) = examine([path]) if path.exists() else (None,)
            became = taken(copied, whole[source], path)
        except MzprobeError as reason:
            return change.__name__, is_a_sentence(reason)
        assert became == "as it was" or change is record_resealed
        assert not found.problem
        return change.__name__, became

    assert tried("tables", inputs(100, 0.1), spoilt) >= {"refused"}


def taken(analyses, whole, path):
    """What is read, and used as figures use it."""
    table = read_table(path)
    run = read_run(analyses, path.parent.parent.name, path.parent.name)
    assert differing(table.record, table.record) == ""
    commands_of(run), title_of(run), made_by(run)
    same = table.frame.equals(whole.frame) and (table.record, table.units) == (whole.record, whole.units)
    return "as it was" if same else "another"
