"""Learning from recorded episodes: alone, cloned, streamed, or as demonstrations; what is refused first."""

import re
import shutil

import numpy as np
import pytest
from random_recordings import EPISODES, demonstrations, offline, write_recordings

from mzprobe.checkpoints import read_checkpoint, steps_of
from mzprobe.datasets import new_dataset, open_dataset
from mzprobe.envs import CartPole
from mzprobe.errors import DatasetError, UsageError
from mzprobe.search import search
from mzprobe.training.experience import Offline
from mzprobe.training.targets import n_step_values

GAMMA = 0.99


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Forty short episodes, a quarter of them truncated."""
    return write_recordings(tmp_path_factory.mktemp("datasets") / "random")


class Untouchable(CartPole):
    """An environment that nobody may play in."""

    def reset(self, _seeds):
        raise AssertionError("reset")

    def step(self, _states, _actions):
        raise AssertionError("stepped")


# Offline


@pytest.mark.parametrize("fraction", [0, 1])
def test_offline_no_step_is_ever_played(tmp_path, dataset, tiny_config, make_trainer, monkeypatch, fraction):
    monkeypatch.setattr("mzprobe.envs.make", lambda _name, **options: Untouchable(**options))
    trainer = make_trainer(tiny_config(*offline(dataset, "dataset.warm_start=false", fraction=fraction)), tmp_path)
    trainer.train()
    last = read_checkpoint(steps_of(trainer.folder)[-1])
    assert last.training_step == 40
    assert last.environment_steps == 0
    assert last.metrics["evaluations"] == []
    lengths = np.array([len(one.actions) for one in EPISODES])
    assert last.metrics["dataset"] == {
        "path": str(dataset),
        "sha256": open_dataset(str(dataset), CartPole().spec).sha256,
        "episodes": 40,
        "steps": lengths.sum(),
        "mean_return": lengths.mean(),
    }
    truncated = sum(not one.terminated for one in EPISODES)
    made = lengths.sum() + truncated + 40 * 9 if fraction else 0  # without a warm start all are searched at first
    assert last.metrics["targets"] == {"fresh": 0, "reanalysed": made}
    assert trainer.progress().reanalysed == (1.0 if fraction else None)
    assert trainer.environment_steps == 0


def test_all_episodes_are_taken_in_with_the_targets_of_searches(tmp_path, dataset, tiny_config, make_trainer):
    config = tiny_config(*offline(dataset, "reanalyse.root_noise=false", "dataset.warm_start=false"))
    trainer = make_trainer(config, tmp_path)
    trainer.experience.begin()
    replay = trainer.experience.replay
    assert len(replay.episodes) == 40
    lengths = [kept.slots - 1 for kept in replay.episodes]
    assert sorted(lengths) == sorted(len(one.actions) for one in EPISODES)
    assert lengths != [len(one.actions) for one in EPISODES]  # in shuffled order
    for kept in replay.episodes[:8]:
        slots = slice(kept.first, kept.first + kept.slots)
        ended = replay.terminated[kept.first]
        seen = replay.observations[slots][: kept.slots - ended]
        found = search(trainer.reanalyser.model, seen, config=config.search)
        np.testing.assert_allclose(replay.policies[slots][: len(seen)], found.target, rtol=1e-6)
        root_values = np.append(found.root_value, 0.0)[: kept.slots]
        expected = n_step_values(np.ones(kept.slots - 1), root_values, n=5, gamma=GAMMA)
        np.testing.assert_allclose(replay.values[slots], expected, rtol=1e-5, atol=1e-6)


def test_a_warm_start_has_the_recorded_actions_as_targets_until_their_turn_comes(
    tmp_path, dataset, tiny_config, make_trainer
):
    trainer = make_trainer(tiny_config(*offline(dataset)), tmp_path)
    trainer.experience.begin()
    replay = trainer.experience.replay
    acted = np.flatnonzero(replay.left > 0)
    recorded = np.eye(2)[replay.actions]
    assert (replay.policies[acted] == recorded[acted]).all()
    assert trainer.experience.counts.reanalysed == 0
    for step in range(10):
        trainer.experience.sample(step)
    searched = (replay.policies[acted] != recorded[acted]).any(axis=1)
    assert abs(searched[:90].sum() - 90) < 20  # a search may agree
    assert not searched[90:].any()
    assert trainer.experience.counts.reanalysed == 90


def test_behaviour_cloning_has_the_recorded_actions_as_targets_and_no_search(
    tmp_path, dataset, tiny_config, make_trainer, monkeypatch
):
    def searched(*_, **__):
        raise AssertionError("searched")

    monkeypatch.setattr("mzprobe.training.reanalyse.search", searched)
    trainer = make_trainer(tiny_config(*offline(dataset, fraction=0)), tmp_path)
    trainer.train()
    replay = trainer.experience.replay
    for kept in replay.episodes:
        slots = slice(kept.first, kept.first + kept.slots)
        assert replay.policies[slots][:-1].tolist() == np.eye(2)[replay.actions[slots][:-1]].tolist()
        assert (replay.policies[slots][-1] == 0).all()  # nothing was done in the last state: no loss there
    # In 40 steps 360 positions got the value of the network: a truncated end has it as its target.
    ends = [kept.first + kept.slots - 1 for kept in replay.episodes if not replay.terminated[kept.first]]
    assert (replay.values[ends] != 0).any()


@pytest.mark.parametrize("positions", ["in_turn", "drawn"])
def test_truncated_ends_do_not_keep_the_value_of_a_network_that_knows_nothing(
    tmp_path, dataset, tiny_config, make_trainer, positions
):
    config = tiny_config(*offline(dataset, "training.steps=150", f"reanalyse.positions={positions}"))
    trainer = make_trainer(config, tmp_path)
    trainer.train()
    replay = trainer.experience.replay
    used = replay.left[: replay.used]
    ends = np.flatnonzero((used == 0) & ~replay.terminated[: replay.used])
    assert len(ends) == sum(not one.terminated for one in EPISODES)
    assert np.mean(replay.values[ends] > 0) > 0.8


def test_drawn_positions_of_a_dataset_that_streams_or_more_than_a_batch_has_are_refused(
    tmp_path, dataset, tiny_config, make_trainer
):
    drawn = ["reanalyse.positions=drawn", "training.replay_capacity=120", "environment.options.time_limit=100"]
    with pytest.raises(UsageError, match=r"drawn needs all recorded episodes in the buffer, and they are more than"):
        make_trainer(tiny_config(*offline(dataset, *drawn)), tmp_path)
    with pytest.raises(UsageError, match=r"targets_per_step=512 is more than the 16 positions that are drawn"):
        tiny_config(*offline(dataset, "reanalyse.positions=drawn", "dataset.targets_per_step=512"))


def test_a_dataset_larger_than_the_buffer_streams_through_it_evenly(tmp_path, dataset, tiny_config, make_trainer):
    small = ["training.replay_capacity=120", "environment.options.time_limit=100", "search.simulations=2"]
    config = tiny_config(*offline(dataset, "training.steps=400", "dataset.targets_per_step=10", *small))
    trainer = make_trainer(config, tmp_path)
    read = []

    class Counting:
        """The dataset, with a list of what was read."""

        def __init__(self, dataset):
            self.dataset = dataset
            self.lengths = dataset.lengths
            self.sha256 = dataset.sha256

        def read(self, indices):
            read.extend(indices)
            assert len(indices) == 1
            return self.dataset.read(indices)

    records = trainer.feed.record()
    trainer.feed.dataset = Counting(trainer.feed.dataset)
    trainer.feed.record = lambda: records
    assert not trainer.feed.resident
    trainer.train()
    assert len(trainer.experience.replay.left) == 120
    steps = sum(len(EPISODES[index].actions) for index in read)
    assert abs(steps - 120 - 400 * 10) < 150  # what fitted at first, then ten positions a step
    epochs = [read[first : first + 40] for first in range(0, len(read) - 39, 40)]
    assert len(epochs) >= 3
    assert all(sorted(epoch) == list(range(40)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_streamed_episodes_are_as_old_as_the_step_that_took_them_in(tmp_path, dataset, tiny_config, make_trainer):
    small = ["training.replay_capacity=120", "environment.options.time_limit=100", "search.simulations=2"]
    aged = ["training.n_step_by_age=[[5, 1]]", "training.steps=60", "dataset.targets_per_step=10", *small]
    trainer = make_trainer(tiny_config(*offline(dataset, *aged)), tmp_path)
    trainer.train()
    replay = trainer.experience.replay
    steps = [kept.step for kept in replay.episodes]
    assert steps == sorted(steps)
    assert len(set(steps)) > 2
    assert steps[-1] >= 58
    for kept in replay.episodes:
        assert (replay.stored_steps[kept.first : kept.first + kept.slots] == kept.step).all()


def test_the_best_of_a_dataset_are_its_episodes_of_the_highest_return(tmp_path, dataset, tiny_config, make_trainer):
    trainer = make_trainer(tiny_config(*offline(dataset, "training.keep_best=6")), tmp_path)
    trainer.train()
    best = sorted(len(one.actions) for one in EPISODES)[-6:]
    assert sorted(kept.ret for kept in trainer.experience.replay.episodes) == best
    assert read_checkpoint(steps_of(trainer.folder)[-1]).metrics["dataset"]["mean_return"] == np.mean(best)


# Resuming


OPTIONS = {
    "offline": lambda path: offline(path),
    "cloning": lambda path: offline(path, fraction=0),
    "cold": lambda path: offline(path, "dataset.warm_start=false"),
    "target network": lambda path: offline(path, "reanalyse.target_interval=7"),
    "streaming": lambda path: [*offline(path, "environment.options.time_limit=100"), "training.replay_capacity=120"],
    "best": lambda path: offline(path, "training.keep_best=6"),
    "drawn": lambda path: offline(path, "reanalyse.positions=drawn", "training.n_step_by_age=[[9, 1]]"),
    "averaged": lambda path: offline(path, "training.average_decay=0.9", "reanalyse.target_interval=7"),
    "demonstrations, drawn": lambda path: demonstrations(path, "reanalyse.positions=drawn"),
    "demonstrations": lambda path: demonstrations(path),
    "demonstrations, cloned": lambda path: demonstrations(path, fraction=0),
    "demonstrations, streaming": lambda path: [
        *demonstrations(path, "environment.options.time_limit=100"),
        "training.replay_capacity=120",
    ],
    "demonstrations, best": lambda path: demonstrations(path, "training.keep_best=4"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_resume_is_bit_exact_with_every_option(
    tmp_path, dataset, tiny_config, make_trainer, train_in_pieces, contents, name
):
    config = tiny_config(*OPTIONS[name](dataset))
    whole = make_trainer(config, tmp_path / "whole")
    whole.train()
    broken = train_in_pieces(config, tmp_path / "broken", turns=(3, 11, 20))
    assert contents(broken.folder, states=True) == contents(whole.folder, states=True)


def test_a_run_does_not_go_on_with_another_dataset(tmp_path, dataset, tiny_config, make_trainer):
    path = tmp_path / "dataset"
    shutil.copytree(dataset, path)
    make_trainer(tiny_config(*offline(path)), tmp_path).train()
    shutil.rmtree(path)
    with new_dataset(path, CartPole().spec, algorithm="random", record={"command": "tests"}) as writer:
        writer.append(EPISODES[:30])
    with pytest.raises(DatasetError, match=r"not the dataset that this run began with .*: put that one back"):
        make_trainer(tiny_config(*offline(path), "training.steps=50"), tmp_path).train()


# What is refused


def test_a_damaged_dataset_is_refused_before_anything_is_written(tmp_path, dataset, tiny_arguments, run_cli):
    path = tmp_path / "damaged"
    shutil.copytree(dataset, path)
    victim = max(path.glob("data/*/*.arrow"), key=lambda one: one.stat().st_size)
    victim.write_bytes(victim.read_bytes()[:-100])
    out = tmp_path / "checkpoints"
    code, _, said = run_cli("train", "cartpole", "--offline", path, "--out", out, *tiny_arguments())
    assert code == 1
    assert said.startswith("error: the data of ")
    assert said.count("\n") == 1
    assert not out.exists()


def test_an_episode_that_does_not_fit_the_buffer_is_refused(tmp_path, dataset, tiny_config, make_trainer):
    overrides = offline(dataset, "environment.options.time_limit=20", "training.replay_capacity=25")
    with pytest.raises(UsageError, match=r"does not hold an episode of \d+ steps and its last state: set it to"):
        make_trainer(tiny_config(*overrides), tmp_path)


@pytest.mark.parametrize("fraction", [0.5, 0.8])
def test_a_fraction_between_is_refused_offline(dataset, tiny_config, fraction):
    with pytest.raises(UsageError, match="must be 1 offline, or 0 for behaviour cloning"):
        tiny_config(*offline(dataset, fraction=fraction))


# The command line


def test_the_command_learns_offline_and_names_the_dataset(tmp_path, dataset, tiny_arguments, run_cli):
    out = tmp_path / "checkpoints"
    code, said, told = run_cli("train", "cartpole", "--offline", dataset, "--out", out, *tiny_arguments())
    assert code == 0, told
    assert re.search(
        r"40 training steps, 0 environment steps, reward loss [\d.]+, value loss [\d.]+, policy loss", said
    )
    assert f"dataset {dataset}: 40 episodes" in told
    last = read_checkpoint(steps_of(out / "cartpole" / "seed-0")[-1])
    assert f"--offline {dataset.name} " in last.command  # and not where it lies on this machine
    assert last.config.reanalyse.fraction == 1
    assert last.config.offline
    assert isinstance(last.config.dataset.path, str)


def test_the_command_takes_demonstrations_but_not_both(tmp_path, dataset, tiny_arguments, run_cli):
    out = tmp_path / "checkpoints"
    given = ["--demonstrations", dataset, "--out", out, *tiny_arguments()]
    code, said, told = run_cli("train", "cartpole", *given)
    assert code == 0, told
    assert read_checkpoint(steps_of(out / "cartpole" / "seed-0")[-1]).config.dataset.use == "demonstrations"
    assert ", 0 environment steps" not in said
    code, _, told = run_cli("train", "cartpole", "--offline", dataset, *given)
    assert code == 2
    assert "give one of them" in told


def test_offline_is_an_experience_of_its_own(tmp_path, dataset, tiny_config, make_trainer):
    trainer = make_trainer(tiny_config(*offline(dataset)), tmp_path)
    assert isinstance(trainer.experience, Offline)
    assert not hasattr(trainer.experience, "play_step")
