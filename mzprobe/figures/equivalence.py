"""Order-k Bellman error of the behaviour policy and the agent's own value head, and its two parts."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.figure import Figure

from mzprobe.figures.style import (
    BLUE,
    GREY,
    ORANGE,
    PANEL_TITLE,
    draw_mean,
    error_axes,
    figure_style,
    label_rows,
    legend_below,
    means_in_words,
    of_steps,
    panel_rows,
    thousands,
)
from mzprobe.stats import over_agents

LINES: dict[str, dict[str, Any]] = {
    "error": {"label": "order-k Bellman error", "colour": GREY, "marker": "o"},
    "reward_part": {"label": "its part of rewards", "colour": BLUE, "linestyle": "--"},
    "bootstrap_part": {"label": "its part of the bootstrap", "colour": ORANGE, "linestyle": "-."},
}


@of_steps
def aggregate_equivalence(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the mean and standard error over agents of the magnitudes of the error and its parts.

    One row per training step, step of the value head, order k and quantity.
    """
    by = ["training_step", "value_step", "k"]
    parts = [
        over_agents(frame.assign(magnitude=frame[quantity].abs()), by=by, column="magnitude").assign(quantity=quantity)
        for quantity in LINES
    ]
    columns = [*by, "quantity", "mean", "standard_error", "agents"]
    return pd.concat(parts, ignore_index=True)[columns]


def draw_equivalence(cells: pd.DataFrame, *, title: str) -> Figure:
    """Draws the aggregate for each model's own value head: one panel per training step, one line per quantity.

    The untrained model (step 0) is left out if there are others, since its errors are those of predicting nothing.
    Order 0 is left out because both updates are the same value.

    Args:
        cells: result of `aggregate_equivalence`.
        title: start of the figure's title, usually the environment's name.
    """
    own = cells[cells["training_step"] == cells["value_step"]]
    steps = np.sort(own["training_step"].unique())
    steps = steps[steps > 0] if steps.max(initial=0) > 0 else steps
    shown = own[(own["k"] > 0) & own["training_step"].isin(steps)]
    with figure_style():
        figure, panels = panel_rows(len(steps), xlabel="Order k (environment steps)")
        for step, axes in zip(steps, panels, strict=True):
            panel = shown[shown["training_step"] == step]
            for quantity, line in LINES.items():
                draw_mean(axes, panel[panel["quantity"] == quantity], "k", **line)
            axes.set_title(f"Step {thousands(step)}", fontsize=PANEL_TITLE)
        error_axes(panels, shown)
        panels[0].set_xlim(left=0)
        panels[0].xaxis.set_major_locator(ticker.MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))  # shared axis
        figure.suptitle(f"{title}, {means_in_words(own)}", fontsize=10)
        label_rows(figure, panels, "Error (discounted reward)")
        legend_below(figure, (line["label"] for line in LINES.values()), title="Magnitude of the", columns=3)
    return figure
