"""A state of training that was edited and sealed anew: what does not fit is refused before a kernel reads beyond it."""

import json
import shutil

import pytest

from mzprobe.errors import CheckpointError
from mzprobe.files import sealed
from mzprobe.training.clock import FILE, Clock

REMOVED = object()
WRONG = [
    ("experience", {}),
    ("experience.replay", None),
    ("experience.replay.head", -1),
    ("experience.replay.head", True),
    ("experience.replay.used", 10**9),
    ("experience.replay.used", 3),
    ("experience.replay.cursor", 10**9),
    ("experience.replay.positions", 1),
    ("experience.replay.episodes", []),
    ("experience.replay.episodes.0", [0, 1]),
    ("experience.replay.episodes.0.0", 10**9),
    ("experience.replay.episodes.0.1", -5),
    ("experience.replay.episodes.0.3", "x"),
    ("experience.play", {"bit_generator": "PCG64"}),
    ("experience.generator.state.state", -1),
    ("experience.generator.bit_generator", "MT19937"),
    ("experience.noise", []),
    ("experience.counts.fresh", -1),
    ("experience.counts.other", 1),
    ("experience.credit", "x"),
    ("evaluations.0.mean_return", REMOVED),
    ("evaluations.0.mean_return", "x"),
    ("last_losses.value_loss", REMOVED),
    ("beyond_support.values.targets", 1.5),
    ("beyond_support.told", 1),
]


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_a_state_that_does_not_fit_is_refused_in_one_sentence(agent, tmp_path, tiny_config, make_trainer, key, value):
    folder = shutil.copytree(agent, tmp_path / "tiny" / "seed-0")
    (path,) = (folder / "resume").glob("*/state.json")
    record = json.loads(path.read_bytes())
    del record["record_sha256"]
    *way, last = [int(part) if part.isdecimal() else part for part in key.split(".")]
    place = record
    for part in way:
        place = place[part]
    if value is REMOVED:
        del place[last]
    else:
        place[last] = value
    path.write_bytes(sealed(record))
    with pytest.raises(
        CheckpointError, match=r"(does not fit|holds no record of a state of training) \(.*\): copy it back"
    ):
        make_trainer(tiny_config("training.steps=50"), tmp_path).train()


def test_a_state_with_arrays_of_another_shape_is_refused(agent, tmp_path, tiny_config, make_trainer):
    trainer = make_trainer(tiny_config(), tmp_path)
    replay = trainer.experience.replay
    arrays, counts = replay.state()
    one = {name: array.reshape(-1)[:1] for name, array in arrays.items()}
    with pytest.raises(ValueError, match="an array is"):  # numpy would fill the buffer with its one number
        replay.restore(one, {**counts, "used": 5})


@pytest.mark.parametrize("content", [b"[" * 5000, b'{"rows": [], "now": 1e999}', b'{"rows": [3]}', b"1"])
def test_times_that_are_garbled_are_kept_no_more(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    clock = Clock()
    clock.read(tmp_path, training_step=10, environment_steps=80)
    assert not clock.known
