"""What all probes share: the agent's policy at a checkpoint, and states drawn from where that policy goes."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mzprobe.behaviour import BehaviourPolicy, Policy, PriorPolicy, draw_episode_numbers, play_episodes
from mzprobe.checkpoints import Checkpoint
from mzprobe.envs import Environment
from mzprobe.errors import UsageError
from mzprobe.networks import MuZeroNetwork, TrainableNetwork
from mzprobe.networks.evaluate import Evaluator
from mzprobe.networks.rows import search_rows
from mzprobe.probes.prefixes import BATCH_SIZE
from mzprobe.search.models import AdvisedModel, LeafValue, Model, PlanningModel, Prior, planning_in
from mzprobe.seeding import numpy_generator, sequence
from mzprobe.settings import ProbeConfig, StatesConfig

Int64 = NDArray[np.int64]

PriorAt = Literal["latent", "state"]  # where the policy network is asked: unrolled, or encoded anew

SEARCHES = 1 << 13  # trees that a probe grows at a time, at most

AGENT_UNITS = {"seed": "index; the agent", "training_step": "training steps", "temperature": "1; T of the policy"}
STATE_UNITS = {"state": "index", "episode": "index", "time": "environment steps"}  # of a sampled state


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
    policy = BehaviourPolicy(
        environment=environment,
        model=_planning_in(checkpoint.config.training.plan_in, environment, network, device),
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
        evaluate=Evaluator(network, num_actions=environment.spec.num_actions, device=device),
        batch_size=batch_size,
    )


def own_place(model: Model) -> PriorAt:
    """Where a model asks the policy network by itself."""
    return "latent" if model == "learned" else "state"


def planned_models(agent: Agent) -> tuple[Model, ...]:
    """The models that can be planned in: an agent that was trained without unrolling (K = 0) has learned none."""
    return get_args(Model) if agent.checkpoint.config.training.unroll_steps > 0 else ("true",)


def planning_model(
    agent: Agent, model: Model, prior: Prior, leaf: LeafValue, *, prior_at: PriorAt | None = None
) -> PlanningModel:
    """The agent's learned model, or the true one with the agent's policy and value.

    Args:
        agent: whose network it is.
        model: what is planned in.
        prior: the policy network's, or uniform.
        leaf: what a leaf is worth.
        prior_at: where the policy network is asked below the root: at the unrolled latent, or at the real state that
            the same actions lead to; without it, where the model itself stands.
    """
    if prior == "policy" and prior_at not in (None, own_place(model)):
        planned = planning_model(agent, model, "uniform", leaf)
        return AdvisedModel(planned, planning_model(agent, "true" if model == "learned" else "learned", prior, "value"))
    return _planning_in(model, agent.environment, agent.network, agent.device, prior=prior, leaf=leaf)


def _planning_in(
    model: Model, environment: Environment, network: MuZeroNetwork, device: torch.device | str, **options: Any
) -> PlanningModel:
    """With calls of so many rows that a table is the same whatever the batch."""
    return planning_in(model, environment, network, device=device, rows=search_rows(device), **options)


def rollout_seed(agent: Agent, seed: int) -> int:
    """Seed of an agent's rollouts in a probe."""
    return int(sequence(agent.checkpoint.seed, "probe", seed, 1).generate_state(1)[0])


@dataclass(frozen=True, kw_only=True)
class Sample:
    """S states from the on-policy distribution d_pi."""

    states: Any  # S states
    episode: Int64  # [S], which episode each is from
    time: Int64  # [S], at which time step

    def take(self, chosen: Int64) -> "Sample":
        """Some of the states."""
        return Sample(states=self.states.take(chosen), episode=self.episode[chosen], time=self.time[chosen])


def largest_horizon(given: int | None, checkpoint: Checkpoint) -> int:
    """The horizon asked for, else the unroll length of training.

    Raises:
        UsageError: if there is neither: the model was never unrolled.
    """
    if given is None and checkpoint.config.training.unroll_steps == 0:
        raise UsageError("the agent was trained with training.unroll_steps=0, its model was not: choose a --horizon")
    return given or checkpoint.config.training.unroll_steps


def probe_generator(agent: Agent, config: ProbeConfig) -> np.random.Generator:
    """What draws an agent's episodes, states and sequences in a probe: the same at every checkpoint."""
    return numpy_generator(agent.checkpoint.seed, "probe", config.seed)


def draw_states(agent: Agent, config: StatesConfig) -> tuple[Sample, np.random.Generator]:
    """S states that the agent's behaviour policy visits, and the generator, which may draw further."""
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
