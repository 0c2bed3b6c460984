"""Lunar Lander equals Gymnasium without dispersion bit for bit, and its states branch to what stepping there gives."""

import json
import pickle
import sys
from pathlib import Path
from typing import NamedTuple

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mzprobe.envs import LunarLander, check_env, concatenate, make
from mzprobe.envs.core import rewards_along
from mzprobe.envs.lunarlander import scene_class
from mzprobe.errors import UsageError

NOTHING, LEFT, MAIN, RIGHT = range(4)
CONTACT = slice(6, 8)  # of the legs, in an observation


class NoDispersion:
    """In the place of Gymnasium's generator once the start was drawn: all that it is asked for is 0."""

    def uniform(self, low, high):
        assert low < 0.0 < high
        return 0.0


def at_random(observation, rng):
    return int(rng.integers(4))


def drifting(observation, rng):
    """Keeps aloft and lets itself be pushed out of the view."""
    return MAIN if observation[3] < 0.0 else LEFT if observation[4] > -0.3 else RIGHT


def landing(observation, rng):
    """Falls the slower the lower it is, leans towards the pad, cuts the engines on the ground, and so comes to rest."""
    x, y, x_dot, y_dot, angle, spin, left, right = observation.tolist()
    if left or right:
        return MAIN if y_dot < -0.1 and not (left and right) else NOTHING
    if y_dot < -0.08 - 0.3 * max(y, 0):
        return MAIN
    lean = 0.3 * x + 0.7 * x_dot - angle - 0.8 * spin
    return LEFT if lean > 0.04 else RIGHT if lean < -0.04 else NOTHING


class Episode(NamedTuple):
    """What Gymnasium showed: observations `[T + 1, 8]`, and actions, rewards and ends `[T]`."""

    observations: np.ndarray
    actions: list[int]
    rewards: list[float]
    terminated: list[bool]

    def end(self):
        if not self.terminated[-1]:
            return "none"
        if self.rewards[-1] == 100.0:
            return "rest"
        return "out of view" if abs(self.observations[-1, 0]) >= 1.0 else "crash"

    def touches(self):
        """Whether a leg is on the ground, `[T + 1]`."""
        return self.observations[:, CONTACT].any(axis=1)


@pytest.fixture(scope="module")
def gymnasiums():
    """Plays an episode in Gymnasium's own lander, 1,000 steps at most."""
    scene_class()  # takes the warnings of the first import
    reference = gymnasium.make("LunarLander-v3").unwrapped

    def play(seed, player, most_steps=1000):
        rng = np.random.default_rng(seed)
        observation, _ = reference.reset(seed=seed)
        reference.np_random = NoDispersion()
        episode = Episode([observation], [], [], [])
        while not (episode.terminated and episode.terminated[-1]) and len(episode.actions) < most_steps:
            action = player(observation, rng)
            observation, reward, terminated, _, _ = reference.step(action)
            for kept, seen in zip(episode, (observation, action, reward, terminated), strict=True):
                kept.append(seen)
        return episode._replace(observations=np.stack(episode.observations))

    return play


@pytest.fixture(scope="module")
def landings(gymnasiums):
    """Episodes of a player that lands and comes to rest in most of them."""
    return [gymnasiums(seed, landing) for seed in range(20)]


def compare(seeds, episodes, env):
    """Plays recorded episodes side by side and compares every step of each, until it ends; the last states."""
    T = max(len(episode.actions) for episode in episodes)
    actions = np.zeros((T, len(episodes)), dtype=np.int64)
    for b, episode in enumerate(episodes):
        actions[: len(episode.actions), b] = episode.actions
    states, outcome = env.reset(seeds), None
    for t in range(T + 1):
        alive = [b for b, episode in enumerate(episodes) if t <= len(episode.actions)]
        expected = np.stack([episodes[b].observations[t] for b in alive])
        assert env.observe(states).dtype == expected.dtype == np.float32
        assert env.observe(states)[alive].tobytes() == expected.tobytes()
        if t > 0:
            assert outcome.reward[alive].tolist() == [episodes[b].rewards[t - 1] for b in alive]
            assert outcome.terminated[alive].tolist() == [episodes[b].terminated[t - 1] for b in alive]
        if t < T:
            states, outcome = env.step(states, actions[t])
    return states


# Against Gymnasium


def test_random_and_drifting_episodes_equal_gymnasiums_bit_for_bit(gymnasiums):
    episodes = [gymnasiums(seed, at_random if seed < 200 else drifting) for seed in range(210)]
    env = LunarLander()
    states = compare(range(210), episodes, env)
    assert env.terminal(states).all()
    assert {action for episode in episodes for action in episode.actions} == {NOTHING, LEFT, MAIN, RIGHT}
    ends = [episode.end() for episode in episodes]
    assert ends.count("crash") >= 100
    assert ends.count("out of view") >= 10
    assert sum(episode.touches().any() for episode in episodes) >= 20
    assert sum(len(episode.actions) for episode in episodes) >= 15_000


