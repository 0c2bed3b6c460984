"""CartPole equals Gymnasium bit for bit, tables are what they say, and bad input is refused."""

import sys
import types

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mzprobe.envs import CartPole, TabularEnvironment, check_env, concatenate, make, random_mdp, registered
from mzprobe.envs.cartpole import CartPoleStates
from mzprobe.envs.core import EnvironmentSpec, rewards_along
from mzprobe.envs.tabular import TabularStates
from mzprobe.errors import UsageError

# CartPole against Gymnasium


def balancing(position, rng):
    """Keeps the pole up most of the time, so that long episodes and both kinds of end are met."""
    if rng.random() < 0.3:
        return int(rng.integers(2))
    return int(position[2] + 0.5 * position[3] > 0)


def drifting(position, rng):
    """Lets the cart run off the track with the pole up."""
    return int(position[2] + 0.3 * position[3] + 0.05 > 0)


def uniform(position, rng):
    return int(rng.integers(2))


@pytest.mark.parametrize(
    ("player", "episodes", "least_steps"),
    [(uniform, 500, 10_000), (balancing, 60, 15_000), (drifting, 30, 5_000)],
)
def test_cartpole_equals_gymnasium_bit_for_bit(player, episodes, least_steps):
    reference = gymnasium.make("CartPole-v1").unwrapped
    rng = np.random.default_rng(7)
    actions = np.zeros((300, episodes), dtype=np.int64)
    recorded = []
    for seed in range(episodes):
        observation, _ = reference.reset(seed=seed)
        rows = [(reference.state.copy(), observation, 0.0, False)]
        while not rows[-1][3] and len(rows) <= len(actions):
            action = player(reference.state, rng)
            actions[len(rows) - 1, seed] = action
            observation, reward, terminated, _, _ = reference.step(action)
            rows.append((reference.state.copy(), observation, reward, terminated))
        recorded.append(rows)

    env = CartPole()
    states = env.reset(range(episodes))
    reward, terminated = np.zeros(episodes), np.zeros(episodes, dtype=bool)
    compared = 0
    for t in range(len(actions) + 1):
        alive = [i for i in range(episodes) if t < len(recorded[i])]
        if not alive:
            break
        expected = [recorded[i][t] for i in alive]
        position = np.stack([row[0] for row in expected])
        observation = np.stack([row[1] for row in expected])
        assert states.position[alive].tobytes() == position.tobytes()
        assert env.observe(states)[alive].tobytes() == observation.tobytes()
        assert env.observe(states).dtype == observation.dtype == np.float32
        assert reward[alive].tolist() == [row[2] for row in expected]
        assert terminated[alive].tolist() == [row[3] for row in expected]
        compared += len(alive) * (t > 0)
        if t < len(actions):
            states, (reward, terminated, _) = env.step(states, actions[t])
    assert compared >= least_steps


def test_cartpole_reset_equals_gymnasium_for_large_seeds():
    reference = gymnasium.make("CartPole-v1").unwrapped
    seeds = [2**31, 2**32 + 5, 2**63 - 1]
    for position, seed in zip(CartPole().reset(seeds).position, seeds, strict=True):
        reference.reset(seed=seed)
        assert position.tobytes() == reference.state.tobytes()


def test_cartpole_states_are_read_only():
    env = CartPole()
    states, _ = env.step(env.reset([0, 1]), [0, 1])
    with pytest.raises(ValueError, match="read-only"):
        states.position[0, 0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        env.terminal(states)[0] = True


def test_an_empty_batch_passes_through():
    env = CartPole()
    states, outcome = env.step(env.reset([]), [])
    assert len(states) == len(outcome.reward) == len(states.take([])) == 0
    assert env.observe(states).shape == (0, 4)


@pytest.mark.parametrize("name", registered())
@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([0, 4], r"actions must lie in 0\.\.[123], not 4"),
        ([-1, 0], r"actions must lie in 0\.\.[123], not -1"),
        ([0], "2 states, 1 actions"),
        ([0.0, 1.0], "actions must be integers"),
        ([[0, 1]], "actions must be integers of shape"),
    ],
)
def test_bad_actions_are_refused(name, actions, message):
    env = make(name)
    with pytest.raises(ValueError, match=message):
        env.step(env.reset([0, 1]), actions)


