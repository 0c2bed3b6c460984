"""Finite models as tables: given, read from a network, moved along real states; and what is refused."""

import itertools

import numpy as np
import pytest
import torch
from brute import TabularNetwork, case
from hypothesis import given
from models import random_network
from tabular_models import latent_tables, seeds, tiny_mdp, wrong_tables

from mzprobe.envs import TabularEnvironment
from mzprobe.probes.model_tables import ModelTables, along_real_states, tables_of_network, tables_over_states


def test_network_becomes_the_tables_that_it_was_made_of():
    env, network, _, _ = case(3)
    model = tables_of_network(env, network)
    latent = np.argsort(model.start)  # latents of all states are encoded: node -> state
    assert sorted(model.start) == list(range(5))
    np.testing.assert_array_equal(latent[model.transitions], network.transitions.numpy()[latent])
    np.testing.assert_array_equal(model.rewards, network.rewards.numpy()[latent])
    np.testing.assert_array_equal(model.value, network.values.numpy()[latent])
    np.testing.assert_allclose(model.policy, torch.softmax(network.logits, 1).numpy()[latent], rtol=1e-12)
    assert model.state is None


class Counter:
    """Latents count steps modulo a number, from the state's index; float16, two-dimensional."""

    def __init__(self, modulus):
        self.modulus = modulus

    def represent(self, observations):
        return observations.argmax(dim=-1).to(torch.float16)[:, None, None]

    def dynamics(self, latents, actions):
        return (latents + 1 + actions[:, None, None]) % self.modulus, latents[:, 0, 0] + actions

    def predict(self, latents):
        return torch.zeros(len(latents), 2), latents[:, 0, 0]


def test_latents_are_nodes_in_the_order_they_are_found():
    model = tables_of_network(tiny_mdp(0), Counter(7), limit=7)
    assert model.start.tolist() == [0, 1, 2, 3]
    assert model.value.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert model.transitions.tolist() == [[1, 2], [2, 3], [3, 4], [4, 5], [5, 6], [6, 0], [0, 1]]
    assert model.rewards.tolist() == [[x, x + 1] for x in range(7)]
    assert model.policy.tolist() == [[0.5, 0.5]] * 7


def test_equal_latents_of_two_states_are_one_node():
    class Blind(Counter):
        def represent(self, observations):
            return 0 * super().represent(observations)

    assert tables_of_network(tiny_mdp(0), Blind(3)).start.tolist() == [0, 0, 0, 0]


def test_latents_that_do_not_close_are_refused():
    env = tiny_mdp(0)
    with pytest.raises(ValueError, match=r"do not close within 300 nodes.*mzprobe eval-equivalence"):
        tables_of_network(env, random_network(0, observation_size=4), limit=300)
    with pytest.raises(ValueError, match="within 6 nodes"):
        tables_of_network(env, Counter(7), limit=6)


def test_network_whose_rewards_are_not_finite_is_refused():
    env = tiny_mdp(0)
    with pytest.raises(ValueError, match="rewards must be finite"):
        tables_of_network(env, TabularNetwork(env.transitions, np.full((4, 2), np.nan)))


@given(seed=seeds)
def test_pairs_are_those_that_some_sequence_reaches(seed):
    env, model = tiny_mdp(seed), latent_tables(seed)
    product = along_real_states(env, model)
    reached = {}
    for state, actions in itertools.product(range(4), itertools.product(range(2), repeat=6)):
        real, node, pair = state, model.start[state], product.start[state]
        for action in (*actions, 0):
            assert reached.setdefault((real, node), pair) == pair
            assert product.state[pair] == real
            assert (product.rewards[pair] == model.rewards[node]).all()
            assert (product.policy[pair] == model.policy[node]).all()
            assert product.value[pair] == model.value[node]
            real, node = env.transitions[real, action], model.transitions[node, action]
            pair = product.transitions[pair, action]
    assert len(set(reached.values())) == len(reached)


