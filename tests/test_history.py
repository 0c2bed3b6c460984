import numpy as np
import pytest

from mzprobe.envs import CartPole, check_env
from mzprobe.envs.history import HistoryEnvironment


def test_the_environment_keeps_the_protocol():
    check_env(HistoryEnvironment(CartPole(), 4))


def test_the_newest_observation_comes_first_and_each_has_the_action_before_it():
    env = CartPole(time_limit=20)
    shown = HistoryEnvironment(env, 3)
    assert shown.spec.observation_shape == (15,)
    assert "latest 3 observations" in shown.spec.source
    plain, states = env.reset([4, 5]), shown.reset([4, 5])
    kept = [np.concatenate([env.observe(plain), np.full((2, 1), 0.5, np.float32)], axis=1)] * 3
    for actions in ([0, 1], [1, 1], [1, 0], [0, 0]):
        plain, outcome = env.step(plain, actions)
        states, seen = shown.step(states, actions)
        written = ((np.array(actions) + 1) / 2).astype(np.float32)[:, None]
        kept = [np.concatenate([env.observe(plain), written], axis=1), *kept[:2]]
        assert (shown.observe(states) == np.concatenate(kept, axis=1)).all()
        assert (outcome.reward == seen.reward).all()


def test_a_branch_has_a_past_of_its_own_and_an_end_stays():
    shown = HistoryEnvironment(CartPole(), 2)
    start = shown.reset([0])
    before = shown.observe(start).copy()
    left, _ = shown.step(start, [0])
    right, _ = shown.step(start, [1])
    assert (shown.observe(start) == before).all()
    assert not np.array_equal(shown.observe(left), shown.observe(right))
    states = shown.reset([0])
    for _ in range(40):
        states, _ = shown.step(states, [0])
    assert shown.terminal(states).all()
    ended = shown.observe(states)
    states, outcome = shown.step(states, [1])
    assert (shown.observe(states) == ended).all()
    assert outcome.reward == 0


def test_rewards_along_are_those_of_the_environment():
    env, shown = CartPole(), HistoryEnvironment(CartPole(), 2)
    actions = np.zeros((2, 15), np.int64)
    assert (shown.rewards_along(shown.reset([1, 2]), actions) == env.rewards_along(env.reset([1, 2]), actions)).all()


@pytest.mark.parametrize("length", [0, -1])
def test_a_history_of_nothing_is_refused(length):
    with pytest.raises(ValueError, match="at least 1 observation"):
        HistoryEnvironment(CartPole(), length)
