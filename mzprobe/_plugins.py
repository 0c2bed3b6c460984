"""Factories that a user names as `module:attribute`."""

import difflib
import importlib
from collections.abc import Iterable
from typing import Any

from mzprobe.errors import UsageError


def load_attribute(name: str) -> Any:
    """Imports what `module:attribute` names.

    Raises:
        UsageError: if there is no such module or attribute.
    """
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as reason:
        raise UsageError(f"{name}: cannot import '{module_name}' ({reason}), is it on PYTHONPATH?") from reason
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise UsageError(
            f"{name}: module '{module_name}' has no callable '{attribute}'{nearest(attribute, vars(module))}"
        )
    return factory


def nearest(word: str, known: Iterable[str]) -> str:
    """`, did you mean ...?`, or nothing where no known name is near."""
    close = difflib.get_close_matches(word, sorted(known), n=1)
    return f", did you mean '{close[0]}'?" if close else ""
