"""A run that is killed, stopped or out of disk goes on to the same bytes."""

import errno
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import pytest

from mzprobe.checkpoints import read_checkpoint, steps_of, unsealed
from mzprobe.compute import Compute
from mzprobe.errors import CheckpointError, Interrupted, MzprobeError, TrainingDiverged, UsageError
from mzprobe.files import sealed
from mzprobe.training.clock import FILE
from mzprobe.training.resume import states_of, step_of_state
from mzprobe.training.trainer import Trainer

STEPS = 300
AGENT = Path("checkpoints") / "cartpole" / "seed-0"


@pytest.fixture(scope="module")
def arguments(tiny_arguments):
    return ["train", "cartpole", *tiny_arguments(training__steps=STEPS, training__evaluation_interval=100)]


def start(arguments, folder):
    """Starts the command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "mzprobe", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def saved_step(agent):
    """Training step of the newest state to resume from, -1 where there is none."""
    names = [path.name for path in (agent / "resume").glob("[0-9]*")] if (agent / "resume").is_dir() else []
    return max((int(name.partition("-")[0]) for name in names), default=-1)


def wait_until(process, agent, step):
    """Waits until the process has saved a step at or past the given one."""
    end = time.monotonic() + 60
    while saved_step(agent) < step:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, arguments, contents):
    """The bytes of an agent trained by the command line without a break."""
    folder = tmp_path_factory.mktemp("unbroken")
    process = start(arguments, folder)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    return contents(folder / AGENT)


# Killed


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_with_the_bytes_of_an_unbroken_one(tmp_path, arguments, contents, unbroken):
    chance = random.Random(0)
    for step in (0, 70, 150):
        process = start(arguments, tmp_path)
        wait_until(process, tmp_path / AGENT, step)
        time.sleep(chance.uniform(0.0, 0.1))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert saved_step(tmp_path / AGENT) < STEPS
    process = start(arguments, tmp_path)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert contents(tmp_path / AGENT) == unbroken


@pytest.mark.slow
def test_signals_save_the_run_and_say_so_in_one_sentence(tmp_path, arguments, contents, unbroken):
    for number, exit_code, step in ((signal.SIGINT, 130, 30), (signal.SIGTERM, 143, 110), (signal.SIGHUP, 129, 150)):
        process = start(arguments, tmp_path)
        wait_until(process, tmp_path / AGENT, step)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        assert process.returncode == exit_code
        (sentence,) = [line for line in said.splitlines() if line.startswith("error:")]
        assert f"stopped at step {saved_step(tmp_path / AGENT)} of {STEPS}: run the same command again" in sentence
        assert "Traceback" not in said
    process = start(arguments, tmp_path)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert contents(tmp_path / AGENT) == unbroken


# Stopped, in this process


@pytest.fixture(scope="module")
def whole(agent, contents):
    """The bytes of the tiny agent, trained without a break."""
    return contents(agent)


def stop_after(trainer, calls):
    """Trains until progress was reported that many times."""
    count = 0

    def on_progress(_progress):
        nonlocal count
        count += 1
        trainer.stop = count >= calls

    with pytest.raises(Interrupted, match="run the same command again to resume"):
        trainer.train(on_progress)


@pytest.mark.parametrize("calls", [1, 13, 40, 77])
def test_a_run_stopped_anywhere_resumes_to_the_same_bytes(tmp_path, tiny_config, make_trainer, contents, whole, calls):
    trainer = make_trainer(tiny_config(), tmp_path)
    stop_after(trainer, calls)
    assert trainer.step < 40
    resumed = make_trainer(tiny_config(), tmp_path)
    resumed.train()
    assert contents(resumed.folder) == whole


def test_work_whose_state_was_not_saved_any_more_is_counted_once(tmp_path, tiny_config, make_trainer, monkeypatch):
    trainer = make_trainer(tiny_config(), tmp_path)
    stop_after(trainer, 40)
    times = trainer.folder / FILE
    saved = json.loads(times.read_bytes())["now"]
    with monkeypatch.context() as patch:
        patch.setattr("mzprobe.training.trainer.save_resume", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            make_trainer(tiny_config(), tmp_path).train()
    assert json.loads(times.read_bytes())["now"]["seconds"]["learn"] > saved["seconds"]["learn"]
    assert step_of_state(states_of(trainer.folder)[-1]) == saved["training_step"]
    again = make_trainer(tiny_config(), tmp_path)
    stop_after(again, 1)
    assert json.loads(times.read_bytes())["before"] == [saved]  # where it went on from


def test_a_run_stopped_at_every_turn_resumes_to_the_same_bytes(tmp_path, tiny_config, make_trainer, contents):
    config = tiny_config("training.steps=6", "training.warmup_environment_steps=24", "training.checkpoint_interval=3")
    make_trainer(config, tmp_path / "whole").train()
    for _ in range(200):
        trainer = make_trainer(config, tmp_path / "broken")
        try:
            trainer.train(lambda _, trainer=trainer: setattr(trainer, "stop", True))
        except Interrupted:
            continue
        break
    assert trainer.step == 6
    assert contents(tmp_path / "broken" / "tiny" / "seed-0", states=True) == contents(
        tmp_path / "whole" / "tiny" / "seed-0", states=True
    )


def test_only_the_latest_state_is_kept(agent):
    assert [path.name.partition("-")[0] for path in (agent / "resume").iterdir()] == ["00000040"]


def test_what_a_killed_process_left_half_written_is_gone_after_the_run_goes_on(
    tmp_path, tiny_config, make_trainer, contents, whole
):
    stop_after(make_trainer(tiny_config(), tmp_path), 60)
    folder = tmp_path / "tiny" / "seed-0"
    mark = "mzprobe-abcd1234"
    for half_written in (folder / f".step-0000020.{mark}", folder / "resume" / f".00000030-0000000220.{mark}"):
        half_written.mkdir()
        (half_written / "model.safetensors").write_bytes(b"half")
    make_trainer(tiny_config(), tmp_path).train()
    assert [path for path in folder.rglob("*") if path.name.startswith(".")] == []
    assert contents(folder) == whole


def test_a_finished_run_changes_nothing_when_it_is_run_again(tmp_path, agent, tiny_config, make_trainer):
    shutil.copytree(agent, tmp_path / "tiny" / "seed-0")
    folder = tmp_path / "tiny" / "seed-0"
    before = {path: path.stat().st_mtime_ns for path in (folder, *folder.rglob("*"))}
    make_trainer(tiny_config(), tmp_path).train()
    assert {path: path.stat().st_mtime_ns for path in (folder, *folder.rglob("*"))} == before


def test_more_steps_take_a_finished_run_to_the_weights_of_one_that_had_them_from_the_start(
    tmp_path, agent, tiny_config, make_trainer
):
    shutil.copytree(agent, tmp_path / "first" / "tiny" / "seed-0")
    further = make_trainer(tiny_config("training.steps=60"), tmp_path / "first")
    further.train()
    straight = make_trainer(tiny_config("training.steps=60"), tmp_path / "straight")
    straight.train()
    last, expected = (read_checkpoint(steps_of(trainer.folder)[-1]) for trainer in (further, straight))
    assert last.training_step == 60
    assert last.weights_sha256 == expected.weights_sha256
    assert last.metrics == expected.metrics


@pytest.mark.parametrize(
    ("override", "key"),
    [("training.batch_size=17", "training.batch_size"), ("environment.options.gamma=0.9", "environment.options")],
)
def test_another_configuration_is_refused_by_the_key_that_differs(
    tmp_path, agent, tiny_config, make_trainer, override, key
):
    shutil.copytree(agent, tmp_path / "tiny" / "seed-0")
    with pytest.raises(UsageError, match=rf"another configuration \({key}\): go on with {key}=.*, choose another name"):
        make_trainer(tiny_config(override), tmp_path).train()


def test_checkpoints_without_a_state_are_not_trained_over_with_another_configuration(
    tmp_path, agent, tiny_config, make_trainer
):
    shutil.copytree(agent, tmp_path / "tiny" / "seed-0")
    shutil.rmtree(tmp_path / "tiny" / "seed-0" / "resume")
    with pytest.raises(UsageError, match=r"another configuration \(training.batch_size\)"):
        make_trainer(tiny_config("training.batch_size=17"), tmp_path).train()


@pytest.mark.parametrize("name", ["state.json", "state.safetensors"])
def test_a_spoilt_state_is_refused_by_name(tmp_path, agent, tiny_config, make_trainer, name):
    shutil.copytree(agent, tmp_path / "tiny" / "seed-0")
    (spoilt,) = (tmp_path / "tiny" / "seed-0" / "resume").glob(f"*/{name}")
    spoilt.write_bytes(spoilt.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="truncated") as reason:
        make_trainer(tiny_config(), tmp_path).train()
    assert str(spoilt) in str(reason.value)


def test_a_state_of_an_older_version_is_refused_in_one_sentence(tmp_path, agent, tiny_config, make_trainer):
    folder = tmp_path / "tiny" / "seed-0"
    shutil.copytree(agent, folder)
    (path,) = folder.glob("resume/*/state.json")
    record = unsealed(path.read_bytes(), path)
    kept = record.pop("experience")
    path.write_bytes(sealed({**record, "play": kept["play"], "replay": kept["replay"]}))
    with pytest.raises(CheckpointError, match=r"saved by an older mzprobe, .*: train under another --name, or remove "):
        make_trainer(tiny_config(), tmp_path).train()


# Seeds


def test_the_same_seed_gives_the_same_bytes(tmp_path, tiny_config, make_trainer, contents, whole):
    make_trainer(tiny_config(), tmp_path).train()
    assert contents(tmp_path / "tiny" / "seed-0") == whole


def test_another_seed_gives_other_weights(tmp_path, agent, tiny_config, make_trainer):
    other = make_trainer(tiny_config("training.steps=0"), tmp_path, seed=1)
    other.train()
    mine, its = (read_checkpoint(steps_of(folder)[0]).weights for folder in (agent, other.folder))
    assert mine.keys() == its.keys()
    assert any(mine[name].tobytes() != its[name].tobytes() for name in mine)


# Numbers that are not finite


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # overflow on the way there
def test_a_run_that_diverges_stops_in_one_sentence_with_its_checkpoints_intact(tmp_path, tiny_config, make_trainer):
    trainer = make_trainer(tiny_config("training.learning_rate=1e12"), tmp_path)
    with pytest.raises(TrainingDiverged, match="not finite") as reason:
        trainer.train()
    assert "lower training.learning_rate" in str(reason.value)
    assert "\n" not in str(reason.value)
    assert [read_checkpoint(path).training_step for path in steps_of(trainer.folder)] == [0]


def test_a_loss_of_nan_names_its_step_and_leaves_the_checkpoints_before_it(
    tmp_path, tiny_config, make_trainer, monkeypatch
):
    trainer = make_trainer(tiny_config(), tmp_path)
    real = trainer.learner.step

    def broken(batch, step):
        losses, values = real(batch, step)
        return (losses | {"value_loss": math.nan} if step == 24 else losses), values

    monkeypatch.setattr(trainer.learner, "step", broken)
    with pytest.raises(TrainingDiverged, match=r"training step 25 .*value_loss nan"):
        trainer.train()
    assert [read_checkpoint(path).training_step for path in steps_of(trainer.folder)] == [0, 20]


# A full disk


@pytest.mark.parametrize("call", [1, 4, 9, 16, 23])
def test_a_run_out_of_disk_says_so_and_resumes_to_the_same_bytes(
    tmp_path, tiny_config, make_trainer, contents, whole, monkeypatch, call
):
    real, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) >= call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(MzprobeError, match="no space left to write"):
            make_trainer(tiny_config(), tmp_path).train()
    folder = tmp_path / "tiny" / "seed-0"
    for path in steps_of(folder):
        read_checkpoint(path)
    make_trainer(tiny_config(), tmp_path).train()
    assert contents(folder) == whole


def test_a_replay_too_small_for_an_episode_is_refused_before_training(tmp_path, tiny_config, make_trainer):
    with pytest.raises(UsageError, match="does not hold an episode of 500 steps and its last state: set it to 501"):
        make_trainer(tiny_config("training.replay_capacity=500"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_latest_state_is_the_one_of_the_most_steps_however_many_digits_they_have(tmp_path):
    for name in ("100000000-0800000000", "00000500-0000004000", "99999999-0799999992", "notes", "500-4000"):
        (tmp_path / "resume" / name).mkdir(parents=True)
    assert [step_of_state(state) for state in states_of(tmp_path)] == [500, 99_999_999, 100_000_000]


def test_a_run_does_not_go_on_in_another_precision(tmp_path, tiny_config, make_trainer):
    make_trainer(tiny_config("training.steps=20"), tmp_path).train()
    further, precise = tiny_config("training.steps=30"), Compute(precision="medium")
    trainer = Trainer(further, seed=0, run="tiny", out=tmp_path, command="mzprobe train tiny", compute=precise)
    with pytest.raises(UsageError, match=r"was trained with --precision highest, and medium gives other numbers"):
        trainer.train()
    make_trainer(further, tmp_path).train()
