"""States as seed and actions: what the pool of simulators gives equals plain play, and costs what it must."""

import contextlib
import pickle
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mzprobe.behaviour import RandomPolicy, draw_episode_numbers, play_episodes
from mzprobe.envs import check_env, concatenate
from mzprobe.envs.core import EnvironmentSpec
from mzprobe.envs.simulators import SimulatorEnvironment

A = 3


END = 11  # numbers that it divides are terminal


def begun(seed):
    return 7_919 * seed % 10_007


def moved(at, action):
    return (1_103 * at + 211 * action + 17) % 10_007


def paid(at, action):
    return at / 8 - action


class Counter:
    """A simulator in two lines of arithmetic, that counts what is asked of it and refuses what must not be asked."""

    made = 0
    begun = 0
    stepped = 0
    advanced = 0

    def __init__(self):
        type(self).made += 1
        self.at = None

    def reset(self, seed):
        type(self).begun += 1
        self.at = begun(seed)

    def step(self, action):
        type(self).stepped += 1
        return self._move(action)

    def advance(self, action):
        type(self).advanced += 1
        self._move(action)

    def save(self):
        """Cannot be saved, so that every branch is replayed from the start."""

    def _move(self, action):
        assert self.at % END != 0, "a terminal state is not stepped"
        reward = paid(self.at, action)
        self.at = moved(self.at, action)
        return reward, self.at % END == 0

    def observe(self):
        return [self.at, self.at % END]


class Saving(Counter):
    """Can be put back to where it was saved."""

    def save(self):
        return self.at

    def restore(self, saved):
        self.at = saved
        return True


class Fickle(Saving):
    """Refuses to be put back every other time, and then is nowhere until it begins anew."""

    asked = 0

    def restore(self, saved):
        type(self).asked += 1
        self.at = saved if type(self).asked % 2 else None
        return self.at is not None


def spec(num_actions=A):
    return EnvironmentSpec(
        name="counter",
        observation_shape=(2,),
        num_actions=num_actions,
        gamma=0.9,
        time_limit=50,
        action_meanings=tuple(f"add {211 * a}" for a in range(num_actions)),
        source="tests",
    )


def pooled(size, kind=Counter):
    """An environment with a pool of this size, and the class of its simulators, whose counts begin at 0."""
    counted = type("Counted", (kind,), dict.fromkeys(("made", "begun", "stepped", "advanced"), 0))
    return SimulatorEnvironment(spec(), counted, simulators=size), counted


STARTS = [seed for seed in range(1, 200) if begun(seed) % END]  # a start is no end
LONG = [0, 2, 0, 0, 2, 2, 0, 1]  # from the first start, no end on the way


def after(env, seed, actions):
    """The state after actions, by linear play."""
    states = env.reset([seed])
    for action in actions:
        states, _ = env.step(states, [action])
    assert not env.terminal(states).any()
    return states


def look(env, states, outcome):
    """All that is seen of each state of a batch."""
    observations = env.observe(states).tolist()
    return list(zip(observations, outcome.reward.tolist(), outcome.terminated.tolist(), strict=True))


def plain(number, action):
    """What is seen after an action where the number is, without any simulator; and the number then."""
    if number % END == 0:
        return ([float(number), 0.0], 0.0, True), number
    following = moved(number, action)
    return ([float(following), float(following % END)], paid(number, action), following % END == 0), following


# Right


@pytest.mark.parametrize("kind", [Counter, Saving, Fickle])
@settings(deadline=None, max_examples=150)
@given(data=st.data(), size=st.integers(1, 5))
def test_branches_equal_plain_arithmetic_with_a_bounded_number_of_simulators(kind, data, size):
    env, counted = pooled(size, kind)
    starts = data.draw(st.lists(st.sampled_from(STARTS), min_size=1, max_size=4))
    begin = env.reset(starts)
    nodes = [(begin.take([b]), begun(seed)) for b, seed in enumerate(starts)]
    for _ in range(data.draw(st.integers(1, 20))):
        rows = data.draw(st.lists(st.integers(0, len(nodes) - 1), min_size=1, max_size=2 * size))
        actions = data.draw(st.lists(st.integers(0, A - 1), min_size=len(rows), max_size=len(rows)))
        states, outcome = env.step(concatenate([nodes[row][0] for row in rows]), actions)
        expected = [plain(nodes[row][1], action) for row, action in zip(rows, actions, strict=True)]
        assert look(env, states, outcome) == [seen for seen, _ in expected]
        nodes += [(states.take([b]), number) for b, (_, number) in enumerate(expected)]
    assert counted.made <= size


@pytest.mark.parametrize("size", [*(pytest.param(n, marks=pytest.mark.slow) for n in (1, 4)), 2, 512])
def test_a_pool_of_any_size_keeps_the_protocol(size):
    check_env(SimulatorEnvironment(spec(), Counter, simulators=size), steps=20, seed=1)