def stepped(env, states, actions):
    """Rewards along actions `[B, T]` by so many calls of `step`, and how many rows have ended by then."""
    rewards = np.zeros(actions.shape)
    for t in range(actions.shape[1]):
        states, outcome = env.step(states, actions[:, t])
        rewards[:, t] = outcome.reward
    return rewards, env.terminal(states).sum()


@pytest.mark.parametrize(("T", "least_ends", "most_ends"), [(0, 7, 7), (1, 7, 7), (60, 200, 207)])
def test_rewards_along_are_those_of_stepping_past_the_end_too(T, least_ends, most_ends):
    env = CartPole()
    alive = env.reset(range(200))
    over = CartPoleStates(np.full((7, 4), 3.0), np.ones(7, dtype=bool))
    states = concatenate([alive, over])
    actions = np.random.default_rng(T).integers(2, size=(207, T))
    position = states.position.copy()
    expected, ends = stepped(env, states, actions)
    assert env.rewards_along(states, actions).tobytes() == expected.tobytes()
    assert rewards_along(env, states, actions).tobytes() == expected.tobytes()
    assert states.position.tobytes() == position.tobytes()
    assert (expected[200:] == 0).all()
    assert least_ends <= ends <= most_ends


def test_an_environment_without_rewards_along_is_stepped():
    env = random_mdp(3, num_states=6, num_actions=3, terminal_fraction=0.4)
    states = env.reset(range(30))
    actions = np.random.default_rng(0).integers(3, size=(30, 3))
    expected, ends = stepped(env, states, actions)
    assert rewards_along(env, states, actions).tobytes() == expected.tobytes()
    assert 0 < ends < 30


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([[0, 1]], "2 states need one action sequence each"),
        ([0, 1], "2 states need one action sequence each"),
        ([[[0]], [[1]]], "2 states need one action sequence each"),
        ([[0, 2], [0, 1]], r"actions must lie in 0\.\.1, not 2"),
        ([[0.0], [1.0]], "actions must be integers"),
    ],
)
def test_rewards_along_bad_sequences_are_refused(actions, message):
    env = CartPole()
    with pytest.raises(ValueError, match=message):
        env.rewards_along(env.reset([0, 1]), actions)


@pytest.mark.parametrize(("seeds", "message"), [([-1], r"0\.\.2\^63 - 1, not -1"), ([0.5], "integers"), (3, "shape")])
def test_bad_seeds_are_refused(seeds, message):
    with pytest.raises(ValueError, match=message):
        CartPole().reset(seeds)


def test_a_mask_is_not_taken_for_indices():
    with pytest.raises(ValueError, match="indices must be integers"):
        CartPole().reset([0, 1]).take([True, False])


def test_concatenate_refuses_nothing():
    with pytest.raises(ValueError, match="at least one"):
        concatenate([])


# Tabular MDPs

SIZES = st.fixed_dictionaries(
    {
        "num_states": st.integers(1, 12),
        "num_actions": st.integers(1, 4),
        "terminal_fraction": st.floats(0, 1),
        "gamma": st.floats(0.1, 0.99),
    }
)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32), sizes=SIZES)
def test_random_mdp_keeps_the_protocol(seed, sizes):
    env = random_mdp(seed, **sizes)
    check_env(env, steps=12, processes=False)
    again = random_mdp(seed, **sizes)
    for name in ("transitions", "rewards", "terminal_states", "starts"):
        assert getattr(env, name).tobytes() == getattr(again, name).tobytes()
    assert not env.terminal(env.reset(range(20))).any()
    assert (env.rewards[env.terminal_states] == 0).all()


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32), sizes=SIZES)
def test_exact_values_solve_their_bellman_equations(seed, sizes):
    env = random_mdp(seed, **sizes)
    gamma = env.spec.gamma
    optimal = env.optimal_values()
    backed_up = (env.rewards + gamma * optimal[env.transitions]).max(axis=1)
    np.testing.assert_allclose(backed_up, optimal, atol=1e-9)
    assert (optimal[env.terminal_states] == 0).all()
    policy = np.random.default_rng(seed).dirichlet(np.ones(env.spec.num_actions), len(optimal))
    values = env.policy_values(policy)
    backed_up = (policy * (env.rewards + gamma * values[env.transitions])).sum(axis=1)
    np.testing.assert_allclose(backed_up, values, atol=1e-9)
    assert (values <= optimal + 1e-9).all()


