"""Agents that nobody trained: by hand in memory, and on disk as checkpoints made from others."""

import torch

from mzprobe.behaviour import BehaviourPolicy
from mzprobe.checkpoints import Checkpoint, spec_record, write_checkpoint
from mzprobe.config import RunConfig, SearchConfig, TrainingConfig
from mzprobe.networks.evaluate import Evaluator
from mzprobe.networks.rows import search_rows
from mzprobe.probes.prefixes import BATCH_SIZE
from mzprobe.probes.sampling import Agent
from mzprobe.search import LearnedModel


def made_agent(
    environment,
    network,
    *,
    policy=None,
    step=0,
    simulations=8,
    temperature=1.0,
    unroll_steps=3,
    batch_size=BATCH_SIZE,
):
    """An agent as `load_agent` makes it, without a checkpoint on disk.

    Args:
        environment: any.
        network: any `MuZeroNetwork`.
        policy: in the place of the search in the network.
        step: of training.
        simulations: N of the behaviour policy.
        temperature: T of the behaviour policy.
        unroll_steps: K.
        batch_size: sequences and trees held at a time.
    """
    training = TrainingConfig(unroll_steps=unroll_steps, temperatures=((0, temperature),))
    config = RunConfig(search=SearchConfig(simulations=simulations), training=training)
    spec = environment.spec
    searching = BehaviourPolicy(
        environment=environment,
        model=LearnedModel(network, num_actions=spec.num_actions, gamma=spec.gamma, rows=search_rows("cpu")),
        config=config.search,
        temperature=temperature,
        trees=batch_size,
    )
    return Agent(
        checkpoint=Checkpoint(
            run="made",
            seed=0,
            training_step=step,
            environment_steps=0,
            config=config,
            environment=spec_record(environment),
            metrics={},
            versions={},
            command="",
            weights={},
            weights_sha256="",
        ),
        environment=environment,
        network=network,
        device=torch.device("cpu"),
        policy=policy or searching,
        evaluate=Evaluator(network, num_actions=spec.num_actions),
        batch_size=batch_size,
    )


def forged(folder, source, **changes):
    """A checkpoint like another one, but for what is changed."""
    given = {
        "run": source.run,
        "seed": source.seed,
        "training_step": source.training_step,
        "environment_steps": source.environment_steps,
        "config": source.config,
        "environment": source.make_environment(),
        "metrics": {},
        "command": source.command,
        "weights": source.weights,
    }
    return write_checkpoint(folder, **(given | changes))
