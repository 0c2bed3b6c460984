"""A network that knows the true environment scores exactly 0, and plans in it as in the truth."""

import numpy as np
import pandas as pd
import pytest
from agents import made_agent
from brute import small_mdp
from hypothesis import given, settings
from hypothesis import strategies as st
from models import OracleNetwork, RememberingEnvironment

from mzprobe.behaviour import draw_episode_numbers, play_episodes
from mzprobe.envs import CartPole, LunarLander
from mzprobe.probes.cross import measure_cross
from mzprobe.probes.equivalence import measure_equivalence
from mzprobe.probes.horizon import measure_horizon
from mzprobe.probes.improvement import measure_improvement
from mzprobe.probes.planning import cells, measure_planning
from mzprobe.probes.search_error import measure_search_error
from mzprobe.probes.sequences import measure_sequences
from mzprobe.settings import (
    CrossConfig,
    EquivalenceConfig,
    HorizonConfig,
    ImprovementConfig,
    PlanningConfig,
    SearchErrorConfig,
    SequencesConfig,
)

STATES = {"states": 5, "episodes": 2}


pytestmark = pytest.mark.usefixtures("one_thread")


def oracle_agent(environment, *, seed=0, step=0):
    """An agent whose network is the environment; policy and value are drawn from the seed."""
    shared = isinstance(environment, RememberingEnvironment)
    remembering = environment if shared else RememberingEnvironment(environment)
    network = OracleNetwork(remembering, seed=seed)
    return made_agent(remembering, network, step=step, simulations=6, temperature=0.5)


ENVIRONMENTS = pytest.mark.parametrize(
    "environment",
    [small_mdp(0), small_mdp(1, num_actions=3), CartPole(time_limit=40), LunarLander(time_limit=80)],
    ids=["two", "three", "cartpole", "lander"],
)
PLANNED = pytest.mark.parametrize(
    "environment",
    [
        small_mdp(0),
        small_mdp(1, num_actions=3),
        CartPole(time_limit=40),
        pytest.param(LunarLander(time_limit=12), marks=pytest.mark.slow),
    ],
    ids=["two", "three", "cartpole", "lander"],
)


def assert_knows(rows, errors):
    """All of these columns are 0 to the last bit, and there is something that the truth is worth."""
    assert (rows[errors] == 0.0).all(axis=None)
    if "value" in rows:
        assert (rows["value"] != 0).any()
        assert rows["value"].tolist() == rows["predicted_value"].tolist()


HORIZON_ERRORS = ["error", "sequence_error", "signed_error", "alive_error", "standard_error", "bias"]


@ENVIRONMENTS
@pytest.mark.parametrize("enumerate_up_to", [1024, 0])
def test_an_oracle_scores_0_in_the_horizon_probe(environment, enumerate_up_to):
    config = HorizonConfig(**STATES, horizon=4, enumerate_up_to=enumerate_up_to, sequences=10)
    rows = measure_horizon(oracle_agent(environment), config)
    assert rows["exact"].all() == (enumerate_up_to > 0)
    assert_knows(rows, HORIZON_ERRORS)


@ENVIRONMENTS
def test_an_oracle_scores_0_in_every_sequence(environment):
    rows = measure_sequences(oracle_agent(environment), SequencesConfig(**STATES, length=4))
    assert_knows(rows, ["error", "rank_error"])
    assert rows["rho"].isna().all()


@ENVIRONMENTS
@pytest.mark.parametrize("enumerate_up_to", [1024, 0])
def test_an_oracle_scores_0_in_every_cell_of_its_row(environment, enumerate_up_to):
    agents = [oracle_agent(environment, seed=step, step=step) for step in (0, 20)]
    config = CrossConfig(**STATES, horizon=4, enumerate_up_to=enumerate_up_to, sequences=10)
    rows = measure_cross(agents[0], config, agents)
    assert set(rows["policy_step"]) == {0, 20}
    assert_knows(rows, HORIZON_ERRORS)


