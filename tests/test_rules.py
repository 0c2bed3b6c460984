"""Gumbel's rule and the regularised policy against plain Python; illegal actions; edges with discounts of their own."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import TabularModel, random_network, random_tabular_model
from reference import tie_key
from reference_rules import gumbel_reference, halving, pi_bar_by_newton

from mzprobe.config import SearchConfig
from mzprobe.envs import random_mdp
from mzprobe.search import LearnedModel, Rollout, TrueModel, search
from mzprobe.search.rules import pi_bar
from mzprobe.search.rules.gumbel import considered_visits
from mzprobe.search.rules.regularised import multiplier, regularised

RULES = ["puct", "gumbel", "regularised"]


def masked_model(seed, num_actions, *, gamma=0.9, ties=False, masked=True, signed=False):
    """A tabular model with random legal actions, at least one a state, and discounts of either sign."""
    model = random_tabular_model(seed, 6, num_actions, gamma=gamma, ties=ties)
    generator = np.random.default_rng(seed + 1)
    if masked:
        legal = generator.random((6, num_actions)) < 0.6
        legal[np.arange(6), generator.integers(num_actions, size=6)] = True
        model.legal = legal
    if signed:
        model.discounts = gamma * generator.choice([-1, 0, 1], size=(6, num_actions))
    return model


def legal_actions_of(model):
    """state -> its legal actions."""
    if model.legal is None:
        return lambda _: list(range(model.num_actions))
    return lambda state: np.flatnonzero(model.legal[state]).tolist()


# Gumbel


@given(actions=st.integers(0, 40), simulations=st.integers(1, 300))
def test_the_sequence_of_visits_is_sequential_halving(actions, simulations):
    assert considered_visits(actions, simulations) == halving(actions, simulations)


def test_the_sequence_of_the_paper():
    # Four rounds of eight simulations: half a visit of 16 actions, which is one, one of 8, two of 4, none of 2.
    assert considered_visits(16, 32) == [0] * 16 + [1] * 8 + [2] * 4 + [3] * 4


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_actions=st.integers(1, 6),
    simulations=st.integers(1, 40),
    considered=st.integers(1, 8),
    c_visit=st.sampled_from([0.0, 50.0]),
    c_scale=st.sampled_from([0.0, 0.1, 1.0]),
    q_range=st.sampled_from(["node", "tree"]),
    ties=st.booleans(),
    lots=st.booleans(),
    masked=st.booleans(),
    signed=st.booleans(),
    noise_seed=st.none() | st.integers(0, 1000),
)
def test_gumbel_equals_the_plain_search(
    seed, num_actions, simulations, considered, c_visit, c_scale, q_range, ties, lots, masked, signed, noise_seed
):
    model = masked_model(seed, num_actions, ties=ties, masked=masked, signed=signed)
    config = SearchConfig(
        rule="gumbel",
        simulations=simulations,
        considered=considered,
        c_visit=c_visit,
        c_scale=c_scale,
        q_range=q_range,
        ties="lot" if lots else "lowest",
    )
    roots = [0, 5, 2]
    generator = None if noise_seed is None else np.random.default_rng(noise_seed)
    found = search(model, roots, config=config, generator=generator, keep_tree=True)
    g = np.zeros((3, num_actions))
    if noise_seed is not None:
        g = np.random.default_rng(noise_seed).gumbel(size=(3, num_actions))
    for b, root in enumerate(roots):
        start, expand = model.callables(root)
        node, improved, winner, worth = gumbel_reference(
            start,
            expand,
            simulations=simulations,
            discount=lambda state, action: model.discounts[state, action],
            floor=config.normalisation_floor,
            considered=considered,
            c_visit=c_visit,
            c_scale=c_scale,
            whole_tree=q_range == "tree",
            g=g[b].tolist(),
            key=tie_key([root]) if lots else None,
            legal=legal_actions_of(model),
        )
        assert found.visit_counts[b].tolist() == node.edge_visits
        assert found.root_value[b] == pytest.approx(node.value_sum / node.visits, rel=1e-12, abs=1e-12)
        np.testing.assert_allclose(found.target[b], improved, rtol=1e-9, atol=1e-300)
        assert found.value_target[b] == pytest.approx(worth, rel=1e-9, abs=1e-12)
        assert found.acting(0)[b].tolist() == [float(a == winner) for a in range(num_actions)]


def test_with_its_noise_gumbel_plays_what_halving_left_at_any_temperature():
    model = random_tabular_model(3, 6, 4)
    config = SearchConfig(rule="gumbel", simulations=8)
    noisy = search(model, [0, 1, 2], config=config, generator=np.random.default_rng(0))
    for temperature in (0, 0.25, 1.0, np.array([1.0, 0.5, 2.0])):
        np.testing.assert_array_equal(noisy.acting(temperature), noisy.winner)
    plain = search(model, [0, 1, 2], config=config)
    np.testing.assert_allclose(plain.acting(1.0), plain.target, rtol=1e-15)
    squared = plain.target**2
    np.testing.assert_allclose(plain.acting(0.5), squared / squared.sum(axis=1, keepdims=True), rtol=1e-12)


def test_the_actions_that_gumbel_plays_are_distributed_as_its_improved_policy():
    # One step, all actions tried: the winner of g + log P + sigma(Q) is a sample of softmax(log P + sigma(Q)).
    prior = np.array([[0.5, 0.3, 0.2]])
    model = TabularModel(np.zeros((1, 3)), [[0.0, 1.0, 0.5]], prior, np.zeros(1), gamma=0.0)
    config = SearchConfig(rule="gumbel", simulations=3, c_visit=10.0, c_scale=0.1)
    found = search(model, [0] * 20_000, config=config, generator=np.random.default_rng(1))
    expected = prior[0] * np.exp((10 + 1) * 0.1 * np.array([0.0, 1.0, 0.5]))
    expected /= expected.sum()
    np.testing.assert_allclose(found.target[0], expected, rtol=1e-12)
    played = found.acting(1.0).mean(axis=0)
    assert np.abs(played - expected).max() < 4 * 0.5 / math.sqrt(20_000)


class Drawn:
    """A generator that has drawn already."""

    def __init__(self, numbers):
        self.numbers = np.array(numbers)

    def gumbel(self, *, size):
        assert self.numbers.shape == size
        return self.numbers


def test_gumbel_visits_and_improves_as_mctx_does():
    """By `python benchmarks/search_visits.py --golden PATH`, with mctx 0.0.71 and jax 0.10.2."""
    golden = json.loads((Path(__file__).parent / "golden" / "gumbel_mctx.json").read_text("utf-8"))
    tables = {name: golden[name] for name in ("transitions", "rewards", "prior", "value", "gamma")}
    config = SearchConfig(
        simulations=golden["simulations"], rule="gumbel", ties="lowest", normalisation_floor=golden["floor"]
    )
    found = search(TabularModel(**tables), golden["roots"], config=config, generator=Drawn(golden["gumbel"]))
    np.testing.assert_array_equal(found.visit_counts, golden["visit_counts"])
    np.testing.assert_allclose(found.root_value, golden["root_value"], rtol=1e-12)
    np.testing.assert_allclose(found.target, golden["improved"], rtol=1e-9)
    np.testing.assert_array_equal(found.acting(1.0).argmax(axis=1), golden["action"])


# The regularised policy


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_actions=st.integers(1, 8),
    log_lambda=st.floats(-8, 3),
    sharp=st.floats(0.05, 5),
)
def test_pi_bar_is_the_solution(seed, num_actions, log_lambda, sharp):
    generator = np.random.default_rng(seed)
    prior = generator.dirichlet(np.full(num_actions, sharp), size=1)
    q = generator.random((1, num_actions)) * generator.integers(0, 2, size=(1, num_actions))
    lambdas = np.array([10.0**log_lambda])
    found = regularised(prior, q, lambdas)[0]
    assert found.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(found, pi_bar_by_newton(prior[0], q[0], lambdas[0]), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_no_other_policy_has_a_larger_regularised_value(seed):
    generator = np.random.default_rng(seed)
    prior, q = generator.dirichlet(np.ones(4), size=1), generator.random((1, 4))
    found = regularised(prior, q, np.array([0.3]))[0]

    def worth(y):
        return y @ q[0] - 0.3 * (prior[0] * np.log(prior[0] / y)).sum()

    others = 0.9 * found + 0.1 * generator.dirichlet(np.ones(4), size=1000)
    assert worth(found) > max(worth(y) for y in others)


def test_the_visits_of_puct_approach_pi_bar():
    generator = np.random.default_rng(4)
    prior, rewards = generator.dirichlet(np.ones(4), size=6), np.tile(generator.random(4), (6, 1))
    model = TabularModel(np.zeros((6, 4)), rewards, prior, np.zeros(6), gamma=0.0)
    distances = []
    for simulations in (10, 100, 30_000):
        config = SearchConfig(simulations=simulations)
        found = search(model, np.arange(6), config=config, keep_tree=True)
        solved = pi_bar(config, found.tree, config.normalisation_floor)
        distances.append(np.abs(found.acting(1.0) - solved).sum(axis=1).max() / 2)
    assert distances[0] > distances[1] > distances[2]
    assert distances[2] < 1e-3


def test_pi_bar_takes_an_untried_action_for_what_puct_does():
    generator = np.random.default_rng(7)
    prior, rewards = generator.dirichlet(np.full(6, 0.3), size=5), generator.random((5, 6))
    model = TabularModel(np.zeros((5, 6)), rewards, prior, np.zeros(5), gamma=0.0)
    config = SearchConfig(simulations=4, untried="mean", node_visits="children")
    found = search(model, np.arange(5), config=config, keep_tree=True)
    tried, (low, high) = found.visit_counts > 0, found.tree.bounds.T
    assert (~tried).any(axis=1).all()
    means = np.array([found.q[b][tried[b]].mean() for b in range(5)])
    scaled = (np.where(tried, found.q, means[:, None]) - low[:, None]) / (high - low)[:, None]
    lambdas = multiplier(np.full(5, 4.0), np.full(5, 6.0), config)
    solved = pi_bar(config, found.tree, config.normalisation_floor)
    for b in range(5):
        np.testing.assert_allclose(solved[b], pi_bar_by_newton(prior[b], scaled[b], lambdas[b]), rtol=1e-9)


def test_the_regularised_rule_grows_the_trees_of_puct_and_plays_and_learns_pi_bar():
    model = random_tabular_model(8, 6, 3)
    roots, config = np.flatnonzero(np.any(model.rewards, axis=1))[:3], SearchConfig(simulations=12, rule="regularised")
    found = search(model, roots, config=config, keep_tree=True)
    plain = search(model, roots, config=config.model_copy(update={"rule": "puct"}), keep_tree=True)
    for name in plain.tree._fields:
        np.testing.assert_array_equal(getattr(found.tree, name), getattr(plain.tree, name))
    low, high = plain.tree.bounds[:, :1], plain.tree.bounds[:, 1:]
    q = np.where(plain.visit_counts > 0, (plain.q - low) / (high - low), 0.0)
    lambdas = multiplier(np.full(3, 12.0), np.full(3, 3.0), config)
    assert lambdas[0] == pytest.approx((1.25 + math.log(19665 / 19652)) * math.sqrt(12) / 15)
    for b in range(3):
        expected = pi_bar_by_newton(plain.prior[b], q[b], lambdas[b])
        np.testing.assert_allclose(found.target[b], expected, rtol=1e-9)
        np.testing.assert_allclose(found.acting(0.5)[b], expected**2 / (expected**2).sum(), rtol=1e-9)


def test_the_regularised_policy_counts_legal_actions_alone():
    model = masked_model(12, 5)
    roots = np.flatnonzero((model.rewards != 0).any(axis=1) & (model.legal.sum(axis=1) == 3))[:1]
    config = SearchConfig(simulations=12, rule="regularised")
    found = search(model, roots, config=config, keep_tree=True)
    legal, (low, high) = model.legal[roots[0]], found.tree.bounds[0]
    q = np.where(found.visit_counts[0] > 0, (found.q[0] - low) / (high - low), 0.0)
    lambdas = multiplier(np.array([12.0]), np.array([3.0]), config)
    expected = pi_bar_by_newton(found.prior[0][legal], q[legal], lambdas[0])
    np.testing.assert_allclose(found.target[0][legal], expected, rtol=1e-9)


# Illegal actions


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_actions=st.integers(2, 6),
    simulations=st.integers(1, 60),
    rule=st.sampled_from(RULES),
    noise_seed=st.none() | st.integers(0, 1000),
)
def test_what_is_illegal_is_never_tried_played_learned_or_counted(seed, num_actions, simulations, rule, noise_seed):
    model = masked_model(seed, num_actions)
    generator = None if noise_seed is None else np.random.default_rng(noise_seed)
    config = SearchConfig(simulations=simulations, rule=rule)
    found = search(model, np.arange(6), config=config, generator=generator, keep_tree=True)
    legal, tree = model.legal, found.tree
    for table in (found.visit_counts, found.acting(1.0), found.acting(0), found.target, found.prior):
        assert (table[~legal] == 0).all()
    assert np.isnan(found.q[~legal]).all()
    np.testing.assert_allclose(found.prior.sum(axis=1), 1, rtol=1e-12)
    states = np.zeros(tree.visits.shape, int)
    states[:, 0] = np.arange(6)
    for slot in range(1, simulations + 1):
        above = states[np.arange(6), tree.parent[:, slot]]
        assert legal[above, tree.parent_action[:, slot]].all()
        states[:, slot] = model.transitions[above, tree.parent_action[:, slot]]
    assert (tree.edge_visits[~legal[states]] == 0).all()
    assert (tree.prior[~legal[states]] == 0).all()


@pytest.mark.parametrize("rule", RULES)
def test_the_legal_actions_of_the_caller_are_those_of_the_roots_on_both_paths(rule):
    network = random_network(5, num_actions=4, spread=0.5)
    model = LearnedModel(network, num_actions=4, gamma=0.97)
    generator = np.random.default_rng(2)
    roots = generator.standard_normal((50, 4)).astype(np.float32)
    legal = generator.random((50, 4)) < 0.5
    legal[np.arange(50), generator.integers(4, size=50)] = True
    config = SearchConfig(simulations=30, rule=rule)
    fused, general = (search(model, roots, config=config, legal=legal, path=path) for path in ("fused", "general"))
    np.testing.assert_array_equal(fused.visit_counts, general.visit_counts)
    np.testing.assert_allclose(fused.target, general.target, rtol=1e-9, atol=1e-12)
    assert (fused.visit_counts[~legal] == 0).all()
    everything = search(model, roots, config=config, legal=np.ones((50, 4), bool))
    np.testing.assert_array_equal(everything.visit_counts, search(model, roots, config=config).visit_counts)


def test_noise_among_legal_actions_is_a_dirichlet_of_fewer():
    model = TabularModel(
        np.zeros((1, 3)), np.zeros((1, 3)), [[0.2, 0.3, 0.5]], np.zeros(1), gamma=0.0, legal=[[True, False, True]]
    )
    config = SearchConfig(simulations=1, dirichlet_alpha=0.8, dirichlet_fraction=0.5)
    found = search(model, [0] * 5000, config=config, generator=np.random.default_rng(0))
    noise = (found.prior[:, 0] - 0.5 * 0.2 / 0.7) / 0.5  # a Beta(0.8, 0.8) number
    assert noise.mean() == pytest.approx(0.5, abs=4 * 0.36 / math.sqrt(5000))
    assert noise.var() == pytest.approx(0.25 / (2 * 0.8 + 1), rel=0.1)


# Rules on networks, and edges


@pytest.mark.parametrize("num_actions", [2, 3, 4, 18])
@pytest.mark.parametrize("spread", [0.0, 0.5])
@pytest.mark.parametrize("rule", RULES)
def test_fused_and_general_paths_visit_alike_by_every_rule(rule, spread, num_actions):
    network = random_network(7, num_actions=num_actions, spread=spread)
    model = LearnedModel(network, num_actions=num_actions, gamma=0.97)
    roots = np.random.default_rng(3).standard_normal((40, 4)).astype(np.float32)
    for simulations in (2, 25):
        config = SearchConfig(simulations=simulations, rule=rule)
        fused, general = (
            search(model, roots, config=config, generator=np.random.default_rng(1), path=path)
            for path in ("fused", "general")
        )
        np.testing.assert_array_equal(fused.visit_counts, general.visit_counts)
        np.testing.assert_allclose(fused.acting(1.0), general.acting(1.0), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_where_the_other_player_moves_the_discount_is_negative_and_the_value_that_of_minimax(rule):
    # A tree of depth 3 and 2 actions; players take turns, and what the leaves pay is for the player who moved there.
    generator = np.random.default_rng(0)
    S = 15
    transitions = np.array([[2 * s + 1, 2 * s + 2] if s < 7 else [s, s] for s in range(S)])
    rewards = np.zeros((S, 2))
    rewards[3:7] = generator.choice(8, size=(4, 2), replace=False) - 4
    discounts = np.where(np.arange(S)[:, None] < 3, -1.0, 0.0) * np.ones((1, 2))

    def value(s):
        return max(worth(s)) if s < 7 else 0.0

    def worth(s):
        return [rewards[s, a] + discounts[s, a] * value(transitions[s, a]) for a in (0, 1)]

    # Gumbel's rule gives up what looks bad at first: its leaves say the truth.
    values = [value(s) if rule == "gumbel" else 0.0 for s in range(S)]
    prior, ends = np.full((S, 2), 0.5), np.arange(S) >= 7
    model = TabularModel(transitions, rewards, prior, values, terminal=ends, gamma=1.0, discounts=discounts)
    found = search(model, [0], config=SearchConfig(simulations=4000, rule=rule))
    best = int(np.argmax(worth(0)))
    assert found.acting(0)[0].argmax() == best
    assert found.q[0, best] == pytest.approx(max(worth(0)), abs=0.1)


def test_the_edge_that_ends_an_episode_has_no_discount():
    env = random_mdp(3, num_states=8, num_actions=2, terminal_fraction=0.4, gamma=0.9)
    model = TrueModel(env, prior="uniform", leaf=Rollout(horizon=3))
    states = env.reset(np.arange(40))
    tree = search(model, states, config=SearchConfig(simulations=10), keep_tree=True).tree
    at = states.index[:, None] * np.ones((1, 11), int)
    for slot in range(1, 11):
        rows = np.arange(40)
        at[:, slot] = env.transitions[at[rows, tree.parent[:, slot]], tree.parent_action[:, slot]]
    np.testing.assert_array_equal(tree.discount[:, 1:], np.where(env.terminal_states[at[:, 1:]], 0.0, 0.9))
