"""Figure 5: value prediction error of the model of one training step for the behaviour policy of another."""

from collections.abc import Sequence
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

from mzprobe.figures.style import PANEL_TITLE, WIDTH, agents_in_words, figure_style, of_steps, thousands
from mzprobe.stats import over_agents
from mzprobe.tables import own_temperature

_COLOURS = 41  # colours of a map, odd to have a middle; more would leave no room for text in a PNG of 256 colours
_ROUNDING = 1e-9  # relative; errors that differ by less count as equal, as sums in another order may
MISSING = "0.85"  # grey of a cell without a number
_FRAME: dict[str, Any] = {"fill": False, "edgecolor": "black", "linewidth": 1.3}
_HALO = _FRAME | {"edgecolor": "white", "linewidth": 2.8}  # below the frames, so that they show on dark cells too
_SMALLEST, _NONE = "smallest error of its row, in most agents too", "not measured, or no ratio"
_PAIRS = {"own": "Policies at the T that collected data", "1": "Policies at T = 1"}


@of_steps
def aggregate_cross(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the mean and standard error over agents of the error at the largest h, one row per cell of the matrix.

    In rows with `policies_at` equal to `own`, every policy has the temperature that collected data at its step. If any
    of these differs from 1, there are also rows with `1`, where all policies have T = 1.

    `ratio` is the cell's mean divided by that of its row's diagonal (the model's own policy), and NaN where the
    diagonal is missing or 0. Means are divided rather than each agent's numbers, so that it is the ratio of the numbers
    drawn, and no agent with an error of almost 0 outweighs the others.

    `smallest` counts the agents whose smallest error of the row is in this cell, by more than rounding. Ties do not
    count, as an untrained model may have for all policies, and neither does a cell without a rival.
    """
    largest = frame[frame["h"] == frame["h"].max()]
    own = own_temperature(largest)
    parts = [_cells(own).assign(policies_at="own")]
    if len(own) < len(largest):
        parts.append(_cells(largest[largest["policy_temperature"] == 1]).assign(policies_at="1"))
    return pd.concat(parts, ignore_index=True)


def _cells(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the cells of a matrix of errors at one h, with each policy at one temperature."""
    by = ["h", "training_step", "policy_step"]
    each = frame.groupby([*by, "seed"])["error"].mean().reset_index()
    row = [each["training_step"], each["seed"]]
    least = each["error"] <= each["error"].groupby(row).transform("min") * (1 + _ROUNDING)
    alone = least.groupby(row).transform("sum") == 1
    rivals = least.groupby(row).transform("size") > 1
    counts = each.assign(smallest=least & alone & rivals).groupby(by)["smallest"].sum()
    cells = over_agents(frame, by=by, column="error").join(counts, on=by)
    diagonal = cells[cells["training_step"] == cells["policy_step"]].set_index("training_step")["mean"]
    own = cells["training_step"].map(diagonal)
    return cells.assign(ratio=cells["mean"] / own.where(own > 0))


def draw_cross(cells: pd.DataFrame, *, title: str) -> Figure:
    """Draws the aggregate: a heat map of the means, and beside it each row divided by its diagonal.

    Policies at T = 1 have a second pair of maps below, in the same colours. The colours of errors follow their square
    root, so that an untrained row does not leave all others pale. Those of ratios follow their logarithm, with a half
    as far from 1 as a double. The smallest error of a row has a frame if most agents have theirs there too. Beside
    every row is the number of agents that have it on the diagonal.

    Args:
        cells: result of `aggregate_cross`.
        title: start of the figure's title, usually the environment's name.
    """
    kinds = list(dict.fromkeys(cells["policies_at"]))
    rows, columns = (cells[name].nunique() for name in ("training_step", "policy_step"))
    most = float(cells["mean"].max()) or 1.0  # colours need a range even if all errors are 0
    looks: list[dict[str, Any]] = [
        {"norm": PowerNorm(0.5, 0, most), "colours": "YlGnBu"},
        {"norm": _around_one(cells["ratio"].to_numpy()), "colours": "RdBu_r"},
    ]
    with figure_style():
        height = (0.32 * max(rows, 3) + 0.9) * len(kinds) + 1.2
        figure = Figure(figsize=(max(WIDTH, 0.62 * columns + 0.9), height), layout="constrained")
        grid = figure.subplots(len(kinds), 2, sharex=True, sharey=True, squeeze=False)
        keys: dict[str, Patch] = {}
        for kind, pair in zip(kinds, grid, strict=True):
            keys |= _draw_pair(pair, cells[cells["policies_at"] == kind], looks)
            pair[0].set_ylabel("Model and states\nof training step X")
            if len(kinds) > 1:
                pair[0].set_title(_PAIRS[kind], fontsize=PANEL_TITLE, loc="left")
        grid[0, 0].invert_yaxis()  # shared by all
        for axes in grid[-1]:
            axes.set_xlabel("Policy of training step Y")
        error = f"Value prediction error at h = {cells['h'].iloc[0]}\n(discounted reward; square-root colour scale)"
        _colour_bar(grid[:, 0], error, ticks=ticker.MaxNLocator(6, steps=[1, 2, 5, 10]))
        ratio = "Error relative to that for the model's own policy\n(ratio to the row's diagonal; log colour scale)"
        _colour_bar(grid[:, 1], ratio, ticks=ticker.LogLocator(base=2), format=ticker.FuncFormatter(_fraction))
        of = "mean of " if cells["agents"].max() > 1 else ""
        figure.suptitle(f"{title}, {of}{agents_in_words(cells)}", fontsize=10)
        if keys:
            shown = [keys[label] for label in (_SMALLEST, _NONE) if label in keys]
            figure.legend(handles=shown, title="Cell", loc="outside lower center", ncols=2, frameon=False)
    return figure


def _draw_pair(pair: Sequence[Axes], cells: pd.DataFrame, looks: list[dict[str, Any]]) -> dict[str, Patch]:
    """Draws the heat maps of errors and of ratios; returns the entries that a legend needs, by label."""
    means, ratios, counts, agents = (
        cells.pivot_table(index="training_step", columns="policy_step", values=name, dropna=False)
        for name in ("mean", "ratio", "smallest", "agents")
    )
    counts, agents = counts.fillna(0), agents.fillna(0)
    smallest = means.eq(means.min(axis=1), axis=0).to_numpy() & (2 * counts > agents).to_numpy()
    for axes, matrix, look in zip(pair, (means, ratios), looks, strict=True):
        _heat_map(axes, matrix, smallest, **look)
    _count_diagonals(pair[1], counts, agents)
    keys: dict[str, Patch] = {}
    if smallest.any():
        keys[_SMALLEST] = Rectangle((0, 0), 1, 1, label=_SMALLEST, **_FRAME)
    if ratios.isna().any(axis=None):
        keys[_NONE] = Patch(facecolor=MISSING, label=_NONE)
    return keys


def _heat_map(axes: Axes, matrix: pd.DataFrame, framed: NDArray[np.bool_], *, norm: Normalize, colours: str) -> None:
    """Draws one matrix: its numbers in coloured cells, with frames around some; cells without a number are grey."""
    colour_map = mpl.colormaps[colours].resampled(_COLOURS)
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
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _count_diagonals(axes: Axes, counts: pd.DataFrame, agents: pd.DataFrame) -> None:
    """Writes beside each row how many agents have their smallest error for the model's own policy."""
    for row, step in enumerate(counts.index):
        if step in counts.columns and agents.loc[step, step] > 0 and agents.loc[step].gt(0).sum() > 1:
            said = f"{int(counts.loc[step, step])}/{int(agents.loc[step, step])}"
            axes.annotate(
                said, (1, row + 0.5), (3, 0), ("axes fraction", "data"), "offset points", fontsize=7, va="center"
            )
    top = "agents: smallest\nfor own policy"
    axes.annotate(top, (1, 1), (3, 3), "axes fraction", "offset points", fontsize=6, va="bottom", ha="left")


def _around_one(ratios: NDArray[np.float64]) -> LogNorm:
    """Returns a logarithmic colour scale for ratios, symmetric around 1 and at least from 1/2 to 2."""
    known = ratios[ratios > 0]
    furthest = max([2.0, *known, *(1 / known)])
    return LogNorm(1 / furthest, furthest, clip=True)  # clip: a ratio of 0 has no logarithm


def _colour_bar(column: NDArray[Any], label: str, **options: Any) -> None:
    """Adds the colour bar of a column of axes `[rows]` below it."""
    figure = column[0].get_figure()
    bar = figure.colorbar(column[0].collections[0], ax=list(column), orientation="horizontal", aspect=30, **options)
    bar.set_label(label, fontsize=8)
    bar.minorticks_off()
    bar.outline.set_visible(False)


def _number(value: float) -> str:
    """Formats a number briefly enough for a cell."""
    if 0 < value < 0.0005:
        return "<.001"
    decimals = sum(value < limit for limit in (100, 10, 0.1))
    return f"{value:.{decimals}f}" if value else "0"


def _fraction(value: float, _position: int) -> str:
    """Formats a power of two as a ratio: 1/4, 1, 4."""
    return f"{value:g}" if value >= 1 else f"1/{1 / value:g}"
