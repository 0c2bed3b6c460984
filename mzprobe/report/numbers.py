"""Numbers of a report: each figure's aggregate, over all agents and for each alone, and the claims' effects."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mzprobe.claims.core import Finding, measured
from mzprobe.figures import Plan, made_by
from mzprobe.figures.comparison import keys_of
from mzprobe.figures.output import csv_text
from mzprobe.report.catalogue import chart_of
from mzprobe.report.charts import Chart
from mzprobe.seeding import numpy_generator
from mzprobe.stats import bootstrap_mean
from mzprobe.tables import Table

RESAMPLES = 2000  # number of bootstrap draws of agents
Float64 = NDArray[np.float64]


def figure_numbers(plan: Plan, tables: Mapping[str, Table], *, number: int) -> dict[str, Any]:
    """Returns the chart and numbers of a figure of one or more runs, for the page.

    The numbers over all agents are the text of the CSV beside the figure, with its comment lines. An agent's own
    numbers are the same aggregate of its rows alone; `rows` are the rows of the CSV that they belong to.

    Args:
        plan: plan of the figure.
        tables: tables of its probe, by run.
        number: index of the figure, which seeds its bootstrap.
    """
    aggregates = {run: plan.aggregate(table.frame) for run, table in tables.items()}
    chart = chart_of(plan.name, pd.concat(aggregates.values()))
    shown = chart.without_empty(aggregates.values())
    runs = [_of_run(plan, shown, run, table, aggregates[run], number=number) for run, table in tables.items()]
    return {"name": plan.name, "chart": shown.record(), "runs": runs}


def agents_own(plan: Plan, frame: pd.DataFrame, cells: pd.DataFrame) -> Float64:
    """Returns each agent's own numbers [agents, cells], in order of seeds; NaN where an agent has none."""
    keys = keys_of(cells)
    wanted = cells[keys]
    found = []
    for _, own in frame.groupby("seed", sort=True):
        numbers = plan.aggregate(own)[[*keys, "mean"]]
        found.append(wanted.merge(numbers, on=keys, how="left")["mean"].to_numpy(dtype=np.float64))
    return np.stack(found)


def intervals(own: Float64, *, number: int) -> tuple[Float64, Float64]:
    """Returns both ends [cells] of the 95 % bootstrap interval of every column's mean over agents.

    They are NaN for a column with fewer than two finite numbers.

    Args:
        own: [agents, cells], each agent's own numbers.
        number: index of the figure, which seeds the bootstrap.
    """
    generator = numpy_generator(0, "report", number)
    ends = np.full((2, own.shape[1]), np.nan)
    for column, numbers in enumerate(own.T):
        known = numbers[np.isfinite(numbers)]
        if known.size > 1:
            groups = known[:, None]
            found = bootstrap_mean([*groups], generator=generator, resamples=RESAMPLES, states=False)
            ends[:, column] = found.low, found.high
    return ends[0], ends[1]


def claim_numbers(findings: Mapping[str, Sequence[Finding]], frames: Mapping[str, Mapping[str, pd.DataFrame]]) -> Any:
    """Returns the agents' effects that each claim was judged by, one list per run; None for a claim without data.

    Args:
        findings: findings of all claims, by run.
        frames: tables by run and probe.
    """
    return [
        [_effects(finding, frames[run].get(finding.claim.probe)) for finding in of_run]
        for run, of_run in findings.items()
    ]


def packed(numbers: Float64) -> str:
    """Returns numbers as little-endian float64 in base64, which the page reads exactly and without parsing."""
    return base64.b64encode(np.ascontiguousarray(numbers, dtype="<f8").tobytes()).decode()


def _of_run(plan: Plan, chart: Chart, run: str, table: Table, cells: pd.DataFrame, *, number: int) -> dict[str, Any]:
    rows = np.flatnonzero(chart.drawn(cells))
    own = agents_own(plan, table.frame, cells.iloc[rows])
    low, high = intervals(own, number=number)
    return {
        "run": run,
        "csv": csv_text(cells, made=made_by(table)),
        "rows": rows.tolist(),
        "seeds": [int(seed) for seed in sorted(table.frame["seed"].unique())],
        "own": packed(own),
        "low": packed(low),
        "high": packed(high),
    }


def _effects(finding: Finding, frame: pd.DataFrame | None) -> dict[str, Any] | None:
    if not finding.cells:
        return None
    effects = measured(finding.claim, frame)
    matrix = effects.pivot_table(index="seed", columns="cell", values="effect", sort=False).sort_index()
    matrix = matrix[[cell.label for cell in finding.cells]]
    means = matrix.min(axis=1) if finding.claim.every else matrix.mean(axis=1)
    ends = np.array([[cell.effect.estimate, cell.effect.low, cell.effect.high] for cell in finding.cells])
    return {
        "cells": [cell.label for cell in finding.cells],
        "seeds": [int(seed) for seed in matrix.index],
        "own": packed(matrix.to_numpy()),
        "overall": packed(means.to_numpy()),
        "ends": packed(ends),
    }