@pytest.mark.parametrize("size", [1, 3])
def test_a_batch_larger_than_the_pool_is_played_right(size):
    env, counted = pooled(size)
    starts = STARTS[:50]
    states, numbers = env.reset(starts), [begun(seed) for seed in starts]
    rng = np.random.default_rng(0)
    for _ in range(10):
        actions = rng.integers(A, size=50)
        states, outcome = env.step(states, actions)
        expected = [plain(number, action) for number, action in zip(numbers, actions.tolist(), strict=True)]
        assert look(env, states, outcome) == [seen for seen, _ in expected]
        numbers = [number for _, number in expected]
    assert 10 <= env.terminal(states).sum() < 50
    assert counted.made == size


def test_rewards_along_end_with_the_episode():
    env, counted = pooled(4)
    states = env.reset(STARTS[:4])
    actions = np.random.default_rng(1).integers(A, size=(4, 100))
    expected = np.zeros((4, 100))
    for b, seed in enumerate(STARTS[:4]):
        number = begun(seed)
        for t, action in enumerate(actions[b].tolist()):
            (_, expected[b, t], _), number = plain(number, action)
    assert env.rewards_along(states, actions).tobytes() == expected.tobytes()
    assert (expected[:, -1] == 0).all()
    assert counted.stepped < 4 * 100
    assert env.rewards_along(env.reset(STARTS[4:6]), np.zeros((2, 0), np.int64)).shape == (2, 0)


def test_a_state_after_rewards_along_is_gone_on_with_at_no_cost():
    env, counted = pooled(2)
    states = after(pooled(1)[0], STARTS[0], LONG)
    env.rewards_along(env.reset([STARTS[0]]), [LONG])
    env.step(states, [0])
    assert (counted.made, counted.stepped, counted.advanced, env.pool.replayed) == (1, len(LONG) + 1, 0, 0)


# Cheap


def test_linear_play_replays_nothing():
    env, counted = pooled(3)
    states, rng = env.reset(STARTS[:3]), np.random.default_rng(0)
    while not env.terminal(states).all():
        states, _ = env.step(states, rng.integers(A, size=3))
    assert min(len(actions) for actions in states.actions) >= 2
    assert (counted.made, counted.begun, counted.advanced, env.pool.replayed) == (3, 3, 0, 0)


def test_as_many_episodes_as_simulators_replay_nothing_though_ended_ones_are_begun_anew():
    env, counted = pooled(4)
    states, rng, following = env.reset(STARTS[:4]), np.random.default_rng(0), iter(STARTS[4:])
    ends = 0
    for _ in range(100):
        states, outcome = env.step(states, rng.integers(A, size=4))
        for b in np.flatnonzero(outcome.terminated):
            rows = np.where(np.arange(4) == b, 4, np.arange(4))
            states = concatenate([states, env.reset([next(following)])]).take(rows)
            ends += 1
    assert ends >= 20
    assert (counted.made, counted.advanced, env.pool.replayed) == (4, 0, 0)


def test_rewards_along_to_an_end_leave_the_simulator_for_another_start():
    env, counted = pooled(2)
    waiting = after(env, STARTS[0], LONG)
    rewards = env.rewards_along(env.reset([STARTS[1]]), np.zeros((1, 100), np.int64))
    assert rewards[0, -1] == 0
    env.reset([STARTS[2]])
    env.step(waiting, [0])
    assert (counted.made, env.pool.replayed) == (2, 0)


def test_the_first_branch_goes_on_and_every_other_replays_its_history():
    env, counted = pooled(10)
    states = after(env, STARTS[0], LONG)
    for action in range(A):
        env.step(states, [action])
    assert env.pool.replayed == counted.advanced == (A - 1) * len(LONG)
    assert counted.made == A


def test_branches_near_a_saved_state_are_replayed_from_there():
    env, counted = pooled(1, Saving)
    states = after(env, STARTS[0], LONG)
    for action in range(A):
        env.step(states, [action])
    assert counted.begun == 2  # at first nothing was saved
    assert env.pool.replayed == counted.advanced == len(LONG)


def test_a_child_of_a_branch_is_gone_on_with():
    env, _ = pooled(10)
    states = after(env, STARTS[0], LONG)
    children = [env.step(states, [action])[0] for action in range(A)]
    replayed = env.pool.replayed
    for child in children:
        env.step(child, [0])
    assert env.pool.replayed == replayed


def test_the_simulator_longest_unused_is_sent_elsewhere():
    env, counted = pooled(3)
    oldest, older, newest = (after(env, seed, LONG[:2]) for seed in STARTS[:3])
    oldest, _ = env.step(oldest, [0])  # so that `older` is now the one longest unused
    env.reset([STARTS[3]])
    assert env.pool.replayed == 0
    env.step(oldest, [0])
    env.step(newest, [0])
    assert env.pool.replayed == 0
    env.step(older, [0])
    assert env.pool.replayed == counted.advanced == 2
    assert counted.made == 3