@ENVIRONMENTS
@pytest.mark.parametrize("enumerate_up_to", [1024, 0])
def test_an_oracle_is_value_equivalent_for_its_own_values(environment, enumerate_up_to):
    remembering = RememberingEnvironment(environment)  # one for both: they score the same observations
    agents = [oracle_agent(remembering, seed=step, step=step) for step in (0, 20)]
    config = EquivalenceConfig(**STATES, horizon=4, enumerate_up_to=enumerate_up_to, sequences=10)
    rows = measure_equivalence(agents[0], config, agents)
    assert set(rows["value_step"]) == {0, 20}
    assert (rows["reward_part"] == 0).all()
    assert_knows(rows[rows["value_step"] == 0], ["bootstrap_part", "error", "sequence_error"])
    # The head of another is another function, which the model was never asked for.
    assert (rows.loc[rows["value_step"] == 20, "error"] > 0).any()


@ENVIRONMENTS
def test_an_oracle_scores_0_along_every_simulated_trajectory(environment):
    config = SearchErrorConfig(**STATES, simulations=(1, 4, 20), horizon=5)
    rows = measure_search_error(oracle_agent(environment), config)
    assert_knows(rows, ["path_error", "trajectory_error"])
    assert (rows["path_length"] > 1).any()
    assert (rows["tv"] > 0).all()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**20), num_actions=st.integers(1, 3), length=st.integers(1, 4))
def test_an_oracle_scores_0_on_any_table(seed, num_actions, length):
    agent = oracle_agent(small_mdp(seed, num_actions), seed=seed)
    assert (measure_horizon(agent, HorizonConfig(**STATES, horizon=length))[HORIZON_ERRORS] == 0).all(axis=None)
    assert (measure_sequences(agent, SequencesConfig(**STATES, length=length))["error"] == 0).all()
    rows = measure_search_error(agent, SearchErrorConfig(**STATES, simulations=(9,), horizon=length))
    assert (rows[["path_error", "trajectory_error"]] == 0).all(axis=None)


# Planning


@PLANNED
@pytest.mark.parametrize("leaf", ["rollout", "value"])
def test_an_oracle_plans_as_in_the_truth(environment, leaf):
    agent = oracle_agent(environment, seed=3)
    config = PlanningConfig(episodes=3, simulations=(1, 4, 12), horizon=5, leaf=leaf)
    rows = measure_planning(agent, config)
    # Wherever its prior is from, it is that of the truth.
    learned, true = (
        rows[rows["model"] == model].drop(columns=["model", "prior_at"]).reset_index(drop=True)
        for model in ("learned", "true")
    )
    assert len(learned) == 3 * (3 * 3 + (leaf == "value"))  # three priors at three N, and one step ahead by value
    pd.testing.assert_frame_equal(learned, true, check_exact=True)
    assert len(set(learned["return"])) > 1


@PLANNED
def test_search_in_an_oracle_improves_as_in_the_truth(environment):
    config = ImprovementConfig(**STATES, simulations=(1, 4, 12), horizon=5)
    rows = measure_improvement(oracle_agent(environment, seed=3), config)
    learned, true = (
        rows[rows["model"] == model].drop(columns="model").reset_index(drop=True) for model in ("learned", "true")
    )
    pd.testing.assert_frame_equal(learned, true, check_exact=True)
    assert (rows["improvement"] <= rows["best_value"] - rows["prior_value"]).all()
    assert len(set(rows["search_value"])) > 1


@PLANNED
@pytest.mark.parametrize("leaf", ["rollout", "value"])
def test_an_oracle_takes_the_actions_of_the_truth_one_by_one(environment, leaf):
    agent = oracle_agent(environment, seed=4)
    seeds, uniforms = draw_episode_numbers(np.random.default_rng(0), 2, agent.environment.spec.time_limit)
    config = PlanningConfig(simulations=(2, 10), horizon=4, leaf=leaf, temperature=0.5)
    distributions = {}
    for cell, policy in cells(agent, config):
        if cell["model"] != "none":
            played = play_episodes(agent.environment, policy, seeds=seeds, uniforms=uniforms, keep_states=True)
            asked = policy.distribution(played.states)
            seen = agent.environment.observe(played.states)
            distributions.setdefault((cell["prior"], cell["simulations"]), []).append((asked, seen))
    assert len(distributions) == 4 + (leaf == "value")
    assert {prior: len(found) for (prior, _), found in distributions.items()}["policy"] == 4
    for (learned, where), *others in distributions.values():
        for other, there in others:
            assert where.tobytes() == there.tobytes()
            assert learned.tobytes() == other.tobytes()
    assert any((asked.max(axis=1) < 1).any() for (asked, _), *_ in distributions.values())
