"""Learning curves of a study's variants: the behaviour policy's return by environment steps and training time."""

import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mzprobe.errors import UsageError
from mzprobe.figures.style import (
    GREY,
    WIDTH,
    StepFormatter,
    draw_mean,
    figure_style,
    legend_below,
    means_in_words,
    start_at_zero,
    variant_looks,
)
from mzprobe.stats import over_agents

TRAINING = ("play", "reanalyse", "learn")  # parts of the time that count as training; evaluations do not
_DATASET = "the dataset's episodes"


def aggregate_learning(online: pd.DataFrame, timing: pd.DataFrame | None) -> pd.DataFrame:
    """Computes the mean and standard error over agents of the behaviour policy's return.

    One row per variant and training step. `environment_steps` and `core_seconds` are means over agents of what training
    had taken until then. Core seconds exclude evaluations, and are NaN where times were not recorded.

    Args:
        online: tables of all variants, with a column `variant`.
        timing: tables of times of all variants, with a column `variant`, or None.

    Raises:
        UsageError: if the online tables are too old to have environment steps.
    """
    if "environment_steps" not in online:
        raise UsageError("the online tables have no environment steps: make them again with mzprobe study")
    by = ["variant", "training_step"]
    acted = online[online["policy"] == "behaviour"]
    if timing is None:
        acted = acted.assign(core_seconds=float("nan"))
    else:
        training = timing[timing["part"].isin(TRAINING)]
        acted = acted.join(training.groupby([*by, "seed"])["core_seconds"].sum(), on=[*by, "seed"])
    cells = over_agents(acted, by=by, column="return")
    for name in ("environment_steps", "core_seconds"):
        taken = over_agents(acted, by=by, column=name).set_index(by)["mean"].rename(name)
        cells = cells.join(taken, on=by)
    return cells[[*by, "environment_steps", "core_seconds", "mean", "standard_error", "agents"]]


def draw_learning(cells: pd.DataFrame, *, title: str, reference: float | None = None) -> Figure:
    """Draws the aggregate: one line per variant with the mean over agents, and a band of one standard error.

    The left panel shows returns over environment steps, or over training steps if no variant takes environment steps.
    The right panel shows the same returns over core seconds of training, if these are known. An axis is logarithmic,
    without the untrained agents at 0, if one variant ends more than four times further than another.

    Args:
        cells: result of `aggregate_learning`, variants in order.
        title: start of the figure's title, usually the environment's name.
        reference: mean return of the episodes that were learned from, if any.
    """
    played = cells["environment_steps"].max() > 0
    panels = [("environment_steps", "Environment steps") if played else ("training_step", "Training steps")]
    if cells["core_seconds"].notna().any():
        panels.append(("core_seconds", "Core seconds of training"))
    looks = variant_looks(cells["variant"].unique())
    with figure_style():
        figure = Figure(figsize=(WIDTH if len(panels) > 1 else 4.6, 3.6), layout="constrained")
        grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (x, label) in zip(grid, panels, strict=True):
            ends = cells.groupby("variant")[x].max()
            logarithmic = bool(ends.max() > 4 * ends[ends > 0].min())
            shown = cells[cells[x] > 0] if logarithmic else cells
            for variant, look in looks.items():
                draw_mean(axes, shown[shown["variant"] == variant], x, **look)
            _finish(axes, label, logarithmic=logarithmic, in_thousands=cells[x].max() >= 5000)
            if reference is not None:
                axes.axhline(reference, color=GREY, linestyle=":", linewidth=1.2, label=_DATASET)
        start_at_zero(grid[0], cells)
        grid[0].set_ylabel("Return (undiscounted reward)")
        figure.suptitle(f"{title}, {means_in_words(cells)}", fontsize=10)
        legend_below(figure, [*looks, _DATASET], title="Variant", columns=4)
    return figure


def _finish(axes: Axes, label: str, *, logarithmic: bool, in_thousands: bool) -> None:
    axes.set_xlabel(label)
    if logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_locator(ticker.NullLocator())
    else:
        axes.set_xlim(left=0)
    if in_thousands:
        axes.xaxis.set_major_formatter(StepFormatter())
    axes.grid(axis="y")
