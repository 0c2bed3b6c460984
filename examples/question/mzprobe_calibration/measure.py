"""The measure, and what it costs."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from mzprobe.agents import Agent
from mzprobe.behaviour import discounted_returns
from mzprobe.probes import cost
from mzprobe.probes.sampling import draw_states
from mzprobe_calibration import UNITS, CalibrationConfig


def measure_calibration(
    agent: Agent, config: CalibrationConfig, *, on_progress: Callable[[float], None] = lambda _: None
) -> pd.DataFrame:
    """One row a state; columns as in `UNITS`."""
    environment, steps = agent.environment, config.steps or agent.environment.spec.time_limit
    with agent.compute.limited():
        sample, generator = draw_states(agent, config)
        returns = np.zeros((config.rollouts, config.states))
        for rollout in range(config.rollouts):
            on_progress(rollout / config.rollouts)
            uniforms = generator.random((config.states, steps))
            returns[rollout] = discounted_returns(environment, agent.policy, sample.states, uniforms=uniforms)
        _, predicted = agent.evaluate(environment.observe(sample.states))
    spread = returns.std(axis=0, ddof=1) if config.rollouts > 1 else np.full(config.states, np.nan)
    frame = pd.DataFrame(
        {
            "state": np.arange(config.states),
            "time": sample.time,
            "predicted_value": predicted,
            "value": returns.mean(axis=0),
            "standard_error": spread / np.sqrt(config.rollouts),
        }
    )
    return agent.label(frame)[list(UNITS)]


def cost_of_calibration(agent: Agent, config: CalibrationConfig, _: int) -> cost.Cost:
    """At most: rollouts may end before they are cut."""
    steps = config.states * config.rollouts * (config.steps or agent.environment.spec.time_limit)
    searched = cost.own_searches(agent, steps) + cost.Cost(environment_steps=steps, model_steps=config.states)
    return cost.sampling(agent, config) + searched
