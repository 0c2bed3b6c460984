"""Spoilt checkpoints and states of training: each is what it was, or refused in one sentence; no other exception.

Records that are edited and sealed anew may say other things than before. What is then taken must work.
"""

import shutil

import numpy as np
import pytest
from spoiling import BYTES, inputs, is_a_sentence, resealed, tried

from mzprobe.checkpoints import read_checkpoint, steps_of
from mzprobe.errors import Interrupted, MzprobeError
from mzprobe.training.trainer import Trainer
from mzprobe.verify import examine

CHANGES = (*BYTES, resealed, resealed, resealed, exchanged := "exchanged")


def content(checkpoint):
    """All that a checkpoint holds, to be compared."""
    kept = {} if checkpoint.targets is None else checkpoint.targets.arrays()
    arrays = {**checkpoint.weights, **kept}
    rest = {name: value for name, value in vars(checkpoint).items() if name not in ("weights", "targets", "source")}
    return rest, {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in arrays.items()}


def spoil(generator, change, folder, others):
    """Spoils files of a folder; `exchanged` gives it one of another folder's."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if change == exchanged:
        file = generator.choice(files)
        same = [path for other in others for path in other.rglob(file.name)]
        shutil.copy(same[generator.integers(len(same))], file)
        return exchanged
    if change is resealed:
        change(generator, generator.choice([path for path in files if path.suffix == ".json"]))
    else:
        change(generator, files)
    return change.__name__


def test_checkpoints(agent, tmp_path):
    originals = {path: content(read_checkpoint(path)) for path in steps_of(agent)}

    def spoilt(generator, seed):
        source = list(originals)[generator.integers(len(originals))]
        path = shutil.copytree(source, tmp_path / "seed-0" / source.name)
        what = spoil(generator, CHANGES[seed % len(CHANGES)], path, [other for other in originals if other != source])
        try:
            (found,) = examine([path])
            checkpoint = read_checkpoint(path)
            checkpoint.make_network(checkpoint.make_environment())
            assert checkpoint.dataset.keys() <= {"sha256"}
            became = "as it was" if content(checkpoint) == originals[source] else "another"
            assert what == "resealed" or became == "as it was"
            assert not found.problem or what == "resealed"
        except MzprobeError as reason:
            became = is_a_sentence(reason)
        shutil.rmtree(path)
        return what, became

    assert tried("checkpoints", inputs(100, 0.07), spoilt) >= {"refused"}


# States


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, tiny_config, make_trainer):
    """Two agents that were stopped at step 25, another configuration's second: with their folder of checkpoints."""
    found = {}
    for name, words in (("whole", ()), ("other", ("training.n_step=6", "reanalyse.target_interval=5"))):
        root = tmp_path_factory.mktemp(name)
        trainer = make_trainer(tiny_config("reanalyse.fraction=0.5", *words), root)
        stop_at(trainer, 25)
        found[name] = root
    return found


def stop_at(trainer, step):
    def stop(progress):
        trainer.stop = progress.step >= step

    with pytest.raises(Interrupted):
        trainer.train(stop)


def state_of(trainer):
    parts, record = trainer.experience.state()
    parts = {**parts, "learner": trainer.learner.state(), "average": trainer.snapshots.state()}
    arrays = {part: {name: np.array(a).tobytes() for name, a in found.items()} for part, found in parts.items()}
    return arrays, record, trainer.step, trainer.snapshots.evaluations, trainer.beyond.state()


def test_states_of_training(stopped, tiny_config, make_trainer, tmp_path):
    config = tiny_config("reanalyse.fraction=0.5")
    whole, other = (root / "tiny" / "seed-0" / "resume" for root in stopped.values())
    trainer = make_trainer(config, stopped["whole"])
    assert trainer._resume()
    original = state_of(trainer)

    def spoilt(generator, seed):
        root = shutil.copytree(stopped["whole"], tmp_path / "root")
        (state,) = (root / "tiny" / "seed-0" / "resume").iterdir()
        what = spoil(generator, CHANGES[seed % len(CHANGES)], state, [other])
        became = outcome(make_trainer(config, root), original, what)
        shutil.rmtree(root)
        return what, became

    assert whole.is_dir()
    assert tried("states", inputs(40, 0.03), spoilt) >= {"refused"}


def outcome(trainer: Trainer, original, what):
    """What becomes of an agent that is to go on: where it does, it trains a step."""
    try:
        assert trainer._resume()
        became = "as it was" if state_of(trainer) == original else "another"
        assert what == "resealed" or became == "as it was"
        trainer.progress()
        stop_at(trainer, trainer.step + 1)
    except MzprobeError as reason:
        return is_a_sentence(reason)
    return became
