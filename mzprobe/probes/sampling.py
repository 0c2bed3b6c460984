"""Functions that all probes share: their random numbers, and states that the agent's policy visits."""

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
STATE_UNITS = {"state": "index", "episode": "index", "time": "environment steps"}  # columns of a sampled state


def rollout_seed(agent: Agent, seed: int) -> int:
    """Returns the seed of an agent's rollouts in a probe, given the probe's seed."""
    return int(sequence(agent.origin.seed, "probe", seed, 1).generate_state(1)[0])


@dataclass(frozen=True, kw_only=True)
class Sample:
    """S states from the on-policy distribution d_pi."""

    states: Any  # S states
    episode: Int64  # [S], episode of each state
    time: Int64  # [S], time step of each state in its episode

    def take(self, chosen: Int64) -> "Sample":
        """Returns the sample of the states with the indices `chosen`."""
        return Sample(states=self.states.take(chosen), episode=self.episode[chosen], time=self.time[chosen])


def largest_horizon(given: int | None, agent: Agent) -> int:
    """Returns the given horizon, else the unroll length of training.

    Raises:
        UsageError: if no horizon is given, and the model was not unrolled in training or it is unknown how far.
    """
    if given is None and agent.unroll is None:
        raise UsageError("how far the model was unrolled in training is not known: choose a --horizon")
    if given is None and agent.unroll == 0:
        raise UsageError("the agent was trained with training.unroll_steps=0, its model was not: choose a --horizon")
    return given or agent.unroll or 0


def probe_generator(agent: Agent, config: ProbeConfig) -> np.random.Generator:
    """Returns the generator of an agent's episodes, states and sequences in a probe; the same at every checkpoint."""
    return numpy_generator(agent.origin.seed, "probe", config.seed)


def draw_states(agent: Agent, config: StatesConfig) -> tuple[Sample, np.random.Generator]:
    """Draws S states that the agent's behaviour policy visits; returns them with the generator, for further draws.

    Args:
        agent: agent whose policy plays.
        config: settings, of which `states` (S), `episodes` and `seed` determine the states.
    """
    generator = probe_generator(agent, config)
    sample = sample_states(
        agent.environment, agent.policy, states=config.states, episodes=config.episodes, generator=generator
    )
    return sample, generator


def sample_states(
    environment: Environment, policy: Policy, *, states: int, episodes: int, generator: np.random.Generator
) -> Sample:
    """Plays whole episodes and draws states uniformly over all their time steps, sorted by time, then by episode.

    States are drawn without replacement, unless the episodes have fewer time steps than `states`.

    Args:
        environment: environment that is played.
        policy: policy that acts.
        states: number of states to draw.
        episodes: number of episodes to play.
        generator: draws start seeds, actions and states.
    """
    seeds, uniforms = draw_episode_numbers(generator, episodes, environment.spec.time_limit)
    played = play_episodes(environment, policy, seeds=seeds, uniforms=uniforms, keep_states=True)
    steps = len(played.time)
    chosen = np.sort(generator.choice(steps, size=states, replace=steps < states))
    return Sample(states=played.states.take(chosen), episode=played.episode[chosen], time=played.time[chosen])
