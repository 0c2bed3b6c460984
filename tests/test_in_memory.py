"""Agents made in a notebook: what is wrong is said where it is given, and what is given stays as it was."""

import warnings

import gymnasium
import numpy as np
import pandas as pd
import pytest
import torch
from models import random_network

import mzprobe
from mzprobe.compute import Compute
from mzprobe.errors import CheckFailed, UsageError
from mzprobe.figures import all_plans
from mzprobe.networks.support import SymlogSupport
from mzprobe.probes.horizon import measure_horizon, score_horizon
from mzprobe.probes.online import QUESTION, measure_online
from mzprobe.probes.sampling import draw_states
from mzprobe.search import TrueModel
from mzprobe.settings import HorizonConfig, OnlineConfig
from mzprobe.stats import over_agents

CARTPOLE = mzprobe.make("cartpole", time_limit=20)
FEW = {"states": 3, "episodes": 2, "horizon": 2}


class Small(torch.nn.Module):
    """A network of somebody's own.

    Args:
        actions: A.
        rewards: shape of a reward, behind the batch.
        normalised: whether a batch norm is in it.
        dropout: share of the latents that is dropped.
    """

    def __init__(self, actions=2, *, rewards=(), normalised=False, dropout=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.inner = torch.nn.Linear(4, 8)
        self.norm = torch.nn.BatchNorm1d(8) if normalised else torch.nn.Identity()
        self.drop = torch.nn.Dropout(dropout)
        self.policy = torch.nn.Linear(8, actions)
        self.rewards = rewards

    def represent(self, observations):
        return self.drop(self.norm(torch.tanh(self.inner(observations))))

    def dynamics(self, latents, actions):
        return 0.9 * latents + 0.01 * actions[:, None], latents.sum(dim=1).reshape(-1, *self.rewards)

    def predict(self, latents):
        return self.policy(latents), latents.mean(dim=1)


class Wrapped:
    """Its three functions alone."""

    def __init__(self, network):
        self.represent, self.dynamics, self.predict = network.represent, network.dynamics, network.predict


def agent_of(network, **given):
    return mzprobe.Agent(environment=CARTPOLE, network=network, unroll=2, **given)


@pytest.mark.parametrize("temperature", [-1, float("nan"), float("inf"), "a", True])
def test_a_temperature_that_is_none_is_refused(temperature):
    with pytest.raises(UsageError, match="temperature is T of the behaviour policy, a number of at least 0, not"):
        agent_of(Small(), temperature=temperature)


def test_the_name_of_an_environment_is_no_environment():
    with pytest.raises(UsageError, match=r"give mzprobe.make\('cartpole'\)"):
        mzprobe.Agent(environment="cartpole", network=Small())


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (None, "NoneType cannot be used: it must have the functions .* lacks represent, dynamics, predict"),
        (Small(actions=3), r"policy logits must have shape \(6, 2\), not \(6, 3\)"),
        (Small(rewards=(1,)), r"reward must have shape \(6,\), not \(6, 1\)"),
        (Wrapped(Small(dropout=0.5)), "the same input must give the same output: is it in training mode"),
        (Wrapped(Small(normalised=True)), "batch norm in training mode|more than 1 value per channel when training"),
    ],
)
def test_a_wrong_network_is_refused_where_it_is_given_to_an_agent(network, said):
    with pytest.raises(UsageError, match=said) as reason:
        agent_of(network)
    assert str(reason.value).endswith("; mend it until mzprobe.check_network(network, env.spec) is silent")


def test_an_environment_whose_observations_cannot_be_written_to_is_looked_at_without_a_warning():
    class Sealed(type(CARTPOLE)):
        def observe(self, states):
            seen = super().observe(states)
            seen.setflags(write=False)
            return seen

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        mzprobe.Agent(environment=Sealed(time_limit=20), network=Small(), unroll=2)
    assert said == []


def test_a_network_is_looked_at_once_and_ours_not_at_all(monkeypatch):
    network = Small()
    agent_of(network)
    monkeypatch.setattr("mzprobe.networks.look_at", lambda *_, **__: pytest.fail("looked at again"))
    agent_of(network)
    agent_of(random_network(0, observation_size=4, num_actions=2))


def test_a_network_in_training_is_asked_in_evaluation_mode_and_left_as_it_was():
    network = Small(normalised=True, dropout=0.5).train()
    network.norm.eval()
    twin = Small(normalised=True, dropout=0.5).eval()
    before = {name: x.clone() for name, x in network.state_dict().items()}
    rows, expected = (mzprobe.measure(agent_of(one), "horizon", **FEW) for one in (network, twin))
    pd.testing.assert_frame_equal(rows, expected)
    assert [part.training for part in (network, network.norm, network.drop)] == [True, False, True]
    assert all(torch.equal(x, before[name]) for name, x in network.state_dict().items())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: agent_of(Small(), plan_in="teh"), "plan_in is 'learned' or 'true', not 'teh'"),
        (lambda: mzprobe.Agent(environment=CARTPOLE, network=Small(), unroll=-1), "unroll is how many steps .* not -1"),
        (lambda: agent_of(Small(), search={"simulations": 8}), "search is a mzprobe.config.SearchConfig, not {"),
        (lambda: Compute(precision="fp16"), "precision is 'highest' or .*, not 'fp16'"),
        (lambda: TrueModel(CARTPOLE, Small(), prior="polcy"), "prior is 'policy' or 'uniform', not 'polcy'"),
        (lambda: mzprobe.make(gymnasium.make("CartPole-v1")), "made by its name, not of TimeLimit: register it with"),
        (lambda: mzprobe.make(7), "an environment is made by its name, not of int$"),
        (lambda: mzprobe.make("gym:CartPole-v1", gamma=".95"), r"gamma must be a number such as 0.95, not '.95'"),
        (lambda: mzprobe.make("gym:CartPole-v1", time_limit=-3), "time_limit must be at least 1 step, not -3"),
        (lambda: mzprobe.make("gym:Nothing-v0"), "is named with the module that registers it, gym:MODULE:Nothing-v0"),
        (lambda: mzprobe.open_dataset("here", CARTPOLE), "takes the spec of an environment, env.spec, not CartPole"),
        (lambda: mzprobe.measure(agent_of(Small()), "horizons"), "there is no question horizons"),
    ],
)
def test_what_is_mistaken_is_one_sentence(make, said):
    with pytest.raises(UsageError, match=said):
        make()