def chain(**changes):
    """0 -> 1 -> 2 (terminal) by action 0, stay by action 1; reward 1 for the last step."""
    tables = {
        "transitions": [[1, 0], [2, 1], [0, 1]],
        "rewards": [[0.0, 0.0], [1.0, 0.0], [9.0, 9.0]],
        "terminal": [False, False, True],
        "starts": [0],
        "gamma": 0.5,
        "time_limit": 10,
        "name": "chain",
    }
    return TabularEnvironment(**(tables | changes))


def test_terminal_rows_are_made_absorbing():
    env = chain()
    assert env.transitions[2].tolist() == [2, 2]
    assert env.rewards[2].tolist() == [0.0, 0.0]
    states, outcome = env.step(TabularStates(np.array([0, 1, 2])), [0, 0, 0])
    assert states.index.tolist() == [1, 2, 2]
    assert outcome.reward.tolist() == [0.0, 1.0, 0.0]
    assert outcome.terminated.tolist() == [False, True, True]
    assert env.observe(states).tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 1]]
    assert env.optimal_values().tolist() == [0.5, 1.0, 0.0]


def test_tables_are_copied_and_read_only():
    transitions = np.array([[0, 0]])
    env = chain(transitions=transitions, rewards=[[0.0, 1.0]], terminal=[False])
    transitions[0, 0] = 5
    assert env.transitions.tolist() == [[0, 0]]
    with pytest.raises(ValueError, match="read-only"):
        env.rewards[0, 0] = 2.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transitions": [[1, 0], [3, 1], [0, 1]]}, r"transitions must lie in 0\.\.2"),
        ({"rewards": [[0.0, 0.0]]}, "must both be"),
        ({"rewards": [[0.0, np.inf], [1.0, 0.0], [9.0, 9.0]]}, "finite"),
        ({"terminal": [False]}, "terminal must be"),
        ({"starts": []}, "at least one"),
        ({"starts": [2]}, "must not be terminal"),
        ({"gamma": 1.5}, "gamma must lie"),
        ({"time_limit": 0}, "time_limit"),
    ],
)
def test_bad_tables_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        chain(**changes)


def test_exact_values_need_a_discount():
    with pytest.raises(ValueError, match="gamma < 1"):
        chain(gamma=1.0).optimal_values()


# make


def test_make_passes_options_on():
    assert make("cartpole", gamma=0.9, time_limit=7).spec.time_limit == 7
    assert make("tabular", seed=3, num_states=5).spec.observation_shape == (5,)


def test_make_imports_a_factory(monkeypatch):
    module = types.ModuleType("my_envs")
    module.Mine = CartPole
    monkeypatch.setitem(sys.modules, "my_envs", module)
    assert make("my_envs:Mine", gamma=0.5).spec.gamma == 0.5
    with pytest.raises(UsageError, match="no callable 'Mien', did you mean 'Mine'"):
        make("my_envs:Mien")
    with pytest.raises(UsageError, match="cannot import 'no_such_module'"):
        make("no_such_module:Mine")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cartpool", {}, "no environment 'cartpool', did you mean 'cartpole'.*cartpole, lunarlander, minatar-br"),
        ("xyz", {}, "no environment 'xyz'; known are"),
        ("cartpole", {"gama": 0.9}, "no option 'gama', did you mean 'gamma'"),
        ("cartpole", {"gamma": 2.0}, r"gamma=2\.0: gamma must lie in \(0, 1\]"),
        ("cartpole", {"gamma": "high"}, "cannot be made with gamma='high'"),
        ("mzprobe.envs:TabularEnvironment", {}, "needs the option 'transitions'"),
        (":CartPole", {}, "cannot import ''"),
    ],
)
def test_make_says_what_was_wrong(name, options, message):
    with pytest.raises(UsageError, match=message):
        make(name, **options)


def test_actions_without_names_are_called_by_their_numbers():
    spec = EnvironmentSpec(name="mine", observation_shape=(2,), num_actions=3, gamma=0.9, time_limit=5)
    assert (spec.action_meanings, spec.source) == (("0", "1", "2"), "")
