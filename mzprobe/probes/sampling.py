"""What all probes share: the agent's policy at a checkpoint, and states drawn from where that policy goes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mzprobe.behaviour import BehaviourPolicy, Policy, PriorPolicy, draw_episode_numbers, play_episodes
from mzprobe.checkpoints import Checkpoint
from mzprobe.envs import Environment
from mzprobe.networks import TrainableNetwork
from mzprobe.networks.evaluate import Evaluator
from mzprobe.networks.rows import search_rows
from mzprobe.probes.prefixes import BATCH_SIZE
from mzprobe.search.models import LearnedModel

Int64 = NDArray[np.int64]

SEARCHES = 1 << 13  # trees that a probe grows at a time, at most


@dataclass(frozen=True, kw_only=True)
class Agent:
    """A checkpoint brought to life."""

    checkpoint: Checkpoint
    environment: Environment
    network: TrainableNetwork
    device: torch.device
    policy: BehaviourPolicy  # pi^MuZero: no root noise, the temperature that collected data at that step
    evaluate: Evaluator  # pi_theta and v at observations
    batch_size: int  # sequences, and trees, held at a time; no number depends on it

    @property
    def prior(self) -> PriorPolicy:
        """pi_theta, sampled."""
        return PriorPolicy(environment=self.environment, evaluate=self.evaluate)

    def label(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Puts the agent's seed and training step, and the temperature of its policy if there is none, in front."""
        if "temperature" not in frame:
            frame.insert(0, "temperature", self.policy.temperature)
        frame.insert(0, "training_step", self.checkpoint.training_step)
        frame.insert(0, "seed", self.checkpoint.seed)
        return frame


def load_agent(checkpoint: Checkpoint, device: str = "cpu", *, batch_size: int = BATCH_SIZE) -> Agent:
    """Builds the environment, the network and the behaviour policy of a checkpoint.

    Args:
        checkpoint: as read from disk.
        device: of the network.
        batch_size: sequences, and trees, that a probe holds at a time; for memory alone, no number depends on it.
    """
    environment = checkpoint.make_environment()
    network = checkpoint.make_network(environment, device)
    spec = environment.spec
    policy = BehaviourPolicy(
        environment=environment,
        model=LearnedModel(
            network, num_actions=spec.num_actions, gamma=spec.gamma, device=device, rows=search_rows(device)
        ),
        config=checkpoint.config.search,
        temperature=checkpoint.config.training.temperature(checkpoint.training_step),
        trees=min(SEARCHES, batch_size),
    )
    return Agent(
        checkpoint=checkpoint,
        environment=environment,
        network=network,
        device=torch.device(device),
        policy=policy,
        evaluate=Evaluator(network, num_actions=spec.num_actions, device=device),
        batch_size=batch_size,
    )


@dataclass(frozen=True, kw_only=True)
class Sample:
    """S states from the on-policy distribution d_pi."""

    states: Any  # S states
    episode: Int64  # [S], which episode each is from
    time: Int64  # [S], at which time step

    def take(self, chosen: Int64) -> "Sample":
        """Some of the states."""
        return Sample(states=self.states.take(chosen), episode=self.episode[chosen], time=self.time[chosen])


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
