"""Does planning help while acting (Figure 2)? Returns of pi^MuZero and of the policy prior."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from mzprobe.behaviour import Episodes, Policy, draw_episode_numbers, play_episodes
from mzprobe.probes.sampling import Agent
from mzprobe.seeding import numpy_generator
from mzprobe.settings import OnlineConfig
from mzprobe.threads import limited_threads

UNITS = {
    "seed": "agent",
    "training_step": "steps",
    "policy": "behaviour acts by search, prior by the policy network alone",
    "temperature": "1",
    "episode": "index",
    "return": "reward, undiscounted",
    "length": "environment steps",
    "terminated": "bool; else truncated at the time limit",
}


def measure_online(
    agent: Agent, config: OnlineConfig, *, on_progress: Callable[[float], None] = lambda _: None
) -> pd.DataFrame:
    """The probe on one checkpoint: episodes of both policies from the same starts; columns as in `UNITS`."""
    checkpoint = agent.checkpoint
    generator = numpy_generator(checkpoint.seed, "probe", config.seed)
    seeds, uniforms = draw_episode_numbers(generator, config.episodes, agent.environment.spec.time_limit)
    policies: dict[str, tuple[Policy, float]] = {
        "behaviour": (agent.policy, agent.policy.temperature),
        "prior": (agent.prior, 1.0),
    }
    frames: list[pd.DataFrame] = []
    with limited_threads(checkpoint.config.training.threads):
        for name, (policy, temperature) in policies.items():
            on_progress(len(frames) / len(policies))
            played = play_episodes(agent.environment, policy, seeds=seeds, uniforms=uniforms)
            frames.append(episode_rows(played).assign(policy=name, temperature=temperature))
    return agent.label(pd.concat(frames, ignore_index=True))[list(UNITS)]


def episode_rows(played: Episodes) -> pd.DataFrame:
    """One row an episode."""
    return pd.DataFrame(
        {
            "episode": np.arange(len(played.returns)),
            "return": played.returns,
            "length": played.lengths,
            "terminated": played.terminated,
        }
    )
