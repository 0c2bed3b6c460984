"""The search probe: every simulated trajectory, replayed one by one, and where the visits went."""

import math
from dataclasses import replace

import brute
import numpy as np
import pandas as pd
import pytest
from agents import made_agent
from brute import TabularNetwork, wrong_network
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import rollout_key
from reference_rules import pi_bar_by_newton

from mzprobe.checkpoints import read_checkpoint, steps_of
from mzprobe.config import SearchConfig
from mzprobe.envs import TabularEnvironment, random_mdp
from mzprobe.envs.tabular import TabularStates
from mzprobe.probes.sampling import rollout_seed, sample_states
from mzprobe.probes.search_error import UNITS, matched, measure_search_error, trace
from mzprobe.search import Rollout, search
from mzprobe.seeding import numpy_generator
from mzprobe.settings import SearchErrorConfig
from mzprobe.sources.own import load_agent

COLUMNS = ["path_error", "trajectory_error", "step_error", "path_length", "tv", "kl", "curse"]


def one_state(rewards, *, actions):
    """An MDP of a single state with these rewards."""
    return TabularEnvironment(
        np.zeros((1, actions), int), [rewards], [False], starts=[0], gamma=0.5, time_limit=5, name="one"
    )


# Against plain Python


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    num_actions=st.integers(1, 3),
    horizon=st.integers(1, 5),
    simulations=st.lists(st.integers(1, 12), min_size=1, max_size=3),
)
def test_a_row_is_the_mean_over_the_trajectories_of_a_search_of_n_simulations(seed, num_actions, horizon, simulations):
    env = random_mdp(seed, num_states=6, num_actions=num_actions, terminal_fraction=0.3, time_limit=6)
    agent = made_agent(env, wrong_network(seed, 6, num_actions), simulations=4)
    config = SearchErrorConfig(states=4, episodes=2, simulations=simulations, horizon=horizon, seed=3)
    rows = measure_search_error(agent, config)
    assert list(rows.columns) == list(UNITS)
    sample = sample_states(env, agent.policy, states=4, episodes=2, generator=numpy_generator(0, "probe", 3))
    rollout = Rollout(horizon=horizon, seed=rollout_seed(agent, 3))
    asked = [(p, n, s) for p in ("policy", "uniform") for n in sorted(set(simulations)) for s in range(4)]
    assert list(rows[["prior", "simulations", "state"]].itertuples(index=False, name=None)) == asked
    for row in rows.itertuples():
        (expected, own), (_, other) = (
            brute.search_summary(
                env,
                agent.network,
                int(sample.states.index[row.state]),
                prior=prior,
                simulations=row.simulations,
                rollout=rollout,
                config=agent.policy.config,
            )
            for prior in (row.prior, {"policy": "uniform", "uniform": "policy"}[row.prior])
        )
        assert row.matched_error == pytest.approx(brute.matched_error(own, other), abs=1e-9, nan_ok=True)
        assert {name: getattr(row, name) for name in COLUMNS} == pytest.approx(expected, abs=1e-9)
        assert (row.episode, row.time) == (sample.episode[row.state], sample.time[row.state])


def test_an_error_that_grows_with_the_length_alone_is_the_same_at_matched_length():
    # Every step is wrong by 0.1; the first search goes deeper.
    deep, shallow = np.array([[3, 4, 4, 5]]), np.array([[1, 3, 3, 4]])
    errors = {"deep": 0.1 * deep, "shallow": 0.1 * shallow}
    assert errors["deep"].mean() > errors["shallow"].mean()
    found = matched(errors["deep"], deep, shallow), matched(errors["shallow"], shallow, deep)
    assert found[0].tolist() == found[1].tolist() == pytest.approx([0.35])  # one of three and one of four
    assert np.isnan(matched(errors["deep"], deep, 0 * deep + 9)).all()


def test_every_trajectory_of_a_kept_tree_is_scored_by_itself():
    env, network, _, sample = brute.case(8, num_actions=3)
    agent = made_agent(env, network)
    rollout, N = Rollout(horizon=4, seed=11), 25
    model = agent.planning_in("learned", prior="uniform", leaf=rollout)
    tree = search(model, env.observe(sample.states), config=SearchConfig(simulations=N), keep_tree=True).tree
    paths = trace(env, sample.states, tree, rollout)
    deepest = 0
    for b in range(5):
        root, nodes = brute.planned(
            env,
            network,
            b,
            model="learned",
            prior="uniform",
            config=SearchConfig(simulations=N),
            rollout=rollout,
        )
        key = rollout_key(env.observe(sample.states)[b], rollout.seed)
        for i, (path, rest) in enumerate(brute.simulated_actions(nodes, key, 4, 3)):
            deepest = max(deepest, len(path))
            errors = [brute.error_along(env, network, b, actions) for actions in (path[:4], path[:4] + rest)]
            found = [paths.value[b, i] - paths.predicted[b, i], paths.full_value[b, i] - paths.full_predicted[b, i]]
            assert np.abs(found) == pytest.approx(errors, abs=1e-12)
            assert paths.length[b, i] == min(len(path), 4)
            assert len(path[:4] + rest) == 4
            assert paths.root_action[b, i] == path[0]
        assert np.bincount(paths.root_action[b], minlength=3).tolist() == root.edge_visits
    assert deepest > 4


