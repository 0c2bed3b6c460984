"""`gym:ID` is `gymnasium.make(ID)` step for step: its wrappers, its own ends, everything but the time limit."""

import re

import gymnasium
import numpy as np
import pytest
from corridor import Corridor
from gymnasium.envs.registration import WrapperSpec
from gymnasium.spaces import Box
from gymnasium.spaces.utils import flatten
from gymnasium.wrappers import (
    FrameStackObservation,
    MaxAndSkipObservation,
    RescaleObservation,
    TimeAwareObservation,
    TimeLimit,
    TransformReward,
)

from mzprobe.behaviour import RandomPolicy, play_episodes
from mzprobe.envs import check_env, make
from mzprobe.errors import UsageError


def assert_step_for_step(id, options=None, *, make_options=None, seeds=6):
    """Random play in both until Gymnasium's episode ends; how long the episodes were."""
    reference = gymnasium.make(id, disable_env_checker=True, **(options or {}))
    env = make(f"gym:{id}", **(options or {}), **(make_options or {}))
    rng, lengths = np.random.default_rng(0), []
    limit = env.spec.time_limit
    for seed in range(seeds):
        seen, _ = reference.reset(seed=seed)
        states, t, over = env.reset([seed]), 0, False
        while not over and t < limit:
            shown = seen if isinstance(reference.observation_space, Box) else flatten(reference.observation_space, seen)
            assert env.observe(states)[0].tobytes() == np.asarray(shown, np.float32).tobytes()
            action = int(rng.integers(env.spec.num_actions))
            seen, reward, terminated, truncated, _ = reference.step(action + int(reference.action_space.start))
            states, outcome = env.step(states, [action])
            t, over = t + 1, terminated or truncated
            assert outcome.reward[0] == reward
            if t < limit:
                assert bool(outcome.terminated[0]) == over
        lengths.append(t)
    return lengths


@pytest.mark.parametrize(
    ("id", "options", "make_options"),
    [
        ("CartPole-v1", {}, {}),
        ("CartPole-v1", {"sutton_barto_reward": True}, {}),
        ("MountainCar-v0", {}, {}),
        ("Acrobot-v1", {}, {}),
        ("FrozenLake-v1", {"is_slippery": False}, {}),
        ("FrozenLake-v1", {"is_slippery": False, "map_name": "8x8"}, {}),
        ("CliffWalking-v1", {}, {"time_limit": 60}),
        ("Taxi-v4", {}, {}),
    ],
)
def test_gymnasiums_own_are_the_same_step_for_step(id, options, make_options):
    lengths = assert_step_for_step(id, options, make_options=make_options)
    assert min(lengths) >= 2


class Watched(Corridor):
    """Says truncated after some steps of its own; beyond them it has no data."""

    own_limit = 7
    prices = np.linspace(1, 2, own_limit + 1)

    def reset(self, *, seed=None, **_):
        self.t = 0
        return super().reset(seed=seed)

    def step(self, action):
        self.t += 1
        seen, _, terminated, _, info = super().step(action)
        return seen, self.prices[self.t], terminated, self.t >= self.own_limit, info


@pytest.mark.parametrize("limit", [7, 8, 30])
def test_a_truncation_of_its_own_is_an_end(registered, limit):
    id = registered(Watched, max_episode_steps=limit)
    assert max(assert_step_for_step(id)) == 7
    env = make(f"gym:{id}")
    check_env(env, processes=False)
    uniforms = np.random.default_rng(0).random((3, limit))
    played = play_episodes(env, RandomPolicy(environment=env), seeds=np.arange(3), uniforms=uniforms)
    assert played.lengths.tolist() == [7] * 3
    assert played.terminated.all()


def test_no_walk_at_the_start_goes_beyond_the_time_limit(registered):
    class Finite(Watched):
        def step(self, action):
            seen, reward, terminated, _, info = super().step(action)
            return seen, reward, terminated, False, info

    env = make(f"gym:{registered(Finite, max_episode_steps=7)}")
    assert env.spec.time_limit == 7


def halved(**options):
    return TransformReward(Corridor(**options), lambda reward: reward / 2)


def limited_within():
    return TimeLimit(TransformReward(Corridor(), lambda reward: reward - 1), 5)


def stacked():
    return FrameStackObservation(RescaleObservation(Bounded(), np.float32(0), np.float32(1)), 3)


class Bounded(Corridor):
    observation_space = Box(-100, 100, (1,), np.float32)


@pytest.mark.parametrize(("entry", "longest"), [(halved, 30), (limited_within, 5), (stacked, 30)])
def test_wrappers_of_an_entry_point_stay(registered, entry, longest):
    id = registered(entry)
    lengths = assert_step_for_step(id)
    assert max(lengths) <= longest
    assert make(f"gym:{id}").spec.time_limit == 30
    check_env(make(f"gym:{id}", simulators=2), processes=False)


def spec_of(wrapper, **options):
    return WrapperSpec(wrapper.__name__, f"{wrapper.__module__}:{wrapper.__name__}", options)


@pytest.mark.parametrize(
    ("wrappers", "longest"),
    [
        ([spec_of(TransformReward, func=lambda reward: reward * 3)], 30),
        ([spec_of(TimeLimit, max_episode_steps=6)], 6),
        ([spec_of(TransformReward, func=lambda reward: reward + 0.5), spec_of(TimeAwareObservation)], 30),
    ],
)
def test_wrappers_registered_with_the_id_stay(registered, wrappers, longest):
    id = registered(Corridor, additional_wrappers=tuple(wrappers))
    lengths = assert_step_for_step(id)
    assert max(lengths) == longest
    check_env(make(f"gym:{id}", simulators=2), processes=False)


def test_the_time_limit_alone_is_no_end(registered):
    env = make(f"gym:{registered(halved)}", time_limit=3)
    states = env.reset([0])
    for _ in range(5):
        states, outcome = env.step(states, [0])
        assert not outcome.terminated[0]


def test_an_option_of_gymnasiums_own_limit_is_the_time_limit(registered):
    id = registered(Corridor)
    env = make(f"gym:{id}", max_episode_steps=3)
    assert env.spec.time_limit == 3
    states = env.reset([0])
    for _ in range(4):
        states, outcome = env.step(states, [0])
    assert not outcome.terminated[0]


def test_a_time_limit_in_the_steps_of_a_wrapper_within_is_refused_unless_one_is_given(registered):
    id = registered(Corridor, additional_wrappers=(spec_of(MaxAndSkipObservation, skip=4),))
    with pytest.raises(UsageError) as refused:
        make(f"gym:{id}")
    said = r"gym:\S+ has wrappers that made 7 steps where 2 were asked for, and its time limit of 30 counts theirs"
    assert re.match(said, str(refused.value))
    assert_step_for_step(id, make_options={"time_limit": 7})
