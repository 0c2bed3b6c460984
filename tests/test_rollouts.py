"""Rollout leaves: their actions are a fair hash of root, node and step, and count to the horizon and no further."""

import dataclasses

import numpy as np
import pytest
import torch
from brute import TabularNetwork
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from models import assert_same_searches, by_torch, random_network
from reference import assert_same_tree, reference_search, rolled_out, rollout_action, rollout_key, tie_key
from scipy.stats import chisquare

from mzprobe.config import SearchConfig
from mzprobe.envs import TabularEnvironment
from mzprobe.envs.tabular import TabularStates
from mzprobe.networks.engine import engine_for
from mzprobe.search import LearnedModel, Rollout, TrueModel, search
from mzprobe.search.lots import root_keys
from mzprobe.search.rollouts import RolloutArena, discounted, rollout_actions

pytestmark = pytest.mark.usefixtures("one_thread")


def observations_of(seed, batch):
    return np.random.default_rng(seed).standard_normal((batch, 4)).astype(np.float32)


# The hash


@settings(max_examples=200, deadline=None)
@given(
    observations=arrays(
        np.float32,
        st.tuples(st.integers(1, 3), st.integers(0, 5)),
        elements=st.floats(width=32, allow_nan=False) | st.sampled_from([0.0, -0.0]),
    ),
    seed=st.integers(0, 2**64 - 1),
    slot=st.integers(0, 2**20),
    steps=st.integers(0, 6),
    num_actions=st.integers(1, 18),
)
def test_the_actions_are_those_of_the_hash_in_plain_python(observations, seed, slot, steps, num_actions):
    keys = root_keys(observations, seed)
    expected = [rollout_key(observation, seed) for observation in observations]
    assert keys.tolist() == expected
    actions = [[rollout_action(key, slot, t, num_actions) for t in range(steps)] for key in expected]
    assert rollout_actions(keys, slot, steps, num_actions).tolist() == actions


def test_a_key_without_an_observation_is_the_first_number_of_splitmix64():
    # As published: 0xE220... of the seed 0; 6457827717110365317 and 3203168211198807973 of 1234567.
    nothing = np.zeros((1, 0), np.float32)
    assert root_keys(nothing, 0).tolist() == [0xE220A8397B1DCDAF]
    assert root_keys(nothing, 1234567).tolist() == [6457827717110365317]
    assert root_keys(nothing, (1234567 + 0x9E3779B97F4A7C15) % 2**64).tolist() == [3203168211198807973]


def test_both_zeros_give_one_key():
    plus, minus = np.array([[0.0, 1.0]], np.float32), np.array([[-0.0, 1.0]], np.float32)
    assert plus.tobytes() != minus.tobytes()
    assert root_keys(plus, 3) == root_keys(minus, 3)


def test_the_shape_of_an_observation_does_not_matter_but_the_order_of_its_numbers_does():
    x = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    keys = root_keys(x, 0)
    assert keys.tolist() == root_keys(x.reshape(2, 6), 0).tolist()
    assert keys[0] != root_keys(x[:, ::-1], 0)[0]


def test_observations_that_lie_next_to_each_other_and_other_seeds_have_other_keys_and_actions():
    x = np.float32([[0.01, -0.02, 0.03, 0.04]])
    beside = x.copy()
    beside[0, 3] = np.nextafter(beside[0, 3], np.float32(1))
    pairs = [(root_keys(x, 0), root_keys(beside, 0)), (root_keys(x, 0), root_keys(x, 1))]
    for first, second in pairs:
        assert first != second
        assert (rollout_actions(first, 1, 40, 2) != rollout_actions(second, 1, 40, 2)).any()


ROOTS, SLOTS, STEPS = 40, 51, 50


def many_actions(seed, num_actions):
    """Actions `[ROOTS, SLOTS, STEPS]`; the roots' observations differ by one unit in the last place."""
    observations = np.full((ROOTS, 4), 0.02, np.float32)
    observations.view(np.uint32)[:, 2] += np.arange(ROOTS, dtype=np.uint32)
    keys = root_keys(observations, seed)
    return np.stack([rollout_actions(keys, slot, STEPS, num_actions) for slot in range(SLOTS)], axis=1)


# Of some hundred tests that follow, none may be less likely than this.
LEAST = 1e-4


@pytest.mark.parametrize("num_actions", [2, 3, 5])
def test_actions_are_uniform_over_all_and_at_each_step_slot_and_root(num_actions):
    actions = many_actions(0, num_actions)
    assert chisquare(np.bincount(actions.ravel(), minlength=num_actions)).pvalue > LEAST
    for axis in range(3):
        for plane in np.moveaxis(actions, axis, 0):
            assert chisquare(np.bincount(plane.ravel(), minlength=num_actions)).pvalue > LEAST


