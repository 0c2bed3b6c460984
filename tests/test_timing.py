"""The table of how long training took: from the trainer's file, in long form, refused where it does not fit."""

import json
import shutil

import pytest
from studies import write_times

from mzprobe.errors import MzprobeError, UsageError
from mzprobe.study.timing import FILE, UNITS, timing_rows, write_timing
from mzprobe.tables import read_run, read_table


@pytest.fixture
def timed(agent, tmp_path):
    """A copy of the trained agent whose trainer kept its times."""
    folder = shutil.copytree(agent, tmp_path / "checkpoints" / "tiny" / "seed-0")
    write_times(folder / FILE, steps=(0, 20, 40))
    return folder


def test_the_table_has_a_row_a_checkpoint_and_part_with_its_units(timed, tmp_path):
    path = write_timing(timed, tmp_path / "analyses", command="mzprobe study tiny")
    assert path == tmp_path / "analyses" / "tiny" / "timing" / "seed-0.parquet"
    table = read_table(path)
    assert table.units == UNITS
    assert list(table.frame.columns) == list(UNITS)
    assert table.frame[["training_step", "part"]].to_numpy().tolist() == [
        [step, part] for step in (0, 20, 40) for part in ("play", "reanalyse", "learn", "evaluate")
    ]
    row = table.frame[(table.frame["training_step"] == 40) & (table.frame["part"] == "learn")].iloc[0]
    assert row.to_dict() == {
        "seed": 0,
        "training_step": 40,
        "environment_steps": 320,
        "fresh": 320,
        "reanalysed": 80,
        "part": "learn",
        "seconds": 12.0,
        "core_seconds": 24.0,
    }
    assert set(table.record["commands"].values()) == {"mzprobe study tiny"}
    assert read_run(tmp_path / "analyses", "tiny", "timing").record["agents"] == [table.record]


def test_a_table_that_would_not_change_is_left_alone_and_one_taken_further_is_replaced(timed, tmp_path):
    path = write_timing(timed, tmp_path, command="here")
    before = path.stat().st_mtime_ns
    write_timing(timed, tmp_path, command="here")
    assert path.stat().st_mtime_ns == before
    write_times(timed / FILE, steps=(0, 20, 40, 60))
    write_timing(timed, tmp_path, command="here")
    assert read_table(path).frame["training_step"].max() == 60


def test_an_agent_without_times_has_no_table(agent, tmp_path):
    folder = shutil.copytree(agent, tmp_path / "tiny" / "seed-0")
    (folder / FILE).unlink()
    assert write_timing(folder, tmp_path / "out", command="here") is None
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"rows": [{"training_step": 0}]}', '{"rows": 3}', "\xff"])
def test_a_broken_file_of_times_is_one_sentence(tmp_path, text):
    (tmp_path / FILE).write_text(text, "latin-1")
    with pytest.raises(MzprobeError, match=r"timing.json is truncated or not a file of times: remove it"):
        timing_rows(tmp_path / FILE)


def test_the_table_of_another_configuration_is_refused(timed, tmp_path, monkeypatch):
    path = write_timing(timed, tmp_path, command="here")
    before = path.read_bytes()
    monkeypatch.setattr("mzprobe.study.timing.versions", lambda _: {"mzprobe": "0.0.1"})
    with pytest.raises(UsageError, match=r"was made with other versions .*: choose another folder for tables, or rem"):
        write_timing(timed, tmp_path, command="here")
    assert path.read_bytes() == before


def test_times_are_read_as_they_stand(tmp_path):
    row = {"training_step": 5, "environment_steps": 7, "fresh": 3, "reanalysed": 4}
    parts = {"play": 1, "reanalyse": 2, "learn": 3, "evaluate": 4}
    (tmp_path / FILE).write_text(json.dumps({"rows": [{**row, "seconds": parts, "core_seconds": parts}]}))
    rows = timing_rows(tmp_path / FILE)
    assert rows["seconds"].tolist() == rows["core_seconds"].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert rows[list(row)].drop_duplicates().to_dict("records") == [row]
