"""Writes a configuration as a TOML file with all of its keys, each below its documentation."""

import json
import re
import textwrap
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from mzprobe.config.base import Config
from mzprobe.errors import UsageError

WIDTH = 110
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def as_toml(config: Config) -> str:
    """Returns a TOML file of a configuration whose keys are all in sections; reading it restores the configuration.

    Raises:
        UsageError: if an option is null, which TOML cannot express.
    """
    sections = [(name, getattr(config, name)) for name in type(config).model_fields]
    return "\n".join(line for name, section in sections for line in (f"[{name}]", *_lines(section, name), ""))


def _lines(section: Config, name: str) -> Iterator[str]:
    for key, field in type(section).model_fields.items():
        said = " ".join((field.description or "").split())
        choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        if len(choices) > 1:
            said += f" One of {', '.join(map(str, choices))}."
        yield from textwrap.wrap(said, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
        value = getattr(section, key)
        yield f"# {key} = (nothing)" if value is None else f"{key} = {_written(value, f'{name}.{key}')}"


def _written(value: Any, key: str) -> str:
    """Writes a value in TOML, which differs from JSON only in tables and null."""
    if value is None:
        raise UsageError(f"{key} holds null, which no TOML file can say: leave the option out where that is the same")
    if isinstance(value, dict):
        inside = [f"{_key(name)} = {_written(one, f'{key}.{name}')}" for name, one in value.items()]
        return f"{{ {', '.join(inside)} }}" if inside else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_written(one, key) for one in value)}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _written(name, name)
