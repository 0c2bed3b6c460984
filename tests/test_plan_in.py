"""Self-play and reanalyse that search in the environment itself."""

import numpy as np
import pytest
import torch

from mzprobe.checkpoints import read_checkpoint, steps_of
from mzprobe.config import load_preset
from mzprobe.envs import CartPole
from mzprobe.errors import UsageError
from mzprobe.search import LearnedModel, TrueModel, search
from mzprobe.sources.own import load_agent
from mzprobe.training.revisiting import states_at

TRUE = ("training.plan_in=true", "reanalyse.fraction=0.5", "reanalyse.root_noise=false")


@pytest.fixture
def played(tmp_path, tiny_config, make_trainer):
    """A trainer that has played some episodes, with weights that mean something."""
    trainer = make_trainer(tiny_config(*TRUE), tmp_path)
    with torch.no_grad():
        for parameter in trainer.network.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    for _ in range(60):
        trainer.experience.play_step(0)
    return trainer


def test_stored_positions_are_found_again(played):
    replay, env = played.experience.replay, CartPole(gamma=0.99)
    slots = np.flatnonzero(replay.left[: replay.used] >= 0)
    slots = np.random.default_rng(0).permutation(slots)[:50]
    slots = np.append(slots, slots[:3])
    states = states_at(env, replay, slots)
    assert env.observe(states).tobytes() == replay.observations[slots].tobytes()
    np.testing.assert_array_equal(env.terminal(states), (replay.left[slots] == 0) & replay.terminated[slots])


def test_targets_are_what_a_search_of_the_truth_finds(played):
    replay, env = played.experience.replay, CartPole(gamma=0.99)
    slots = replay.stale(40)
    states = states_at(env, replay, slots)
    found = search(TrueModel(env, played.network), states, config=played.config.search)
    learned = LearnedModel(played.network, num_actions=2, gamma=0.99)
    other = search(learned, env.observe(states), config=played.config.search)
    played.reanalyser.renew(replay, slots)
    np.testing.assert_array_equal(replay.policies[slots], found.target.astype(np.float32))
    np.testing.assert_array_equal(replay.root_values[slots], found.root_value.astype(np.float32))
    assert np.abs(found.root_value - other.root_value).max() > 1e-3


def test_the_behaviour_policy_of_such_an_agent_plans_in_the_truth(tmp_path, tiny_config, make_trainer):
    trainer = make_trainer(tiny_config(*TRUE), tmp_path)
    trainer.train()
    agent = load_agent(read_checkpoint(steps_of(trainer.folder)[-1]))
    states = agent.environment.reset(np.arange(20))
    found = search(TrueModel(agent.environment, agent.network), states, config=trainer.config.search)
    expected = found.acting(agent.policy.temperature)
    np.testing.assert_array_equal(agent.policy.distribution(states), expected)


def test_the_word_true_needs_no_quotes_and_false_is_no_word():
    assert load_preset("cartpole", ["training.plan_in=true"]).training.plan_in == "true"
    with pytest.raises(UsageError, match="plan_in is not valid: Input should be 'learned' or 'true'"):
        load_preset("cartpole", ["training.plan_in=false"])


def test_recorded_episodes_have_no_real_states():
    with pytest.raises(UsageError, match="plan_in=true plans from real states, which recorded episodes"):
        load_preset("cartpole", ["training.plan_in=true", "dataset.path=some", "dataset.use=demonstrations"])
