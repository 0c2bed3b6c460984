"""The cross-matrix: the model and the states of one checkpoint, the policy of another, however the columns come."""

from dataclasses import replace

import brute
import numpy as np
import pandas as pd
import pytest
from agents import made_agent
from brute import TabularPolicy, case, random_policy, wrong_network
from hypothesis import given, settings
from hypothesis import strategies as st

from mzprobe.behaviour import draw_episode_numbers
from mzprobe.checkpoints import read_checkpoint, steps_of
from mzprobe.compute import MEMORY
from mzprobe.envs import random_mdp
from mzprobe.envs.tabular import TabularStates
from mzprobe.probes.cross import UNITS, measure_cross
from mzprobe.probes.horizon import measure_horizon, score_tree
from mzprobe.probes.prefixes import PrefixTree
from mzprobe.probes.sampling import sample_states
from mzprobe.seeding import numpy_generator
from mzprobe.settings import CrossConfig, HorizonConfig
from mzprobe.sources.own import load_agent

ENUMERATED = CrossConfig(states=6, episodes=4, horizon=3, seed=5)
SAMPLED = ENUMERATED.model_copy(update={"enumerate_up_to": 0, "sequences": 7})
MODES = pytest.mark.parametrize("config", [ENUMERATED, SAMPLED], ids=["enumerated", "sampled"])


def checkpoints(seed, *, num_actions=2, zeros=False, memory=MEMORY):
    """Three checkpoints of an agent in a random MDP: other wrong models, other policies."""
    env = random_mdp(seed, num_states=6, num_actions=num_actions, terminal_fraction=0.3)
    return [
        made_agent(
            env,
            wrong_network(seed + 10 * step, 6, num_actions),
            policy=random_policy(seed + 100 * step, 6, num_actions, zeros=zeros),
            step=step,
            memory=memory,
        )
        for step in (0, 20, 40)
    ]


@pytest.fixture
def loaded(agent):
    """The trained agent's three checkpoints."""
    return [load_agent(read_checkpoint(path)) for path in steps_of(agent)]


def states_of_row(agent, config):
    """Where the row's states lie, by episodes of its own policy one after the other, and the numbers drawn next."""
    env = agent.environment
    generator = numpy_generator(0, "probe", config.seed)
    sample = sample_states(env, agent.policy, states=config.states, episodes=config.episodes, generator=generator)
    draws = generator.random((config.states, config.sequences, config.horizon))
    seeds, uniforms = draw_episode_numbers(
        numpy_generator(0, "probe", config.seed), config.episodes, env.spec.time_limit
    )
    episodes = [
        brute.played(env, lambda s: agent.policy.probabilities[s], *own)
        for own in zip(env.reset(seeds).index, uniforms, strict=True)
    ]
    return [episodes[e].states[t] for e, t in zip(sample.episode, sample.time, strict=True)], draws


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    num_actions=st.integers(2, 3),
    zeros=st.booleans(),
    row=st.integers(0, 2),
    exact=st.booleans(),
)
def test_a_cell_is_the_policy_of_y_in_the_model_and_at_the_states_of_x(seed, num_actions, zeros, row, exact):
    agents = checkpoints(seed, num_actions=num_actions, zeros=zeros)
    x, config = agents[row], ENUMERATED if exact else SAMPLED
    rows = measure_cross(x, config, agents)
    states, draws = states_of_row(x, config)
    assert len(rows) == 3 * 6
    for cell in rows.itertuples():
        (y,) = [other for other in agents if other.origin.training_step == cell.policy_step]
        state = states[cell.state]
        if exact:
            paths = brute.all_paths(x.environment, x.network, y.policy, state, 3)
        else:
            paths = brute.drawn_paths(x.environment, x.network, y.policy, state, draws[cell.state])
        for column, expected in brute.summary(paths).items():
            assert abs(getattr(cell, column) - expected) <= 1e-12, (column, cell.state, cell.policy_step)
        tv = np.abs(x.policy.probabilities[state] - y.policy.probabilities[state]).sum() / 2
        assert (cell.tv, cell.tv_at_1) == (pytest.approx(tv, abs=1e-12), pytest.approx(tv, abs=1e-12))
        assert (cell.training_step, cell.h, cell.exact) == (x.origin.training_step, 3, exact)


@MODES
@pytest.mark.parametrize("trained_agents", [False, True])
def test_the_diagonal_is_the_horizon_probe_at_its_last_h(config, trained_agents, loaded):
    agents = loaded if trained_agents else checkpoints(0)
    settings_of_horizon = HorizonConfig(**config.model_dump())
    for x in agents:
        cross = measure_cross(x, config, agents)
        own = cross[cross["policy_step"] == x.origin.training_step].reset_index(drop=True)
        whole = measure_horizon(x, settings_of_horizon)
        last = whole[whole["h"] == 3].reset_index(drop=True)
        pd.testing.assert_frame_equal(own[list(last.columns)], last, check_exact=True)
        assert (own["policy_temperature"] == own["temperature"]).all()


