"""Which code may run: code that a file names runs only if the user allows its module; see docs/trust.md."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from mzprobe.errors import UsageError
from mzprobe.names import ATARI, GYM

_CODE = re.compile(r"([^:]*):.*", re.DOTALL)  # module:attribute, and Gymnasium's module:ID, whatever it is called


def refuse_code(values: Mapping[str, Any], *, allow: Sequence[str], source: object) -> None:
    """Refuses a configuration that comes from a file and names code of a module that is not allowed.

    Registered names, `atari:GAME` and plain `gym:ID` are code of mzprobe, of ALE, of Gymnasium and of what is installed
    to extend it.

    Args:
        values: of the configuration, nested as in a file.
        allow: modules; of a package all that lies in it.
        source: the file, for the sentence.

    Raises:
        UsageError: naming the code that would run, before any of it does.
    """
    for key, name, module in named_code(values):
        if not any(module == one or module.startswith(f"{one}.") for one in allow):
            raise UsageError(
                f"{source} names code to run, {name!r} of module {module} ({key}): if you trust it, repeat with "
                f"--allow {module} (in Python allow=[{module!r}])"
            )


def named_code(values: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Keys of a configuration that name code, with the name and the module that would be imported."""
    environment, network = (_section(values, name) for name in ("environment", "network"))
    kind = str(network.get("kind", ""))
    named = _CODE.match(kind)
    if named:
        yield "network.kind", kind, named[1]
    name = str(environment.get("name", ""))
    if name.startswith(GYM):
        texts = [("environment.name", name.removeprefix(GYM))]
        texts += [("environment.options", text) for text in _texts(environment.get("options"))]
    else:
        texts = [] if name.startswith(ATARI) else [("environment.name", name)]
    for key, text in texts:
        named = _CODE.match(text)
        if named:
            yield key, text, named[1]


def modules_of(config: BaseModel) -> tuple[str, ...]:
    """The modules that a configuration names, for whoever has been told to run it and what it makes."""
    return tuple(module for _, _, module in named_code(config.model_dump()))


def _section(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name, {})
    return found if isinstance(found, Mapping) else {}


def _texts(value: Any) -> Iterator[str]:
    """All texts in an option of a Gymnasium environment, some of which make another one by its id."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _texts(part)
