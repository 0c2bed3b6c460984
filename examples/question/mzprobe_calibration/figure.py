"""The figure, from the table alone."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mzprobe.figures.style import ORANGE, agents_in_words, draw_mean, figure_style
from mzprobe.stats import over_agents


def aggregate_calibration(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard error over agents of |v - v_pi|, one row a training step."""
    errors = frame.assign(error=np.abs(frame["predicted_value"] - frame["value"]))
    return over_agents(errors, by=["training_step"], column="error")


def draw_calibration(cells: pd.DataFrame, *, title: str) -> Figure:
    """Draws it against training steps."""
    with figure_style():
        figure = Figure(figsize=(4, 3), layout="constrained")
        axes = figure.add_subplot(xlabel="Training steps", ylabel="|v - return| (discounted reward)")
        draw_mean(axes, cells, "training_step", colour=ORANGE, label="value head")
        axes.set_ylim(bottom=0)
        figure.suptitle(f"{title}, {agents_in_words(cells)}", fontsize=10)
    return figure
