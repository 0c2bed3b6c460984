"""Draws the figures of runs from their tables, without any model."""

import mzprobe._matplotlib  # noqa: F401  # isort: skip  # before any import of matplotlib

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from mzprobe.errors import MzprobeError, UsageError
from mzprobe.figures.comparison import draw_comparison
from mzprobe.figures.cross import aggregate_cross, draw_cross
from mzprobe.figures.equivalence import aggregate_equivalence, draw_equivalence
from mzprobe.figures.horizon import aggregate_horizon, draw_horizon
from mzprobe.figures.improvement import aggregate_improvement, draw_improvement
from mzprobe.figures.online import aggregate_online, draw_online
from mzprobe.figures.operators import aggregate_operators, draw_operators
from mzprobe.figures.output import Drawn, title_of, write_figure
from mzprobe.figures.planning import aggregate_planning, draw_planning
from mzprobe.figures.search_error import aggregate_search_error, draw_search_error
from mzprobe.figures.sequences import aggregate_sequences, draw_sequences
from mzprobe.figures.targets import aggregate_targets, draw_targets
from mzprobe.locks import folder_held
from mzprobe.probes.question import resolved
from mzprobe.records.digests import codes_of
from mzprobe.settings import plugged_questions
from mzprobe.tables import Table, commands_of, find_run

__all__ = ["PLANS", "Drawn", "Plan", "all_plans", "draw_comparison", "draw_run", "how_to_make", "made_by"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a figure is made from a probe's table."""

    name: str  # name of the files
    probe: str
    command: str  # command that makes the table
    aggregate: Callable[[pd.DataFrame], pd.DataFrame]
    draw: Callable[..., Figure]
    optional: bool = False  # whether it is not reported as missing without a table


PLANS = (
    Plan(
        name="fig2-online",
        probe="online",
        command="mzprobe eval-online",
        aggregate=aggregate_online,
        draw=draw_online,
    ),
    Plan(
        name="fig3-horizon",
        probe="horizon",
        command="mzprobe eval-horizon",
        aggregate=aggregate_horizon,
        draw=draw_horizon,
    ),
    Plan(
        name="fig4-sequences",
        probe="sequences",
        command="mzprobe eval-sequences",
        aggregate=aggregate_sequences,
        draw=draw_sequences,
    ),
    Plan(
        name="fig5-cross",
        probe="cross",
        command="mzprobe cross-matrix",
        aggregate=aggregate_cross,
        draw=draw_cross,
    ),
    Plan(
        name="fig6-search",
        probe="search_error",
        command="mzprobe eval-search-error",
        aggregate=aggregate_search_error,
        draw=draw_search_error,
    ),
    Plan(
        name="fig7-planning",
        probe="planning",
        command="mzprobe eval-planning",
        aggregate=aggregate_planning,
        draw=draw_planning,
    ),
    Plan(
        name="fig7-planning-value",
        probe="planning-value",
        command="mzprobe eval-planning --leaf value",
        aggregate=aggregate_planning,
        draw=draw_planning,
        optional=True,
    ),
    Plan(
        name="equivalence",
        probe="equivalence",
        command="mzprobe eval-equivalence",
        aggregate=aggregate_equivalence,
        draw=draw_equivalence,
    ),
    Plan(
        name="improvement",
        probe="improvement",
        command="mzprobe eval-improvement",
        aggregate=aggregate_improvement,
        draw=draw_improvement,
    ),
    Plan(
        name="operators",
        probe="operators",
        command="mzprobe eval-operators",
        aggregate=aggregate_operators,
        draw=draw_operators,
    ),
    Plan(
        name="targets",
        probe="targets",
        command="mzprobe eval-targets",
        aggregate=aggregate_targets,
        draw=draw_targets,
    ),
)


def all_plans() -> tuple[Plan, ...]:
    """Returns the plans of our questions, then those of installed packages' questions."""
    plugged = (
        Plan(
            name=figure.name,
            probe=question.name,
            command=f"mzprobe {question.command}",
            aggregate=resolved(figure.aggregate),
            draw=resolved(figure.draw),
            optional=True,
        )
        for question in plugged_questions()
        for figure in question.figures
    )
    return (*PLANS, *plugged)


def draw_run(run: str, *, analyses: Path, figures: Path) -> list[Drawn]:
    """Draws every figure of a run whose table exists, each as PNG, SVG and the CSV of its numbers.

    An existing file whose content changes is replaced, and reported as such. A figure whose tables are refused, such as
    damaged ones, is left as it is, and the others are drawn.

    Args:
        run: name of the run.
        analyses: folder of all tables.
        figures: folder of all figures; those of the run are in a folder of its name.

    Raises:
        MzprobeError: if the run has no table at all, or all its tables are refused.
        InUse: if another command is writing there for more than a minute.
    """
    plans = all_plans()
    tables = [_found(analyses, run, plan.probe) for plan in plans]
    there = [table for table in tables if isinstance(table, Table)]
    remedies = [how_to_make(plan, run, there) for plan in plans]
    if tables == [None] * len(plans):
        raise UsageError(f"there are no tables of run {run} under {analyses}: make one with {remedies[0]}")
    if not there:
        raise next(table for table in tables if isinstance(table, MzprobeError))
    done: list[Drawn] = []
    with folder_held(figures / run):
        for plan, table, remedy in zip(plans, tables, remedies, strict=True):
            if isinstance(table, MzprobeError):
                done.append(Drawn(what=plan.name, status="refused", remedy=str(table)))
                continue
            if table is None:
                done += [] if plan.optional else [Drawn(what=plan.name, status="missing", remedy=remedy)]
                continue
            cells = plan.aggregate(table.frame)
            figure = plan.draw(cells, title=title_of(table))
            done += write_figure(figure, cells, made=made_by(table), folder=figures / run, name=plan.name)
    return done


def how_to_make(plan: Plan, run: str, tables: Sequence[Table]) -> str:
    """Returns the command that makes a figure's table, for the agents named by the commands of the run's tables."""
    known = next((commands_of(table)[-1] for table in tables), "")
    if known.startswith("mzprobe.ask("):
        return f"mzprobe.ask(agents, {plan.probe!r})"
    words = shlex.split(known)[2:]
    if "--source" not in words:  # an agent of mzprobe itself
        return f"{plan.command} checkpoints/{run}"
    settings = [at for at, word in enumerate(words) if word == "--set"]
    others = [word for at, word in enumerate(words) if not {at, at - 1} & set(settings)]
    return f"{plan.command} {shlex.join(others)}"


def _found(analyses: Path, run: str, probe: str) -> Table | MzprobeError | None:
    """Returns the tables of a question, None if there are none, or the error if they are refused."""
    try:
        return find_run(analyses, run, probe)
    except MzprobeError as reason:
        return reason


def made_by(table: Table) -> str:
    """Returns comment lines of a CSV that state what made its numbers."""
    records = table.record["agents"]
    made = [f"# command: {command}" for command in commands_of(table)]
    made.append(f"# seeds: {', '.join(str(record['seed']) for record in records)}")
    made += [f"# code: {code}" for code in codes_of(records)]
    # These are equal for all agents, since find_run refuses others.
    for part in ("settings", "config", "versions"):
        made.append(f"# {part}: {json.dumps(records[0][part], sort_keys=True)}")
    return "\n".join(made) + "\n"