def test_of_twins_one_is_free_for_the_next_state():
    env, counted = pooled(2)
    twins, _ = env.step(env.reset([STARTS[0]]).take([0, 0, 0]), [0, 0, 0])
    assert env.observe(twins).tolist() == [plain(begun(STARTS[0]), 0)[0][0]] * 3
    other = env.reset([STARTS[1]])
    for states in (other, twins.take([0])):
        env.step(states, [0])
    assert env.pool.replayed == 0
    assert counted.made == 2


def test_a_terminal_state_costs_nothing():
    env, counted = pooled(1)
    states = env.reset([STARTS[0]])
    while not env.terminal(states).all():
        states, _ = env.step(states, [0])
    env.reset([STARTS[1]])
    stepped = counted.stepped
    again, outcome = env.step(states.take([0] * 5), [0, 1, 2, 0, 1])
    assert look(env, again, outcome) == [(env.observe(states)[0].tolist(), 0.0, True)] * 5
    assert (counted.stepped, counted.advanced) == (stepped, 0)
    assert again.actions == states.actions * 5


@pytest.mark.parametrize("keep_states", [False, True])
def test_more_episodes_than_simulators_are_played_in_portions_and_replay_nothing(keep_states):
    seeds = np.array([seed for seed in range(30) if begun(seed) % END])[:23]
    _, uniforms = draw_episode_numbers(np.random.default_rng(0), 23, spec().time_limit)
    played = []
    for size in (5, 64):
        env, _ = pooled(size)
        options = {"seeds": seeds, "uniforms": uniforms, "keep_states": keep_states}
        played.append((env, play_episodes(env, RandomPolicy(environment=env), **options)))
        assert env.pool.replayed == 0
    (_, few), (env, many) = played
    for name in ("returns", "lengths", "terminated"):
        assert getattr(few, name).tolist() == getattr(many, name).tolist()
    assert few.lengths.sum() > 100
    if keep_states:
        orders = [np.lexsort((episodes.time, episodes.episode)) for episodes in (few, many)]
        for part in ("episode", "time"):
            mine, theirs = (getattr(episodes, part)[order] for episodes, order in zip((few, many), orders, strict=True))
            assert mine.tolist() == theirs.tolist()
        mine, theirs = (episodes.states.take(order) for episodes, order in zip((few, many), orders, strict=True))
        assert mine.actions == theirs.actions
        assert env.observe(mine).tobytes() == env.observe(theirs).tobytes()
        assert len(mine) == few.lengths.sum()


@pytest.mark.parametrize("method", ["step", "advance"])
@pytest.mark.parametrize("kind", [Counter, Saving])
def test_a_simulator_that_failed_is_not_used_again(kind, method):
    env, counted = pooled(2, kind)
    begin = env.reset([STARTS[0]])
    states, _ = env.step(begin, [0])
    env.step(begin, [1])  # another simulator of the same episode; where it can be, its start is saved

    def fail(self, action):
        self.at = 3
        raise RuntimeError("out of fuel")

    whole = getattr(counted, method)
    setattr(counted, method, fail)
    for action in (1, 1, 2):
        with contextlib.suppress(RuntimeError):  # a step that needs no replay does not fail with `advance`
            env.step(states, [action])
    setattr(counted, method, whole)
    for action in range(A):
        expected, _ = plain(moved(begun(STARTS[0]), 0), action)
        assert look(env, *env.step(states, [action])) == [expected]


# Made, or not


def test_an_environment_pickles_without_its_simulators():
    env = SimulatorEnvironment(spec(), Counter, simulators=7)
    states = after(env, STARTS[0], LONG)
    again = pickle.loads(pickle.dumps(env))
    assert again.spec == env.spec
    assert again.pool.size == 7
    assert look(again, *again.step(states, [1])) == look(env, *env.step(states, [1]))
    assert again.pool.replayed == len(LONG)
    assert env.pool.replayed == 0


@pytest.mark.parametrize("size", [0, -1, 2.5, "8"])
def test_a_pool_without_simulators_is_refused(size):
    with pytest.raises(ValueError, match=f"simulators must be a whole number of at least 1, not {size!r}"):
        SimulatorEnvironment(spec(), Counter, simulators=size)


def test_more_actions_than_a_byte_holds_are_refused():
    with pytest.raises(ValueError, match="256 actions at most, not 257"):
        SimulatorEnvironment(spec(257), Counter, simulators=1)


def test_the_last_of_256_actions_is_kept_and_replayed():
    env = SimulatorEnvironment(spec(256), Counter, simulators=1)
    states, _ = env.step(env.reset([STARTS[0]]), [255])
    env.reset([STARTS[1]])
    expected, _ = plain(moved(begun(STARTS[0]), 255), 254)
    assert look(env, *env.step(states, [254])) == [expected]
    assert env.pool.replayed == 1


def test_an_inconsistent_specification_is_refused():
    made = partial(SimulatorEnvironment, make=Counter, simulators=1)
    with pytest.raises(ValueError, match="num_actions must be at least 1"):
        made(spec(0))
