"""Can the model of one training step evaluate the policy of another (Figure 5)?

A row of the matrix is a checkpoint X: its model, and states that its own behaviour policy visits. A column is the
behaviour policy of a checkpoint Y of the same agent, evaluated in X's model from those states, at the largest h (K by
default). States, truth and predictions are shared within a row: one prefix tree serves all policies. A policy is
evaluated at the temperature that collected data at its step and, if that is not 1, also at T = 1, where policies differ
by training alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mzprobe.agents import Agent, or_missing
from mzprobe.behaviour import BehaviourPolicy
from mzprobe.probes import cost
from mzprobe.probes.acting import as_asked
from mzprobe.probes.cost import Cost
from mzprobe.probes.horizon import UNITS as HORIZON_UNITS
from mzprobe.probes.horizon import cost_of_horizon, sample_size, score_tree
from mzprobe.probes.prefixes import trees_over
from mzprobe.probes.question import Question
from mzprobe.probes.sampling import AGENT_UNITS, draw_states, largest_horizon
from mzprobe.settings import CrossConfig

UNITS = {
    "seed": AGENT_UNITS["seed"],
    "training_step": "training steps; X, of the model and of the states",
    "temperature": "1; T of the policy that visits the states",
    "policy_step": "training steps; Y, of the policy that is evaluated",
    "policy_temperature": "1; T of that policy: its own, or 1",
    "own_temperature": "bool; whether that is the one that collected data at step Y",
    "tv": "1; TV[pi_X, pi_Y] at the state, half the sum of |pi_X - pi_Y|, each at its own T",
    "tv_at_1": "1; the same, both at T = 1",
    **{name: unit for name, unit in HORIZON_UNITS.items() if name not in AGENT_UNITS},
}


@as_asked
def measure_cross(
    agent: Agent,
    config: CrossConfig,
    others: Sequence[Agent],
    *,
    on_progress: Callable[[float], None] = lambda _: None,
) -> pd.DataFrame:
    """Measures one row of the matrix: the policies of `others` in the model of `agent`.

    Args:
        agent: X, whose model is evaluated, at states that its policy visits.
        config: settings.
        others: checkpoints Y of the same agent whose policies are evaluated; X itself may be among them.
        on_progress: called with the fraction done.

    Returns:
        One row per policy, temperature and state, in this order; columns as in `UNITS`.

    Raises:
        UsageError: if the sequences of a single state are too many to hold, or no horizon is given and the agent has no
            unroll length.
    """
    environment = agent.environment
    h, A = largest_horizon(config.horizon, agent), environment.spec.num_actions
    sequences = sample_size(config, A, h)
    frames = []
    with agent.compute.limited():
        sample, generator = draw_states(agent, config)
        uniforms = None if sequences is None else generator.random((config.states, sequences, h))
        trees = trees_over(
            environment,
            agent.network,
            sample.states,
            widest=A**h if sequences is None else sequences * len(others),
            batch_size=agent.sequences_at_once,
            uniforms=uniforms,
            compute=agent.compute,
        )
        for chosen, tree, draws in trees:
            here = sample.states.take(chosen)
            for column, other in enumerate(others):
                on_progress((chosen[0] + column / len(others) * len(chosen)) / config.states)
                distances = _distances(agent.policy, other.policy, here)
                for T, policy in _at_temperatures(other.policy):
                    rows = score_tree(tree, policy, sample, chosen, horizon=h, uniforms=draws)
                    frames.append(
                        rows[rows["h"] == h].assign(
                            policy_step=or_missing(other.origin.training_step),
                            policy_temperature=T,
                            own_temperature=other.policy.temperature == T,
                            **distances,
                        )
                    )
    frame = pd.concat(frames).sort_values(["policy_step", "policy_temperature", "state"], ignore_index=True)
    return agent.label(frame)[list(UNITS)]


def _distances(x: BehaviourPolicy, y: BehaviourPolicy, states: Any) -> dict[str, NDArray[np.float64]]:
    """Returns the total variation `[S]` of two policies at S states: each at its own temperature, and both at T = 1."""

    def between(x: BehaviourPolicy, y: BehaviourPolicy) -> NDArray[np.float64]:
        return np.asarray(np.abs(x.distribution(states) - y.distribution(states)).sum(axis=1) / 2)

    return {"tv": between(x, y), "tv_at_1": between(replace(x, temperature=1.0), replace(y, temperature=1.0))}


def _at_temperatures(policy: BehaviourPolicy) -> Iterator[tuple[float, BehaviourPolicy]]:
    """Yields T and the policy at T, for its own temperature and for 1, in increasing order; once if they are equal."""
    for T in sorted({policy.temperature, 1.0}):
        yield T, replace(policy, temperature=T)


def _cost(agent: Agent, config: CrossConfig, policies: int) -> Cost:
    distances = cost.own_searches(agent, 4 * policies * config.states)
    return cost_of_horizon(agent, config, 2 * policies) + distances  # each policy at its own temperature and at 1


QUESTION = Question(
    config=CrossConfig,
    units=UNITS,
    measure=measure_cross,
    cost=_cost,
    pair="policy_step",
)
