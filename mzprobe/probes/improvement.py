"""Does the search choose better actions than its prior, state by state?

At sampled states the true value of every action is measured: the action is taken in the real environment, and then the
policy network is followed, always by its likeliest action. The action that the search plays is compared with what the
network would do itself, Q^pi(s, a of the search) - V^pi(s): the step of policy improvement that a search is meant to
be. Returns of whole episodes (`planning`) have a ceiling and vary with all that follows; this difference has no ceiling
and little variance.

The searches are those of the planning probe, {learned, true} model x {policy, uniform} prior x N, with both kinds of
leaves.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mzprobe.agents import Agent
from mzprobe.behaviour import BehaviourPolicy, Policy, action_values
from mzprobe.config import Model
from mzprobe.probes import cost
from mzprobe.probes.acting import as_asked
from mzprobe.probes.cost import Cost
from mzprobe.probes.question import Question
from mzprobe.probes.sampling import AGENT_UNITS, STATE_UNITS, draw_states, rollout_seed
from mzprobe.search.models import LeafValue, Prior
from mzprobe.search.rollouts import Rollout
from mzprobe.settings import ImprovementConfig, simulation_counts

Float64 = NDArray[np.float64]

UNITS = {
    **AGENT_UNITS,
    "model": "name; learned or true, that is searched",
    "prior": "name; policy or uniform",
    "leaf": "name; rollout or value",
    "simulations": "count; N",
    **STATE_UNITS,
    "improvement": "discounted reward; search_value - prior_value",
    "search_value": "discounted reward; true value of what the search plays, and the policy network from then on",
    "prior_value": "discounted reward; true value of the policy network, its likeliest action in every state",
    "best_value": "discounted reward; true value of the best action, and the policy network from then on",
}


class Cell(NamedTuple):
    """Settings of one kind of search."""

    model: Model
    prior: Prior
    leaf: str  # rollout or value
    simulations: int


@as_asked
def measure_improvement(
    agent: Agent, config: ImprovementConfig, *, on_progress: Callable[[float], None] = lambda _: None
) -> pd.DataFrame:
    """Runs the probe on one checkpoint: searches at sampled states, and measures every action's true value there.

    Args:
        agent: the checkpoint.
        config: settings.
        on_progress: called with the fraction done.

    Returns:
        One row per kind of search and state, in this order; columns as in `UNITS`.
    """
    environment = agent.environment
    steps = config.steps or environment.spec.time_limit
    network = replace(agent.prior, temperature=0.0)
    with agent.compute.limited():
        sample, generator = draw_states(agent, config)
        uniforms = generator.random((config.states, steps))
        values = action_values(environment, network, sample.states, uniforms=uniforms, on_step=lambda: on_progress(0.0))
        where = {"state": np.arange(config.states), "episode": sample.episode, "time": sample.time}
        best = {
            "prior_value": _expected(network, sample.states, values),
            "best_value": values.max(axis=1),
        }
        cells, frames = list(searched_cells(agent, config)), []
        for done, cell in enumerate(cells):
            on_progress(done / len(cells))
            played = _expected(_searching(agent, config, cell), sample.states, values)
            numbers = {"improvement": played - best["prior_value"], "search_value": played, **best}
            frames.append(pd.DataFrame({**cell._asdict(), **where, **numbers}))
    return agent.label(pd.concat(frames, ignore_index=True))[list(UNITS)]


def searched_cells(agent: Agent, config: ImprovementConfig) -> Iterator[Cell]:
    """Yields every kind of search, in the order of the table."""
    for model in agent.models:
        for prior in get_args(Prior):
            for leaf in ("rollout", "value"):
                for N in simulation_counts(config.simulations, agent.environment.spec.num_actions):
                    yield Cell(model, prior, leaf, N)


def _searching(agent: Agent, config: ImprovementConfig, cell: Cell) -> BehaviourPolicy:
    """Returns a policy that plays the preferred action (T = 0) of the cell's search."""
    rollout = Rollout(horizon=config.horizon, seed=rollout_seed(agent, config.seed))
    leaf: LeafValue = rollout if cell.leaf == "rollout" else "value"
    return agent.acting(agent.planning_in(cell.model, prior=cell.prior, leaf=leaf), simulations=cell.simulations)


def _expected(policy: Policy, states: object, values: Float64) -> Float64:
    """Returns the mean `[S]` of the actions' values `[S, A]` under a policy."""
    return np.asarray((policy.distribution(states) * values).sum(axis=1))


def _cost(agent: Agent, config: ImprovementConfig, _: int) -> Cost:
    spec = agent.environment.spec
    tried, steps = config.states * spec.num_actions, config.steps or spec.time_limit
    asked = tried * (steps - 1) + config.states  # rows of the policy network after each action, and at the states
    total = cost.sampling(agent, config) + Cost(environment_steps=tried * steps, model_steps=asked)
    for cell in searched_cells(agent, config):
        constants = agent.search.model_copy(update={"simulations": cell.simulations})
        rollout = config.horizon if cell.leaf == "rollout" else 0
        total += cost.searches(config.states, constants, (cell.model, rollout))
    return total


QUESTION = Question(
    config=ImprovementConfig,
    units=UNITS,
    measure=measure_improvement,
    cost=_cost,
)
