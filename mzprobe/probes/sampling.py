"""What all probes share: the agent's policy at a checkpoint, and states drawn from where that policy goes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mzprobe.agents import Agent
from mzprobe.behaviour import Policy, draw_episode_numbers, play_episodes
from mzprobe.envs import Environment
from mzprobe.errors import UsageError
from mzprobe.seeding import numpy_generator, sequence
from mzprobe.settings import ProbeConfig, StatesConfig

Int64 = NDArray[np.int64]

AGENT_UNITS = {"seed": "index; the agent", "training_step": "training steps", "temperature": "1; T of the policy"}
STATE_UNITS = {"state": "index", "episode": "index", "time": "environment steps"}  # of a sampled state


def rollout_seed(agent: Agent, seed: int) -> int:
    """Seed of an agent's rollouts in a probe."""
    return int(sequence(agent.origin.seed, "probe", seed, 1).generate_state(1)[0])


@dataclass(frozen=True, kw_only=True)
class Sample:
    """S states from the on-policy distribution d_pi."""

    states: Any  # S states
    episode: Int64  # [S], which episode each is from
    time: Int64  # [S], at which time step

    def take(self, chosen: Int64) -> "Sample":
        """Some of the states."""
        return Sample(states=self.states.take(chosen), episode=self.episode[chosen], time=self.time[chosen])


def largest_horizon(given: int | None, agent: Agent) -> int:
    """The horizon asked for, else the unroll length of training.

    Raises:
        UsageError: if there is neither: the model was never unrolled, or nobody knows how far.
    """
    if given is None and agent.unroll is None:
        raise UsageError("how far the model was unrolled in training is not known: choose a --horizon")
    if given is None and agent.unroll == 0:
        raise UsageError("the agent was trained with training.unroll_steps=0, its model was not: choose a --horizon")
    return given or agent.unroll or 0


def probe_generator(agent: Agent, config: ProbeConfig) -> np.random.Generator:
    """What draws an agent's episodes, states and sequences in a probe: the same at every checkpoint."""
    return numpy_generator(agent.origin.seed, "probe", config.seed)


def draw_states(agent: Agent, config: StatesConfig) -> tuple[Sample, np.random.Generator]:
    """S states that the agent's behaviour policy visits, and the generator, which may draw further.

    Args:
        agent: whose policy plays.
        config: `states` (S), `episodes` and `seed` decide which.
    """
    generator = probe_generator(agent, config)
    sample = sample_states(
        agent.environment, agent.policy, states=config.states, episodes=config.episodes, generator=generator
    )
    return sample, generator


def sample_states(
    environment: Environment, policy: Policy, *, states: int, episodes: int, generator: np.random.Generator
) -> Sample:
    """Plays whole episodes and draws states uniformly over their time steps.

    Without replacement, unless the episodes have fewer time steps than states are asked for.
    """
    seeds, uniforms = draw_episode_numbers(generator, episodes, environment.spec.time_limit)
    played = play_episodes(environment, policy, seeds=seeds, uniforms=uniforms, keep_states=True)
    steps = len(played.time)
    chosen = np.sort(generator.choice(steps, size=states, replace=steps < states))
    return Sample(states=played.states.take(chosen), episode=played.episode[chosen], time=played.time[chosen])
