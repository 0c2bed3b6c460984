"""Agents that nobody trained: by hand in memory, and on disk as checkpoints made from others."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mzprobe.agents import Agent, Origin
from mzprobe.checkpoints import spec_record, write_checkpoint
from mzprobe.compute import MEMORY, Compute
from mzprobe.config import SearchConfig


@dataclass(frozen=True, kw_only=True)
class ScriptedAgent(Agent):
    """Acts by a policy of the test's, without a search."""

    script: Any

    @cached_property
    def policy(self):
        return self.script


def made_agent(
    environment,
    network,
    *,
    policy=None,
    step=0,
    simulations=8,
    temperature=1.0,
    unroll_steps=3,
    memory=MEMORY,
):
    """An agent in memory.

    Args:
        environment: any.
        network: any `MuZeroNetwork`.
        policy: in the place of the search in the network.
        step: of training.
        simulations: N of the behaviour policy.
        temperature: T of the behaviour policy.
        unroll_steps: K.
        memory: bytes held at a time, about.
    """
    given = {
        "environment": environment,
        "network": network,
        "search": SearchConfig(simulations=simulations),
        "temperature": temperature,
        "unroll": unroll_steps,
        "origin": Origin(run="made", training_step=step, environment_steps=0, environment=spec_record(environment)),
        "compute": Compute(memory=memory),
    }
    return Agent(**given) if policy is None else ScriptedAgent(**given, script=policy)


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
