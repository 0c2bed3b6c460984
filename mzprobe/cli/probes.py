"""The commands that ask agents a question, one a question: their options are the fields of its settings."""

import types
from collections.abc import Iterator
from inspect import Parameter
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from mzprobe.cli.probing import command_of
from mzprobe.probes.question import plugged_questions
from mzprobe.settings import OURS, ProbeConfig


def add_commands(app: typer.Typer) -> None:
    """Adds the command of every question: ours, and those of installed packages."""
    theirs = [question.config for question in plugged_questions()]
    for settings in (*OURS, *theirs):
        app.command(settings.command, epilog=f"Example: mzprobe {settings.command} {settings.example}")(
            command_of(settings, list(options_of(settings)))
        )


def options_of(settings: type[ProbeConfig]) -> Iterator[Parameter]:
    """A question's options, each a field of its settings: of its type, or left out."""
    for name, field in settings.model_fields.items():
        if name == "acting":
            continue  # whose keys are given by --acting, as of all questions
        kind = option_type(field)
        said = " ".join((field.description or "").split())
        yield Parameter(
            name,
            Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[kind | None, typer.Option(help=said)],
        )


def option_type(field: FieldInfo) -> Any:
    """What the command line reads for a field: a number, a text, or several of either."""
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
