"""All questions by name: ours, each with its probe, and those of installed packages."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import pandas as pd

from mzprobe.agents import Agent
from mzprobe.config import validated
from mzprobe.errors import UsageError
from mzprobe.probes.question import Question, plugged_questions

_OURS = (
    "online",
    "horizon",
    "sequences",
    "cross",
    "search_error",
    "planning",
    "equivalence",
    "improvement",
    "targets",
    "operators",
    "inspect",
)


def _questions() -> dict[str, Question]:
    ours = [import_module(f"mzprobe.probes.{name}").QUESTION for name in _OURS]
    return {question.name: question for question in (*ours, *plugged_questions())}


PROBES = _questions()


def measure(agent: Agent, question: str, *, others: Sequence[Agent] = (), **settings: Any) -> pd.DataFrame:
    """Asks an agent a question: the rows of its table.

    Args:
        agent: that is asked.
        question: its name, such as `horizon`; the names are those of the tables.
        others: for `cross` those whose policies, for `equivalence` those whose values the model is asked about; the
            agent's own without any.
        **settings: of the question; what is left out is as on the command line.

    Raises:
        UsageError: if there is no such question, or a setting is not one of its.
    """
    if question not in PROBES:
        raise UsageError(f"there is no question {question}: choose among {', '.join(PROBES)}")
    probe = PROBES[question]
    if others and not probe.pair:
        raise UsageError(f"{question} asks about one agent: leave the others out")
    config = validated(probe.config, settings, question)
    return probe.ask(agent, config, *([list(others) or [agent]] if probe.pair else []))