@pytest.mark.parametrize("num_actions", [2, 3, 5])
@pytest.mark.parametrize("distance", [1, 2, 7])
def test_actions_of_neighbouring_steps_slots_roots_and_seeds_are_independent(num_actions, distance):
    actions = many_actions(0, num_actions)
    pairs = [(actions, many_actions(distance, num_actions))]
    for axis in range(3):
        whole = np.moveaxis(actions, axis, 0)
        pairs.append((whole[:-distance], whole[distance:]))
    for first, second in pairs:
        joint = np.bincount((first * num_actions + second).ravel(), minlength=num_actions**2)
        assert chisquare(joint).pvalue > LEAST


@pytest.mark.parametrize(("horizon", "seed"), [(0, 0), (-3, 0), (1, -1), (1, 2**64)])
def test_an_impossible_rollout_is_refused(horizon, seed):
    with pytest.raises(ValueError, match="a rollout needs horizon >= 1 and 0 <= seed"):
        Rollout(horizon=horizon, seed=seed)


def test_a_rollout_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Rollout(horizon=1).horizon = 2


# Depths and sums


def test_depths_are_counted_from_the_root():
    # Two trees of five nodes: a chain, and a star whose last node hangs one deeper.
    arena = RolloutArena(Rollout(horizon=2), observations_of(0, 2), capacity=5)
    assert arena.left(0).tolist() == [2, 2]
    left = [
        arena.place(np.array(nodes, np.int32), slot) for slot, nodes in enumerate([[0, 0], [1, 0], [2, 0], [3, 3]], 1)
    ]
    assert np.array(left).T.tolist() == [[1, 0, -1, -1], [1, 1, 1, 0]]
    assert arena.depth.T.tolist() == [[0, 1, 2, 3, 4], [0, 1, 1, 1, 2]]
    # As many actions as the tree with the longest rollout needs.
    assert [arena.actions(slot, 2).shape for slot in range(5)] == [(2, 2), (2, 1), (2, 1), (2, 1), (2, 0)]


def test_a_horizon_from_the_leaf_is_as_long_at_every_depth():
    arena = RolloutArena(Rollout(horizon=2, counted_from="leaf"), observations_of(0, 2), capacity=5)
    left = [arena.place(np.array([slot - 1, 0], np.int32), slot) for slot in range(1, 5)]
    assert (np.array(left) == 2).all()
    assert arena.depth[4].tolist() == [4, 1]
    assert [arena.actions(slot, 2).shape for slot in range(5)] == [(2, 2)] * 5


def test_a_discounted_sum_ends_where_its_row_does():
    rewards = np.array([[1.0, 2.0, 3.0]] * 5)
    lengths = np.array([-1, 0, 1, 2, 3])
    assert discounted(rewards, lengths, 0.5).tolist() == [0, 0, 1, 2, 2.75]
    assert discounted(np.zeros((2, 0)), np.array([0, -1]), 0.5).tolist() == [0, 0]


def chain(rewards, terminal):
    """States in a row, one action; the last stays where it is, with its own reward unless it is terminal."""
    S = len(rewards)
    return TabularEnvironment(
        [[min(s + 1, S - 1)] for s in range(S)],
        [[r] for r in rewards],
        [False] * (S - 1) + [terminal],
        starts=[0],
        gamma=0.5,
        time_limit=10,
        name="chain",
    )


@pytest.mark.parametrize("simulations", range(1, 8))
@pytest.mark.parametrize(
    ("rewards", "terminal", "root", "horizon", "worth"),
    [
        # 1 + 2/2 + 3/4 + 4/8 + 5/16 + 5/32 + ..., cut off by the horizon, or by an end.
        ([1, 2, 3, 4, 5], False, 0, 1, 1),
        ([1, 2, 3, 4, 5], False, 0, 3, 2.75),
        ([1, 2, 3, 4, 5], False, 0, 6, 3.71875),
        ([1, 2, 3, 4, 5], False, 2, 2, 5),
        ([1, 2, 3], True, 0, 5, 2),
        ([1, 2, 3], True, 2, 5, 0),
    ],
)
def test_a_chain_is_worth_its_first_discounted_rewards_whatever_the_number_of_simulations(
    rewards, terminal, root, horizon, worth, simulations
):
    environment, rollout = chain(rewards, terminal), Rollout(horizon=horizon)
    states = TabularStates(np.array([root]))
    true = TrueModel(environment, prior="uniform", leaf=rollout)
    oracle = TabularNetwork(environment.transitions, environment.rewards)
    learned = LearnedModel(oracle, num_actions=1, gamma=0.5, prior="uniform", leaf=rollout)
    for model in (true, learned):
        result = search(model, model.roots(environment, states), config=SearchConfig(simulations=simulations))
        assert result.root_value.tolist() == [worth]
        assert result.q.tolist() == [[worth]]