def test_episodes_of_a_trained_agent_equal_gymnasiums_bit_for_bit(gymnasiums):
    recorded = json.loads((Path(__file__).parent / "golden" / "landings.json").read_text("utf-8"))["episodes"]
    seeds = [int(seed) for seed in recorded]
    episodes = []
    for seed, actions in zip(seeds, recorded.values(), strict=True):
        following = iter(map(int, actions))
        episodes.append(gymnasiums(seed, lambda *_, following=following: next(following), most_steps=len(actions)))
    compare(seeds, episodes, LunarLander())
    assert len(episodes) == 50
    assert [episode.end() for episode in episodes].count("rest") >= 25


def test_landings_that_come_to_rest_equal_gymnasiums_bit_for_bit(landings):
    compare(range(20), landings, LunarLander())
    assert {action for episode in landings for action in episode.actions} == {NOTHING, LEFT, MAIN, RIGHT}
    assert sum(episode.end() == "rest" for episode in landings) >= 12
    assert sum(episode.touches().sum() for episode in landings) >= 500


def test_starts_equal_gymnasiums_for_large_seeds(gymnasiums):
    seeds = [2**31, 2**32 + 5, 2**63 - 1]
    env = LunarLander()
    for observation, seed in zip(env.observe(env.reset(seeds)), seeds, strict=True):
        assert observation.tobytes() == gymnasiums(seed, at_random, most_steps=1).observations[0].tobytes()


# Branching


def test_side_by_side_play_from_start_to_end_replays_nothing():
    env = LunarLander(simulators=24)
    rng = np.random.default_rng(3)
    states = env.reset(range(23))
    while not env.terminal(states).all():
        states, _ = env.step(states, rng.integers(4, size=23))
    assert env.pool.replayed == 0
    env.step(states.take([0]), [0])
    assert env.pool.replayed == 0
    env.step(env.reset([0]), [0])
    assert env.pool.replayed == 0


def played(env, seed, actions):
    """Every state of a linear play, `T + 1` batches of one."""
    states = [env.reset([seed])]
    for action in actions:
        states.append(env.step(states[-1], [action])[0])
    return states


@pytest.fixture(scope="module")
def roots(gymnasiums, landings):
    """States to branch from, by name: mid-air, on one leg and on two, about to rest, at rest, crashed and gone."""
    env, found = LunarLander(), {}
    seed = next(seed for seed, episode in enumerate(landings) if episode.end() == "rest")
    legs = landings[seed].observations[:, CONTACT].sum(axis=1)
    T = len(legs) - 1
    states = played(env, seed, landings[seed].actions)
    times = {"start": 0, "mid-air": 40, "one leg": (legs == 1).argmax(), "two legs": (legs == 2).argmax()}
    for name, t in (times | {"settling": T - 20, "about to rest": T - 1, "at rest": T}).items():
        found[name] = states[t]
    for name, player in (("crash", at_random), ("out of view", drifting)):
        seed = next(s for s in range(100) if (episode := gymnasiums(s, player)).end() == name)
        states = played(env, seed, episode.actions)
        found |= {f"before {name}": states[-2], name: states[-1]}
    assert [name for name, state in found.items() if state.done[0]] == ["at rest", "crash", "out of view"]
    return found


@pytest.fixture(scope="module")
def by_linear_play():
    """What linear play from the start shows after actions, in a world of its own: observation, reward, end."""
    seen = {}

    def play(seed, actions):
        if (seed, actions) not in seen:
            env = LunarLander(simulators=1)
            states = env.reset([seed])
            for action in actions:
                states, outcome = env.step(states, [action])
            assert env.pool.replayed == 0
            seen[seed, actions] = (env.observe(states).tobytes(), outcome.reward[0], outcome.terminated[0])
        return seen[seed, actions]

    return play


@settings(deadline=None, max_examples=40)
@given(data=st.data(), simulators=st.sampled_from([1, 2, 3]))
@pytest.mark.parametrize("snapshots", [True, False])
def test_branches_over_a_tree_of_states_show_what_linear_play_shows(roots, by_linear_play, snapshots, data, simulators):
    env = LunarLander(simulators=simulators, snapshots=snapshots)
    root = data.draw(st.sampled_from(sorted(roots)))
    tree = [roots[root], roots["mid-air"]]
    for _ in range(data.draw(st.integers(2, 10))):
        rows = data.draw(st.lists(st.integers(0, len(tree) - 1), min_size=1, max_size=4))
        actions = data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows)))
        given_states = concatenate([tree[row] for row in rows])
        before = env.observe(given_states).tobytes()
        following, outcome = env.step(given_states, actions)
        assert env.observe(given_states).tobytes() == before
        for b, action in enumerate(actions):
            one = following.take([b])
            seen = (env.observe(one).tobytes(), outcome.reward[b], outcome.terminated[b])
            if env.terminal(given_states)[b]:
                assert seen == (env.observe(given_states.take([b])).tobytes(), 0.0, True)
            else:
                history = given_states.actions[b] + bytes([action])
                assert seen == by_linear_play(int(given_states.seed[b]), history)
            tree.append(one)