def test_the_checks_say_what_they_take():
    with pytest.raises(CheckFailed, match=r"TimeLimit is no environment of mzprobe: register it with Gymnasium"):
        mzprobe.check_env(gymnasium.make("CartPole-v1"))
    with pytest.raises(CheckFailed, match=r"its spec must be a mzprobe\.EnvironmentSpec"):
        mzprobe.check_env(object())
    with pytest.raises(CheckFailed, match=r"spec must be that of an environment, env\.spec, not CartPole"):
        mzprobe.check_network(Small(), CARTPOLE)


def test_rows_without_a_training_step_are_averaged_and_in_no_figure():
    rows = pd.concat(
        [mzprobe.measure(agent_of(Small(), origin=mzprobe.Origin(seed=seed)), "horizon", **FEW) for seed in (0, 1)]
    )
    means = over_agents(rows, by=["training_step", "h"], column="error")
    assert means["h"].tolist() == [1, 2]
    assert means["agents"].tolist() == [2, 2]
    assert means["training_step"].isna().all()
    plan = next(plan for plan in all_plans() if plan.probe == "horizon")
    with pytest.raises(UsageError, match=r"origin=mzprobe\.Origin\(training_step=N\)"):
        plan.aggregate(rows)
    plan.draw(plan.aggregate(rows.assign(training_step=7)), title="told")


def test_whoever_asks_the_agent_acts_as_the_settings_say():
    agent, acting = agent_of(Small()), {"temperature": 0, "simulations": 4}
    config = HorizonConfig(**FEW, acting=acting)
    own = measure_horizon(agent, config)
    pd.testing.assert_frame_equal(own, mzprobe.measure(agent, "horizon", **FEW, acting=acting))
    assert own["temperature"].unique() == [0]
    played = measure_online(agent, OnlineConfig(episodes=2, acting=acting))
    pd.testing.assert_frame_equal(played, mzprobe.measure(agent, QUESTION, episodes=2, acting=acting))


def test_a_question_of_ones_own_says_which_columns_are_odd():
    def measured(agent, config, *, on_progress):
        return measure_online(agent, config, on_progress=on_progress).assign(extra=1).drop(columns="length")

    own = mzprobe.Question(config=OnlineConfig, units=QUESTION.units, measure=measured, cost=QUESTION.cost)
    with pytest.raises(UsageError, match=r"gave other columns than its units name \(extra, length, score\)"):
        mzprobe.measure(agent_of(Small()), own, episodes=1)


def test_the_search_of_operators_is_its_own_question():
    with pytest.raises(UsageError, match=r"acting\.rule and acting\.simulations are its own rules and simulations"):
        mzprobe.measure(agent_of(Small()), "operators", acting={"rule": "gumbel"})


def test_a_support_of_other_scalars_is_not_read_by_kernels_of_h():
    own = random_network(0, observation_size=4, num_actions=2)
    assert own.kernel_engine() is not None
    own.support = SymlogSupport(minimum=-5, maximum=5, atoms=own.support.atoms)
    assert own.kernel_engine() is None


def test_progress_is_told():
    shares = []
    mzprobe.measure(agent_of(Small()), "online", episodes=1, on_progress=shares.append)
    assert shares == sorted(shares)
    assert 0 <= shares[0] <= shares[-1] <= 1


def test_agents_of_another_environment_are_not_compared():
    longer = mzprobe.Agent(environment=mzprobe.make("cartpole", time_limit=21), network=Small(), unroll=2)
    with pytest.raises(UsageError, match="cross asks about agents of one environment"):
        mzprobe.measure(agent_of(Small()), "cross", others=[longer], states=2, episodes=1)


@pytest.mark.parametrize("given", [{"horizon": 0}, {"sequences": 1}])
def test_what_has_no_error_or_no_spread_is_not_scored(given):
    agent = agent_of(Small())
    sample, generator = draw_states(agent, HorizonConfig(**FEW))
    asked = {"horizon": 2, "sequences": None, "generator": generator, **given}
    with pytest.raises(ValueError, match="at least 1 state, 1 step and 2 sampled sequences are needed"):
        score_horizon(agent.environment, agent.network, agent.policy, sample, **asked)
    nothing, whole = sample.take(np.arange(0)), {**asked, "horizon": 2}
    with pytest.raises(ValueError, match="are needed, not 0, 2"):
        score_horizon(agent.environment, agent.network, agent.policy, nothing, **whole)