# In an MLP


@pytest.mark.parametrize("path", ["fused", "general"])
@pytest.mark.parametrize("horizon", [1, 2, 5])
@pytest.mark.parametrize("simulations", [1, 4, 9])
def test_with_one_action_a_root_is_worth_the_predicted_rewards_to_the_horizon(path, horizon, simulations):
    network, gamma = random_network(1, num_actions=1), 0.8
    model = LearnedModel(network, num_actions=1, gamma=gamma, leaf=Rollout(horizon=horizon))
    observations = observations_of(1, 5)
    with torch.inference_mode():
        latents, expected = network.represent(torch.from_numpy(observations)), np.zeros(5)
        for t in range(horizon):
            latents, reward = network.dynamics(latents, torch.zeros(5, dtype=torch.int64))
            expected += gamma**t * reward.numpy()
    assert np.abs(expected).min() > 0.01
    result = search(model, observations, config=SearchConfig(simulations=simulations), path=path)
    np.testing.assert_allclose(result.root_value, expected, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(result.q[:, 0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("horizon", [1, 3, 12])
@pytest.mark.parametrize(("prior", "noise"), [("policy", False), ("policy", True), ("uniform", False)])
@pytest.mark.parametrize("simulations", [1, 2, 25, 50])
@pytest.mark.parametrize("batch", [1, 3, 16, 17, 40])
def test_the_fused_path_equals_the_general_path_with_rollouts(batch, simulations, prior, noise, horizon):
    num_actions = 2 + batch % 3
    network = random_network(batch, num_actions=num_actions, reward_input=["next", "transition"][simulations % 2])
    leaf = Rollout(horizon=horizon, seed=4)
    fused, general, by_its_own = (
        search(
            LearnedModel(network, num_actions=num_actions, gamma=0.97, prior=prior, leaf=leaf),
            observations_of(batch, batch),
            config=SearchConfig(simulations=simulations),
            generator=np.random.default_rng(5) if noise else None,
            path=path,
        )
        for network, path in ((network, "fused"), (by_torch(network), "general"), (network, "general"))
    )
    assert by_its_own.root_value.tobytes() == fused.root_value.tobytes()
    assert_same_searches(fused, general)


def by_one(engine, observation, prior):
    """(start, expand) of one root, its nodes asked for one by one."""

    def said(latents):
        policy, value = engine.predict(latents)
        policy = policy.double().numpy()[0]
        return np.full(len(policy), 1 / len(policy)) if prior == "uniform" else policy, float(value[0])

    def start():
        latents = engine.represent(observation[None])
        return latents, *said(latents)

    def expand(latents, action):
        following, reward = engine.dynamics(latents, np.array([action]))
        return following, float(reward[0]), *said(following)

    return start, expand


@pytest.mark.parametrize("way", ["kernel", "torch"])
@pytest.mark.parametrize("horizon", [None, 1, 3, 12])
@pytest.mark.parametrize("prior", ["policy", "uniform"])
@pytest.mark.parametrize("num_actions", [2, 3])
def test_every_path_equals_the_plain_search_over_the_networks_own_numbers(num_actions, prior, horizon, way):
    network, rows, gamma = random_network(7, num_actions=num_actions), 8, 0.97
    network = network if way == "kernel" else by_torch(network)
    observations, config = observations_of(7, 5), SearchConfig(simulations=30)
    leaf = "value" if horizon is None else Rollout(horizon=horizon, seed=11)
    model = LearnedModel(network, num_actions=num_actions, gamma=gamma, prior=prior, leaf=leaf, batch_size=rows)
    results = [
        search(model, observations, config=config, path=path, keep_tree=True)
        for path in (("fused", "general") if way == "kernel" else ("general",))
    ]
    engine = engine_for(network, batch_size=rows)
    for b, observation in enumerate(observations):
        calls = by_one(engine, observation, prior)
        if horizon is not None:
            key = rollout_key(observation, 11)
            calls = rolled_out(*calls, key=key, horizon=horizon, gamma=gamma, num_actions=num_actions)
        root, nodes = reference_search(
            *calls,
            simulations=30,
            gamma=gamma,
            c1=config.c1,
            c2=config.c2,
            floor=config.normalisation_floor,
            key=tie_key(observation),
        )
        for result in results:
            assert_same_tree(result, b, root, nodes)
