"""The improvement probe: what the search plays, valued by following the policy network in the truth."""

import brute
import numpy as np
import pytest
from agents import made_agent
from brute import TabularNetwork, small_mdp, wrong_network
from hypothesis import given, settings
from hypothesis import strategies as st

from mzprobe.behaviour import PriorPolicy, action_values
from mzprobe.envs import TabularEnvironment
from mzprobe.envs.tabular import TabularStates
from mzprobe.probes.improvement import UNITS, measure_improvement
from mzprobe.probes.sampling import draw_states, rollout_seed
from mzprobe.search import Rollout
from mzprobe.settings import ImprovementConfig

CELL = ["model", "prior", "leaf", "simulations"]


def valued(env, network, state, action, steps):
    """Discounted return of an action and then the network's likeliest ones, step by step."""
    best = network.logits.argmax(dim=1).tolist()
    total = 0.0
    for t in range(steps):
        if env.terminal_states[state]:
            break
        total += env.spec.gamma**t * env.rewards[state, action]
        state = int(env.transitions[state, action])
        action = best[state]
    return total


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**20), num_actions=st.integers(1, 3), steps=st.sampled_from([None, 1, 4, 40]))
def test_every_row_is_a_plain_search_valued_step_by_step(seed, num_actions, steps):
    env = small_mdp(seed, num_actions=num_actions)
    agent = made_agent(env, wrong_network(seed, 6, num_actions), temperature=0.5)
    config = ImprovementConfig(states=4, episodes=2, simulations=(1, 7), horizon=3, steps=steps, seed=2)
    rows = measure_improvement(agent, config)
    assert list(rows.columns) == list(UNITS)
    states = draw_states(agent, config)[0].states.index
    rollout = Rollout(horizon=3, seed=rollout_seed(agent, 2))
    best = agent.network.logits.argmax(dim=1).tolist()  # random numbers: no two are equal
    for row in rows.to_dict("records"):
        state = int(states[row["state"]])
        values = [valued(env, agent.network, state, a, steps or 6) for a in range(num_actions)]
        root, _ = brute.planned(
            env,
            agent.network,
            state,
            model=row["model"],
            prior=row["prior"],
            config=agent.policy.config.model_copy(update={"simulations": row["simulations"]}),
            rollout=rollout if row["leaf"] == "rollout" else None,
        )
        played = np.dot(brute.visit_policy(root, 0), values)
        assert row["search_value"] == pytest.approx(played, rel=0, abs=1e-12)
        assert row["prior_value"] == pytest.approx(values[best[state]], rel=0, abs=1e-12)
        assert row["best_value"] == pytest.approx(max(values), rel=0, abs=1e-12)
        assert row["improvement"] == row["search_value"] - row["prior_value"]
    assert len(rows) == 2 * 2 * 2 * 2 * 4
    assert len(rows[CELL].drop_duplicates()) == 16


def test_long_returns_are_the_solution_of_the_bellman_equation():
    env, network = small_mdp(3), wrong_network(3, 6, 2)
    v = env.policy_values(np.eye(2)[network.logits.argmax(dim=1)])
    q = env.rewards + env.spec.gamma * np.where(env.terminal_states, 0.0, v)[env.transitions]
    alive = np.flatnonzero(~env.terminal_states)
    policy = PriorPolicy(environment=env, evaluate=made_agent(env, network).evaluate, temperature=0.0)
    found = action_values(env, policy, TabularStates(alive), uniforms=np.zeros((len(alive), 2000)))
    np.testing.assert_allclose(found, q[alive], rtol=0, atol=1e-9)


def two_ways(better):
    """One state; one of two actions pays 1 each time."""
    rewards = [[0.0, 0.0]]
    rewards[0][better] = 1.0
    return TabularEnvironment(
        np.zeros((1, 2), int), rewards, [False], starts=[0], gamma=0.5, time_limit=8, name="two ways"
    )


def test_a_search_that_finds_the_better_action_improves_by_what_that_pays():
    env = two_ways(1)  # while the network likes the other one
    agent = made_agent(env, TabularNetwork([[0, 0]], [[0.0, 1.0]], [[2.0, 0.0]]))
    rows = measure_improvement(agent, ImprovementConfig(states=3, episodes=1, simulations=(40,), horizon=2))
    assert set(rows["prior_value"]) == {0.0}
    assert set(rows["search_value"]) == set(rows["best_value"]) == {1.0}
    assert set(rows["improvement"]) == {1.0}


def test_a_wrong_model_makes_it_worse_where_the_true_one_changes_nothing():
    env = two_ways(0)
    agent = made_agent(env, TabularNetwork([[0, 0]], [[0.0, 1.0]], [[2.0, 0.0]]))
    config = ImprovementConfig(states=3, episodes=1, simulations=(40,), horizon=2)
    improvement = measure_improvement(agent, config).groupby("model")["improvement"].unique()
    assert improvement["true"].tolist() == [0.0]
    assert improvement["learned"].tolist() == [-1.0]


def test_a_return_is_not_cut_where_the_episode_would_be():
    env = two_ways(0)
    agent = made_agent(env, TabularNetwork([[0, 0]], [[1.0, 0.0]], [[2.0, 0.0]]))
    rows = measure_improvement(agent, ImprovementConfig(states=8, episodes=1, simulations=(2,)))
    assert rows["time"].max() == 7  # of 8 steps
    assert set(rows["prior_value"]) == {2 - 0.5**7}  # 8 steps from there on


def test_all_actions_of_a_state_see_the_same_numbers_in_whatever_portion(monkeypatch):
    env = small_mdp(5, num_actions=3)
    agent = made_agent(env, wrong_network(5, 6, 3))
    states, uniforms = env.reset(np.arange(7)), np.random.default_rng(0).random((7, 5))
    whole = action_values(env, agent.prior, states, uniforms=uniforms)
    monkeypatch.setattr(env, "side_by_side", 4, raising=False)
    np.testing.assert_array_equal(action_values(env, agent.prior, states, uniforms=uniforms), whole)
    for b in range(7):
        alone = action_values(env, agent.prior, states.take(np.array([b])), uniforms=uniforms[[b]])
        np.testing.assert_array_equal(alone[0], whole[b])


def test_the_same_states_are_drawn_in_whatever_portions_episodes_are_played(monkeypatch):
    env = small_mdp(5, num_actions=3)
    agent = made_agent(env, wrong_network(5, 6, 3))
    config = ImprovementConfig(states=9, episodes=7)
    whole, _ = draw_states(agent, config)
    assert (np.diff(whole.time) >= 0).all()
    for portion in (1, 2, 4):
        monkeypatch.setattr(env, "side_by_side", portion, raising=False)
        parts, _ = draw_states(agent, config)
        np.testing.assert_array_equal(parts.time, whole.time)
        np.testing.assert_array_equal(parts.episode, whole.episode)
        np.testing.assert_array_equal(parts.states.index, whole.states.index)


def test_an_agent_that_was_never_unrolled_searches_the_true_model_alone():
    env = small_mdp(1)
    agent = made_agent(env, wrong_network(1, 6, 2), unroll_steps=0)
    rows = measure_improvement(agent, ImprovementConfig(states=2, episodes=1, simulations=(2,)))
    assert set(rows["model"]) == {"true"}
