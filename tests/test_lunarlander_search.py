"""Searches and probes in the true Lunar Lander: the same however simulators come back, and few steps made again."""

import numpy as np
import pandas as pd
import pytest
from agents import made_agent
from models import random_network

from mzprobe.config import SearchConfig
from mzprobe.envs import LunarLander, box2d_memory, make
from mzprobe.probes.cross import measure_cross
from mzprobe.probes.horizon import measure_horizon
from mzprobe.probes.planning import measure_planning
from mzprobe.probes.search_error import measure_search_error
from mzprobe.probes.sequences import measure_sequences
from mzprobe.search import Rollout, TrueModel, search
from mzprobe.settings import CrossConfig, HorizonConfig, PlanningConfig, SearchErrorConfig, SequencesConfig

STATES = {"states": 4, "episodes": 2}


def flown(environment, steps, batch=3):
    """States in mid-air, the main engine on every third step."""
    states = environment.reset(range(batch))
    for t in range(steps):
        states, _ = environment.step(states, np.full(batch, 2 if t % 3 == 0 else t % 4))
    assert not environment.terminal(states).any()
    return states


@pytest.mark.parametrize("leaf", [Rollout(horizon=12), "value"])
def test_trees_do_not_depend_on_how_simulators_come_back(leaf):
    network = random_network(0, observation_size=8, num_actions=4)
    trees = []
    for options in ({}, {"snapshots": False}, {"simulators": 1}):
        environment = LunarLander(**options)
        model = TrueModel(environment, network, leaf=leaf)
        found = search(model, flown(environment, 30), config=SearchConfig(simulations=12), keep_tree=True)
        trees.append([part.tobytes() for part in found.tree])
    assert trees[0] == trees[1] == trees[2]


def test_the_simulations_of_a_root_share_its_replay():
    assert box2d_memory.supported()
    again = {}
    for snapshots in (True, False):
        environment = LunarLander(snapshots=snapshots)
        root = flown(environment, 50, batch=1)
        assert environment.pool.replayed == 0
        model = TrueModel(environment, prior="uniform", leaf=Rollout(horizon=10))
        search(model, root, config=SearchConfig(simulations=20))
        again[snapshots] = environment.pool.replayed
    # The first simulation finds a simulator at the root; each of the others has been 50 steps and its depth away.
    assert again[False] >= 19 * 50
    assert again[True] <= again[False] - 18 * 50


def test_a_tree_of_states_does_not_push_out_its_root():
    environment = LunarLander()
    root = flown(environment, 40, batch=1)
    rng, again = np.random.default_rng(0), []
    for _ in range(6):
        before = environment.pool.replayed
        states = root.take([0] * 64)  # level by level, as the probes go through sequences
        for _ in range(12):
            states, _ = environment.step(states, rng.integers(4, size=64))
        again.append(environment.pool.replayed - before)
    # Each state is at most so many steps after the root, which is saved when it is first come back to.
    assert again[0] <= 40 + 64 * sum(range(12))
    assert max(again[1:]) <= 64 * sum(range(12))


MEASURES = {
    "horizon": (measure_horizon, HorizonConfig(**STATES, horizon=2)),
    "horizon sampled": (measure_horizon, HorizonConfig(**STATES, horizon=4, enumerate_up_to=0, sequences=5)),
    "sequences": (measure_sequences, SequencesConfig(**STATES, length=2)),
    "cross": (measure_cross, CrossConfig(**STATES, horizon=2)),
    "search_error": (measure_search_error, SearchErrorConfig(**STATES, simulations=(2, 6), horizon=8)),
    "planning": (measure_planning, PlanningConfig(episodes=2, simulations=(3,), horizon=8)),
}


@pytest.mark.parametrize("question", MEASURES)
def test_tables_do_not_depend_on_how_simulators_come_back(question):
    measure, config = MEASURES[question]
    frames = []
    for options, memory in (({}, 1 << 28), ({"snapshots": False, "simulators": 3}, 10_000)):
        network = random_network(1, observation_size=8, num_actions=4)
        agent = made_agent(LunarLander(time_limit=25, **options), network, simulations=4, memory=memory)
        frames.append(measure(agent, config, *([[agent]] if question == "cross" else [])))
    assert len(frames[0]) > 0
    pd.testing.assert_frame_equal(frames[0], frames[1], check_exact=True)


def test_a_wrapped_environment_can_be_probed():
    environment = make("gym:Acrobot-v1", time_limit=20)
    agent = made_agent(environment, random_network(2, observation_size=6, num_actions=3), simulations=4)
    rows = measure_horizon(agent, HorizonConfig(**STATES, horizon=3))
    # Every step costs 1, and no walk of so few steps swings the tip up.
    gamma = environment.spec.gamma
    truth = {h: -sum(gamma**t for t in range(h)) for h in (1, 2, 3)}
    assert rows["value"].to_numpy() == pytest.approx(rows["h"].map(truth).to_numpy(), rel=1e-12)
