"""The online and the planning probe: returns of episodes, played one by one by a plain search."""

from typing import get_args

import brute
import numpy as np
import pandas as pd
import pytest
import torch
from agents import made_agent
from brute import TabularNetwork, small_mdp, wrong_network
from hypothesis import given, settings
from hypothesis import strategies as st

from mzprobe.behaviour import (
    BehaviourPolicy,
    LookaheadPolicy,
    PriorPolicy,
    RandomPolicy,
    draw_episode_numbers,
    play_episodes,
)
from mzprobe.checkpoints import read_checkpoint, steps_of
from mzprobe.envs import TabularEnvironment, random_mdp
from mzprobe.probes.online import UNITS as ONLINE_UNITS
from mzprobe.probes.online import measure_online
from mzprobe.probes.planning import UNITS, cells, measure_planning
from mzprobe.probes.registry import PROBES
from mzprobe.probes.sampling import rollout_seed
from mzprobe.search import LearnedModel, Rollout, TrueModel, search
from mzprobe.search.models import AdvisedModel
from mzprobe.seeding import numpy_generator
from mzprobe.settings import OnlineConfig, PlanningConfig, simulation_counts
from mzprobe.sources.own import load_agent

CELL = ["model", "prior", "prior_at", "leaf", "horizon", "counted_from", "simulations", "temperature"]
PRIORS = (("policy", "latent"), ("policy", "state"), ("uniform", "none"))


def numbers_of(agent, config):
    """Starts and action numbers of a probe's episodes."""
    generator = numpy_generator(0, "probe", config.seed)
    seeds, uniforms = draw_episode_numbers(generator, config.episodes, agent.environment.spec.time_limit)
    return agent.environment.reset(seeds).index, uniforms


def assert_episodes(rows, env, distribution, starts, uniforms):
    """Compares rows with the episodes of a policy (state -> probabilities), one after the other."""
    known = {}

    def remembered(state):
        if state not in known:
            known[state] = distribution(state)
        return known[state]

    assert rows["episode"].tolist() == list(range(len(starts)))
    for row, start, numbers in zip(rows.to_dict("records"), starts, uniforms, strict=True):
        episode = brute.played(env, remembered, start, numbers)
        assert row["return"] == pytest.approx(episode.total, abs=1e-12)
        assert (row["length"], row["terminated"]) == (len(episode.states), episode.terminated)


def policy_network(agent):
    """State -> pi_theta."""
    return lambda s: torch.softmax(agent.network.logits[s], dim=0).tolist()


def plain_search(agent, **options):
    """State -> visit distribution of the plain search."""
    temperature = options.pop("temperature")

    def distribution(state):
        root, _ = brute.planned(agent.environment, agent.network, state, **options)
        return brute.visit_policy(root, temperature)

    return distribution


