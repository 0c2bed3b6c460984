"""The base of all configurations: frozen, validated models, whose keys are set and refused by name."""

import difflib
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from mzprobe.errors import UsageError
from mzprobe.values import holds_boolean, refuse_odd

MOST = 2**31 - 1  # of anything that is counted: more is a slip, and products of two still fit 64 bits
WIDEST = 2**16  # entries of a layer, whose weights are the square of that: 16 GiB
PositiveInt = Annotated[int, Field(ge=1, le=MOST)]


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    refuse_odd(options)
    return options


Options = Annotated[dict[str, Any], AfterValidator(_plain)]  # of somebody's factory: what JSON holds
NonNegativeInt = Annotated[int, Field(ge=0, le=MOST)]
Width = Annotated[int, Field(ge=1, le=WIDEST)]
_LARGEST = 1e12  # of any factor; squares of it are numbers of float32
Positive = Annotated[float, Field(gt=0, le=_LARGEST)]
NonNegative = Annotated[float, Field(ge=0, le=_LARGEST)]
Exponent = Annotated[float, Field(ge=0, le=10)]  # of priorities, which would all become 0 or infinite
Atom = Annotated[float, Field(ge=-1e6, le=1e6)]  # transformed units; 1e12 in the environment's
Share = Annotated[float, Field(ge=0, le=1)]


class Config(BaseModel):
    """Base of all configurations: frozen, without unknown keys, and without infinite or missing numbers."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, strict=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[info.field_name or ""]
        if isinstance(value, bool) and "true" in get_args(field.annotation):
            return str(value).lower()  # a word of this key, which TOML and the command line read as a boolean
        if field.annotation is not bool and holds_boolean(value):
            raise ValueError("true and false are no numbers and no text")
        return value


AnyConfig = TypeVar("AnyConfig", bound=Config)


def set_key(model: type[Config], values: dict[str, Any], key: str, value: Any) -> None:
    """Sets a dotted key in nested values.

    Raises:
        UsageError: if the model has no such key; names the nearest one.
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
    """All dotted keys of a configuration, and whether each is a free dictionary."""
    for name, field in model.model_fields.items():
        sections = list(_sections(field.annotation))
        for section in sections:  # several where a section has kinds with keys of their own
            yield from keys(section, f"{prefix}{name}.")
        if not sections:
            yield prefix + name, field.annotation == dict[str, Any]


def _sections(annotation: Any) -> Iterator[type[Config]]:
    """The configurations that a key's type names."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        yield annotation
    elif get_origin(annotation) in (Annotated, Union, UnionType):
        for part in get_args(annotation):
            yield from _sections(part)


_IN_WORDS = {  # of pydantic's kinds of errors
    "tuple_type": "give a list, such as [0, 1, 2]",
    "too_short": "it has {actual_length} entries, and {min_length} is the fewest",
    "missing": "it must be given",
}


def validated(model: type[AnyConfig], values: dict[str, Any], source: str) -> AnyConfig:
    """Builds a configuration, or says in one sentence what is wrong with it."""
    try:
        return model.model_validate(values)
    except RecursionError:
        raise UsageError(f"{source}: configuration is not valid: it is nested too deeply") from None
    except ValidationError as reason:
        first = reason.errors()[0]
        places = [part for part in first["loc"] if isinstance(part, str)]
        kinds = [part for part in places if "=" in part]  # tags of a union, which no key looks like
        key = ".".join(part for part in places if part not in kinds)
        if first["type"] == "extra_forbidden":
            set_key(model, {}, key, None)
            if not kinds:  # a dotted key, which --set takes
                section, _, leaf = key.rpartition(".")
                said = f"{key} is written as a key of a section: [{section}], and below it {leaf}"
                raise UsageError(f"{source}: {said}") from None
            raise UsageError(f"{source}: there is no configuration key {key} with {kinds[-1]}") from None
        said = first["msg"].removeprefix("Value error, ")
        if first["type"] in _IN_WORDS:
            said = _IN_WORDS[first["type"]].format(**first.get("ctx", {}))
        raise UsageError(f"{source}: {key or 'configuration'} is not valid: {said}") from None
