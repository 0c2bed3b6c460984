"""What others add: factories that a user names as `module:attribute`, and entry points of installed packages."""

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
    """Imports what `module:attribute` names.

    Args:
        name: of it.
        called: whether it must be a callable.

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
    except (Exception, SystemExit) as reason:  # anybody's code
        raise UsageError(f"{name}: cannot import '{module_name}' ({raised(reason)}): mend it") from reason
    factory = getattr(module, attribute, None)
    if factory is None or (called and not callable(factory)):
        what = "callable" if called else "attribute"
        raise UsageError(
            f"{name}: module '{module_name}' has no {what} '{attribute}'{nearest(attribute, vars(module))}"
        )
    return factory


def plugged(group: str) -> list[Any]:
    """What installed packages offer: the objects of a group's entry points, by their names.

    What cannot be imported is left out with a warning: a package that is broken stops nothing else.
    """
    found = []
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        try:
            found.append(point.load())
        except MemoryError:
            raise
        except (Exception, SystemExit) as reason:  # anybody's code
            said = f"{point.name} of an installed package ({point.value}) is left out ({raised(reason)})"
            warnings.warn(f"{said}: mend the package, or uninstall it", MzprobeWarning, stacklevel=2)
    return found


def raised(reason: BaseException) -> str:
    """What somebody's code raised, in one line."""
    said = f": {reason}" if str(reason) else ""
    return one_line(f"it raised {type(reason).__name__}{said}")


def kind_of(made: Any) -> str:
    """What somebody's code gave, in a few words."""
    return "None" if made is None else f"the class {made.__name__}" if isinstance(made, type) else type(made).__name__


def is_ours(thing: object) -> bool:
    """Whether its class is one of this package's."""
    return type(thing).__module__.partition(".")[0] == __name__.partition(".")[0]


class LookedAt:
    """Objects that were looked at in this process, by identity: they need not be hashable."""

    def __init__(self) -> None:
        self._known: WeakValueDictionary[int, object] = WeakValueDictionary()

    def __contains__(self, thing: object) -> bool:
        return thing is not None and self._known.get(id(thing)) is thing

    def add(self, thing: object) -> None:
        """Remembers it for as long as it lives; one of a class that has no weak references is looked at again."""
        with suppress(TypeError):
            self._known[id(thing)] = thing


def nearest(word: str, known: Iterable[str]) -> str:
    """`, did you mean ...?`, or nothing where no known name is near."""
    close = difflib.get_close_matches(word, sorted(known), n=1)
    return f", did you mean '{close[0]}'?" if close else ""
