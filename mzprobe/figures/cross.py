"""Figure 5: value prediction error of the model of one training step for the behaviour policy of another."""

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from mzprobe.figures.style import WIDTH, agents_in_words, figure_style, thousands
from mzprobe.probes.tables import own_temperature
from mzprobe.stats import over_agents

MISSING = "0.85"  # grey of a cell that has no number
_FRAME: dict[str, Any] = {"fill": False, "edgecolor": "black", "linewidth": 1.3}
_HALO = _FRAME | {"edgecolor": "white", "linewidth": 2.8}  # below the frames, so that dark cells show them too


def aggregate_cross(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard error over agents of the error at the largest h, one row a cell of the matrix.

    `ratio` is the cell's mean divided by that of its row's diagonal (the model's own policy). The row of means is
    normalised, not each agent's, so that it is the ratio of the numbers drawn, and no agent whose own error is almost 0
    outweighs all others. It is NaN where the diagonal is missing or 0. `smallest` counts the agents whose own error is
    the smallest of their row here. Policies are at the temperature that collected data at their step.
    """
    largest = own_temperature(frame[frame["h"] == frame["h"].max()])
    by = ["h", "training_step", "policy_step"]
    each = largest.groupby([*by, "seed"])["error"].mean().reset_index()
    least = each.groupby(["training_step", "seed"])["error"].transform("min")
    counts = each.assign(smallest=each["error"] == least).groupby(by)["smallest"].sum()
    cells = over_agents(largest, by=by, column="error").join(counts, on=by)
    diagonal = cells[cells["training_step"] == cells["policy_step"]].set_index("training_step")["mean"]
    own = cells["training_step"].map(diagonal)
    return cells.assign(ratio=cells["mean"] / own.where(own > 0))


def draw_cross(cells: pd.DataFrame, *, title: str) -> Figure:
    """Draws the aggregate: a heat map of the means, and beside it each row divided by its diagonal.

    The errors' colours follow their square root, so that an untrained row does not leave all others pale; those of the
    ratios their logarithm, a half as far from 1 as a double. The smallest error of a row has a frame where most agents
    have theirs there, and every row says how many of them have it on the diagonal.

    Args:
        cells: what `aggregate_cross` gives.
        title: of the environment.
    """
    means, ratios = (
        cells.pivot_table(index="training_step", columns="policy_step", values=name, dropna=False)
        for name in ("mean", "ratio")
    )
    counts, agents = (
        cells.pivot_table(index="training_step", columns="policy_step", values=name, dropna=False).fillna(0)
        for name in ("smallest", "agents")
    )
    smallest = means.eq(means.min(axis=1), axis=0).to_numpy() & (2 * counts > agents).to_numpy()
    rows, columns = means.shape
    with figure_style():
        figure = Figure(figsize=(max(WIDTH, 0.62 * columns + 0.9), 0.32 * max(rows, 3) + 2.1), layout="constrained")
        left, right = figure.subplots(1, 2, sharex=True, sharey=True)
        most = float(cells["mean"].max()) or 1.0  # colours need a range even where there is no error at all
        _heat_map(left, means, smallest, norm=PowerNorm(0.5, 0, most), colours="YlGnBu")
        _heat_map(right, ratios, smallest, norm=_around_one(ratios.to_numpy()), colours="RdBu_r")
        error = f"Value prediction error at h = {cells['h'].iloc[0]}\n(discounted reward; square-root colour scale)"
        _colour_bar(left, error, ticks=ticker.MaxNLocator(6, steps=[1, 2, 5, 10]))
        ratio = "Error relative to that for the model's own policy\n(ratio to the row's diagonal; log colour scale)"
        _colour_bar(right, ratio, ticks=ticker.LogLocator(base=2), format=ticker.FuncFormatter(_fraction))
        left.invert_yaxis()
        left.set_ylabel("Model and states\nof training step X")
        figure.suptitle(f"{title}, {agents_in_words(cells)}", fontsize=10)
        _count_diagonals(right, counts, agents)
        keys: list[Patch] = []
        if smallest.any():
            keys.append(Rectangle((0, 0), 1, 1, label="smallest error of its row, in most agents too", **_FRAME))
        if ratios.isna().any(axis=None):
            keys.append(Patch(facecolor=MISSING, label="not measured, or no ratio"))
        if keys:
            figure.legend(handles=keys, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _heat_map(axes: Axes, matrix: pd.DataFrame, framed: NDArray[np.bool_], *, norm: Normalize, colours: str) -> None:
    """One matrix: its numbers in coloured cells, some of them framed, and none where there is no number."""
    colour_map = mpl.colormaps[colours]
    axes.pcolormesh(
        np.ma.masked_invalid(matrix.to_numpy()), norm=norm, cmap=colour_map, edgecolors="white", linewidth=0.5
    )
    axes.set_facecolor(MISSING)
    for (row, column), value in np.ndenumerate(matrix.to_numpy()):
        if np.isnan(value):
            continue
        light = np.dot(colour_map(norm(value))[:3], (0.299, 0.587, 0.114)) > 0.5
        middle = (column + 0.5, row + 0.5)
        axes.text(
            *middle,
            _number(value),
            color="black" if light else "white",
            fontsize=7 if matrix.shape[1] <= 8 else 6,
            ha="center",
            va="center",
        )
    for edge in (_HALO, _FRAME):
        for row, column in np.argwhere(framed & matrix.notna().to_numpy()):
            axes.add_patch(Rectangle((column, row), 1, 1, zorder=3, clip_on=False, **edge))
    axes.set_xticks(np.arange(matrix.shape[1]) + 0.5, [thousands(step) for step in matrix.columns.to_numpy()])
    axes.set_yticks(np.arange(matrix.shape[0]) + 0.5, [thousands(step) for step in matrix.index.to_numpy()])
    axes.set_xlabel("Policy of training step Y")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _count_diagonals(axes: Axes, counts: pd.DataFrame, agents: pd.DataFrame) -> None:
    """Beside each row how many agents have their smallest error for the model's own policy."""
    for row, step in enumerate(counts.index):
        if step in counts.columns and agents.loc[step, step] > 0:
            said = f"{int(counts.loc[step, step])}/{int(agents.loc[step, step])}"
            axes.annotate(
                said, (1, row + 0.5), (3, 0), ("axes fraction", "data"), "offset points", fontsize=7, va="center"
            )
    top = "smallest for\nthe own policy"
    axes.annotate(top, (1, 1), (3, 3), "axes fraction", "offset points", fontsize=6, va="bottom", ha="left")


def _around_one(ratios: NDArray[np.float64]) -> LogNorm:
    """Colours of ratios: 1 in the middle, as far below it as above, a double at least."""
    known = ratios[ratios > 0]
    furthest = max([2.0, *known, *(1 / known)])
    return LogNorm(1 / furthest, furthest, clip=True)  # clip: a ratio of 0 has no logarithm


def _colour_bar(axes: Axes, label: str, **options: Any) -> None:
    figure = axes.get_figure()
    assert figure is not None
    bar = figure.colorbar(axes.collections[0], ax=axes, orientation="horizontal", aspect=30, **options)
    bar.set_label(label, fontsize=8)
    bar.minorticks_off()
    bar.outline.set_visible(False)


def _number(value: float) -> str:
    """A number short enough for a cell, with two digits at least unless it is 0."""
    if 0 < value < 0.0005:
        return "<.001"
    decimals = sum(value < limit for limit in (100, 10, 0.1))
    return f"{value:.{decimals}f}" if value else "0"


def _fraction(value: float, _position: int) -> str:
    """A power of two as a ratio: 1/4, 1, 4."""
    return f"{value:g}" if value >= 1 else f"1/{1 / value:g}"
