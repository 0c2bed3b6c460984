"""Loading of third-party code: factories named as `module:attribute`, and entry points of installed packages."""

import difflib
import importlib
import warnings
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import entry_points
from typing import Any
from weakref import WeakValueDictionary

from mzprobe.errors import MzprobeWarning, UsageError
from mzprobe.lines import one_line


def load_attribute(name: str, *, called: bool = True) -> Any:
    """Imports the attribute that `module:attribute` names.

    Args:
        name: `module:attribute`.
        called: whether the attribute must be callable.

    Raises:
        UsageError: if there is no such module or attribute, or the module cannot be imported.
    """
    module_name, _, attribute = name.partition(":")
    if module_name.startswith("."):
        raise UsageError(f"{name}: '{module_name}' is relative to nothing: name the module as it is imported")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as reason:
        raise UsageError(f"{name}: cannot import '{module_name}' ({reason}), is it on PYTHONPATH?") from reason
    except MemoryError:
        raise
    except (Exception, SystemExit) as reason:  # third-party code may raise anything
        raise UsageError(f"{name}: cannot import '{module_name}' ({raised(reason)}): mend it") from reason
    factory = getattr(module, attribute, None)
    if factory is None or (called and not callable(factory)):
        what = "callable" if called else "attribute"
        raise UsageError(
            f"{name}: module '{module_name}' has no {what} '{attribute}'{nearest(attribute, vars(module))}"
        )
    return factory


def plugged(group: str) -> list[Any]:
    """Returns the objects of a group's entry points in installed packages, sorted by name.

    An entry point that cannot be imported is skipped with a warning, so that a broken package stops nothing else.
    """
    found = []
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        try:
            found.append(point.load())
        except MemoryError:
            raise
        except (Exception, SystemExit) as reason:  # third-party code may raise anything
            said = f"{point.name} of an installed package ({point.value}) is left out ({raised(reason)})"
            warnings.warn(f"{said}: mend the package, or uninstall it", MzprobeWarning, stacklevel=2)
    return found


def raised(reason: BaseException) -> str:
    """Describes an exception that third-party code raised, in one line."""
    said = f": {reason}" if str(reason) else ""
    return one_line(f"it raised {type(reason).__name__}{said}")


def kind_of(made: Any) -> str:
    """Describes the type of an object that third-party code returned, in a few words."""
    return "None" if made is None else f"the class {made.__name__}" if isinstance(made, type) else type(made).__name__


def is_ours(thing: object) -> bool:
    """Whether the object's class is defined in this package."""
    return type(thing).__module__.partition(".")[0] == __name__.partition(".")[0]


class LookedAt:
    """Set of objects that were checked in this process, by identity, so that they need not be hashable."""

    def __init__(self) -> None:
        self._known: WeakValueDictionary[int, object] = WeakValueDictionary()

    def __contains__(self, thing: object) -> bool:
        return thing is not None and self._known.get(id(thing)) is thing

    def add(self, thing: object) -> None:
        """Adds an object for as long as it lives; one that cannot be weakly referenced is not added."""
        with suppress(TypeError):
            self._known[id(thing)] = thing


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns `, did you mean '...'?` with the known name closest to `word`, or an empty string if none is close."""
    close = difflib.get_close_matches(word, sorted(known), n=1)
    return f", did you mean '{close[0]}'?" if close else ""
