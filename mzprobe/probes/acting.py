"""Behaviour policies that differ from the agent's own, as set by a question's `acting` settings."""

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any, TypeVar, cast

from mzprobe.agents import Agent
from mzprobe.settings import ActingConfig

AnyAgent = TypeVar("AnyAgent", bound=Agent)
Measure = TypeVar("Measure", bound=Callable[..., Any])


def acting_as(agent: AnyAgent, asked: ActingConfig) -> AnyAgent:
    """Returns the agent with the behaviour policy that `asked` sets; the agent itself if all settings are defaults."""
    if asked == ActingConfig():
        return agent
    changed = asked.model_dump(include={"simulations", "rule"}, exclude_none=True)
    temperature = agent.temperature if asked.temperature is None else asked.temperature
    search = agent.search.model_copy(update=changed)
    return replace(agent, search=search, temperature=temperature, root_noise=asked.noise)


def as_asked(measure: Measure) -> Measure:
    """Wraps a measure `(agent, config, *others)` so that all its agents act as `config.acting` says.

    Applying it twice changes nothing.
    """

    @wraps(measure)
    def asked(agent: Agent, config: Any, *others: list[Agent], **options: Any) -> Any:
        compared = [[acting_as(other, config.acting) for other in some] for some in others]
        return measure(acting_as(agent, config.acting), config, *compared, **options)

    return cast(Measure, asked)
