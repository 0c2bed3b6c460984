"""The equivalence probe equals plain enumeration; its exact columns are those of the exact module."""

import brute
import numpy as np
import pytest
from agents import made_agent
from brute import TabularNetwork, TabularPolicy, case, random_policy
from hypothesis import given, settings
from hypothesis import strategies as st
from models import random_network

from mzprobe.checkpoints import read_checkpoint, steps_of
from mzprobe.envs import TabularEnvironment, random_mdp
from mzprobe.probes.equivalence import UNITS, largest_order, measure_equivalence
from mzprobe.probes.exact import greedy_regret, proper_errors, proper_errors_of_all_policies
from mzprobe.probes.model_tables import along_real_states, tables_of_network
from mzprobe.probes.sampling import draw_states
from mzprobe.seeding import numpy_generator
from mzprobe.settings import EquivalenceConfig
from mzprobe.sources.own import load_agent

EXACT = ["proper_error", "proper_error_all", "greedy_regret"]


def tabular_agents(seed, *, num_actions=2):
    """Two checkpoints of an agent in a random MDP, with wrong models and one policy."""
    env, network, policy, _ = case(seed, num_actions=num_actions)
    other = brute.wrong_network(seed + 1, 5, num_actions)
    return [made_agent(env, own, policy=policy, step=step, unroll_steps=2) for step, own in ((0, network), (20, other))]


def assert_rows_equal_brute_force(rows, agents, paths_of):
    """Every row against the sequences `paths_of(state, k)`."""
    env, network = agents[0].environment, agents[0].network
    values = {agent.origin.training_step: agent.network.values.tolist() for agent in agents}
    for row in rows.itertuples():
        paths = paths_of(row.state, row.k)
        rewards, bootstrap, magnitude = brute.bellman_parts(env, network, paths, row.k, values[row.value_step])
        assert row.reward_part == pytest.approx(rewards, rel=0, abs=1e-9)
        assert row.bootstrap_part == pytest.approx(bootstrap, rel=0, abs=1e-9)
        assert row.signed_error == pytest.approx(rewards + bootstrap, rel=0, abs=1e-9)
        assert row.error == abs(row.signed_error)
        assert row.sequence_error == pytest.approx(magnitude, rel=0, abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), num_actions=st.integers(1, 3), largest=st.integers(1, 4))
def test_every_order_equals_the_enumeration_of_all_sequences(seed, num_actions, largest):
    agents = tabular_agents(seed, num_actions=num_actions)
    rows = measure_equivalence(agents[0], EquivalenceConfig(horizon=largest), agents)
    expected = [[step, s, k] for step in (0, 20) for s in range(5) for k in range(largest + 1)]
    assert rows[["value_step", "state", "k"]].to_numpy().tolist() == expected
    assert rows["exact"].all()

    def paths_of(state, k):
        return brute.all_paths(agents[0].environment, agents[0].network, agents[0].policy, state, k)

    assert_rows_equal_brute_force(rows, agents, paths_of)


def test_sampled_orders_equal_the_average_of_the_same_sequences():
    agents = tabular_agents(3, num_actions=3)
    config = EquivalenceConfig(horizon=4, enumerate_up_to=0, sequences=12, seed=5)
    rows = measure_equivalence(agents[0], config, agents)
    uniforms = numpy_generator(0, "probe", 5).random((5, 12, 4))
    assert not rows["exact"].any()

    def paths_of(state, k):
        env, network, policy = agents[0].environment, agents[0].network, agents[0].policy
        return brute.drawn_paths(env, network, policy, state, uniforms[state, :, :k])

    assert_rows_equal_brute_force(rows, agents, paths_of)


