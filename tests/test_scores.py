"""The game's own points stand beside returns that are clipped, in the tables of whoever plays whole episodes."""

import numpy as np
import pytest
from agents import made_agent
from brute import wrong_network

from mzprobe.behaviour import RandomPolicy
from mzprobe.envs import random_mdp
from mzprobe.probes.registry import PROBES
from mzprobe.settings import OnlineConfig, PlanningConfig


class Clipped:
    """An environment whose rewards are the signs of its scores."""

    def __init__(self, environment):
        self.environment = environment

    def __getattr__(self, name):
        return getattr(self.environment, name)

    def step(self, states, actions):
        following, outcome = self.environment.step(states, actions)
        return following, outcome._replace(reward=np.sign(outcome.reward), score=outcome.reward)


@pytest.mark.parametrize("name", ["online", "planning"])
def test_scores_stand_beside_clipped_returns_where_there_are_any_and_nowhere_else(name):
    env = random_mdp(3, num_states=6, num_actions=2, terminal_fraction=0.3, time_limit=6)
    network = wrong_network(3, 6, 2)
    probe = PROBES[name]
    config = OnlineConfig(episodes=6) if name == "online" else PlanningConfig(episodes=6, simulations=(4,), horizon=3)

    def asked(environment):
        agent = made_agent(environment, network, policy=RandomPolicy(environment=environment))
        return probe.ask(agent, config)

    clipped, plain = asked(Clipped(env)), asked(env)
    assert list(clipped.columns) == [*plain.columns, "score"]
    alike = clipped if name == "online" else clipped[clipped["model"] == "none"]  # a search sees other rewards
    rows = alike.index if name == "planning" else clipped.index[clipped["policy"] == "behaviour"]
    assert clipped.loc[rows, "score"].tolist() == plain.loc[rows, "return"].tolist()
    assert clipped.loc[rows, "length"].tolist() == plain.loc[rows, "length"].tolist()
    assert (clipped["return"] == clipped["return"].round()).all()
    assert (clipped["score"] != clipped["return"]).any()
