"""Demonstrations beside an agent's own episodes: fewer and fewer, and reanalysed by their share."""

import numpy as np
import pytest
from random_recordings import demonstrations, write_recordings


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Forty short episodes, a quarter of them truncated."""
    return write_recordings(tmp_path_factory.mktemp("datasets") / "random")


def test_the_share_of_demonstrations_in_batches_decays_to_nothing(tmp_path, dataset, tiny_config, make_trainer):
    trainer = make_trainer(tiny_config(*demonstrations(dataset)), tmp_path)
    shown = []
    real = trainer.experience.sample

    def sample(step):
        drawn, batch = real(step)
        own = sum(len(one.slots) for one in drawn if one.replay is trainer.experience.replay)
        assert len(batch.observations) == 16
        shown.append(16 - own)
        return drawn, batch

    trainer.experience.sample = sample
    trainer.train()
    expected = np.array([16 * 0.75 * max(0, 1 - step / 30) for step in range(40)])
    assert abs(np.array(shown) - expected).max() < 1
    assert abs(np.cumsum(shown) - np.cumsum(expected)).max() < 1
    assert shown[30:] == [0] * 10
    assert trainer.environment_steps > 0
    assert trainer.experience.counts.fraction == pytest.approx(0.5, abs=0.1)


def test_demonstrations_are_reanalysed_by_their_share(tmp_path, dataset, tiny_config, make_trainer):
    config = tiny_config(*demonstrations(dataset, "reanalyse.batch_size=5"))
    trainer = make_trainer(config, tmp_path)
    counted = {"own": 0, "shown": 0}
    real = trainer.reanalyser.renew_next

    def renew_next(replay, count, **keys):
        counted["own" if replay is trainer.experience.replay else "shown"] += count
        return real(replay, count, **keys)

    trainer.reanalyser.renew_next = renew_next
    trainer.experience.begin()
    for _ in range(200):
        trainer.experience.play_step(10)  # where the share is 0.75 (1 - 10/30) = 0.5
    assert sum(counted.values()) > 300
    assert abs(counted["own"] - counted["shown"]) <= 5


def test_drawn_demonstrations_are_reanalysed_by_their_share(tmp_path, dataset, tiny_config, make_trainer):
    config = tiny_config(*demonstrations(dataset, "reanalyse.positions=drawn", "training.training_ratio=0.5"))
    trainer = make_trainer(config, tmp_path)
    counted = {"own": 0, "shown": 0}
    real = trainer.reanalyser.renew

    def renew(replay, slots, **keys):
        counted["own" if replay is trainer.experience.replay else "shown"] += len(slots)
        return real(replay, slots, **keys)

    trainer.reanalyser.renew = renew
    trainer.experience.begin()
    while sum(counted.values()) < 400:
        trainer.experience.play_step(10)  # where the share is 0.75 (1 - 10/30) = 0.5
        if trainer.experience.replay.positions:
            trainer.experience.sample(10)
    assert counted["own"] / counted["shown"] == pytest.approx(1, abs=0.25)  # a position that is drawn twice counts once


def test_without_reanalyse_the_values_of_demonstrations_follow_the_network(
    tmp_path, dataset, tiny_config, make_trainer
):
    trainer = make_trainer(tiny_config(*demonstrations(dataset, fraction=0)), tmp_path)
    trainer.train()
    replay = trainer.feed.replay
    assert replay.cursor != 0
    kept = replay.episodes[0]
    slots = slice(kept.first, kept.first + kept.slots - 1)
    assert replay.policies[slots].tolist() == np.eye(2)[replay.actions[slots]].tolist()
    assert trainer.experience.counts.reanalysed == 0
