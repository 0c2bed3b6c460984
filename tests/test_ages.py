"""Value targets by age: the older an episode, the fewer of its rewards, against the plain formula."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import drawn, episode, replay_of

from mzprobe.training.targets import n_step_values

AGES = [[10, 4], [30, 1]]  # n = 7, from 10 training steps on 4, from 30 on 1
SETTINGS = {"n_step": 7, "n_step_by_age": AGES, "gamma": 0.9, "unroll_steps": 3}


def made_up(T, *, terminated, marker):
    generator = np.random.default_rng(marker)
    root_values = generator.normal(size=T + 1)
    root_values[-1] *= not terminated
    return episode(generator.normal(size=T), root_values, terminated=terminated, marker=marker)


def plain(one, root_values, n):
    return n_step_values(one.rewards, root_values, n=n, gamma=0.9)


@pytest.mark.parametrize(("age", "n"), [(0, 7), (9, 7), (10, 4), (29, 4), (30, 1), (1000, 1)])
def test_n_is_that_of_the_last_age_that_is_reached(age, n):
    config = replay_of(**SETTINGS).config
    assert config.n_at(np.array([age])).tolist() == [n]


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 12), st.booleans()), min_size=1, max_size=6),
    step=st.integers(0, 60),
    renewed=st.integers(0, 20),
)
def test_batches_and_audits_hold_the_targets_of_their_age(lengths, step, renewed):
    """Each episode is stored 12 training steps after the one before; some root values are made anew in between."""
    episodes = [made_up(T, terminated=end, marker=m) for m, (T, end) in enumerate(lengths)]
    replay = replay_of(**SETTINGS)
    for m, one in enumerate(episodes):
        replay.add(type(one)(**{**vars(one), "seed": m}), step=12 * m)
    root_values = [one.root_values.copy() for one in episodes]
    if renewed:
        slots = replay.stale(renewed)
        new = np.random.default_rng(1).normal(size=len(slots)).astype(np.float32)
        for slot, value in zip(slots, new, strict=True):
            marker, t = replay.observations[slot].astype(int)
            root_values[marker][t] = value
        replay.take_targets(slots, new.astype(np.float64))
    step += 12 * len(episodes)
    ages = [step - 12 * m for m in range(len(episodes))]
    n = [7 if age < 10 else 4 if age < 30 else 1 for age in ages]
    expected = [plain(one, values, k) for one, values, k in zip(episodes, root_values, n, strict=True)]
    slots, batch = drawn(replay, 32, step=step)
    for b, slot in enumerate(slots):
        marker, t = replay.observations[slot].astype(int)
        T, end = len(episodes[marker].rewards), episodes[marker].terminated
        for k in range(4):
            known = t + k < T or (t + k == T and not end)
            wanted = expected[marker][t + k] if known else 0.0
            assert batch.values[k, b] == pytest.approx(wanted, rel=1e-5, abs=1e-5)
    stored = replay.stored_targets(99, np.random.default_rng(0), step=step)
    wanted = [expected[s][t] for s, t in zip(stored.seeds, stored.times, strict=True)]
    np.testing.assert_allclose(stored.targets, wanted, rtol=1e-5, atol=1e-5)


def test_a_target_of_age_is_a_reward_and_the_latest_root_value_of_the_next_state():
    replay = replay_of(n_step=7, n_step_by_age=[[10, 1]], gamma=0.5)
    replay.add(episode([1, 2, 4], [10, 20, 30, 0], terminated=True), step=0)
    young, old = (replay.targets(np.arange(3), step=step).tolist() for step in (9, 10))
    assert young == [1 + 2 / 2 + 4 / 4, 2 + 4 / 2, 4]
    assert old == [1 + 20 / 2, 2 + 30 / 2, 4]
    replay.take_targets(np.array([1]), np.array([40.0]))
    assert replay.targets(np.arange(3), step=10).tolist() == [1 + 40 / 2, 2 + 30 / 2, 4]


def test_a_restored_buffer_has_the_same_targets_of_age():
    replay = replay_of(replay_capacity=40, **SETTINGS)
    for m in range(6):
        replay.add(made_up(9, terminated=bool(m % 2), marker=m), step=15 * m)
    arrays, counts = replay.state()
    restored = replay_of(replay_capacity=40, **SETTINGS)
    restored.restore({name: x.copy() for name, x in arrays.items()}, json.loads(json.dumps(counts)))
    (slots, batch), (same_slots, same) = (drawn(x, 16, step=90) for x in (replay, restored))
    assert slots.tolist() == same_slots.tolist()
    assert all(mine.tobytes() == other.tobytes() for mine, other in zip(batch, same, strict=True))


def test_the_best_episodes_move_with_their_ages():
    replay = replay_of(keep_best=3, replay_capacity=24, **SETTINGS)
    kept = {}
    for m, T in enumerate((7, 5, 6, 4, 9, 3, 8, 5)):  # lengths that leave gaps, so that the buffer is compacted
        one = made_up(T, terminated=True, marker=m)
        kept[m] = one
        replay.add(type(one)(**{**vars(one), "seed": m}), step=20 * m)
    stored = replay.stored_targets(99, np.random.default_rng(0), step=160)
    n = [1 if 160 - 20 * s >= 30 else 4 for s in stored.seeds]
    wanted = [plain(kept[s], kept[s].root_values, k)[t] for s, t, k in zip(stored.seeds, stored.times, n, strict=True)]
    np.testing.assert_allclose(stored.targets, wanted, rtol=1e-5, atol=1e-5)
