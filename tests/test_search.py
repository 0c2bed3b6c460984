"""The search follows its rule visit for visit, whichever path runs it and whatever stands beside a row."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import TabularModel, random_tabular_model
from reference import assert_same_tree, reference_search, tie_key
from regenerate_golden import PATH, model_of, trees

from mzprobe.config import SearchConfig
from mzprobe.envs import random_mdp
from mzprobe.search import search

pytestmark = pytest.mark.usefixtures("one_thread")


def assert_equals_reference(model, roots, config, *, noise_seed=None):
    """Compares every root's tree with the reference, bit for bit."""
    generator = None if noise_seed is None else np.random.default_rng(noise_seed)
    result = search(model, roots, config=config, generator=generator, keep_tree=True, path="general")
    noise = [None] * len(roots)
    if noise_seed is not None:
        alpha = np.full(model.num_actions, config.dirichlet_alpha)
        noise = np.random.default_rng(noise_seed).dirichlet(alpha, size=len(roots))
    for b, root in enumerate(roots):
        start, expand = model.callables(root)
        node, nodes = reference_search(
            start,
            expand,
            simulations=config.simulations,
            gamma=model.gamma,
            c1=config.c1,
            c2=config.c2,
            floor=config.normalisation_floor,
            noise=noise[b],
            fraction=config.dirichlet_fraction,
            key=tie_key([root]) if config.ties == "lot" else None,
            untried=config.untried,
            expansion=int(config.node_visits == "all"),
        )
        assert_same_tree(result, b, node, nodes)


# The rule


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_actions=st.integers(1, 5),
    simulations=st.integers(1, 40),
    gamma=st.floats(0, 1),
    c1=st.floats(0, 10),
    c2=st.floats(0.1, 1e5),
    floor=st.sampled_from([1e-8, 1e-2, 1.0]),
    scale=st.sampled_from([1e-12, 1.0, 1e9]),
    ties=st.booleans(),
    rule=st.sampled_from(["lot", "lowest"]),
    untried=st.sampled_from(["least", "mean"]),
    counted=st.sampled_from(["all", "children"]),
    noise_seed=st.none() | st.integers(0, 1000),
)
def test_the_kernels_equal_the_plain_search_bit_for_bit(
    seed, num_actions, simulations, gamma, c1, c2, floor, scale, ties, rule, untried, counted, noise_seed
):
    model = random_tabular_model(seed, 6, num_actions, gamma=gamma, scale=scale, ties=ties)
    given = {"normalisation_floor": floor, "ties": rule, "untried": untried, "node_visits": counted}
    config = SearchConfig(simulations=simulations, c1=c1, c2=c2, **given)
    assert_equals_reference(model, [0, 5, 2], config, noise_seed=noise_seed)


@pytest.mark.parametrize("fraction", [0.0, 0.25, 1.0])
def test_root_noise_is_mixed_into_the_root_prior_alone(fraction):
    model = random_tabular_model(4, 6, 3)
    config = SearchConfig(simulations=20, dirichlet_fraction=fraction)
    result = search(model, [1, 2], config=config, generator=np.random.default_rng(9), keep_tree=True)
    noise = np.random.default_rng(9).dirichlet(np.full(3, config.dirichlet_alpha), size=2)
    np.testing.assert_array_equal(result.prior, (1 - fraction) * model.prior[[1, 2]] + fraction * noise)
    plain = {tuple(row) for row in model.prior}
    assert {tuple(row) for row in result.tree.prior[:, 1:].reshape(-1, 3)} <= plain


def test_an_untried_action_is_worth_the_mean_of_those_tried_by_hand():
    """All actions pay 1 here, and there is less further down: those of prior 0.2 are tried soon by the mean of 1."""
    prior = np.array([[0.6, 0.2, 0.2], [1 / 3] * 3])
    rewards = np.array([[1.0, 1.0, 1.0], [-1.0, 0.0, 0.0]])
    model = TabularModel(np.ones((2, 3), int), rewards, prior, np.zeros(2), gamma=0.5)
    counts = {}
    for untried in ("least", "mean"):
        config = SearchConfig(simulations=6, untried=untried)
        counts[untried] = search(model, [0], config=config).visit_counts[0].tolist()
    assert counts["least"] == [6, 0, 0]
    assert min(counts["mean"]) > 0


def same_everywhere(num_actions, states=1):
    """A model in which nothing tells one action from another."""
    zeros = np.zeros((states, num_actions))
    return TabularModel(zeros, zeros, np.full((states, num_actions), 1 / num_actions), np.zeros(states), gamma=1.0)


