"""Estimates how long the training of an agent takes on this machine, from short measurements of its parts.

Searches are priced like those of probes (see `mzprobe.probes.cost`); an optimiser step is timed on a made-up episode.
"""

import numpy as np

from mzprobe import networks
from mzprobe.agents import Agent
from mzprobe.config import RunConfig, TrainingConfig
from mzprobe.envs.core import is_masked
from mzprobe.probes.cost import Cost, Speeds, own_episodes, own_searches, shortest
from mzprobe.seeding import numpy_generator, torch_generator
from mzprobe.training.episodes import Episode
from mzprobe.training.learner import Learner
from mzprobe.training.replay import Replay

_LENGTH = 64  # steps of the made-up episode in addition to K + n


def training_seconds(config: RunConfig, speeds: Speeds) -> float:
    """Estimates the seconds that the training of one agent takes, with evaluation episodes of full length.

    Args:
        config: configuration of the run.
        speeds: speeds of an agent of that run, trained or not.
    """
    training, agent = config.training, speeds.agent
    evaluations = 0 if config.offline else 1 + training.steps // training.evaluation_interval
    evaluated = own_episodes(agent, evaluations * training.evaluation_episodes)
    played = own_searches(agent, steps_played(config)) + Cost(environment_steps=steps_played(config))
    return (
        training.steps * _step_seconds(config, agent)
        + _priced(played, speeds, trees=training.environments)
        + _priced(own_searches(agent, targets_made_anew(config)), speeds, trees=config.reanalyse.batch_size)
        + _priced(evaluated, speeds, trees=training.evaluation_episodes)
    )


def steps_played(config: RunConfig, left: int | None = None) -> int:
    """Estimates the environment steps of self-play that a run of this configuration takes.

    Args:
        config: configuration of the run.
        left: training steps still to do, by default all; only all of them include the warm-up.
    """
    training = config.training
    left = training.steps if left is None else left
    warmup = training.warmup_environment_steps if left == training.steps else 0
    return 0 if config.offline else warmup + round(left / training.training_ratio)


def targets_made_anew(config: RunConfig) -> int:
    """Estimates the searches at stored positions, for reanalysis, that a run of this configuration makes."""
    fraction = config.reanalyse.fraction
    if config.offline:
        return config.training.steps * config.dataset.targets_per_step if fraction else 0
    return round((steps_played(config) - config.training.warmup_environment_steps) * fraction / (1 - fraction))


def _priced(cost: Cost, speeds: Speeds, *, trees: int) -> float:
    return speeds.seconds(cost, trees=trees) if cost.searches else 0.0


def _step_seconds(config: RunConfig, agent: Agent) -> float:
    """Measures the seconds of one optimiser step, including sampling and targets."""
    spec = agent.environment.spec
    network = networks.build(config.network, spec, torch_generator(0, "network")).to(agent.compute.device)
    T = config.training.unroll_steps + config.training.n_step + _LENGTH
    training = config.training.model_copy(update={"replay_capacity": T + 2, "keep_best": None})
    replay, generator = _filled(training, agent, T), numpy_generator(0, "replay")
    learner = Learner(network, training, compute=agent.compute)

    def step() -> None:
        learner.step(replay.batch(replay.draw(generator, training.batch_size), generator), 0)

    with agent.compute.limited():
        return shortest(step)


def _filled(training: TrainingConfig, agent: Agent, T: int) -> Replay:
    """Returns a buffer with one made-up episode of T steps, which stays in its first state and has rewards of 0."""
    environment = agent.environment
    replay = Replay.of(environment, training)
    A, start = environment.spec.num_actions, environment.observe(environment.reset([0]))
    replay.add(
        Episode(
            observations=np.repeat(start, T + 1, axis=0),
            actions=np.arange(T) % A,
            rewards=np.zeros(T),
            policies=np.full((T + 1, A), 1 / A),
            root_values=np.zeros(T + 1),
            terminated=False,
            legal=np.ones((T + 1, A), dtype=np.bool_) if is_masked(environment) else None,
        )
    )
    return replay
