"""What a replay buffer keeps and which targets it makes anew, against plain lists and whole recomputations."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import drawn, episode, made_up, replay_of

from mzprobe.training.targets import joined, n_step_values


def kept_markers(replay):
    return [int(replay.observations[kept.first, 0]) for kept in replay.episodes]


# Targets made anew

lengths = st.lists(st.tuples(st.integers(1, 12), st.booleans()), min_size=1, max_size=8)


@settings(max_examples=100, deadline=None)
@given(
    lengths=lengths, n=st.integers(1, 15), gamma=st.floats(0.1, 1), count=st.integers(1, 30), rounds=st.integers(1, 4)
)
def test_new_root_values_give_the_targets_of_the_whole_formula(lengths, n, gamma, count, rounds):
    episodes = [made_up(T, marker=m, terminated=end) for m, (T, end) in enumerate(lengths)]
    replay = replay_of(*episodes, gamma=gamma, n_step=n)
    root_values = {m: one.root_values.copy() for m, one in enumerate(episodes)}
    generator = np.random.default_rng(1)
    for _ in range(rounds):
        slots = replay.stale(count)
        new = generator.normal(size=len(slots))
        for slot, value in zip(slots, new, strict=True):
            marker, t = replay.observations[slot].astype(int)
            root_values[marker][t] = value
        replay.take_targets(slots, new, np.tile([0.25, 0.75], (len(slots), 1)))
        assert (replay.policies[slots] == [0.25, 0.75]).all()
    for kept in replay.episodes:
        marker = int(replay.observations[kept.first, 0])
        rewards = episodes[marker].rewards
        expected = n_step_values(rewards, root_values[marker], n=n, gamma=gamma)
        found = replay.values[kept.first : kept.first + kept.slots]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [1, 3, 7, 100])
def test_positions_take_turns_and_none_is_left_out(count):
    replay = replay_of(made_up(4), made_up(3, terminated=True, marker=1), made_up(1, marker=2))
    # Slots 0..4 with a truncated end at 4, 5..8 with a terminal one at 8, 9 and 10.
    expected = [0, 1, 2, 3, 4, 5, 6, 7, 9, 10]
    seen = []
    while len(seen) < 2 * len(expected):
        slots = replay.stale(count).tolist()
        assert len(slots) == min(count, 10)
        assert len(set(slots)) == len(slots)
        seen += slots
    assert seen == (expected * 12)[: len(seen)]


def test_no_target_is_made_anew_where_no_episode_is():
    replay = replay_of(*(made_up(9, marker=m) for m in range(8)), replay_capacity=25)
    live = {slot for kept in replay.episodes for slot in range(kept.first, kept.first + kept.slots)}
    assert set(replay.stale(100).tolist()) == live
    assert len(replay_of().stale(5)) == 0


def test_a_recorded_policy_stays_where_only_values_are_made_anew():
    replay = replay_of(made_up(4, terminated=True), n_step=2)
    before = replay.policies.copy()
    slots = replay.stale(4)
    replay.take_targets(slots, np.full(4, 100.0))
    assert replay.policies.tobytes() == before.tobytes()
    assert (replay.values[:2] > 20).all()  # bootstrapped by 100 / 4
    assert (abs(replay.values[2:5]) < 10).all()  # the end is not


# The best episodes


def best_of(stream, N, capacity):
    """Markers kept, in order of arrival, by the plain rule."""
    kept = []
    for marker, (T, ret) in enumerate(stream):
        order = sorted(kept, key=lambda one: one[2])
        leaving = []
        while len(kept) - len(leaving) >= N or capacity - sum(t + 1 for m, t, _ in kept if m not in leaving) < T + 1:
            worst = order[len(leaving)]
            if worst[2] > ret:
                break
            leaving.append(worst[0])
        else:
            kept = [one for one in kept if one[0] not in leaving] + [(marker, T, ret)]
    return [marker for marker, _, _ in kept]


@settings(max_examples=150, deadline=None)
@given(
    stream=st.lists(st.tuples(st.integers(1, 12), st.integers(-3, 6)), min_size=1, max_size=30),
    N=st.integers(1, 6),
    capacity=st.integers(13, 40),
)
def test_the_best_episodes_are_kept_whole_and_every_count_equals_a_recount(stream, N, capacity):
    replay = replay_of(keep_best=N, replay_capacity=capacity)
    for marker, (T, ret) in enumerate(stream):
        rewards = np.zeros(T)
        rewards[-1] = ret
        replay.add(episode(rewards, np.arange(T + 1.0), terminated=False, marker=marker))
        assert kept_markers(replay) == best_of(stream[: marker + 1], N, capacity)
        free = np.ones(capacity, bool)
        priorities = replay.sums[replay.leaves :]
        for kept in replay.episodes:
            slots = slice(kept.first, kept.first + kept.slots)
            assert free[slots].all()
            assert kept.first + kept.slots <= capacity
            free[slots] = False
            own = int(replay.observations[kept.first, 0])
            assert kept.ret == stream[own][1]
            assert replay.observations[slots].tolist() == [[own, t] for t in range(kept.slots)]
            assert replay.left[slots].tolist() == list(range(kept.slots))[::-1]
            assert (priorities[slots][:-1] > 0).all()
            assert priorities[slots][-1] == 0
        assert (replay.left[free] == -1).all()
        assert (priorities[:capacity][free] == 0).all()
        assert replay.positions == sum(kept.slots - 1 for kept in replay.episodes)


def test_an_equally_good_episode_takes_the_place_of_the_oldest():
    replay = replay_of(keep_best=2)
    kept = []
    for marker, ret in enumerate([5, 3, 3, 3, 2, 5]):
        replay.add(episode([0, ret], np.zeros(3), terminated=True, marker=marker))
        kept.append(kept_markers(replay))
    # 5, 3, twice a 3 for a 3, the 2 refused, 5 for a 3.
    assert kept == [[0], [0, 1], [0, 2], [0, 3], [0, 3], [0, 5]]


def test_a_restored_buffer_of_the_best_goes_on_alike():
    stream = [(5, 2), (3, 1), (7, 4), (4, 4), (6, 3), (2, 5), (9, 6), (3, 4)]

    def add(replay, marker):
        T, ret = stream[marker]
        rewards = np.zeros(T)
        rewards[0] = ret
        replay.add(episode(rewards, np.arange(T + 1.0), terminated=True, marker=marker))
        replay.take_targets(replay.stale(2), np.ones(min(2, replay.positions)))

    keys = {"keep_best": 3, "replay_capacity": 20}
    replay, restored = replay_of(**keys), replay_of(**keys)
    for marker in range(5):
        add(replay, marker)
    arrays, counts = replay.state()
    restored.restore({name: x.copy() for name, x in arrays.items()}, json.loads(json.dumps(counts)))
    for marker in range(5, 8):
        for one in (replay, restored):
            add(one, marker)
        (mine, counted), (other, recounted) = replay.state(), restored.state()
        assert counted == recounted
        for kept in replay.episodes:  # what lies in free slots does not matter
            slots = slice(kept.first, kept.first + kept.slots)
            for name in mine:
                assert mine[name][slots].tobytes() == other[name][slots].tobytes(), name


# Batches of two buffers


def test_joined_batches_weigh_by_their_share():
    replay, other = replay_of(made_up(6, terminated=True)), replay_of(made_up(9, marker=1))
    (_, three), (_, five) = (drawn(one, B) for one, B in ((replay, 3), (other, 5)))
    whole = joined([three, five])
    assert len(whole.observations) == 8
    assert whole.observations[:3].tobytes() == three.observations.tobytes()
    assert whole.observations[3:].tobytes() == five.observations.tobytes()
    for name in ("actions", "rewards", "values", "policies"):
        both = np.concatenate([getattr(three, name), getattr(five, name)], axis=1)
        assert getattr(whole, name).tobytes() == both.tobytes()
    np.testing.assert_allclose(whole.policy_weights[:, :3], three.policy_weights * 3 / 8, rtol=1e-6)
    np.testing.assert_allclose(whole.value_weights[:, 3:], five.value_weights * 5 / 8, rtol=1e-6)
    assert joined([three]) is three