# By hand


def test_a_trajectory_runs_to_the_horizon_whatever_part_of_it_lies_in_the_tree():
    # One action, real reward 1, predicted 3: each step is wrong by 2, and the tree is a chain.
    agent = made_agent(one_state([1.0], actions=1), TabularNetwork([[0]], [[3.0]]))
    rows = measure_search_error(agent, SearchErrorConfig(states=1, simulations=(1, 2, 3, 5), horizon=3))
    by_n = rows[rows["prior"] == "policy"].set_index("simulations")
    path = [2.0, 3.0, 3.5, 3.5, 3.5]  # by simulation; the horizon cuts the last two
    assert by_n["path_error"].tolist() == pytest.approx([np.mean(path[:n]) for n in (1, 2, 3, 5)])
    assert by_n["path_length"].tolist() == pytest.approx([1, 1.5, 2, 2.4])
    assert by_n["trajectory_error"].tolist() == pytest.approx([3.5] * 4)
    assert by_n["tv"].tolist() == pytest.approx([0] * 4)
    assert by_n["kl"].tolist() == pytest.approx([0] * 4)


def test_errors_are_of_magnitude_before_they_are_averaged():
    # Action 0 is predicted 1 too high, action 1 as much too low; neither brings more in the model.
    env = one_state([0.0, 2.0], actions=2)
    agent = made_agent(env, TabularNetwork([[0, 0]], [[1.0, 1.0]]))
    rows = measure_search_error(agent, SearchErrorConfig(states=1, simulations=(2,), horizon=1))
    assert rows["path_error"].tolist() == [1.0, 1.0]
    assert rows["trajectory_error"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("simulations", "visits"),
    [(1, (1, 0)), (2, (2, 0)), (3, (3, 0)), (5, (4, 1))],
)
def test_the_policy_is_compared_with_one_more_than_the_visits(simulations, visits):
    # P = (0.8, 0.2) and all values equal: Q' is 0 after a visit, and the prior alone decides.
    policy = (0.8, 0.2)
    network = TabularNetwork([[0, 0]], [[0.0, 0.0]], [np.log(policy)])
    agent = made_agent(one_state([0.0, 0.0], actions=2), network)
    rows = measure_search_error(agent, SearchErrorConfig(states=1, simulations=(simulations,), horizon=2))
    own = rows[rows["prior"] == "policy"].iloc[0]
    pi_hat = [(1 + n) / (2 + simulations) for n in visits]
    assert own["tv"] == pytest.approx(abs(policy[0] - pi_hat[0]))
    assert own["kl"] == pytest.approx(sum(p * math.log(p / q) for p, q in zip(policy, pi_hat, strict=True)))


def test_the_policy_network_is_compared_whatever_prior_searched():
    # A uniform prior and equal values visit both actions alike: pi_hat is uniform, pi_theta is not.
    network = TabularNetwork([[0, 0]], [[0.0, 0.0]], [np.log([0.75, 0.25])])
    agent = made_agent(one_state([0.0, 0.0], actions=2), network)
    rows = measure_search_error(agent, SearchErrorConfig(states=1, simulations=(2, 6), horizon=1))
    own = rows[rows["prior"] == "uniform"]
    assert own["tv"].tolist() == pytest.approx([0.25, 0.25])
    assert own["kl"].tolist() == pytest.approx([0.75 * math.log(1.5) + 0.25 * math.log(0.5)] * 2)


def test_the_policy_network_is_compared_with_the_regularised_policy_too():
    # Rewards of 0 and 1 are known to the model and nothing follows: after both were tried, Q' is 0 and 1.
    policy = np.array([0.75, 0.25])
    network = TabularNetwork([[0, 0]], [[0.0, 1.0]], [np.log(policy)])
    agent = made_agent(one_state([0.0, 1.0], actions=2), network)
    rows = measure_search_error(agent, SearchErrorConfig(states=1, simulations=(4, 30), horizon=1))
    for row in rows.itertuples():
        searched = policy if row.prior == "policy" else np.array([0.5, 0.5])
        N = row.simulations
        strength = (1.25 + math.log((N + 19653) / 19652)) * math.sqrt(N) / (2 + N)
        expected = pi_bar_by_newton(searched, [0.0, 1.0], strength)
        assert row.tv_regularised == pytest.approx(np.abs(policy - expected).sum() / 2, rel=1e-5)
        assert row.kl_regularised == pytest.approx((policy * np.log(policy / expected)).sum(), rel=1e-5)


