"""Base of all configurations: frozen, validated models, with keys that are set by name and errors that name them."""

import difflib
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from mzprobe.errors import UsageError
from mzprobe.values import holds_boolean, refuse_odd

MOST = 2**31 - 1  # largest count; more is a slip, and products of two counts still fit 64 bits
WIDEST = 2**16  # entries of a layer; a square matrix of weights then takes 16 GiB
PositiveInt = Annotated[int, Field(ge=1, le=MOST)]


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    refuse_odd(options)
    return options


Options = Annotated[dict[str, Any], AfterValidator(_plain)]  # options of a user's factory: values that JSON holds
NonNegativeInt = Annotated[int, Field(ge=0, le=MOST)]
Width = Annotated[int, Field(ge=1, le=WIDEST)]
_LARGEST = 1e12  # largest factor; its square still fits float32
Positive = Annotated[float, Field(gt=0, le=_LARGEST)]
NonNegative = Annotated[float, Field(ge=0, le=_LARGEST)]
Exponent = Annotated[float, Field(ge=0, le=2)]  # of priorities; with larger ones they or their weights may be infinite
Atom = Annotated[float, Field(ge=-1e6, le=1e6)]  # transformed units; 1e6 is 1e12 in units of the environment
Share = Annotated[float, Field(ge=0, le=1)]


class Config(BaseModel):
    """Base of all configurations: frozen, without unknown keys, infinite numbers or NaN."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, strict=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[info.field_name or ""]
        if isinstance(value, bool) and "true" in get_args(field.annotation):
            return str(value).lower()  # the choice "true" or "false", which TOML and the command line read as a boolean
        if field.annotation is not bool and holds_boolean(value):
            raise ValueError("true and false are no numbers and no text")
        return value


AnyConfig = TypeVar("AnyConfig", bound=Config)


def set_key(model: type[Config], values: dict[str, Any], key: str, value: Any) -> None:
    """Sets a dotted key in nested values.

    Raises:
        UsageError: if the model has no such key (names the nearest one), or a part of the key is not a section.
    """
    known = dict(keys(model))
    parts = key.split(".")
    inside_options = any(key.startswith(f"{name}.") for name, free in known.items() if free)
    if key not in known and not inside_options:
        leaves = {name.rsplit(".", 1)[-1]: name for name in known}
        named = {name.rpartition(".")[0] for name in known if "." in name}
        sections = {name: f"the section [{name}]" for name in sorted(named)}
        near = difflib.get_close_matches(key, [*known, *sections], n=1) or [
            leaves[name] for name in difflib.get_close_matches(parts[-1], leaves, n=1)
        ]
        hint = f"did you mean {sections.get(near[0], near[0])}?" if near else f"the keys are {', '.join(known)}"
        raise UsageError(f"there is no configuration key {key}: {hint}")
    for part in parts[:-1]:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise UsageError(f"{key} cannot be set: {part} is {values!r}, not a section with keys")
    values[parts[-1]] = value


def keys(model: type[Config], prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Yields all dotted keys of a configuration, and whether each is a dictionary with free keys."""
    for name, field in model.model_fields.items():
        sections = list(_sections(field.annotation))
        for section in sections:  # several where a section has kinds with different keys
            yield from keys(section, f"{prefix}{name}.")
        if not sections:
            yield prefix + name, field.annotation == dict[str, Any]


def _sections(annotation: Any) -> Iterator[type[Config]]:
    """Yields the configuration classes in a key's type."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        yield annotation
    elif get_origin(annotation) in (Annotated, Union, UnionType):
        for part in get_args(annotation):
            yield from _sections(part)


_IN_WORDS = {  # messages for some of pydantic's error types
    "tuple_type": "give a list, such as [0, 1, 2]",
    "too_short": "it has {actual_length} entries, and {min_length} is the fewest",
    "missing": "it must be given",
}


def validated(model: type[AnyConfig], values: dict[str, Any], source: str) -> AnyConfig:
    """Builds a configuration from nested values.

    Args:
        model: class of the configuration.
        values: nested values.
        source: start of error messages, such as the name of the file.

    Raises:
        UsageError: if a key or a value is wrong, or the values are nested too deeply.
    """
    try:
        return model.model_validate(values)
    except RecursionError:
        raise UsageError(f"{source}: configuration is not valid: it is nested too deeply") from None
    except ValidationError as reason:
        first = reason.errors()[0]
        places = [part for part in first["loc"] if isinstance(part, str)]
        kinds = [part for part in places if "=" in part]  # tags of a union; no key contains "="
        key = ".".join(part for part in places if part not in kinds)
        if first["type"] == "extra_forbidden":
            set_key(model, {}, key, None)
            if not kinds:  # a dotted key, which only --set accepts
                section, _, leaf = key.rpartition(".")
                said = f"{key} is written as a key of a section: [{section}], and below it {leaf}"
                raise UsageError(f"{source}: {said}") from None
            raise UsageError(f"{source}: there is no configuration key {key} with {kinds[-1]}") from None
        said = first["msg"].removeprefix("Value error, ")
        if first["type"] in _IN_WORDS:
            said = _IN_WORDS[first["type"]].format(**first.get("ctx", {}))
        raise UsageError(f"{source}: {key or 'configuration'} is not valid: {said}") from None
