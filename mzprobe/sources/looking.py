"""Describes an agent in a few lines, for people to read."""

from collections.abc import Iterator

import numpy as np
import torch

from mzprobe.agents import Agent, Origin
from mzprobe.behaviour import Episodes
from mzprobe.networks.engine import engine_for

_LAST = 0.5  # probability of an outermost atom from which a value counts as saturated


def described(agent: Agent) -> Iterator[str]:
    """Yields lines on an agent's provenance, network, environment and search, and on what is assumed."""
    origin, spec, search = agent.origin, agent.environment.spec, agent.search
    steps = "" if origin.environment_steps is None else f", {origin.environment_steps:,} environment steps"
    at = "unknown" if origin.training_step is None else f"{origin.training_step:,}"
    yield f"source: {origin.source}, run {origin.run}, seed {origin.seed}, training step {at}{steps}"
    yield f"network: {_network(agent)}"
    yield (
        f"environment: {spec.name}, {spec.source}; observes {spec.observation_shape}, {spec.num_actions} actions, "
        f"gamma {spec.gamma:g}, {spec.time_limit} steps"
    )
    unrolled = "unknown" if agent.unroll is None else agent.unroll
    yield f"search: {search.rule}, N = {search.simulations}, T = {agent.temperature:g}; K = {unrolled}"
    yield from assumed(origin)


def assumed(origin: Origin) -> Iterator[str]:
    """Yields the sources of facts that the agent's file does not hold, and how its environment differed from ours."""
    by_place: dict[str, list[str]] = {}
    for fact, place in origin.facts.items():
        by_place.setdefault(place, []).append(fact)
    for place, facts in by_place.items():
        yield f"assumed: {', '.join(facts)}, from {place}"
    for difference in origin.differences:
        yield f"differs: {difference}"


def support_said(agent: Agent, episodes: Episodes) -> Iterator[str]:
    """Yields whether values saturate the support, and whether true values lie outside of it.

    Args:
        agent: agent whose support it is.
        episodes: episodes that the agent played, with their states.
    """
    engine = engine_for(agent.network, agent.compute)
    support = engine.support
    if support is None:
        yield "support: none that is known"
        return
    with agent.compute.limited():
        atoms = engine.value_distribution(engine.represent(agent.environment.observe(episodes.states))).cpu()
    share = float(np.mean((atoms[:, [0, -1]].amax(dim=1) > _LAST).numpy()))
    low, high = (float(support.decoded(torch.tensor(end))) for end in (support.minimum, support.maximum))
    of_values = f"{share:.0%} of its values lie at an end"
    yield f"support: {support.atoms} atoms, values from {low:.4g} to {high:.4g}; {of_values}"
    true = episodes.discounted(agent.environment.spec.gamma)
    beyond = float(np.mean((true < low) | (true > high)))
    yield f"true values: from {true.min():.4g} to {true.max():.4g}; {beyond:.0%} lie outside the support"


def _network(agent: Agent) -> str:
    network = agent.network
    kind = type(network).__name__
    if not isinstance(network, torch.nn.Module):
        return kind
    count = sum(tensor.numel() for tensor in network.state_dict().values() if tensor.is_floating_point())
    return f"{kind}, {count:,} weights"