def test_the_parts_of_a_step_by_hand():
    # State 0 pays 1 and leads to the end. The model expects 3, and then a state worth 8; state 0 is worth 2 to it.
    env = TabularEnvironment([[1], [1]], [[1.0], [0.0]], [False, True], starts=[0], gamma=0.5, time_limit=9, name="end")
    network = TabularNetwork([[1], [1]], [[3.0], [0.5]], values=[2.0, 8.0])
    agent = made_agent(env, network, policy=TabularPolicy(np.ones((2, 1))))
    rows = measure_equivalence(agent, EquivalenceConfig(horizon=2), [agent])
    first = rows[rows["state"] == 0]
    assert first["k"].tolist() == [0, 1, 2]
    assert first["reward_part"].tolist() == [0.0, 2.0, 2.25]
    assert first["bootstrap_part"].tolist() == [0.0, 4.0, 2.0]
    assert first["error"].tolist() == [0.0, 6.0, 4.25]
    # The end is worth 0, whatever the head says of it.
    assert rows.loc[rows["state"] == 1, "bootstrap_part"].tolist() == [8.0, 4.0, 2.0]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_table_has_the_exact_numbers_beside_it(seed):
    agents = tabular_agents(seed)
    env, network = agents[0].environment, agents[0].network
    rows = measure_equivalence(agents[0], EquivalenceConfig(horizon=1), agents)
    model = tables_of_network(env, network)
    paired = along_real_states(env, model)
    policy = agents[0].policy.probabilities[None]
    expected = {
        "proper_error": proper_errors(env, paired, policy)[0],
        "proper_error_all": proper_errors_of_all_policies(env, paired),
        "greedy_regret": greedy_regret(env, model),
    }
    for name, column in expected.items():
        assert rows[name].tolist() == [column[state] for state in rows["state"]]
    assert rows["proper_error"].max() > 0


def test_what_cannot_be_had_exactly_is_missing():
    env = random_mdp(2, num_states=20, num_actions=2)
    policy = random_policy(2, 20, 2)
    many = made_agent(env, brute.wrong_network(2, 20, 2), policy=policy)
    rows = measure_equivalence(many, EquivalenceConfig(horizon=1), [many])
    assert rows["proper_error_all"].isna().all()  # 2^20 policies
    assert rows[["proper_error", "greedy_regret"]].notna().all(axis=None)
    endless = made_agent(env, random_network(0, observation_size=20), policy=policy)
    rows = measure_equivalence(endless, EquivalenceConfig(horizon=1), [endless])
    assert rows[EXACT].isna().all(axis=None)
    undiscounted = random_mdp(2, num_states=5, num_actions=2, gamma=1.0)
    agent = made_agent(undiscounted, brute.wrong_network(2, 5, 2), policy=random_policy(2, 5, 2))
    assert measure_equivalence(agent, EquivalenceConfig(horizon=1), [agent])[EXACT].isna().all(axis=None)


def test_a_measured_checkpoint_has_every_order_at_states_that_it_visits(agent):
    own, other = (load_agent(read_checkpoint(steps_of(agent)[i])) for i in (1, 2))
    config = EquivalenceConfig(states=4, episodes=2)
    rows = measure_equivalence(own, config, [own, other])
    assert list(rows.columns) == list(UNITS)
    assert largest_order(own, config) == 6  # twice K
    sample, _ = draw_states(own, config)
    places = rows[["state", "episode", "time"]].drop_duplicates().to_numpy().T.tolist()
    assert places == [[0, 1, 2, 3], sample.episode.tolist(), sample.time.tolist()]
    assert set(rows["k"]) == set(range(7))
    assert set(rows["value_step"]) == {20, 40}
    assert (set(rows["training_step"]), set(rows["temperature"])) == ({20}, {1.0})
    assert rows[EXACT].isna().all(axis=None)
    # At k = 0 nothing has happened: the own head knows itself, that of another step does not.
    start = rows[rows["k"] == 0].set_index("value_step")
    assert (start.loc[20, "error"] == 0).all()
    assert (start.loc[40, "error"] > 0).all()
    # Rewards do not depend on the head.
    parts = [rows.loc[rows["value_step"] == step, "reward_part"].tolist() for step in (20, 40)]
    assert parts[0] == parts[1]
