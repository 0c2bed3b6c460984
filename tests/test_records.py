"""Records of checkpoints and states: what they cannot say is refused, and nothing goes on under another name."""

import shutil

import numpy as np
import pytest
from safetensors.numpy import load, save

from mzprobe.checkpoints import read_checkpoint, unsealed
from mzprobe.errors import CheckpointError, Interrupted, UsageError
from mzprobe.files import sealed, sha256
from mzprobe.sources.own import load_agent


@pytest.fixture
def checkpoint(agent, tmp_path):
    return shutil.copytree(agent / "step-0000020", tmp_path / "tiny" / "seed-0" / "step-0000020")


def rewrite(file, **changes):
    """Changes a record and seals it anew, as somebody would who wants it to be believed."""
    record = unsealed(file.read_bytes(), file)
    file.write_bytes(sealed({**record, **changes}))


def rewrite_weights(checkpoint, change):
    data = save({name: change(array) for name, array in load((checkpoint / "model.safetensors").read_bytes()).items()})
    (checkpoint / "model.safetensors").write_bytes(data)
    rewrite(checkpoint / "checkpoint.json", weights_sha256=sha256(data))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"run": "../../x"}, "run: a run cannot be named '../../x'"),
        ({"run": ".hidden"}, "run: a run cannot be named"),
        ({"run": ""}, "run: a run cannot be named"),
        ({"run": None}, "run: "),
        ({"seed": None}, "seed: "),
        ({"seed": "0"}, "seed: "),
        ({"seed": True}, "seed: "),
        ({"seed": -1}, "seed: "),
        ({"seed": 0.0}, "seed: "),
        ({"training_step": 10**400}, "training_step: "),
        ({"training_step": -20}, "training_step: "),
        ({"format": "1"}, "format: "),
        ({"config": []}, "config: "),
        ({"environment": {}}, r"environment\.name: "),
        ({"environment": "cartpole"}, "environment: "),
        ({"metrics": None}, "metrics: "),
        ({"versions": {"numpy": 2}}, r"versions\.numpy: "),
        ({"weights_sha256": 3}, "weights_sha256: "),
        ({"command": ["rm"]}, "command: "),
    ],
)
def test_a_checkpoints_record_is_checked_key_by_key(checkpoint, changes, said):
    rewrite(checkpoint / "checkpoint.json", **changes)
    with pytest.raises(CheckpointError, match=rf"checkpoint.json holds no record of a checkpoint \({said}.*\): copy "):
        read_checkpoint(checkpoint)


def test_a_later_mzprobes_further_keys_are_no_fault(checkpoint):
    rewrite(checkpoint / "checkpoint.json", mood="good")
    assert read_checkpoint(checkpoint).training_step == 20


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(checkpoint, bad):
    def spoil(array):
        return np.where(np.arange(array.size).reshape(array.shape) == 0, np.float32(bad), array)

    rewrite_weights(checkpoint, spoil)
    with pytest.raises(CheckpointError, match=r"model.safetensors holds a number that is not finite \("):
        read_checkpoint(checkpoint)


@pytest.mark.parametrize("kind", [np.float64, np.float16, np.int32])
def test_weights_of_another_type_are_refused(checkpoint, kind):
    rewrite_weights(checkpoint, lambda array: array.astype(kind))
    with pytest.raises(CheckpointError, match=rf"the weights .* are {kind.__name__} and the network's float32"):
        load_agent(read_checkpoint(checkpoint))


# States of training


@pytest.fixture
def stopped(tmp_path, tiny_config, make_trainer):
    """An agent that was stopped half-way."""
    trainer = make_trainer(tiny_config(), tmp_path)
    with pytest.raises(Interrupted):
        trainer.train(lambda progress: setattr(trainer, "stop", progress.step >= 25))
    return trainer.folder


def state_of(folder):
    (state,) = folder.glob("resume/*/state.json")
    return state


def test_a_state_copied_to_another_seed_does_not_go_on(stopped, tmp_path, tiny_config, make_trainer):
    other = make_trainer(tiny_config(), tmp_path, seed=1)
    shutil.copytree(stopped / "resume", other.folder / "resume")
    with pytest.raises(UsageError, match=r"seed-1 holds an agent of run tiny, seed 0: give it a folder of that name"):
        other.train()
    assert list(other.folder.iterdir()) == [other.folder / "resume"]


def test_nor_do_the_first_checkpoints_of_another_seed(agent, tmp_path, tiny_config, make_trainer):
    other = make_trainer(tiny_config(), tmp_path, seed=1)
    shutil.copytree(agent / "step-0000000", other.folder / "step-0000000")
    with pytest.raises(UsageError, match="holds an agent of run tiny, seed 0"):
        other.train()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"step": "25"}, "step: "),
        ({"recent": {"a": 1}}, "recent: "),
        ({"experience": 3}, "experience: "),
        ({"last_losses": None}, "last_losses: "),
        ({"run": "a/b"}, "run: a run cannot be named"),
    ],
)
def test_a_states_record_is_checked_key_by_key(stopped, tmp_path, tiny_config, make_trainer, changes, said):
    rewrite(state_of(stopped), **changes)
    with pytest.raises(CheckpointError, match=rf"holds no record of a state of training \({said}.*\): copy it back, "):
        make_trainer(tiny_config(), tmp_path).train()


def test_a_state_under_the_name_of_another_step_is_refused(stopped, tmp_path, tiny_config, make_trainer):
    state_of(stopped).parent.rename(stopped / "resume" / "00000030-0000000400")
    with pytest.raises(CheckpointError, match=r"00000030-0000000400 holds the state of step 25: copy it back, "):
        make_trainer(tiny_config(), tmp_path).train()


def test_other_versions_of_packages_go_on_only_where_that_is_asked_for(stopped, tmp_path, tiny_config, make_trainer):
    state = state_of(stopped)
    versions = unsealed(state.read_bytes(), state)["versions"]
    rewrite(state, versions={**versions, "numpy": "1.0", "python": "3.0"})
    said = (
        r"was trained with numpy 1\.0, python 3\.0, and here is numpy .*: install what it had, or go on .*--any-version"
    )
    with pytest.raises(UsageError, match=said):
        make_trainer(tiny_config(), tmp_path).train()
    trainer = make_trainer(tiny_config(), tmp_path)
    trainer.any_version = True
    trainer.train()
    assert trainer.step == trainer.config.training.steps
