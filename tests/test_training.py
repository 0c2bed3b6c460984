"""Targets and replay: every formula against a worked case or a plain loop."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import drawn, episode, replay_of
from reference import n_step_value
from scipy.stats import chisquare

from mzprobe.training.replay import SMALLEST_PRIORITY
from mzprobe.training.sum_tree import find_slots, set_leaves
from mzprobe.training.targets import n_step_values, step_scales

pytestmark = pytest.mark.usefixtures("one_thread")


# Targets. Rewards 1, 2, 3 and gamma 1/2, so every number is exact.


@pytest.mark.parametrize(
    ("n", "last", "expected"),
    [
        # Terminated. n = 1: 1 + 20/2, 2 + 30/2, 3 + 0/2, 0.
        (1, 0.0, [11, 17, 3, 0]),
        # Truncated at a state of value 40. n = 1: 1 + 20/2, 2 + 30/2, 3 + 40/2, 40.
        (1, 40.0, [11, 17, 23, 40]),
        # n = 2: 1 + 2/2 + 30/4, 2 + 3/2 + 40/4, then the one reward that is left.
        (2, 40.0, [9.5, 13.5, 23, 40]),
        # Longer than the episode: 1 + 2/2 + 3/4 + 40/8, 2 + 3/2 + 40/4, 3 + 40/2, 40.
        (9, 40.0, [7.75, 13.5, 23, 40]),
        # Longer than the episode, terminated: 1 + 2/2 + 3/4, 2 + 3/2, 3, 0.
        (9, 0.0, [2.75, 3.5, 3, 0]),
    ],
)
def test_n_step_values_equal_those_worked_out_by_hand(n, last, expected):
    z = n_step_values(np.array([1.0, 2, 3]), np.array([10.0, 20, 30, last]), n=n, gamma=0.5)
    assert z.tolist() == expected


@settings(max_examples=100, deadline=None)
@given(
    rewards=st.lists(st.floats(-100, 100), min_size=1, max_size=12),
    n=st.integers(1, 15),
    gamma=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_n_step_values_equal_the_plain_sum(rewards, n, gamma, seed):
    root_values = np.random.default_rng(seed).normal(scale=50, size=len(rewards) + 1)
    z = n_step_values(np.array(rewards), root_values, n=n, gamma=gamma)
    expected = [n_step_value(rewards, root_values, t, n, gamma) for t in range(len(rewards) + 1)]
    np.testing.assert_allclose(z, expected, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("K", [1, 3, 10])
def test_the_unrolled_steps_together_weigh_as_much_as_the_root(K):
    scales = step_scales(K)
    assert scales[0] == 1
    assert (scales[1:] == 1 / K).all()
    assert len(scales) == K + 1


def two_step_batch(*, terminated):
    """Both positions of an episode of two steps, in order, unrolled beyond its end, with n = 1 and gamma = 1/2."""
    last = 0.0 if terminated else 40.0
    replay = replay_of(episode([1, 2], [10, 20, last], terminated=terminated), batch_size=2, unroll_steps=4, n_step=1)
    slots, batch = drawn(replay)
    assert slots.tolist() == [0, 1]
    return batch


def test_past_a_terminal_end_the_state_is_absorbing():
    batch = two_step_batch(terminated=True)
    assert batch.observations.tolist() == [[0, 0], [0, 1]]
    assert batch.actions[:2, 0].tolist() == [0, 1]
    assert batch.actions[0, 1] == 1
    assert batch.rewards.T.tolist() == [[1, 2, 0, 0], [2, 0, 0, 0]]
    # Values: 1 + 20/2, 2 + 0/2, then 0.
    assert batch.values.T.tolist() == [[11, 2, 0, 0, 0], [2, 0, 0, 0, 0]]
    # Weights: scale 1 or 1/K = 1/4, over B = 2.
    assert batch.reward_weights.T.tolist() == [[1 / 8] * 4] * 2
    assert batch.value_weights.T.tolist() == [[1 / 2] + [1 / 8] * 4] * 2
    assert batch.policy_weights.T.tolist() == [[1 / 2, 1 / 8, 0, 0, 0], [1 / 2, 0, 0, 0, 0]]
    assert batch.policies[:2, 0].tolist() == [[0.25, 0.75], [0.5, 0.5]]
    assert (batch.policies[2:] == 0).all()


def test_past_a_truncated_end_nothing_is_compared():
    batch = two_step_batch(terminated=False)
    assert batch.rewards.T.tolist() == [[1, 2, 0, 0], [2, 0, 0, 0]]
    # Values: 1 + 20/2, 2 + 40/2, 40 where the episode was left, then nothing.
    assert batch.values.T.tolist() == [[11, 22, 40, 0, 0], [22, 40, 0, 0, 0]]
    assert batch.reward_weights.T.tolist() == [[1 / 8, 1 / 8, 0, 0], [1 / 8, 0, 0, 0]]
    assert batch.value_weights.T.tolist() == [[1 / 2, 1 / 8, 1 / 8, 0, 0], [1 / 2, 1 / 8, 0, 0, 0]]
    assert batch.policy_weights.T.tolist() == [[1 / 2, 1 / 8, 1 / 8, 0, 0], [1 / 2, 1 / 8, 0, 0, 0]]
    assert batch.policies[2, 0].tolist() == [0.75, 0.25]


# Replay


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 19), min_size=1, max_size=25), capacity=st.integers(20, 45))
def test_after_many_episodes_all_counts_equal_a_recount(lengths, capacity):
    replay = replay_of(replay_capacity=capacity, priority_alpha=0.5)
    for number, T in enumerate(lengths):
        replay.add(episode(np.ones(T), np.arange(T + 1.0), terminated=False, marker=number))
        kept = replay.episodes
        # The newest episodes, oldest first, each whole, none over another.
        markers = [int(replay.observations[first, 0]) for first, *_ in kept]
        assert markers == list(range(number + 1 - len(kept), number + 1))
        assert [slots - 1 for _, slots, *_ in kept] == lengths[number + 1 - len(kept) : number + 1]
        owned = np.concatenate([np.arange(first, first + slots) for first, slots, *_ in kept])
        assert len(set(owned.tolist())) == len(owned)
        assert max(owned) < capacity
        can_be_sampled = np.zeros(replay.leaves, bool)
        for marker, (first, slots, *_) in zip(markers, kept, strict=True):
            steps = np.arange(slots)
            rows = replay.observations[first : first + slots]
            assert rows.tolist() == [[marker, t] for t in steps]
            assert replay.left[first : first + slots].tolist() == steps[::-1].tolist()
            can_be_sampled[first : first + slots - 1] = True
        leaves = replay.sums[replay.leaves :]
        np.testing.assert_array_equal(leaves > 0, can_be_sampled)
        assert replay.positions == can_be_sampled.sum()
        inner = np.arange(1, replay.leaves)
        np.testing.assert_array_equal(replay.sums[inner], replay.sums[2 * inner] + replay.sums[2 * inner + 1])


def test_an_episode_that_just_fits_is_kept_and_one_step_more_is_refused():
    replay = replay_of(replay_capacity=5)
    replay.add(episode(np.ones(4), np.ones(5), terminated=True))
    assert replay.positions == 4
    with pytest.raises(ValueError, match=r"5 steps does not fit training\.replay_capacity=5"):
        replay.add(episode(np.ones(5), np.ones(6), terminated=True))
    assert replay.positions == 4


@settings(max_examples=100, deadline=None)
@given(
    weights=st.lists(st.integers(0, 9), min_size=1, max_size=40).filter(any),
    share=st.floats(0, 1, exclude_max=True),
)
def test_the_sum_tree_finds_the_slot_where_the_running_sum_passes(weights, share):
    leaves = 64
    sums = np.zeros(2 * leaves)
    set_leaves(sums, np.arange(len(weights)), np.array(weights, np.float64))
    masses = np.append(np.arange(sum(weights)), share * sum(weights))
    expected = np.searchsorted(np.cumsum(weights), masses, side="right")
    np.testing.assert_array_equal(find_slots(sums, masses), expected)


def test_a_mass_that_rounding_moved_to_the_total_still_finds_a_slot_with_priority():
    sums = np.zeros(16)
    set_leaves(sums, np.array([1, 4]), np.array([0.1, 0.2]))
    assert find_slots(sums, sums[1:2]).tolist() == [4]


ERRORS = np.array([0.5, 4.0, 1.0, 0.0, 9.0, 2.0])


def prioritised(**settings):
    """Six positions whose priorities are `ERRORS`, the fourth at the smallest there is."""
    replay = replay_of(episode(np.ones(6), np.ones(7), terminated=True), **settings)
    replay.prioritise(np.arange(6), ERRORS)
    return replay


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_positions_are_drawn_in_proportion_to_their_priority(alpha):
    replay = prioritised(priority_alpha=alpha, batch_size=8)
    generator = np.random.default_rng(3)
    slots = np.concatenate([replay.draw(generator, 8) for _ in range(2500)])
    chances = np.maximum(ERRORS, SMALLEST_PRIORITY) ** alpha
    seen = np.bincount(slots, minlength=6)
    assert seen.sum() == 20_000
    assert chisquare(seen, 20_000 * chances / chances.sum()).pvalue > 1e-3


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_importance_weights_are_the_formula(beta):
    replay = prioritised(priority_alpha=1.0, priority_beta=beta, batch_size=16)
    slots, batch = drawn(replay)
    priorities = np.maximum(ERRORS, SMALLEST_PRIORITY)
    weights = (6 * priorities[slots] / priorities.sum()) ** -beta
    np.testing.assert_allclose(16 * batch.policy_weights[0], weights / weights.max(), rtol=1e-6)
    assert len(set(slots.tolist())) > 3


def test_weights_of_the_largest_exponents_are_finite_for_any_errors_of_float32():
    replay = prioritised(priority_alpha=2.0, priority_beta=2.0)
    replay.prioritise(np.arange(6), np.array([0, 1, 1e6, 1e12, 3.4e38, 3.4e38]))
    weights = replay.batch(np.arange(6), np.random.default_rng(0)).policy_weights[0]
    assert np.isfinite(weights).all()
    assert weights.argmax() == 0


def test_new_episodes_have_the_error_of_their_root_value_as_priority():
    # n = 1, gamma = 1/2: targets 11 and 2 against root values 10 and 20.
    replay = replay_of(episode([1, 2], [10, 20, 0], terminated=True), n_step=1, priority_alpha=1.0)
    assert replay.sums[replay.leaves :][:3].tolist() == [1, 18, 0]


def test_a_restored_replay_gives_the_same_samples_and_takes_the_same_episodes():
    settings = {"replay_capacity": 25, "priority_alpha": 0.5, "batch_size": 8, "unroll_steps": 3}
    longer = [episode(np.ones(T), np.arange(T + 1.0), terminated=T % 2 == 0, marker=T) for T in (5, 9, 7, 6, 4)]
    replay = replay_of(*longer[:4], **settings)
    arrays, counts = replay.state()
    restored = replay_of(**settings)
    restored.restore({name: x.copy() for name, x in arrays.items()}, json.loads(json.dumps(counts)))
    for _ in range(2):
        (slots, batch), (same_slots, same_batch) = (drawn(x, 8, seed=1) for x in (replay, restored))
        assert slots.tolist() == same_slots.tolist()
        for mine, other in zip(batch, same_batch, strict=True):
            assert mine.tobytes() == other.tobytes()
        for x in (replay, restored):
            x.add(longer[4])
    assert replay.episodes == restored.episodes
