"""Does planning help while acting (Figure 2)? Returns of pi^MuZero and of the policy prior, sampled and greedy."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from mzprobe.agents import Agent, or_missing
from mzprobe.behaviour import Episodes, Policy, draw_episode_numbers, play_episodes
from mzprobe.probes import cost
from mzprobe.probes.acting import as_asked
from mzprobe.probes.cost import Cost
from mzprobe.probes.question import Question
from mzprobe.probes.sampling import AGENT_UNITS, probe_generator
from mzprobe.settings import OnlineConfig

UNITS = {
    "seed": AGENT_UNITS["seed"],
    "training_step": AGENT_UNITS["training_step"],
    "environment_steps": "environment steps; that the training had taken",
    "policy": "name; behaviour acts by search, prior by the policy network alone, greedy by its likeliest action",
    "temperature": AGENT_UNITS["temperature"],
    "episode": "index; the same number is the same start",
    "return": "reward; undiscounted",
    "length": "environment steps",
    "terminated": "bool; else truncated at the time limit",
    "score": "points; undiscounted, the game's own, only where an environment tells them beside its rewards",
}


@as_asked
def measure_online(
    agent: Agent, config: OnlineConfig, *, on_progress: Callable[[float], None] = lambda _: None
) -> pd.DataFrame:
    """Runs the probe on one checkpoint: episodes of all policies from the same starts.

    Args:
        agent: the checkpoint.
        config: settings.
        on_progress: called with the fraction done.

    Returns:
        One row per policy and episode, in this order; columns as in `UNITS`, `score` only if the environment has it.
    """
    generator = probe_generator(agent, config)
    seeds, uniforms = draw_episode_numbers(generator, config.episodes, agent.environment.spec.time_limit)
    policies: dict[str, tuple[Policy, float]] = {
        "behaviour": (agent.policy, agent.temperature),
        "prior": (agent.prior, 1.0),
        "greedy": (replace(agent.prior, temperature=0.0), 0.0),
    }
    frames: list[pd.DataFrame] = []
    with agent.compute.limited():
        for name, (policy, temperature) in policies.items():
            on_progress(len(frames) / len(policies))
            played = play_episodes(agent.environment, policy, seeds=seeds, uniforms=uniforms)
            frames.append(episode_rows(played).assign(policy=name, temperature=temperature))
    rows = pd.concat(frames, ignore_index=True).assign(environment_steps=or_missing(agent.origin.environment_steps))
    return QUESTION.columns_of(agent.label(rows))


def episode_rows(played: Episodes) -> pd.DataFrame:
    """Returns one row per episode; the column `score` exists only where the environment has scores."""
    rows = pd.DataFrame(
        {
            "episode": np.arange(len(played.returns)),
            "return": played.returns,
            "length": played.lengths,
            "terminated": played.terminated,
        }
    )
    return rows if played.scores is None else rows.assign(score=played.scores)


def _cost(agent: Agent, config: OnlineConfig, _: int) -> Cost:
    acting = cost.own_episodes(agent, config.episodes)
    return acting + cost.prior_episodes(agent, config.episodes) * 2


QUESTION = Question(
    config=OnlineConfig,
    units=UNITS,
    optional=("score",),
    measure=measure_online,
    cost=_cost,
    masks=True,
    plays=True,
)
