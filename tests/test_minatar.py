"""MinAtar's Breakout equals the package's, board for board, and its states are values."""

import numpy as np
import pytest

from mzprobe.envs import check_env, make
from mzprobe.envs.minatar import CHANNELS, SIZE, MinAtarBreakout
from mzprobe.errors import UsageError

BOARDS = 10  # of ours that are stepped at a time, each beside one of the package's
CODES = (0, 1, 3)  # of the package's actions


@pytest.fixture
def theirs():
    """Makes environments of the package, each started by a seed."""
    minatar = pytest.importorskip("minatar")

    def start(seed):
        env = minatar.Environment("breakout", sticky_action_prob=0.0)
        env.seed(seed)
        env.reset()
        return env

    return start


def at_random(_, rng):
    return rng.integers(3, size=BOARDS)


def well(states, rng):
    """Follows the ball to where it comes down, but for one step in thirty."""
    chosen = np.array([_towards(board) for board in states.numbers.tolist()])
    return np.where(rng.random(BOARDS) < 1 / 30, rng.integers(3, size=BOARDS), chosen)


def _towards(board):
    x, y, _, _, right, down, at, _ = board
    for _ in range(SIZE - 1 - y if down else 0):
        x += 2 * right - 1
        if not 0 <= x < SIZE:
            x, right = min(max(x, 0), SIZE - 1), 1 - right
    return 0 if x == at else 2 if x > at else 1


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "steps", "refilled"), [(at_random, 100_000, False), (well, 20_000, True)])
def test_boards_equal_the_package_s(theirs, policy, steps, refilled):
    compare(theirs, policy, steps, refilled)


@pytest.mark.parametrize(("policy", "steps", "refilled"), [(at_random, 5_000, False), (well, 10_000, True)])
def test_some_boards_equal_the_package_s(theirs, policy, steps, refilled):
    compare(theirs, policy, steps, refilled)


def compare(theirs, policy, steps, refilled):
    """Plays so many steps in both, ended boards replaced by new ones; compares all that is seen, and the strike."""
    env, rng = MinAtarBreakout(), np.random.default_rng(0)
    states, others = env.reset(range(BOARDS)), [theirs(seed) for seed in range(BOARDS)]
    started, rows, refills = BOARDS, 0, 0
    while rows < steps:
        assert np.array_equal(env.observe(states), np.array([other.state() for other in others]))
        assert states.numbers[:, -1].tolist() == [other.env.strike for other in others]
        actions, before = policy(states, rng), states.bricks
        states, outcome = env.step(states, actions)
        told = [other.act(CODES[action]) for other, action in zip(others, actions, strict=True)]
        assert list(zip(outcome.reward.tolist(), outcome.terminated.tolist(), strict=True)) == told
        refills += int((states.bricks > before).sum())
        rows += BOARDS
        for i in np.flatnonzero(outcome.terminated):
            places = np.arange(BOARDS)
            places[i] = BOARDS
            states = type(states).concatenate([states, env.reset([started])]).take(places)
            others[i] = theirs(started)
            started += 1
    assert (refills > 0) == refilled


def test_it_keeps_the_protocol():
    for options in ({}, {"strike": True}):
        check_env(make("minatar-breakout", **options), processes=False)


def test_starts_are_those_of_seeds_and_there_are_two():
    seen = MinAtarBreakout().observe(MinAtarBreakout().reset(range(40)))
    assert len(np.unique(seen, axis=0)) == 2


def test_the_strike_is_a_channel_of_its_own_where_it_is_asked_for():
    plain, told = MinAtarBreakout(), MinAtarBreakout(strike=True)
    states, rng, struck = told.reset(range(BOARDS)), np.random.default_rng(1), 0
    for _ in range(60):
        seen, strike = told.observe(states), states.numbers[:, -1] == 1
        assert np.array_equal(seen[..., :4], plain.observe(states))
        assert np.array_equal(seen[..., 4], np.broadcast_to(strike[:, None, None], seen.shape[:3]))
        struck += strike.sum()
        states, _ = told.step(states, well(states, rng))
    assert struck
    assert (plain.channels, told.channels) == (CHANNELS[:4], CHANNELS)


def test_two_boards_that_look_alike_differ_by_the_strike():
    """What is hidden counts: with it the same step pays or not."""
    env = MinAtarBreakout()
    states = env.reset([0])
    board = states.numbers.copy()
    board[0] = [4, 4, 3, 5, 1, 0, 4, 0]  # a ball that flies up to a brick at (5, 3)
    free = type(states)(board.copy(), states.bricks, states.done)
    board[0, -1] = 1
    struck = type(states)(board, states.bricks, states.done)
    assert np.array_equal(env.observe(free), env.observe(struck))
    rewards = [env.step(one, [0])[1].reward[0] for one in (free, struck)]
    assert rewards == [1.0, 0.0]


def test_what_it_does_not_take_is_refused():
    env = MinAtarBreakout()
    with pytest.raises(ValueError, match="3"):
        env.step(env.reset([0]), [3])
    with pytest.raises(ValueError, match="one action sequence each"):
        env.rewards_along(env.reset([0]), [[0], [1]])
    with pytest.raises(UsageError, match="time_limit must be at least 1 step"):
        make("minatar-breakout", time_limit=0)
