"""Figure 6: value prediction error of the search's simulated trajectories, and how far it leaves the prior."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mzprobe.figures.style import (
    BLUE,
    ORANGE,
    PANEL_TITLE,
    WIDTH,
    agents_in_words,
    draw_mean,
    figure_style,
    legend_below,
    simulations_axis,
    start_at_zero,
    thousands,
)
from mzprobe.stats import over_agents

QUANTITIES = ("path_error", "trajectory_error", "path_length", "tv", "kl")
_PANELS = {  # title and name of the y axis
    "path_error": ("Tree path", "Value prediction error\n(discounted reward)"),
    "trajectory_error": ("Tree path and rollout", "Value prediction error\n(discounted reward)"),
    "tv": (r"TV$[\pi_\theta, \hat{\pi}]$", "Total variation (unitless)"),
    "kl": (r"KL$[\pi_\theta, \hat{\pi}]$", "KL divergence (nats)"),
}
_LINES: dict[str, dict[str, Any]] = {
    "policy": {"label": "policy prior", "colour": BLUE, "marker": "o"},
    "uniform": {"label": "uniform prior", "colour": ORANGE, "marker": "s", "linestyle": "--"},
}


def aggregate_search(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard error over agents of every one of `QUANTITIES`, by training step, prior and simulations."""
    by = ["training_step", "prior", "simulations"]
    parts = [over_agents(frame, by=by, column=quantity).assign(quantity=quantity) for quantity in QUANTITIES]
    columns = ["training_step", "quantity", "prior", "simulations", "mean", "standard_error", "agents"]
    return pd.concat(parts, ignore_index=True)[columns]


def draw_search(cells: pd.DataFrame, *, title: str) -> Figure:
    """Draws the aggregate: a row of four panels a training step, one line a prior, band of one standard error.

    Every panel has its own y axis: errors of training steps have different states and do not compare.

    Args:
        cells: what `aggregate_search` gives.
        title: of the environment.
    """
    steps = np.sort(cells["training_step"].unique())
    with figure_style():
        figure = Figure(figsize=(WIDTH + 0.6, 1.9 * len(steps) + 0.9), layout="constrained")
        grid = figure.subplots(len(steps), len(_PANELS), sharex=True, squeeze=False)
        for step, row in zip(steps, grid, strict=True):
            for axes, (quantity, (name, unit)) in zip(row, _PANELS.items(), strict=True):
                panel = cells[(cells["training_step"] == step) & (cells["quantity"] == quantity)]
                for prior, line in _LINES.items():
                    draw_mean(axes, panel[panel["prior"] == prior], "simulations", **line)
                axes.set_title(f"Step {thousands(step)}\n{name}" if len(steps) > 1 else name, fontsize=PANEL_TITLE)
                axes.set_ylabel(unit, fontsize=8)
                start_at_zero(axes, panel)
                axes.grid(axis="y")
        for axes in grid[-1]:
            axes.set_xlabel("Simulations, N")
        simulations_axis(grid[0, 0], cells["simulations"].to_numpy())
        said = f", step {thousands(steps[0])}" if len(steps) == 1 else ""
        figure.suptitle(f"{title}{said}, {agents_in_words(cells)}", fontsize=10)
        legend_below(figure, (line["label"] for line in _LINES.values()), columns=2)
    return figure
