"""Shipped results and a user's own do not meet in one folder: a study says so before it trains anything."""

import pandas as pd
import pytest
from stored_tables import store

from mzprobe.checkpoints import read_checkpoint, steps_of

STUDY = 'preset = "cartpole"\nseeds = [0]\n[online]\nepisodes = 3\n[overrides]\n"training.steps" = 40\n'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with a study of the run `tiny`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mzprobe.probes.cost._SECONDS", 0.01)
    (tmp_path / "tiny.toml").write_text(STUDY)
    return tmp_path


def write(folder, **record):
    """A table of the online probe where the study would write it."""
    frame = pd.DataFrame({"seed": 0, "training_step": [0, 40], "return": 1.0})
    store(folder / "analyses", frame, probe="online", run="tiny", settings={"episodes": 3}, **record)


def weights(agent):
    """SHA-256 by training step."""
    return {str(read_checkpoint(path).training_step): read_checkpoint(path).weights_sha256 for path in steps_of(agent)}


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (
            {"bits": 14, "checkpoints": {"0": "a" * 64, "40": "b" * 64}},
            "is rounded, as results that are shipped, and its agent ",
        ),
        ({"checkpoints": {"0": "a" * 64}, "settings": {"episodes": 4}}, "was made with other settings (episodes)"),
    ],
)
def test_a_study_is_refused_where_tables_of_others_lie_and_its_plan_warns(run_cli, folder, record, said):
    settings = record.pop("settings", {"episodes": 3})
    frame = pd.DataFrame({"seed": 0, "training_step": [0, 40], "return": 1.0})
    store(folder / "analyses", frame, probe="online", run="tiny", settings=settings, **record)
    code, out, seen = run_cli("study", "tiny.toml")
    assert (code, out) == (2, "")
    assert seen.startswith(f"error: analyses/tiny/online/seed-0.parquet {said}")
    assert seen.endswith(": give this study a folder of its own, such as --under runs\n")
    assert not (folder / "checkpoints").exists()
    code, _, seen = run_cli("study", "tiny.toml", "--dry-run")
    assert code == 0
    assert seen.splitlines()[-1].startswith(f"warning: analyses/tiny/online/seed-0.parquet {said}")
    code, _, seen = run_cli("study", "tiny.toml", "--dry-run", "--under", "runs")
    assert code == 0
    assert "warning" not in seen


def test_other_weights_of_an_agent_that_is_here_are_refused(run_cli, folder, agent):
    (folder / "checkpoints" / "tiny").mkdir(parents=True)
    (folder / "checkpoints" / "tiny" / "seed-0").symlink_to(agent, target_is_directory=True)
    write(folder, checkpoints={**weights(agent), "40": "a" * 64})
    code, _, seen = run_cli("study", "tiny.toml")
    assert code == 2
    assert "analyses/tiny/online/seed-0.parquet holds step 40 of other weights: give this study" in seen


def test_own_tables_are_gone_on_with_rounded_or_not_and_so_are_those_whose_agent_was_removed(run_cli, folder, agent):
    write(folder, checkpoints={"0": "a" * 64, "40": "b" * 64})  # its agent will be made again
    assert "warning" not in run_cli("study", "tiny.toml", "--dry-run")[2]
    (folder / "checkpoints" / "tiny").mkdir(parents=True)
    (folder / "checkpoints" / "tiny" / "seed-0").symlink_to(agent, target_is_directory=True)
    write(folder, checkpoints={step: digest for step, digest in weights(agent).items() if step != "20"}, bits=14)
    assert "warning" not in run_cli("study", "tiny.toml", "--dry-run")[2]
