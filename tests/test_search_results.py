"""What a search gives: counts, trees, and the policies and actions that come of them."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import random_tabular_model

from mzprobe.config import SearchConfig
from mzprobe.search import SearchResult, actions_from_uniforms, sample_actions, search

pytestmark = pytest.mark.usefixtures("one_thread")


def test_visit_counts_sum_to_the_number_of_simulations():
    model = random_tabular_model(1, 8, 4)
    for simulations in (1, 7, 33):
        result = search(model, np.arange(8), config=SearchConfig(simulations=simulations))
        assert result.visit_counts.sum(axis=1).tolist() == [simulations] * 8


def test_a_tree_is_consistent_and_only_kept_where_asked_for():
    model = random_tabular_model(2, 8, 3)
    assert search(model, [0], config=SearchConfig(simulations=5)).tree is None
    tree = search(model, np.arange(8), config=SearchConfig(simulations=30), keep_tree=True).tree
    np.testing.assert_array_equal(tree.visits, 1 + tree.edge_visits.sum(axis=2))
    assert (tree.parent[:, 0] == -1).all()
    for b in range(8):
        for slot in range(1, 31):
            parent, action = tree.parent[b, slot], tree.parent_action[b, slot]
            assert parent < slot
            assert tree.child[b, parent, action] == slot
            assert tree.edge_visits[b, parent, action] == tree.visits[b, slot]
            mean = tree.value_sum[b, slot] / tree.visits[b, slot]
            assert tree.q[b, parent, action] == tree.reward[b, parent, action] + model.gamma * mean
    np.testing.assert_array_equal(tree.child >= 0, tree.edge_visits > 0)
    tried = np.where(tree.edge_visits > 0, tree.q, np.nan)
    assert (np.nanmin(tried, axis=(1, 2)) >= tree.bounds[:, 0]).all()
    assert (np.nanmax(tried, axis=(1, 2)) <= tree.bounds[:, 1]).all()


def test_a_result_is_frozen():
    result = search(random_tabular_model(0, 3, 2), [0], config=SearchConfig(simulations=2))
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.root_value = np.zeros(1)


def test_no_roots_are_refused():
    with pytest.raises(ValueError, match="at least one root"):
        search(random_tabular_model(0, 3, 2), [], config=SearchConfig())


def counted(*rows):
    """A result with these visit counts."""
    visits = np.array(rows, np.int32)
    return SearchResult(visit_counts=visits, root_value=np.zeros(len(rows)), q=visits * 0.0, prior=visits, tree=None)


def test_the_policy_is_the_counts_to_the_power_of_one_over_the_temperature():
    result = counted([3, 1, 0], [0, 20, 30])
    np.testing.assert_allclose(result.acting(1.0), [[3 / 4, 1 / 4, 0], [0, 2 / 5, 3 / 5]], rtol=1e-15)
    np.testing.assert_allclose(result.acting(0.5), [[9 / 10, 1 / 10, 0], [0, 4 / 13, 9 / 13]], rtol=1e-15)


@settings(max_examples=50, deadline=None)
@given(
    counts=st.lists(st.integers(0, 10_000), min_size=1, max_size=6).filter(any),
    temperature=st.floats(1e-300, 100),
)
def test_a_policy_sums_to_one_at_every_temperature(counts, temperature):
    probabilities = counted(counts).acting(temperature)[0]
    assert abs(probabilities.sum() - 1) < 1e-12
    assert (probabilities[np.array(counts) == 0] == 0).all()


def test_a_small_temperature_is_greedy_and_shares_between_equals():
    np.testing.assert_array_equal(counted([5, 4, 0], [4, 1, 4]).acting(1e-6), [[1, 0, 0], [0.5, 0, 0.5]])


def test_the_policy_at_temperature_zero_is_shared_by_the_most_visited_actions_alone():
    result = counted([5, 4, 0], [4, 1, 4], [2, 2, 2], [0, 0, 9])
    third = 1 / 3
    expected = [[1, 0, 0], [0.5, 0, 0.5], [third, third, third], [0, 0, 1]]
    assert result.acting(0).tolist() == result.acting(0.0).tolist() == expected


@settings(max_examples=50, deadline=None)
@given(counts=st.lists(st.integers(0, 10_000), min_size=1, max_size=6).filter(any))
def test_temperature_zero_is_the_limit_of_small_temperatures(counts):
    # Counts below 10^4 differ by more than 1 in 10^4, and (1 - 10^-4)^(10^9) is 0.
    np.testing.assert_array_equal(counted(counts).acting(0), counted(counts).acting(1e-9))


@pytest.mark.parametrize("temperature", [-1e-300, -1.0, float("-inf"), float("nan")])
def test_a_negative_temperature_is_refused(temperature):
    with pytest.raises(ValueError, match="must not be negative"):
        counted([1, 2]).acting(temperature)


@settings(max_examples=200, deadline=None)
@given(
    weights=st.lists(st.sampled_from([0.0, 1e-9, 0.1, 1.0, 3.0]) | st.floats(0, 1), min_size=1, max_size=6).filter(
        lambda row: sum(row) > 1e-12
    ),
    uniform=st.floats(0, 1, exclude_max=True) | st.just(np.nextafter(1, 0)),
)
def test_an_action_is_the_first_whose_running_sum_passes_the_number(weights, uniform):
    total = 0.0
    sums = [total := total + weight for weight in weights]
    expected = next(a for a, passed in enumerate(sums) if passed > uniform * total)
    chosen = actions_from_uniforms(np.array([weights]), np.array([uniform]))[0]
    assert chosen == expected
    assert weights[chosen] > 0


def test_sampled_actions_have_the_frequencies_of_their_probabilities():
    probabilities = np.array([0.0, 0.5, 0.0, 0.3, 0.2, 0.0])
    draws = 40_000
    actions = sample_actions(np.tile(probabilities, (draws, 1)), np.random.default_rng(1))
    shares = np.bincount(actions, minlength=6) / draws
    assert (shares[probabilities == 0] == 0).all()
    # Four standard errors.
    assert (np.abs(shares - probabilities) <= 4 * np.sqrt(probabilities * (1 - probabilities) / draws)).all()