# Against plain Python


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**20), num_actions=st.integers(1, 3), temperature=st.sampled_from([1.0, 0.5, 0.25]))
def test_online_returns_are_those_of_episodes_played_one_by_one(seed, num_actions, temperature):
    env = small_mdp(seed, num_actions=num_actions)
    agent = made_agent(env, wrong_network(seed, 6, num_actions), simulations=7, temperature=temperature)
    config = OnlineConfig(episodes=5, seed=1)
    rows = measure_online(agent, config)
    assert list(rows.columns) == [name for name in ONLINE_UNITS if name != "score"]
    assert rows["policy"].tolist() == ["behaviour"] * 5 + ["prior"] * 5 + ["greedy"] * 5
    behaviour, prior, greedy = rows[:5], rows[5:10], rows[10:]
    assert [set(own["temperature"]) for own in (behaviour, prior, greedy)] == [{temperature}, {1.0}, {0.0}]
    options = {"model": "learned", "prior": "policy", "config": agent.policy.config, "temperature": temperature}
    assert_episodes(behaviour, env, plain_search(agent, **options), *numbers_of(agent, config))
    assert_episodes(prior, env, policy_network(agent), *numbers_of(agent, config))
    best = agent.network.logits.argmax(dim=1)
    assert_episodes(greedy, env, lambda s: np.eye(num_actions)[best[s]], *numbers_of(agent, config))


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    num_actions=st.integers(1, 3),
    leaf=st.sampled_from(["rollout", "value"]),
    temperature=st.sampled_from([0.0, 0.5, None]),
    horizon=st.integers(1, 5),
    counted_from=st.sampled_from(["root", "leaf"]),
    crossed=st.sampled_from([None, (), (6,)]),
)
def test_every_cell_has_the_returns_of_its_own_plain_search(
    seed, num_actions, leaf, temperature, horizon, counted_from, crossed
):
    env = small_mdp(seed, num_actions=num_actions)
    agent = made_agent(env, wrong_network(seed, 6, num_actions), temperature=0.25)
    config = PlanningConfig(
        episodes=3,
        simulations=(1, 6),
        leaf=leaf,
        horizon=horizon,
        counted_from=counted_from,
        crossed=crossed,
        temperature=temperature,
        seed=4,
    )
    rows = measure_planning(agent, config)
    assert list(rows.columns) == [name for name in UNITS if name != "score"]
    T = 0.25 if temperature is None else temperature
    how = (leaf, horizon, counted_from) if leaf == "rollout" else (leaf, 0, "none")
    own_place = {"learned": "latent", "true": "state"}
    searched = [
        (model, *prior, *how, N, T)
        for model in ("learned", "true")
        for prior in PRIORS
        for N in (1, 6)
        if crossed is None or N in crossed or prior[1] in ("none", own_place[model])
    ]
    alone = [("none", "policy", "state", "none", 0, "none", 0, T) for T in (1.0, 0.0)]
    alone.append(("none", "uniform", "none", "none", 0, "none", 0, 1.0))
    stepped = [(model, "none", "none", "value", 1, "none", 0, 0.0) for model in ("learned", "true") if leaf == "value"]
    expected = [*alone, *stepped, *searched]
    assert list(rows[CELL].drop_duplicates().itertuples(index=False, name=None)) == expected
    rollout = Rollout(horizon=horizon, seed=rollout_seed(agent, 4), counted_from=counted_from)
    for cell, own in rows.groupby(CELL, sort=False):
        model, prior, prior_at, *_, N, _ = cell
        if (model, prior) == ("none", "uniform"):
            distribution = lambda s: [1 / num_actions] * num_actions  # noqa: ARG005, E731
        elif model == "none":
            distribution = policy_network(agent)
            if cell[-1] == 0:
                best = agent.network.logits.argmax(dim=1)  # random numbers: no two are equal
                distribution = lambda s, best=best: np.eye(num_actions)[best[s]]  # noqa: E731
        elif prior == "none":
            distribution = lambda s, model=model: brute.one_step(env, agent.network, s, model=model)  # noqa: E731
        else:
            distribution = plain_search(
                agent,
                model=model,
                prior=prior,
                prior_at=None if prior_at == "none" else prior_at,
                config=agent.policy.config.model_copy(update={"simulations": N}),
                rollout=rollout if leaf == "rollout" else None,
                temperature=T,
            )
        assert_episodes(own, env, distribution, *numbers_of(agent, config))


@pytest.mark.parametrize("leaf", ["rollout", "value"])
def test_episodes_side_by_side_are_episodes_of_a_batch_of_one(agent, leaf):
    loaded = load_agent(read_checkpoint(steps_of(agent)[2]))
    config = PlanningConfig(episodes=4, simulations=(3,), leaf=leaf, horizon=4)
    rows = measure_planning(loaded, config)
    seeds, uniforms = draw_episode_numbers(numpy_generator(0, "probe", 0), 4, loaded.environment.spec.time_limit)
    for (cell, policy), (_, own) in zip(cells(loaded, config), rows.groupby(CELL, sort=False), strict=True):
        assert {name: own[name].iloc[0] for name in cell} == cell
        for episode in range(4):
            alone = play_episodes(loaded.environment, policy, seeds=seeds[[episode]], uniforms=uniforms[[episode]])
            row = own.iloc[episode]
            assert (row["return"], row["length"], row["terminated"]) == (
                alone.returns[0],
                alone.lengths[0],
                alone.terminated[0],
            )
    assert len(set(rows["return"])) > 1


# What acts in a cell


def test_a_cell_plans_in_its_own_model_with_its_own_prior(agent):
    loaded = load_agent(read_checkpoint(steps_of(agent)[1]))
    found = list(cells(loaded, PlanningConfig(simulations=(2, 9), horizon=5, seed=3)))
    assert [policy.temperature for _, policy in found[:2]] == [1.0, 0.0]
    assert all(isinstance(policy, PriorPolicy) for _, policy in found[:2])
    assert isinstance(found[2][1], RandomPolicy)
    for cell, policy in found[3:]:
        assert isinstance(policy, BehaviourPolicy)
        kinds = {"latent": LearnedModel, "state": TrueModel}
        if cell["prior_at"] == {"learned": "state", "true": "latent"}[cell["model"]]:
            assert isinstance(policy.model, AdvisedModel)
            assert isinstance(policy.model.advising, kinds[cell["prior_at"]])
            assert (policy.model.advising.prior, policy.model.planned.prior) == ("policy", "uniform")
        model = getattr(policy.model, "planned", policy.model)
        assert isinstance(model, {"learned": LearnedModel, "true": TrueModel}[cell["model"]])
        assert model is not policy.model or model.prior == cell["prior"]
        assert model.leaf == Rollout(horizon=5, seed=rollout_seed(loaded, 3))
        assert (policy.config.simulations, policy.temperature) == (cell["simulations"], 0.0)
    assert len(found) == 3 + 2 * 3 * 2


