"""A study whose processes fail, are killed or are interrupted says so, and goes on when it is run again."""

import multiprocessing

import pytest

from mzprobe.config import HorizonConfig, StudyConfig
from mzprobe.errors import Interrupted, MzprobeError
from mzprobe.study import run_study

STUDY = StudyConfig(preset="cartpole", seeds=(0, 1), horizon=HorizonConfig(states=4, episodes=1, horizon=2))


@pytest.fixture
def run(tmp_path, tiny_config):
    """Runs the study with overrides of the tiny configuration; gives the folder of its tables."""

    def start(*overrides, on_report=lambda _: None):
        run_study(
            "tiny",
            STUDY,
            tiny_config(*overrides),
            checkpoints=tmp_path / "checkpoints",
            analyses=tmp_path / "analyses",
            command="mzprobe study tiny",
            processes=2,
            on_report=on_report,
        )
        return sorted(path.name for path in (tmp_path / "analyses" / "tiny" / "horizon").iterdir())

    return start


@pytest.mark.slow
def test_the_failure_of_an_agent_is_said_with_its_seed(run):
    with pytest.raises(MzprobeError, match=r"^seed [01]: training step .* not finite"):
        run("training.learning_rate=1e38")


@pytest.mark.slow
def test_a_killed_process_is_said_and_the_study_goes_on_when_run_again(run):
    def kill_one(report):
        for child in multiprocessing.active_children():
            if child.name == "seed 1" and report.seed == 1:
                child.kill()

    with pytest.raises(MzprobeError, match="the process of seed 1 died: run the same command again"):
        run(on_report=kill_one)
    assert run() == ["seed-0.parquet", "seed-1.parquet"]


@pytest.mark.slow
def test_an_interrupted_study_leaves_no_process_and_goes_on_when_run_again(run):
    reports = []

    def interrupt(report):
        reports.append(report)
        if len(reports) == 1:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="every agent saved"):
        run(on_report=interrupt)
    assert multiprocessing.active_children() == []
    assert run() == ["seed-0.parquet", "seed-1.parquet"]
