"""Reads TOML files and `key=value` words of the command line as plain values."""

import difflib
import json
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from mzprobe.errors import UsageError
from mzprobe.files import read_bytes
from mzprobe.values import refuse_deep


def shipped(kind: str = "presets") -> tuple[str, ...]:
    """Returns the names of the presets, or of another kind such as `presets/studies`, that come with the package."""
    folder = resources.files("mzprobe").joinpath(kind)
    return tuple(sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml")))


def read_toml(name: str, kind: str) -> dict[str, Any]:
    """Reads a shipped TOML file of a kind (`presets` or `presets/studies`), or one at a path that ends in `.toml`.

    Raises:
        UsageError: if there is no such file, or it is not valid TOML.
    """
    if name.endswith(".toml"):
        remedy = f"give the path of a TOML file or one of {_listed(kind)}"
        data = read_bytes(Path(name), error=UsageError, remedy=remedy)
    elif name in shipped(kind):
        data = resources.files("mzprobe").joinpath(kind, f"{name}.toml").read_bytes()
    else:
        near = [f"{name}.toml"] if lies_here(name) else difflib.get_close_matches(name, shipped(kind), n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {_listed(kind)}"
        what = "study" if kind.endswith("studies") else "preset"
        raise UsageError(f"there is no {what} {name}: {hint}")
    try:
        values = tomllib.loads(data.decode("utf-8"))
        refuse_deep(values)
    except RecursionError:
        raise UsageError(f"{name} is not valid TOML: it is nested too deeply") from None
    except ValueError as reason:  # includes bytes that are not UTF-8 and numbers with thousands of digits
        raise UsageError(f"{name} is not valid TOML: {reason}") from None
    return values


def lies_here(name: str) -> bool:
    """Whether the working directory has the file `<name>.toml`, so that only its suffix was left out."""
    return Path(f"{name}.toml").is_file()


def _listed(kind: str) -> str:
    return ", ".join(shipped(kind))


def key_and_value(override: str, *, example: str = "training.batch_size=64") -> tuple[str, Any]:
    """Parses `key=value`; a value that is not JSON is a text.

    Args:
        override: word of the command line.
        example: valid override, for the error message.

    Raises:
        UsageError: if it is not of this form, or no configuration can hold the value.
    """
    key, sign, text = override.partition("=")
    if not sign or not key:
        raise UsageError(f"--set takes key=value, such as {example}, not {override!r}")
    try:
        value = json.loads(text)
        refuse_deep(value)
    except json.JSONDecodeError:
        value = text
    except (ValueError, RecursionError) as reason:
        said = "it is nested too deeply" if isinstance(reason, RecursionError) else reason
        raise UsageError(f"--set {key} takes no such value ({said}): give a number, a text or a short list") from None
    return key.strip(), value
