"""Tables come back as they were written, and nothing else is taken for one."""

import dataclasses
import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from drawings import golden
from stored_tables import store, table_of, without_seal

from mzprobe.errors import MzprobeError, UsageError
from mzprobe.tables import differing, find_run, read_run, read_table, table_path, tables_in, write_table
from mzprobe.verify import tables_below


@pytest.fixture
def table():
    return table_of(pd.DataFrame({"seed": 0, "training_step": 0, "h": [1, 2], "error": [0.5, 0.25]}))


def test_a_table_comes_back_as_it_was_written(tmp_path, table):
    write_table(tmp_path / "a.parquet", table)
    back = read_table(tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(back.frame, table.frame, check_exact=True)
    assert (back.units, back.record) == (table.units, table.record)


def test_a_column_without_a_unit_is_not_written(tmp_path, table):
    units = {name: unit for name, unit in table.units.items() if name != "error"}
    with pytest.raises(ValueError, match="columns without a unit: error"):
        write_table(tmp_path / "a.parquet", dataclasses.replace(table, units=units))
    assert list(tmp_path.iterdir()) == []


def test_truncated_and_foreign_tables_are_refused_by_name(tmp_path, table):
    path = tmp_path / "a.parquet"
    write_table(path, table)
    whole = path.read_bytes()
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.table({"h": [1]}), buffer)
    for data in (whole[:-1], whole[: len(whole) // 2], b"", b"text", json.dumps({}).encode(), buffer.getvalue()):
        path.write_bytes(data)
        with pytest.raises(MzprobeError, match="truncated or not a table of mzprobe: remove it") as reason:
            read_table(path)
        assert str(path) in str(reason.value)
    path.unlink()
    with pytest.raises(UsageError, match="does not exist: make it with the probe's command"):
        read_table(path)


def test_a_copy_beside_a_table_is_none_of_it(tmp_path, table):
    store(tmp_path, table.frame.assign(seed=0), run="run")
    path = table_path(tmp_path, "run", "horizon", 0)
    for name in ("seed-0 (1).parquet", "seed-00.parquet", "seed-0.parquet.parquet", "seed-x.parquet"):
        path.with_name(name).write_bytes(path.read_bytes())
    assert tables_in(path.parent) == tables_below([tmp_path]) == [path]
    assert len(read_run(tmp_path, "run", "horizon").frame) == len(table.frame)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (["seed", "training_step", "h", "error", "odd"], "odd"),
        (["seed", "training_step", "h"], "error"),
        (["seed", "training_step", "h", "more", "odd"], "error, more, odd"),
        (["seed", "training_step", "h", "error", "error"], "error"),
    ],
)
def test_columns_that_the_record_does_not_name_are_named(tmp_path, table, columns, said):
    path = tmp_path / "a.parquet"
    write_table(path, table)
    without_seal(path, path)
    metadata = pq.read_schema(path).metadata
    other = pa.Table.from_arrays([pa.array([0, 0])] * len(columns), names=columns)
    pq.write_table(other.replace_schema_metadata(metadata), path)
    with pytest.raises(MzprobeError, match=rf"has other columns than its record says \({said}\): remove it"):
        read_table(path)


def test_a_table_without_rows_is_refused(tmp_path, table):
    path = tmp_path / "empty.parquet"
    write_table(path, dataclasses.replace(table, frame=table.frame.iloc[:0]))
    with pytest.raises(MzprobeError, match="has no rows: remove it"):
        read_table(path)


def test_tables_of_a_run_are_joined_in_order_of_seed(tmp_path, table):
    for seed in (10, 2):
        store(tmp_path, table.frame.assign(seed=seed), run="run")
    joined = read_run(tmp_path, "run", "horizon")
    assert joined.frame["seed"].tolist() == [2, 2, 10, 10]
    assert [record["seed"] for record in joined.record["agents"]] == [2, 10]
    assert find_run(tmp_path, "other", "horizon") is None
    with pytest.raises(UsageError, match=r"run other has no table horizon under .*: give another run"):
        read_run(tmp_path, "other", "horizon")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ({"settings": {"h": 1}}, {"settings": {"h": 2}}, "settings (h)"),
        ({"settings": {"h": 1}}, {"settings": {"h": 1, "m": 3}}, "settings (m)"),  # a setting that came later
        ({"settings": {"h": 1, "m": 3}}, {"settings": {"h": 1}}, "settings (m)"),
        ({"config": {"a": {"c": 1, "b": 1}}}, {"config": {"a": {"c": 2, "b": 2}}}, "config (a.b, a.c)"),
        ({"versions": {"numpy": "1"}}, {"versions": {"numpy": "2"}}, "versions (numpy)"),
        ({"config": {"training": {"steps": 1, "k": 5}}}, {"config": {"training": {"steps": 2, "k": 5}}}, ""),
        ({"seed": 0, "commands": {"0": "one"}}, {"seed": 1, "commands": {}}, ""),
    ],
)
def test_what_two_records_do_not_share_is_named(old, new, said):
    assert differing(old, new) == said


def test_what_a_question_was_called_is_read_and_continued_where_it_lies(tmp_path):
    frame = golden("search_error")
    store(tmp_path, frame, probe="search")
    assert table_path(tmp_path, "made", "search_error", 0) == tmp_path / "made" / "search" / "seed-0.parquet"
    assert len(read_run(tmp_path, "made", "search_error").frame) == len(frame)

    newer = frame[frame["seed"] == 0].iloc[:1]
    path = tmp_path / "made" / "search_error" / "seed-0.parquet"
    write_table(path, table_of(newer, probe="search_error"))
    assert table_path(tmp_path, "made", "search_error", 0) == path
    assert len(read_run(tmp_path, "made", "search_error").frame) == 1 + (frame["seed"] == 1).sum()
