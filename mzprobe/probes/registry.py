"""All questions by name: ours, each with its probe, and those of installed packages."""

from importlib import import_module
from importlib.metadata import entry_points

from mzprobe.probes.question import Question

GROUP = "mzprobe.questions"  # of entry points, each a `Question`
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
)


def _questions() -> dict[str, Question]:
    found = [import_module(f"mzprobe.probes.{name}").QUESTION for name in _OURS]
    found += [point.load() for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)]
    return {question.name: question for question in found}


PROBES = _questions()