def test_ties_go_to_the_lowest_action_where_that_is_asked_for():
    for simulations, counts in ((1, [1, 0, 0, 0]), (2, [1, 1, 0, 0]), (5, [2, 1, 1, 1]), (8, [2, 2, 2, 2])):
        config = SearchConfig(simulations=simulations, ties="lowest")
        assert search(same_everywhere(4), [0], config=config).visit_counts[0].tolist() == counts


def test_ties_are_drawn_by_lot_so_that_every_action_is_first_at_some_root():
    roots = list(range(400))
    result = search(same_everywhere(4, states=400), roots, config=SearchConfig(simulations=2))
    assert (result.visit_counts.max(axis=1) == 1).all()
    tried = result.visit_counts.sum(axis=0)  # 200 each are expected, with a standard deviation of 10
    assert (abs(tried - 200) < 50).all()
    even = search(same_everywhere(4, states=400), roots, config=SearchConfig(simulations=8)).visit_counts
    assert (even == 2).all()


def test_what_differs_by_the_rounding_of_a_sum_is_a_tie():
    rewards = np.array([[0.1 + 0.2, 0.3]])
    assert rewards[0, 0] != rewards[0, 1]
    model = TabularModel(np.zeros((1, 2)), rewards, np.full((1, 2), 0.5), np.zeros(1), gamma=0.0)
    config = SearchConfig(simulations=2)
    result = search(model, [0], config=config)
    assert result.visit_counts[0].tolist() == [1, 1]
    assert result.acting(0).tolist() == [[0.5, 0.5]]


def test_of_the_most_visited_actions_the_one_of_the_largest_value_is_played():
    model = TabularModel(np.zeros((1, 3)), [[0.0, 2.0, 1.0]], np.full((1, 3), 1 / 3), np.zeros(1), gamma=0.0)
    result = search(model, [0], config=SearchConfig(simulations=3, c1=100.0))
    assert result.visit_counts[0].tolist() == [1, 1, 1]
    assert result.acting(0).tolist() == [[0, 1, 0]]


@pytest.mark.parametrize("best", range(4))
def test_the_first_simulation_follows_the_prior(best):
    prior = np.full((1, 4), 0.2)
    prior[0, best] = 0.4
    model = TabularModel(np.zeros((1, 4)), np.ones((1, 4)), prior, np.ones(1), gamma=0.9)
    result = search(model, [0], config=SearchConfig(simulations=1))
    assert result.visit_counts[0].argmax() == best


def test_a_single_action_is_tried_every_time():
    model = random_tabular_model(0, 3, 1)
    assert search(model, [0], config=SearchConfig(simulations=9)).visit_counts.tolist() == [[9]]


def test_two_simulations_back_up_the_numbers_worked_out_by_hand():
    # A chain 0 -> 1 -> 2, one action, rewards 1 and 2, values 10, 20, 30, gamma 1/2.
    # First: G = 1 + 20/2 = 11. Second: G = 1 + (2 + 30/2)/2 = 9.5. V(1) = (20 + 17) / 2 = 18.5.
    model = TabularModel([[1], [2], [2]], [[1], [2], [0]], np.ones((3, 1)), [10, 20, 30], gamma=0.5)
    result = search(model, [0], config=SearchConfig(simulations=2))
    assert result.root_value[0] == (10 + 11 + 9.5) / 3
    assert result.q[0, 0] == 1 + 18.5 / 2


GAMMA, MARGIN = 0.6, 0.1


@pytest.mark.parametrize("num_actions", [2, 3])
def test_with_many_simulations_the_most_visited_action_is_optimal_where_the_gap_is_wide(num_actions):
    tested = 0
    for seed in range(15):
        environment = random_mdp(seed, num_states=6, num_actions=num_actions, gamma=GAMMA)
        optimal = environment.optimal_values()
        q = environment.rewards + GAMMA * optimal[environment.transitions]
        ordered = np.sort(q, axis=1)
        roots = np.flatnonzero(ordered[:, -1] - ordered[:, -2] > MARGIN)
        result = search(TabularModel.of_environment(environment), roots, config=SearchConfig(simulations=2000))
        np.testing.assert_array_equal(result.visit_counts.argmax(axis=1), q[roots].argmax(axis=1))
        tested += len(roots)
    assert tested > 40


def test_trees_equal_the_golden_ones():
    golden = json.loads(PATH.read_text("utf-8"))
    made = trees(model_of(golden["tables"]), golden["roots"], SearchConfig(**golden["config"]))
    assert {name: made[name] for name in golden["tree"]} == golden["tree"]
