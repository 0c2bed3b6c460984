"""All questions by name: those of mzprobe's own probes, and those of installed packages."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import pandas as pd

from mzprobe.agents import Agent
from mzprobe.config import validated
from mzprobe.errors import UsageError
from mzprobe.probes.question import Question
from mzprobe.settings import StepsConfig, plugged_questions


def _questions() -> dict[str, Question]:
    ours = [import_module(f"mzprobe.probes.{name}").QUESTION for name in StepsConfig.model_fields]
    return {question.name: question for question in (*ours, *plugged_questions())}


PROBES = _questions()


def question_of(given: str | Question) -> Question:
    """Returns the question of a name, or a `Question` as it is.

    Raises:
        UsageError: if there is no question of that name.
    """
    if not isinstance(given, str):
        return given
    if given not in PROBES:
        raise UsageError(f"there is no question {given}: choose among {', '.join(PROBES)}")
    return PROBES[given]


def measure(
    agent: Agent,
    question: str | Question,
    *,
    others: Sequence[Agent] = (),
    on_progress: Callable[[float], None] = lambda _: None,
    **settings: Any,
) -> pd.DataFrame:
    """Asks an agent a question and returns the rows of its table.

    Args:
        agent: agent that is measured.
        question: name of the question, such as `horizon`, which is also that of its table; or a `Question` of your own.
        others: for `cross`, the agents whose policies are evaluated; for `equivalence`, those whose value heads are
            used. By default only the agent itself.
        on_progress: called periodically with the fraction done, from 0 to 1.
        **settings: settings of the question; the others have the defaults of the command line.

    Raises:
        UsageError: if there is no such question or setting, a setting is invalid, `others` are given to a question
            about a single agent or are agents of another environment, or the measure itself refuses the agent.
    """
    probe = question_of(question)
    if others and not probe.pair:
        raise UsageError(f"{probe.name} asks about one agent: leave the others out")
    for other in others:
        if other.environment.spec != agent.environment.spec:
            raise UsageError(
                f"{probe.name} asks about agents of one environment, and {other.environment.spec.name} is not "
                f"{agent.environment.spec.name} with the same discount, time limit and observations: leave it out"
            )
    config = validated(probe.config, settings, probe.name)
    return probe.ask(agent, config, *([list(others) or [agent]] if probe.pair else []), on_progress=on_progress)
