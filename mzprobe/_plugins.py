"""Factories that a user names as `module:attribute`."""

import importlib
from typing import Any

from mzprobe.errors import UsageError


def load_attribute(name: str) -> Any:
    """Imports what `module:attribute` names.

    Raises:
        UsageError: if there is no such module or attribute.
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ImportError as reason:
        raise UsageError(f"{name} cannot be imported ({reason}): is the module on PYTHONPATH?") from reason
    except AttributeError:
        raise UsageError(f"{name} cannot be imported: module {module} has no {attribute}") from None
