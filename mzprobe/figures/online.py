"""Figure 2: return of the behaviour policy and of the policy prior, by training step."""

from typing import Any

import pandas as pd
from matplotlib import ticker
from matplotlib.figure import Figure

from mzprobe.figures.style import (
    BLUE,
    GREY,
    agents_in_words,
    draw_mean,
    figure_style,
    legend_below,
    start_at_zero,
    thousands,
)
from mzprobe.stats import over_agents

_LINES: dict[str, dict[str, Any]] = {
    "behaviour": {"label": "MCTS (behaviour policy)", "colour": BLUE, "marker": "o"},
    # In the grey and the dashes that it has in Figure 7.
    "prior": {"label": "policy prior", "colour": GREY, "marker": "s", "linestyle": "-."},
}


def aggregate_online(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard error over agents of the return, one row a policy and training step."""
    return over_agents(frame, by=["policy", "training_step"], column="return")


def draw_online(cells: pd.DataFrame, *, title: str) -> Figure:
    """Draws the aggregate: one line a policy, mean over agents, band of one standard error.

    Args:
        cells: what `aggregate_online` gives.
        title: of the environment.
    """
    with figure_style():
        figure = Figure(figsize=(4.6, 3.1), layout="constrained")
        axes = figure.subplots()
        for policy, line in _LINES.items():
            draw_mean(axes, cells[cells["policy"] == policy], "training_step", **line)
        axes.set_title(f"{title}, {agents_in_words(cells)}")
        axes.set_xlabel("Training steps")
        axes.set_ylabel("Return (undiscounted reward)")
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(thousands))
        start_at_zero(axes, cells)
        axes.grid(axis="y")
        legend_below(figure, (line["label"] for line in _LINES.values()), columns=2)
    return figure
