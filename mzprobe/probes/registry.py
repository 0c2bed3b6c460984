"""All questions by name: ours, each with its probe, and those of installed packages."""

from importlib import import_module

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