def test_no_pair_is_out_of_reach():
    env = TabularEnvironment([[1], [2], [2]], [[1], [2], [0]], [0, 0, 1], starts=[0], gamma=0.5, time_limit=9, name="c")
    model = ModelTables(start=np.array([0, 0, 0]), transitions=np.array([[1], [1]]), rewards=np.array([[1.0], [2.0]]))
    product = along_real_states(env, model)
    pairs = {(0, 0), (1, 0), (2, 0), (1, 1), (2, 1)}
    assert len(product.rewards) == len(pairs)
    assert product.value is None
    assert product.policy is None


GOOD = {
    "start": np.array([0, 1]),
    "transitions": np.array([[0], [1], [1]]),
    "rewards": np.zeros((3, 1)),
    "state": np.array([0, 1, 1]),
    "value": np.zeros(3),
    "policy": np.ones((3, 1)),
}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rewards": np.zeros(3)}, r"rewards must be \[M, A\], not \(3,\)"),
        ({"rewards": np.zeros((3, 0))}, r"rewards must be \[M, A\], not \(3, 0\)"),
        ({"rewards": np.full((3, 1), np.inf)}, "rewards must be finite"),
        ({"transitions": np.zeros((3, 2), int)}, r"transitions must be integers \[M, A\] = \(3, 1\) or probabilities"),
        ({"transitions": np.zeros((3, 1))}, r"\[M, A, M\] = \(3, 1, 3\), not float64 \(3, 1\)"),
        ({"transitions": np.array([[0], [1], [3]])}, r"transitions must lie in 0\.\.2"),
        ({"transitions": np.array([[0], [1], [-1]])}, r"transitions must lie in 0\.\.2"),
        ({"transitions": np.full((3, 1, 3), 0.5)}, "transitions must hold probabilities whose last axis sums to 1"),
        ({"transitions": np.tile([2.0, -1.0, 0.0], (3, 1, 1))}, "transitions must hold probabilities"),
        ({"transitions": np.full((3, 1, 3), np.nan)}, "transitions must hold probabilities"),
        ({"start": np.array([], int)}, "start must name a node for at least one state"),
        ({"start": np.array([0.5, 1])}, "start must be integers"),
        ({"start": np.array([0, 3])}, r"start must lie in 0\.\.2"),
        ({"state": np.array([0, 1])}, r"state must be of shape \(3,\), not \(2,\)"),
        ({"state": np.array([0, 1, 2])}, r"state must lie in 0\.\.1"),
        ({"state": np.array([0.0, 1.0, 1.0])}, "state must be integers"),
        ({"value": np.zeros((3, 1))}, r"value must be of shape \(3,\), not \(3, 1\)"),
        ({"policy": np.ones((3, 2))}, r"policy must be of shape \(3, 1\), not \(3, 2\)"),
    ],
)
def test_bad_tables_are_refused(changed, message):
    ModelTables(**GOOD)
    with pytest.raises(ValueError, match=message):
        ModelTables(**(GOOD | changed))


def test_bad_tables_over_states_are_refused():
    with pytest.raises(ValueError, match=r"transitions must be integers \[M, A\]"):
        tables_over_states([[0.0, 1.0]], [[0.0, 1.0]])
    with pytest.raises(ValueError, match=r"rewards must be \[M, A\]"):
        tables_over_states(0, 0)


def test_tables_are_copied_and_read_only():
    transitions, rewards = np.array([[0]]), np.array([[1.0]])
    model = tables_over_states(transitions, rewards)
    rewards[0] = 2.0
    assert model.rewards[0, 0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        model.rewards[0] = 2.0


def test_stochastic_model_cannot_be_moved_along_real_states():
    with pytest.raises(ValueError, match="a stochastic model cannot be moved along real states"):
        along_real_states(tiny_mdp(0), wrong_tables(0, stochastic=True))
