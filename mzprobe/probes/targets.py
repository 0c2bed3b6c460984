"""Are the stored value targets still correct?

Every checkpoint keeps some positions of its replay buffer, with the seed and the actions that lead there again. Their
stored value targets z are compared with the true value V^pi of the checkpoint's behaviour policy, estimated by rollouts
in the real environment. They may differ because a target sums rewards of the policy that once played the episode, and
its bootstrap value is as old as its last reanalysis. The prediction of the value head is measured too, with the part
that its decoding adds (`Support.decode_bias`).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mzprobe.agents import Agent, or_missing
from mzprobe.behaviour import discounted_returns
from mzprobe.checkpoints import TARGETS
from mzprobe.errors import UsageError
from mzprobe.networks.engine import engine_for
from mzprobe.probes import cost
from mzprobe.probes.acting import as_asked
from mzprobe.probes.cost import Cost
from mzprobe.probes.question import Question
from mzprobe.probes.sampling import AGENT_UNITS, probe_generator
from mzprobe.settings import TargetsConfig

Float64 = NDArray[np.float64]

UNITS = {
    **AGENT_UNITS,
    "position": "index; of the replay buffer, in its order",
    "time": "environment steps; since the start of its episode",
    "stored_step": "training steps; when its episode was stored",
    "age": "training steps; since then",
    "priority": "1; chance to be drawn, over that of any position if all were alike",
    "target": "discounted reward; z as stored",
    "value": "discounted reward; mean return of rollouts of the behaviour policy",
    "predicted_value": "discounted reward; of the value head at the position's observation",
    "decode_bias": "discounted reward; part of predicted_value that its decoding adds",
}

# End of the error message for a checkpoint without stored positions.
WITHOUT = (
    "has kept no positions of its replay buffer: train the agent with this mzprobe, on episodes of its own, and with "
    "training.audited_positions above 0"
)


@as_asked
def measure_targets(
    agent: Agent, config: TargetsConfig, *, on_progress: Callable[[float], None] = lambda _: None
) -> pd.DataFrame:
    """Runs the probe on one checkpoint.

    Args:
        agent: the checkpoint.
        config: settings.
        on_progress: called with the fraction done.

    Returns:
        One row per position that the checkpoint has kept; columns as in `UNITS`.

    Raises:
        UsageError: if it has kept none.
    """
    stored, environment = agent.targets, agent.environment
    if stored is None:
        raise UsageError(f"step {agent.origin.training_step} of seed {agent.origin.seed} {WITHOUT}")
    P, T = len(stored), config.steps or environment.spec.time_limit
    generator = probe_generator(agent, config)
    with agent.compute.limited():
        states = stored.states(environment)
        returns = np.zeros((config.rollouts, P))
        for rollout in range(config.rollouts):
            returns[rollout] = discounted_returns(
                environment,
                agent.policy,
                states,
                uniforms=generator.random((P, T)),
                on_step=lambda done=rollout: on_progress(done / config.rollouts),  # type: ignore[misc]
            )
        observations = environment.observe(states)
        _, predicted = agent.evaluate(observations)
        bias = _decode_bias(agent, observations)
    frame = pd.DataFrame(
        {
            "position": np.arange(P),
            "time": stored.times,
            "stored_step": stored.stored_steps,
            "age": or_missing(agent.origin.training_step) - stored.stored_steps,
            "priority": stored.priorities,
            "target": stored.targets,
            "value": returns.mean(axis=0),
            "predicted_value": predicted,
            "decode_bias": bias,
        }
    )
    return agent.label(frame)[list(UNITS)]


def _decode_bias(agent: Agent, observations: NDArray[Any]) -> Float64:
    """Returns `Support.decode_bias` `[P]` at P observations; NaN for a network without a value distribution."""
    engine = engine_for(agent.network, agent.compute)
    if engine.support is None:
        return np.full(len(observations), np.nan)
    atoms = engine.value_distribution(engine.represent(observations))
    return engine.support.decode_bias(atoms.cpu()).numpy()


def _cost(agent: Agent, config: TargetsConfig, _: int) -> Cost:
    limit = agent.environment.spec.time_limit
    positions = agent.positions
    played = config.rollouts * positions * (config.steps or limit)
    again = positions * limit  # steps to reach the positions again
    searched = cost.own_searches(agent, played)
    return searched + Cost(environment_steps=played + again, model_steps=2 * positions)


QUESTION = Question(
    config=TargetsConfig,
    units=UNITS,
    measure=measure_targets,
    cost=_cost,
    file=TARGETS,
    without=WITHOUT,
    masks=True,
)
