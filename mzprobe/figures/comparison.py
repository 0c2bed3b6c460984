"""Figures that compare the variants of a study, from the tables of their runs."""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from mzprobe.errors import UsageError
from mzprobe.figures.acting import aggregate_acting, draw_acting
from mzprobe.figures.agents import aggregate_agents, draw_agents
from mzprobe.figures.learning import aggregate_learning, draw_learning
from mzprobe.figures.operators import aggregate_operators, draw_operators
from mzprobe.figures.output import Drawn, title_of, write_figure
from mzprobe.figures.targets import aggregate_oldest, draw_oldest
from mzprobe.locks import folder_held
from mzprobe.records.digests import codes_of
from mzprobe.tables import TIMING, Table, commands_of, differing, find_run


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How a figure is made from the tables of all variants."""

    name: str  # name of the files
    table: str
    aggregate: Callable[..., pd.DataFrame]  # (frame of the table), and the frame of `other` or None if that is given
    draw: Callable[..., Figure]  # (cells, *, title), and `reference` if `with_reference`
    other: str | None = None  # second table, used if it exists
    with_reference: bool = False  # whether it shows the mean return of the episodes that variants learned from


# Columns of a cell's numbers; all other columns identify the cell.
STATISTICS = ("mean", "standard_error", "agents", "smallest", "ratio", "returns")
_AGAIN = "remove those of one and run the study again"

COMPARISONS = (
    Comparison(
        name="learning",
        table="online",
        other=TIMING,
        aggregate=aggregate_learning,
        draw=draw_learning,
        with_reference=True,
    ),
    Comparison(name="agents", table="online", aggregate=aggregate_agents, draw=draw_agents),
    Comparison(name="operators", table="operators", aggregate=aggregate_operators, draw=draw_operators),
    Comparison(name="old-targets", table="targets", aggregate=aggregate_oldest, draw=draw_oldest),
    Comparison(
        name="acting",
        table="planning-value",
        aggregate=aggregate_acting,
        draw=draw_acting,
        with_reference=True,
    ),
)


def draw_comparison(
    study: str,
    runs: Mapping[str, str],
    *,
    analyses: Path,
    figures: Path,
    reference: float | None = None,
    asked: Collection[str] | None = None,
) -> list[Drawn]:
    """Draws the figures that compare the variants of a study, as far as tables exist, each as PNG, SVG and CSV.

    Args:
        study: shipped name or path of a TOML file; its stem names the folder of the figures.
        runs: name of the run of each variant, in order.
        analyses: folder of all tables.
        figures: folder of all figures.
        reference: mean return of the episodes that variants learned from, if any.
        asked: names of the tables that the study asks for; by default all existing tables are used.

    Raises:
        UsageError: if there is no table for any figure, or variants were measured in different ways.
        InUse: if another command is writing there for more than a minute.
    """
    stem, remedy = Path(study).stem, f"mzprobe study {study}"
    wanted = [one for one in COMPARISONS if asked is None or one.table in asked]
    compared = {comparison: tables_alike(analyses, runs, comparison.table, remedy=_AGAIN) for comparison in wanted}
    compared = {comparison: tables for comparison, tables in compared.items() if tables}
    if not compared:
        if sum((analyses / run).is_dir() for run in runs.values()) > 1:
            raise UsageError(
                f"no figure of a study compares variants by the probes of {study}: see mzprobe compare {study}"
            )
        raise UsageError(f"there are no tables of the runs of study {study} under {analyses}: make them with {remedy}")
    with folder_held(figures / stem):
        return _draw_all(compared, runs, analyses=analyses, folder=figures / stem, remedy=remedy, reference=reference)


def _draw_all(
    compared: Mapping[Comparison, dict[str, Table]],
    runs: Mapping[str, str],
    *,
    analyses: Path,
    folder: Path,
    remedy: str,
    reference: float | None,
) -> list[Drawn]:
    done: list[Drawn] = []
    for comparison, tables in compared.items():
        for variant in runs:
            if variant not in tables:
                done.append(Drawn(what=f"{comparison.name}, variant {variant}", status="missing", remedy=remedy))
        frames: list[pd.DataFrame | None] = [joined(tables, "variant")]
        if comparison.other:
            further = tables_alike(analyses, runs, comparison.other, remedy=_AGAIN)
            for variant in tables if further else ():
                if variant not in further:
                    what = f"{comparison.other} in {comparison.name}, variant {variant}"
                    done.append(Drawn(what=what, status="missing", remedy=f"{remedy}, if its training kept the times"))
            frames.append(joined(further, "variant") if further else None)
        cells = comparison.aggregate(*frames)
        order = list(runs)
        cells = cells.sort_values("variant", key=lambda names: names.map(order.index), kind="stable", ignore_index=True)
        title = f"{folder.name} ({title_of(next(iter(tables.values())))})"
        shown = {"reference": reference} if comparison.with_reference else {}
        figure = comparison.draw(cells, title=title, **shown)
        made = provenance(tables)
        done += write_figure(figure, cells, made=made, folder=folder, name=comparison.name)
    return done


def tables_alike(analyses: Path, runs: Mapping[str, str], name: str, *, remedy: str) -> dict[str, Table]:
    """Reads the table of each run that has one, and checks that they can be compared.

    Args:
        analyses: folder of all tables.
        runs: names of the runs, by label.
        name: name of the tables.
        remedy: end of the error message if they were made in different ways.

    Raises:
        UsageError: if they were made with different settings or versions, or in different environments.
    """
    found = {label: find_run(analyses, run, name) for label, run in runs.items()}
    tables = {label: table for label, table in found.items() if table is not None}
    titles = {label: title_of(table) for label, table in tables.items()}
    if len(set(titles.values())) > 1:
        said = ", ".join(f"{label} in {title}" for label, title in titles.items())
        raise UsageError(f"runs in different environments do not compare ({said}): name those of one")
    records = {label: {**table.record["agents"][0], "config": {}, "dataset": {}} for label, table in tables.items()}
    for label, record in records.items():
        first = next(iter(records))
        unlike = differing(records[first], record)
        if unlike:
            raise UsageError(f"the {name} tables of {first} and {label} were made with other {unlike}: {remedy}")
    return tables


def keys_of(cells: pd.DataFrame) -> list[str]:
    """Returns the columns that identify the cell of a row."""
    return [column for column in cells.columns if column not in STATISTICS]


def joined(tables: Mapping[str, Table] | Mapping[str, pd.DataFrame], column: str) -> pd.DataFrame:
    """Joins the rows of all tables, with their labels in a new column `column`."""
    frames = {label: one.frame if isinstance(one, Table) else one for label, one in tables.items()}
    return pd.concat([frame.assign(**{column: label}) for label, frame in frames.items()], ignore_index=True)


def provenance(tables: Mapping[str, Table]) -> str:
    """Returns comment lines of a CSV that state what made the numbers of several tables, by label."""
    commands = dict.fromkeys(command for table in tables.values() for command in commands_of(table))
    made = [f"# command: {command}" for command in commands]
    for variant, table in tables.items():
        records = table.record["agents"]
        made.append(f"# {variant}: seeds: {', '.join(str(record['seed']) for record in records)}")
        made += [f"# {variant}: code: {code}" for code in codes_of(records)]
        made.append(f"# {variant}: config: {json.dumps(records[0]['config'], sort_keys=True)}")
    first = next(iter(tables.values())).record["agents"][0]
    made += [f"# {part}: {json.dumps(first[part], sort_keys=True)}" for part in ("settings", "versions")]
    return "\n".join(made) + "\n"