@MODES
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize("memory", [1, 60_000, MEMORY])
def test_columns_asked_one_by_one_have_the_bytes_of_those_asked_together(config, order, memory):
    whole = measure_cross(checkpoints(1)[1], config, checkpoints(1))
    agents = checkpoints(1, memory=memory)
    parts = [measure_cross(agents[1], config, [agents[column]]) for column in order]
    joined = pd.concat(parts).sort_values(["policy_step", "policy_temperature", "state"], ignore_index=True)
    pd.testing.assert_frame_equal(joined, whole, check_exact=True)
    together = measure_cross(agents[1], config, [agents[column] for column in order])
    pd.testing.assert_frame_equal(together, whole, check_exact=True)


def test_a_row_has_its_own_temperature_and_a_column_its_own():
    env = random_mdp(2, num_states=6)
    agents = [
        made_agent(env, wrong_network(step + 5, 6, 2), step=step, temperature=T, simulations=30)
        for step, T in ((0, 1.0), (20, 0.25))
    ]
    rows = measure_cross(agents[0], ENUMERATED, agents[::-1])
    assert list(rows.columns) == list(UNITS)
    assert set(rows["temperature"]) == {1.0}
    pairs = rows[["policy_step", "policy_temperature"]].drop_duplicates().to_numpy().tolist()
    assert pairs == [[0, 1.0], [20, 0.25], [20, 1.0]]
    own, at_1 = (rows[(rows["policy_step"] == 20) & (rows["policy_temperature"] == T)] for T in (0.25, 1.0))
    alone = measure_cross(agents[0], ENUMERATED, [replace(agents[1], temperature=1.0)])
    assert own["own_temperature"].all()
    assert not at_1["own_temperature"].any()
    columns = [name for name in UNITS if name not in ("tv", "own_temperature")]
    pd.testing.assert_frame_equal(at_1[columns].reset_index(drop=True), alone[columns], check_exact=True)
    assert (own["predicted_value"].to_numpy() != at_1["predicted_value"].to_numpy()).any()
    assert own["tv_at_1"].tolist() == at_1["tv_at_1"].tolist()
    there = TabularStates(np.arange(6))
    seen = agents[0].policy.distribution(there), agents[1].policy.distribution(there)
    distances = (np.abs(seen[0] - seen[1]).sum(axis=1) / 2).tolist()
    assert set(own["tv"]) <= set(distances)


def test_the_columns_of_a_row_differ_at_the_same_states(loaded):
    rows = measure_cross(loaded[2], ENUMERATED.model_copy(update={"horizon": None}), loaded)
    assert set(rows["h"]) == {3}  # the unroll length of training
    predicted = rows.pivot_table(index=["state", "episode", "time"], columns="policy_step", values="predicted_value")
    assert predicted.shape == (6, 3)
    assert (predicted[40] - predicted[0]).abs().max() > 1e-6


def test_policies_that_walk_one_tree_share_what_it_holds():
    env, network, _, sample = case(3, num_actions=3)
    tree = PrefixTree(env, network, sample.states)
    chosen = np.arange(5)

    def grown_by(policy):
        before = len(tree.root)
        score_tree(tree, policy, sample, chosen, horizon=3, uniforms=None)
        return len(tree.root) - before

    leftmost = TabularPolicy(np.tile([1.0, 0.0, 0.0], (5, 1)))
    assert grown_by(leftmost) == 5 * 3
    assert grown_by(random_policy(0, 5, 3)) == 5 * (3 + 9 + 27 - 3)
    assert grown_by(random_policy(1, 5, 3)) == 0
    assert len(tree.states) == len(tree.value) == len(tree.latents) == 5 * 40


def test_a_tree_finds_the_prefix_that_it_has_already():
    env, network, _, sample = case(3)
    tree = PrefixTree(env, network, sample.states)
    first = tree.follow(np.array([0, 2, 2]), np.array([1, 0, 1]))
    again = tree.follow(np.array([2, 0, 1]), np.array([1, 1, 0]))
    assert first.tolist() == [5, 6, 7]
    assert again.tolist() == [7, 5, 8]
    assert tree.root.tolist() == [0, 1, 2, 3, 4, 0, 2, 2, 1]
    expected, _ = env.step(TabularStates(np.array([0, 2, 2, 1])), [1, 0, 1, 0])
    assert tree.states.index[5:].tolist() == expected.index.tolist()