def test_every_cell_starts_from_the_same_states(agent, monkeypatch):
    loaded = load_agent(read_checkpoint(steps_of(agent)[1]))
    starts = []

    def played(environment, policy, *, seeds, uniforms, **options):
        starts.append((seeds.tolist(), uniforms.tolist()))
        return play_episodes(environment, policy, seeds=seeds, uniforms=uniforms, **options)

    for module in ("online", "planning"):
        monkeypatch.setattr(f"mzprobe.probes.{module}.play_episodes", played)
    measure_planning(loaded, PlanningConfig(episodes=3, simulations=(2,), horizon=2, seed=7))
    measure_online(loaded, OnlineConfig(episodes=3, seed=7))
    assert len(starts) == 3 + 6 + 3
    assert all(start == starts[0] for start in starts)
    assert len(set(starts[0][0])) == 3


def test_temperature_0_takes_the_most_visited_action_and_greedy_the_most_likely():
    # One action in three pays, in truth and in the model; the network prefers another.
    env = TabularEnvironment(
        np.zeros((1, 3), int), [[0.0, 1.0, 0.0]], [False], starts=[0], gamma=0.5, time_limit=10, name="one"
    )
    agent = made_agent(env, TabularNetwork([[0, 0, 0]], [[0.0, 1.0, 0.0]], [[2.0, 0.0, 0.0]]))
    rows = measure_planning(agent, PlanningConfig(episodes=2, simulations=(30,), horizon=1))
    by_cell = rows.groupby(["model", "prior", "temperature"])["return"].apply(list).to_dict()
    assert by_cell["none", "policy", 0.0] == [0.0, 0.0]
    assert all(
        set(by_cell[model, prior, 0.0]) == {10.0} for model in ("learned", "true") for prior in ("policy", "uniform")
    )
    assert all(0 < total < 10 for total in by_cell["none", "policy", 1.0])


def test_a_model_that_is_wrong_about_the_best_action_loses_what_the_true_one_gains():
    env = TabularEnvironment(
        np.zeros((1, 2), int), [[0.0, 1.0]], [False], starts=[0], gamma=0.5, time_limit=10, name="one"
    )
    agent = made_agent(env, TabularNetwork([[0, 0]], [[1.0, 0.0]]))
    rows = measure_planning(agent, PlanningConfig(episodes=1, simulations=(20,), horizon=3))
    returns = rows[rows["simulations"] == 20].groupby("model")["return"].apply(set).to_dict()
    assert returns == {"learned": {0.0}, "true": {10.0}}


@pytest.mark.parametrize(("model", "taken"), [("true", 1), ("learned", 2)])
def test_one_step_counts_the_value_after_it_but_nothing_after_the_end(model, taken):
    # From state 0 the actions lead to states 0, 1 and 2. State 2 is the end, which the network finds worth most.
    transitions, rewards = [[0, 1, 2], [1, 1, 1], [2, 2, 2]], np.zeros((3, 3))
    env = TabularEnvironment(
        np.array(transitions), rewards, [False, False, True], starts=[0], gamma=0.5, time_limit=3, name="three"
    )
    agent = made_agent(env, TabularNetwork(transitions, rewards, values=[0.0, 1.0, 9.0]))
    policy = LookaheadPolicy(environment=env, model=agent.planning_in(model, prior="uniform", leaf="value"))
    assert policy.distribution(env.reset([0, 1])).tolist() == [[float(action == taken) for action in range(3)]] * 2


@pytest.mark.parametrize("model", ["learned", "true"])
def test_one_step_draws_among_equal_actions(model):
    env = small_mdp(0, num_actions=3)
    env = TabularEnvironment(
        env.transitions, 0 * env.rewards, [False] * 6, starts=[0, 1], gamma=0.9, time_limit=3, name="alike"
    )
    agent = made_agent(env, TabularNetwork(env.transitions, env.rewards))
    policy = LookaheadPolicy(environment=env, model=agent.planning_in(model, prior="uniform", leaf="value"))
    assert policy.distribution(env.reset([0, 1, 2])).tolist() == [[1 / 3] * 3] * 3


