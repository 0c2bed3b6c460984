"""Trust in code: code that a file names runs only if the user allows its module; see docs/trust.md."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from mzprobe.errors import UsageError
from mzprobe.names import ATARI, GYM

_CODE = re.compile(r"([^:]*):.*", re.DOTALL)  # module:attribute, or module:ID in Gymnasium


def refuse_code(values: Mapping[str, Any], *, allow: Sequence[str], source: object) -> None:
    """Refuses a configuration from a file that names code of a module that is not allowed.

    Registered names, `atari:GAME` and plain `gym:ID` are always allowed: they name code of mzprobe, of ALE, of
    Gymnasium and of installed packages that extend it.

    Args:
        values: values of the configuration, nested as in a file.
        allow: allowed modules; a package includes all its modules.
        source: the file, for the error message.

    Raises:
        UsageError: if code is not allowed; names the code. None of it has run.
    """
    for key, name, module in named_code(values):
        if not any(module == one or module.startswith(f"{one}.") for one in allow):
            raise UsageError(
                f"{source} names code to run, {name!r} of module {module} ({key}): if you trust it, repeat with "
                f"--allow {module} (in Python allow=[{module!r}])"
            )


def named_code(values: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yields each key of a configuration that names code, with that name and the module that would be imported."""
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
    """Returns the modules that a configuration names, to allow them where the user asked to run it."""
    return tuple(module for _, _, module in named_code(config.model_dump()))


def _section(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name, {})
    return found if isinstance(found, Mapping) else {}


def _texts(value: Any) -> Iterator[str]:
    """Yields all texts in an option of a Gymnasium environment; some environments make another one by such an ID."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _texts(part)
