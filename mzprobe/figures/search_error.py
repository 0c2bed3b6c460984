"""Figure 6: value prediction error of the search's simulated trajectories, and its distance from the prior."""

from collections.abc import Container
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mzprobe.figures.style import (
    BLUE,
    ORANGE,
    PANEL_TITLE,
    WIDTH,
    draw_mean,
    figure_style,
    legend_below,
    means_in_words,
    of_steps,
    simulations_axis,
    start_at_zero,
    thousands,
)
from mzprobe.stats import over_agents

_ERROR = "Value prediction error\n(discounted reward)"
PANELS = {  # title and name of the y axis
    "path_error": ("Tree path", _ERROR),
    "matched_error": ("Tree path, equal depth", _ERROR),
    "trajectory_error": ("Tree path and rollout", _ERROR),
    "path_length": ("Length of the tree path", "Environment steps"),
    "tv": ("Visits against the\npolicy network", "Total variation\n(0 to 1)"),
    "kl": ("Visits against the\npolicy network", "Kullback-Leibler\ndivergence (nats)"),
}
QUANTITIES = tuple(PANELS)
REGULARISED = {"tv": "tv_regularised", "kl": "kl_regularised"}  # quantities drawn in the same panel, by quantity
_ROWS = (QUANTITIES[:3], QUANTITIES[3:])  # errors of the model; where the search goes
DOTS = ", regularised policy for the visits"
LINES: dict[str, dict[str, Any]] = {
    "policy": {"label": "policy prior", "colour": BLUE, "marker": "o"},
    "uniform": {"label": "uniform prior", "colour": ORANGE, "marker": "s", "linestyle": "--"},
}


@of_steps
def aggregate_search_error(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the mean and standard error over agents of each quantity, by training step, prior and simulations.

    Quantities are `QUANTITIES` and those of `REGULARISED`; those that an older table lacks are left out.
    """
    by = ["training_step", "prior", "simulations"]
    known = [quantity for quantity in (*QUANTITIES, *REGULARISED.values()) if quantity in frame]
    parts = [over_agents(frame, by=by, column=quantity).assign(quantity=quantity) for quantity in known]
    columns = ["training_step", "quantity", "prior", "simulations", "mean", "standard_error", "agents"]
    return pd.concat(parts, ignore_index=True)[columns]


def draw_search_error(cells: pd.DataFrame, *, title: str) -> Figure:
    """Draws the aggregate: two rows of panels per training step, one line per prior, bands of one standard error.

    The upper row shows errors, the lower one where the search goes; quantities that the aggregate lacks have no panel.
    Every panel has its own y axis, since errors of different training steps are at different states and do not compare.
    Only the two panels of tree paths, which weight the errors of the same steps in two ways, share an axis. Distances
    from the regularised policy are dotted beside those from the visits.

    Args:
        cells: result of `aggregate_search_error`.
        title: start of the figure's title, usually the environment's name.
    """
    steps = np.sort(cells["training_step"].unique())
    with figure_style():
        figure, panels = _panels(steps, set(cells["quantity"]))
        for (step, quantity), axes in panels.items():
            panel = cells[(cells["training_step"] == step) & (cells["quantity"] == quantity)]
            for prior, line in LINES.items():
                draw_mean(axes, panel[panel["prior"] == prior], "simulations", **line)
            _draw_regularised(axes, cells[cells["training_step"] == step], quantity)
            name, axes_name = PANELS[quantity]
            axes.set_title(f"Step {thousands(step)}\n{name}" if len(steps) > 1 else name, fontsize=PANEL_TITLE)
            axes.set_ylabel(axes_name, fontsize=8)
            start_at_zero(axes, panel)
            axes.grid(axis="y")
        simulations_axis(next(iter(panels.values())), cells["simulations"].to_numpy())
        said = f", step {thousands(steps[0])}" if len(steps) == 1 else ""
        figure.suptitle(f"{title}{said}, {means_in_words(cells)}", fontsize=10)
        labels = [line["label"] for line in LINES.values()]
        legend_below(figure, [*labels, *(label + DOTS for label in labels)], title="Search with", columns=2)
    return figure


def _draw_regularised(axes: Axes, cells: pd.DataFrame, quantity: str) -> None:
    """Draws dotted lines of the distance from the regularised policy, if the quantity is the distance from visits."""
    for prior, line in LINES.items():
        own = cells[(cells["quantity"] == REGULARISED.get(quantity)) & (cells["prior"] == prior)]
        if not own.empty:
            label = line["label"] + DOTS
            axes.plot(own["simulations"], own["mean"], color=line["colour"], linestyle=":", linewidth=1, label=label)


def _panels(steps: NDArray[np.int64], known: Container[str]) -> tuple[Figure, dict[tuple[int, str], Axes]]:
    """Creates a figure and its panels by training step and quantity; the lowest of each column labels the x axis."""
    kept = [[quantity for quantity in row if quantity in known] for row in _ROWS]
    kept = [row for row in kept if row]
    rows, columns = len(steps) * len(kept), max(len(row) for row in kept)
    figure = Figure(figsize=(WIDTH, 2.0 * rows + 1.1), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
    panels: dict[tuple[int, str], Axes] = {}
    lowest: dict[int, Axes] = {}
    for i, (step, row) in enumerate((step, row) for step in steps for row in kept):
        for column, axes in enumerate(grid[i]):
            if column < len(row):
                panels[step, row[column]] = lowest[column] = axes
            else:
                axes.remove()
    for step in steps:
        if (step, "matched_error") in panels:
            panels[step, "matched_error"].sharey(panels[step, "path_error"])
    for axes in lowest.values():
        axes.set_xlabel("Simulations, N")
        axes.tick_params(labelbottom=True)
    return figure, panels
