"""A pipe in the place of a file is not waited for: nobody may ever write to it."""

import os

import pytest

from mzprobe.locks import in_use
from mzprobe.sources import find_source
from mzprobe.tables import settings_beside


@pytest.fixture(autouse=True)
def soon(in_time):
    in_time()


def test_a_folder_of_a_pipe_holds_no_archive(tmp_path):
    os.mkfifo(tmp_path / "x.pth")
    assert find_source(tmp_path).name == "own"  # says what is missing


def test_a_pipe_is_nobodys_lock(tmp_path):
    os.mkfifo(tmp_path / ".run.lock")
    assert in_use(tmp_path / "run") is None


def test_a_pipe_is_no_table_beside(tmp_path):
    (tmp_path / "horizon").mkdir()
    os.mkfifo(tmp_path / "horizon" / "seed-0.parquet")
    assert list(settings_beside(tmp_path)) == []
