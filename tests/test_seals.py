"""Tables that are not what a probe wrote: no bit, row, seed or name of another is believed."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_tables import store, table_of, without_seal

from mzprobe.errors import MzprobeError, MzprobeWarning, UsageError
from mzprobe.records.seals import table_sha256
from mzprobe.tables import look_at, read_run, read_table, table_path, write_table


@pytest.fixture(scope="module")
def frame():
    generator = np.random.default_rng(0)
    error = generator.standard_normal(60)
    error[7] = np.nan
    return pd.DataFrame(
        {
            "seed": 0,
            "training_step": np.repeat([0, 500, 1000], 20),
            "model": np.tile(["learned", "true", "learned", "none"], 15),
            "exact": generator.random(60) < 0.5,
            "error": error,
        }
    )


@pytest.fixture
def path(tmp_path, frame):
    store(tmp_path, frame)
    return table_path(tmp_path, "made", "horizon", 0)


def rewritten(path, change):
    """The same file with another content under the old seal, as who edits it by other means leaves it."""
    arrow = pq.read_table(path)
    metadata = arrow.schema.metadata
    frame, record = change(arrow.to_pandas(), json.loads(metadata[b"mzprobe"]))
    after = pa.Table.from_pandas(frame, preserve_index=False)
    metadata = {**metadata, b"mzprobe": json.dumps(record, sort_keys=True).encode()}
    pq.write_table(after.replace_schema_metadata(metadata), path)


def test_what_is_written_is_read_back(path, frame):
    pd.testing.assert_frame_equal(read_table(path).frame, frame, check_dtype=False)
    assert look_at(path)[1]


def test_a_table_that_has_lost_its_seal_does_not_pass_for_an_older_one(path):
    arrow = pq.read_table(path)
    (record,) = [value for name, value in arrow.schema.metadata.items() if name == b"mzprobe"]
    pq.write_table(arrow.replace_schema_metadata({b"mzprobe": record}), path)
    with pytest.raises(MzprobeError, match=r"its seal is gone"):
        read_table(path)


@pytest.mark.parametrize("bits", [40, pytest.param(400, marks=pytest.mark.slow)])
def test_no_flipped_bit_gives_another_table(path, tmp_path, bits):
    whole, data = read_table(path), path.read_bytes()
    generator = np.random.default_rng(1)
    damaged = tmp_path / "seed-0.parquet"
    refused = 0
    for bit in generator.choice(8 * len(data), bits, replace=False).tolist():
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        damaged.write_bytes(flipped)
        try:
            found, sealed = look_at(damaged)
        except MzprobeError:
            refused += 1
            continue
        assert sealed  # a seal that cannot be read is not passed over in silence: see below
        pd.testing.assert_frame_equal(found.frame, whole.frame)
        assert (found.record, found.units) == (whole.record, whole.units)
    assert refused > bits / 2


@pytest.mark.parametrize("every", [40, pytest.param(2, marks=pytest.mark.slow)])
def test_a_table_whose_seal_is_damaged_does_not_pass_for_an_older_one(path, every):
    """Record and seal are the last that the file holds, by their names."""
    data = path.read_bytes()
    footer = range(data.index(b"mzprobe"), len(data) - 8)
    refused = 0
    for place in footer[::every]:
        flipped = bytearray(data)
        flipped[place] ^= 1
        path.write_bytes(flipped)
        try:
            assert look_at(path)[1], place
        except MzprobeError:
            refused += 1
    assert refused > 200 / every


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows, record: (rows.iloc[:-1], record), "is damaged or edited"),
        (lambda rows, record: (pd.concat([rows, rows.iloc[-1:]]), record), "is damaged or edited"),
        (lambda rows, record: (rows.iloc[::-1], record), "is damaged or edited"),
        (lambda rows, record: (rows.assign(error=rows["error"].fillna(0.0)), record), "is damaged or edited"),
        (lambda rows, record: (rows.assign(model="learned"), record), "is damaged or edited"),
        (lambda rows, record: (rows.assign(seed=1), record), "is damaged or edited"),
        (lambda rows, record: (rows.rename(columns={"error": "mistake"}), record), "is damaged or edited"),
        (lambda rows, record: (rows, record | {"run": "other"}), "is damaged or edited"),
        (lambda rows, _: (rows, {}), "is damaged or edited"),
    ],
)
def test_nothing_can_be_changed_under_a_seal(path, change, said):
    rewritten(path, change)
    with pytest.raises(MzprobeError, match=said):
        read_table(path)


@pytest.mark.parametrize(
    ("rows", "record", "said"),
    [
        ({"seed": 1}, {"seed": 0}, "has rows of another seed than 0"),
        ({}, {"commands": {"0": "x", "500": "x"}}, "has rows of other training steps than its record says"),
        ({}, {"commands": {"0": "x", "500": "x", "1000": "x", "2000": "x"}}, "has rows of other training steps"),
        ({}, {"seed": None}, r"holds no record of a table \(seed: "),
        ({}, {"seed": True}, r"holds no record of a table \(seed: "),
        ({}, {"seed": -1}, r"holds no record of a table \(seed: "),
        ({}, {"run": "../../x"}, r"holds no record of a table \(run: a run cannot be named '../../x'\)"),
        ({}, {"environment": {"name": "cartpole"}}, r"holds no record of a table \(environment.source: "),
        ({}, {"checkpoints": {"0": "abc"}}, r"holds no record of a table \(checkpoints.0: "),
        ({}, {"commands": {"-1": "x"}}, r"holds no record of a table \(commands.-1"),
        ({}, {"units": None}, r"holds no record of a table \(units: "),
    ],
)
def test_a_record_that_contradicts_its_rows_or_itself_is_refused_though_sealed(tmp_path, frame, rows, record, said):
    path = tmp_path / "seed-0.parquet"
    write_table(path, table_of(frame.assign(**rows), **record))
    with pytest.raises(MzprobeError, match=said):
        read_table(path)


def test_a_table_copied_to_another_seed_or_run_is_refused(path, tmp_path):
    other = path.with_name("seed-1.parquet")
    shutil.copy(path, other)
    with pytest.raises(MzprobeError, match=r"seed-1.parquet holds the table of seed 0: rename it"):
        read_run(tmp_path, "made", "horizon")
    other.unlink()
    path.parent.parent.rename(tmp_path / "renamed")
    with pytest.raises(UsageError, match=r"is a table of run made: rename "):
        read_run(tmp_path, "renamed", "horizon")


def test_a_table_without_a_seal_is_read_with_a_warning_and_sealed_after_a_look(path, run_cli, frame):
    without_seal(path, path)
    with pytest.warns(MzprobeWarning, match="has no seal, as older tables: look at it with mzprobe seal --dry-run"):
        assert len(read_table(path).frame) == len(frame)
    before = path.read_bytes()
    code, out, _ = run_cli("seal", path.parent, "--dry-run")
    assert (code, path.read_bytes()) == (0, before)
    assert out.strip() == (
        f"{path}: horizon of run made, seed 0, 60 rows of 3 training steps from 0 to 1000; not sealed"
    )
    assert run_cli("seal", path)[1].endswith("; sealed now\n")
    read_table(path)
    sealed = path.read_bytes()
    assert run_cli("seal", path)[1].endswith("; sealed before\n")
    assert path.read_bytes() == sealed


def test_what_is_damaged_is_not_sealed(path, run_cli):
    rewritten(path, lambda rows, record: (rows.iloc[:-1], record))
    before = path.read_bytes()
    code, _, said = run_cli("seal", path)
    assert (code, "is damaged or edited" in said, path.read_bytes()) == (1, True, before)
    code, _, said = run_cli("seal", path.parent / "nothing")
    assert (code, "there are no tables below" in said) == (2, True)


COLUMNS = st.sampled_from(["int", "float", "text", "truth"])


@given(st.data())
@settings(deadline=None)  # the first columns of a kind take longer
def test_the_digest_is_of_the_content_and_of_nothing_else(data):
    kinds = {
        "int": st.integers(-(2**63), 2**63 - 1),
        "float": st.floats(allow_nan=False) | st.none(),
        "text": st.text(max_size=3) | st.none(),
        "truth": st.booleans(),
    }
    kind, n = data.draw(COLUMNS), data.draw(st.integers(1, 5))
    types = {"int": pa.int64(), "float": pa.float64(), "text": pa.string(), "truth": pa.bool_()}
    first, second = (data.draw(st.lists(kinds[kind], min_size=n, max_size=n)) for _ in range(2))
    one, other = (pa.table({"x": pa.array(values, types[kind])}) for values in (first, second))
    chunked = pa.table({"x": pa.chunked_array([pa.array(first[:1], types[kind]), pa.array(first[1:], types[kind])])})
    assert table_sha256(one, b"") == table_sha256(chunked, b"")
    alike = [repr(value) for value in first] == [repr(value) for value in second]  # repr tells -0.0 from 0.0
    assert (table_sha256(one, b"") == table_sha256(other, b"")) == alike
    assert table_sha256(one, b"") != table_sha256(one, b"x")


# Everything below a folder


def test_verify_sees_what_stands_in_the_place_of_a_table(path, tmp_path, run_cli):
    for seed, occupy in ((1, Path.mkdir), (2, os.mkfifo), (3, lambda place: place.symlink_to(tmp_path / "gone"))):
        occupy(path.with_name(f"seed-{seed}.parquet"))
    code, out, said = run_cli("verify", tmp_path)
    assert code == 1
    assert said.count("/horizon/seed-") == 3
    for seed, what in ((1, "is a folder"), (2, "is not a file"), (3, "does not exist")):
        assert f"horizon/seed-{seed}.parquet {what}" in said
    assert out.splitlines()[-1] == "4 tables: 3 wrong, 0 without a digest"
    code, _, said = run_cli("verify", path.with_name("seed-1.parquet"))
    assert (code, "is a folder in the place of a table: remove it and run its probe again" in said) == (1, True)


def test_verify_says_what_is_wrong_and_where(path, tmp_path, agent, run_cli):
    shutil.copytree(agent, tmp_path / "tiny" / "seed-0")
    code, out, said = run_cli("verify", tmp_path)
    assert (code, said) == (0, "")
    steps = len(list(agent.glob("step-*")))
    assert out.splitlines()[-1] == f"{steps} checkpoints, 1 state, 1 table: 0 wrong, 0 without a digest"
    assert run_cli("verify", tmp_path, "--quiet")[1].splitlines() == out.splitlines()[-1:]
    (tmp_path / "tiny" / "seed-0").rename(tmp_path / "tiny" / "seed-1")
    weights = tmp_path / "tiny" / "seed-1" / "step-0000000" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0\0")
    without_seal(path, path)
    code, out, said = run_cli("verify", tmp_path)
    assert code == 1
    assert f"table {path} has no digest to compare with" in said
    assert f"checkpoint {weights} is truncated or edited" in said
    assert said.count("is of seed 0: move it back") == steps  # the other checkpoints, and the state
    assert out.splitlines()[-1].endswith(f"{steps + 1} wrong, 1 without a digest")
    code, _, said = run_cli("verify", tmp_path / "nothing")
    assert (code, "does not exist" in said) == (2, True)
    path.parent.parent.rename(tmp_path / "renamed")
    assert f"is a table of run made: rename {tmp_path / 'renamed'}" in run_cli("verify", tmp_path / "renamed")[2]
    (tmp_path / "empty").mkdir()
    assert run_cli("verify", tmp_path / "empty")[1] == "nothing of mzprobe: 0 wrong, 0 without a digest\n"