def test_the_greedy_prior_draws_among_equal_actions():
    env = small_mdp(0, num_actions=3)
    network = TabularNetwork(env.transitions, env.rewards, [[1.0, 1.0, 0.0]] * 6)
    policy = PriorPolicy(environment=env, evaluate=made_agent(env, network).evaluate, temperature=0.0)
    assert policy.distribution(env.reset([0, 1])).tolist() == [[0.5, 0.5, 0.0]] * 2


def test_simulations_begin_where_every_action_is_tried_twice():
    assert simulation_counts(None, 2) == (4, 8, 16, 32, 64, 128)
    assert simulation_counts(None, 4) == (8, 16, 32, 64, 128)
    assert simulation_counts(None, 18) == (36, 72)
    assert simulation_counts(None, 100) == (200,)
    assert simulation_counts((8, 2, 8), 4) == (2, 8)


def test_a_model_that_knows_the_rewards_but_not_the_way_plays_right_with_the_prior_of_the_state():
    # Which action pays alternates; the model stands still, so that its latent prefers what paid at the root. Rewards
    # are all 0 in the model: the prior alone decides.
    env = TabularEnvironment(
        np.array([[1, 1], [0, 0]]),
        [[1.0, 0.0], [0.0, 1.0]],
        [False] * 2,
        starts=[0],
        gamma=1.0,
        time_limit=4,
        name="two",
    )
    network = TabularNetwork([[0, 0], [1, 1]], np.zeros((2, 2)), [[4.0, 0.0], [0.0, 4.0]])
    agent = made_agent(env, network)
    config = agent.policy.config.model_copy(update={"simulations": 40})
    root = env.reset([0])
    visits = {}
    for place in ("latent", "state"):
        model = agent.planning_in("learned", prior="policy", leaf="value", prior_at=place)
        tree = search(model, model.roots(env, root), config=config, keep_tree=True).tree
        visits[place] = tree.edge_visits[0, tree.child[0, 0, 0]]
    assert visits["latent"].argmax() == 0
    assert visits["state"].argmax() == 1


@pytest.mark.parametrize("leaf", ["rollout", "value"])
def test_an_agent_that_was_trained_without_unrolling_does_not_plan_in_its_model(leaf):
    env = small_mdp(1)
    config = PlanningConfig(episodes=1, simulations=(2,), leaf=leaf)
    found = [
        [tuple(cell.values()) for cell, _ in cells(made_agent(env, wrong_network(1, 6, 2), unroll_steps=K), config)]
        for K in (0, 1)
    ]
    assert found[0] == [cell for cell in found[1] if "learned" not in cell and "latent" not in cell]
    assert {cell[0] for cell in found[1]} == {"none", "learned", "true"}
    assert len(found[0]) < len(found[1])


def test_an_episode_that_no_state_ends_is_truncated_at_the_time_limit():
    env = random_mdp(0, num_states=4, terminal_fraction=0, time_limit=5)
    rows = measure_online(made_agent(env, wrong_network(0, 4, 2)), OnlineConfig(episodes=3))
    assert set(rows["length"]) == {5}
    assert not rows["terminated"].any()


# Checkpoints


def test_a_measured_checkpoint_of_cartpole_counts_the_steps_it_stays_up(agent):
    loaded = load_agent(read_checkpoint(steps_of(agent)[1]))
    for rows in (
        measure_online(loaded, OnlineConfig(episodes=6)),
        measure_planning(loaded, PlanningConfig(episodes=2, simulations=(2,), horizon=2)),
    ):
        assert (rows["return"] == rows["length"]).all()
        assert (rows["terminated"] == (rows["length"] < 500)).all()
        assert rows.notna().all(axis=None)
        assert (set(rows["training_step"]), set(rows["seed"])) == ({20}, {0})


def test_value_leaves_have_a_table_of_their_own():
    tables = {
        leaf: PROBES["planning"].table(PlanningConfig(leaf=leaf))
        for leaf in get_args(PlanningConfig.model_fields["leaf"].annotation)
    }
    assert tables == {"rollout": "planning", "value": "planning-value"}


@pytest.mark.parametrize("leaf", ["rollout", "value"])
def test_a_number_of_simulations_does_not_depend_on_the_others(agent, leaf):
    loaded = load_agent(read_checkpoint(steps_of(agent)[2]))
    config = PlanningConfig(episodes=3, simulations=(2, 4), leaf=leaf, horizon=3)
    whole, alone = (measure_planning(loaded, c) for c in (config, config.model_copy(update={"simulations": (4,)})))
    expected = whole[whole["simulations"] != 2].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, expected, check_exact=True)