def test_where_the_model_sees_no_difference_the_regularised_policy_is_the_prior_of_the_search():
    network = TabularNetwork([[0, 0]], [[0.0, 0.0]], [np.log([0.75, 0.25])])
    agent = made_agent(one_state([0.0, 0.0], actions=2), network)
    rows = measure_search_error(agent, SearchErrorConfig(states=1, simulations=(2, 6), horizon=1)).set_index("prior")
    assert rows.loc["policy", "tv_regularised"].tolist() == pytest.approx([0, 0], abs=1e-7)
    assert rows.loc["uniform", "tv_regularised"].tolist() == pytest.approx([0.25, 0.25])


def test_what_follows_a_terminal_state_counts_as_the_models_alone():
    # The truth ends after one step of reward 1; the model predicts 1 for ever.
    env = TabularEnvironment([[1], [1]], [[1.0], [0.0]], [False, True], starts=[0], gamma=0.5, time_limit=5, name="end")
    agent = made_agent(env, TabularNetwork([[1], [1]], [[1.0], [1.0]]))
    rows = measure_search_error(agent, SearchErrorConfig(states=1, simulations=(1, 2), horizon=3))
    assert rows["path_error"].tolist() == pytest.approx([0, 0.25] * 2)
    assert rows["trajectory_error"].tolist() == pytest.approx([0.75, 0.75] * 2)


def test_an_agent_by_gumbels_rule_is_searched_by_puct_whose_visits_are_its_choice():
    network = TabularNetwork([[0, 0]], [[0.0, 1.0]], [np.log([0.75, 0.25])])
    agent = made_agent(one_state([0.0, 1.0], actions=2), network)
    by_gumbel = replace(agent, search=agent.search.model_copy(update={"rule": "gumbel"}))
    config = SearchErrorConfig(states=1, simulations=(4, 30), horizon=1)
    rows, expected = (measure_search_error(one, config) for one in (by_gumbel, agent))
    pd.testing.assert_frame_equal(rows, expected)
    assert rows["tv"].nunique() == len(rows)  # by the schedule of halving they would all be alike


# Numbers of simulations, checkpoints


def test_the_first_simulations_do_not_depend_on_those_that_follow(agent):
    loaded = load_agent(read_checkpoint(steps_of(agent)[2]))
    base = SearchErrorConfig(states=4, episodes=2, simulations=(2, 5, 9), horizon=4)
    whole = measure_search_error(loaded, base)
    for N in base.simulations:
        alone = measure_search_error(loaded, base.model_copy(update={"simulations": (N,)}))
        expected = whole[whole["simulations"] == N].reset_index(drop=True)
        pd.testing.assert_frame_equal(alone, expected, check_exact=True)


def test_a_measured_checkpoint_has_both_priors_and_every_n(agent):
    rows = measure_search_error(
        load_agent(read_checkpoint(steps_of(agent)[1])), SearchErrorConfig(states=5, simulations=(4, 2, 4))
    )
    assert rows.groupby(["prior", "simulations"]).size().to_dict() == {
        (prior, N): 5 for prior in ("policy", "uniform") for N in (2, 4)
    }
    assert rows.notna().all(axis=None)
    assert (rows["kl"] >= 0).all()
    assert rows["tv"].between(0, 1).all()
    assert rows["path_length"].between(1, rows["simulations"]).all()
    assert (set(rows["training_step"]), set(rows["temperature"])) == ({20}, {1.0})


def test_a_tree_of_one_simulation_is_one_step_and_a_rollout():
    env = random_mdp(5, num_states=6, num_actions=2, terminal_fraction=0)
    network = wrong_network(5, 6, 2)
    states = TabularStates(np.arange(6))
    agent, rollout = made_agent(env, network), Rollout(horizon=3, seed=1)
    model = agent.planning_in("learned", prior="policy", leaf=rollout)
    tree = search(model, env.observe(states), config=SearchConfig(simulations=1), keep_tree=True).tree
    paths = trace(env, states, tree, rollout)
    best = network.logits.argmax(dim=1).numpy()
    assert paths.root_action[:, 0].tolist() == best.tolist()
    assert paths.value[:, 0].tolist() == env.rewards[np.arange(6), best].tolist()
    assert paths.predicted[:, 0].tolist() == network.rewards.numpy()[np.arange(6), best].tolist()
