"""What all probes share: the agent's policy at a checkpoint, and states drawn from where that policy goes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mzprobe.behaviour import BehaviourPolicy, Policy, draw_episode_numbers, play_episodes
from mzprobe.checkpoints import Checkpoint
from mzprobe.envs import Environment
from mzprobe.networks import TrainableNetwork
from mzprobe.search.models import LearnedModel

Int64 = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Agent:
    """A checkpoint brought to life."""

    checkpoint: Checkpoint
    environment: Environment
    network: TrainableNetwork
    device: torch.device
    policy: BehaviourPolicy  # pi^MuZero: no root noise, the temperature that collected data at that step


def load_agent(checkpoint: Checkpoint, device: str = "cpu") -> Agent:
    """Builds the environment, the network and the behaviour policy of a checkpoint."""
    environment = checkpoint.make_environment()
    network = checkpoint.make_network(environment, device)
    spec = environment.spec
    policy = BehaviourPolicy(
        environment=environment,
        model=LearnedModel(network, num_actions=spec.num_actions, gamma=spec.gamma, device=device),
        config=checkpoint.config.search,
        temperature=checkpoint.config.training.temperature(checkpoint.training_step),
    )
    return Agent(
        checkpoint=checkpoint,
        environment=environment,
        network=network,
        device=torch.device(device),
        policy=policy,
    )


@dataclass(frozen=True, kw_only=True)
class Sample:
    """S states from the on-policy distribution d_pi."""

    states: Any  # S states
    episode: Int64  # [S], which episode each is from
    time: Int64  # [S], at which time step


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
