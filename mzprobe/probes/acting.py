"""Agents that act otherwise than they were trained: what a question's settings say of the behaviour policy."""

from dataclasses import replace
from typing import TypeVar

from mzprobe.agents import Agent
from mzprobe.settings import ActingConfig

AnyAgent = TypeVar("AnyAgent", bound=Agent)


def acting_as(agent: AnyAgent, asked: ActingConfig) -> AnyAgent:
    """The agent with another behaviour policy; itself where nothing is asked for."""
    if asked == ActingConfig():
        return agent
    changed = asked.model_dump(include={"simulations", "rule"}, exclude_none=True)
    temperature = agent.temperature if asked.temperature is None else asked.temperature
    search = agent.search.model_copy(update=changed)
    return replace(agent, search=search, temperature=temperature, root_noise=asked.noise)
