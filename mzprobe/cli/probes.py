"""One command for each question about agents; its options are the fields of the question's settings."""

import types
from collections.abc import Iterator
from inspect import Parameter
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from mzprobe.cli.probing import command_of
from mzprobe.settings import OURS, ProbeConfig, plugged_questions


def add_commands(app: typer.Typer) -> None:
    """Adds the command of every question: those of mzprobe, then those of installed packages."""
    theirs = [question.config for question in plugged_questions()]
    for settings in (*OURS, *theirs):
        app.command(settings.command, epilog=f"Example: mzprobe {settings.command} {settings.example}")(
            command_of(settings, list(options_of(settings)))
        )


def options_of(settings: type[ProbeConfig]) -> Iterator[Parameter]:
    """Yields one option for each field of a question's settings, with the field's type; None means not given."""
    for name, field in settings.model_fields.items():
        if name == "acting":
            continue  # all questions share the option --acting for its keys
        kind = option_type(field)
        yield Parameter(
            name,
            Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[kind | None, typer.Option(help=_help(name, field))],
        )


def _help(name: str, field: FieldInfo) -> str:
    """Returns a field's description, choices and default, and how to set it to None, which only `--set` can."""
    said = [" ".join((field.description or "").split())]
    choices = [str(one) for one in choices_of(field.annotation)]
    default = field.get_default(call_default_factory=True)
    if choices:
        said.append(f"One of {', '.join(choices)}.")
    if default is not None and type(None) in get_args(field.annotation):
        said.append(f"For none, --set {name}=null.")
    if default is None or field.is_required():
        return " ".join(said)
    shown = " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
    return " ".join([*said, f"[default: {shown or 'none'}]"])


def choices_of(annotation: Any) -> Iterator[Any]:
    """Yields the values of each Literal anywhere in a type."""
    for part in get_args(annotation):
        if get_origin(annotation) is Literal:
            yield part
        elif get_origin(annotation) in (Union, types.UnionType, Annotated, tuple):
            yield from choices_of(part)


def option_type(field: FieldInfo) -> Any:
    """Returns the type that the command line reads for a field: a number, a text, or a list of either."""
    (kind,) = {part for part in _parts(field.annotation) if part is not type(None)}
    return kind


def _parts(annotation: Any) -> Iterator[Any]:
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _parts(part)
    elif origin is Annotated:
        yield from _parts(get_args(annotation)[0])
    elif origin is tuple:
        (of,) = set(_parts(get_args(annotation)[0]))
        yield list[of]  # type: ignore[valid-type]
    elif origin is Literal:
        yield str
    else:
        yield annotation