def test_a_lander_about_to_rest_rests_in_every_branch_that_leaves_it_alone(roots):
    env = LunarLander(simulators=1)
    states, outcome = env.step(roots["about to rest"].take([0] * 6), [NOTHING, MAIN, NOTHING, LEFT, RIGHT, NOTHING])
    assert outcome.reward[[0, 2, 5]].tolist() == [100.0] * 3
    assert env.terminal(states).tolist() == [True, False, True, False, False, True]


def test_check_env_passes_with_a_single_simulator_past_the_ends_of_its_walk():
    env = make("lunarlander", simulators=1)
    check_env(env, steps=66, seed=20)
    states, rng = env.reset(range(20, 25)), np.random.default_rng(20)
    for actions in rng.integers(4, size=(66, 5)):
        states, _ = env.step(states, actions)
    assert env.terminal(states).sum() == 2


def test_check_env_passes_with_the_default_pool_past_every_end():
    check_env(make("lunarlander"), steps=160)


# States are values


def test_states_are_read_only(roots):
    states = roots["mid-air"]
    for array in (states.seed, states.observation, states.done):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0


@pytest.mark.parametrize("name", ["start", "mid-air", "two legs", "at rest"])
def test_pickled_states_are_small_and_go_on_alike_in_another_environment(roots, name):
    states = concatenate([roots[name].take([0] * 15), roots["crash"]])
    pickled = pickle.dumps(states)
    assert len(pickled) <= 700 + len(states) * 50 + sum(len(actions) for actions in states.actions)
    again = pickle.loads(pickled)
    here, there = LunarLander(), LunarLander(simulators=2)
    for t in range(3):
        actions = (np.arange(16) + t) % 4
        states, outcome = here.step(states, actions)
        again, same = there.step(again, actions)
        assert there.observe(again).tobytes() == here.observe(states).tobytes()
        assert there.terminal(again).tobytes() == here.terminal(states).tobytes()
        assert same.reward.tobytes() == outcome.reward.tobytes()


# Rewards along


@pytest.mark.parametrize("T", [0, 1, 30, 150])
def test_rewards_along_are_those_of_stepping_past_the_end_and_from_any_state(roots, T):
    starts = LunarLander().reset(range(30))
    states = concatenate([starts, *roots.values()])
    actions = np.random.default_rng(T).integers(4, size=(len(states), T))
    expected, here = np.zeros(actions.shape), LunarLander()
    following = states
    for t in range(T):
        following, outcome = here.step(following, actions[:, t])
        expected[:, t] = outcome.reward
    env = LunarLander(simulators=5)
    assert env.rewards_along(states, actions).tobytes() == expected.tobytes()
    assert rewards_along(env, states, actions).tobytes() == expected.tobytes()
    assert (expected[env.terminal(states)] == 0).all()
    ended = here.terminal(following).sum() - env.terminal(states).sum()
    assert ended >= {0: 0, 1: 1, 30: 2, 150: 25}[T]


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([[0, 1]], "2 states need one action sequence each"),
        ([0, 1], "2 states need one action sequence each"),
        ([[0, 4], [0, 1]], r"actions must lie in 0\.\.3, not 4"),
        ([[0.0], [1.0]], "actions must be integers"),
    ],
)
def test_rewards_along_bad_sequences_are_refused(actions, message):
    env = LunarLander()
    with pytest.raises(ValueError, match=message):
        env.rewards_along(env.reset([0, 1]), actions)


# Made, or not


def test_make_passes_options_on():
    spec = make("lunarlander", gamma=0.9, time_limit=7).spec
    assert (spec.gamma, spec.time_limit, spec.num_actions, spec.observation_shape) == (0.9, 7, 4, (8,))
    with pytest.raises(UsageError, match="simulators=0: simulators must be a whole number of at least 1, not 0"):
        make("lunarlander", simulators=0)


REFUSAL = "the environment 'lunarlander' needs Box2D and pygame: pip install 'mzprobe[box2d]'"


@pytest.fixture(params=["Box2D", "pygame"])
def without(monkeypatch, request):
    """One of what the extra installs is missing, and Gymnasium has not been asked for its lander yet."""
    for module in [name for name in sys.modules if name.startswith("gymnasium.envs.box2d")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, request.param, None)


def test_without_the_extra_make_says_what_to_install(without):
    with pytest.raises(UsageError) as refused:
        make("lunarlander")
    assert str(refused.value) == REFUSAL


def test_without_the_extra_train_says_what_to_install(without, run_cli, tmp_path):
    code, out, said = run_cli("train", "lunarlander", "--out", tmp_path)
    assert (code, out) == (2, "")
    assert "Traceback" not in said
    assert " ".join(said.split()) == f"error: {REFUSAL}"
    assert not list(tmp_path.iterdir())
