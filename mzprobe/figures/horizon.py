"""Figure 3: value prediction error of the behaviour policy, by training step and horizon, and step by step."""

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mzprobe.figures.style import PANEL_TITLE, WIDTH, draw_mean, error_axes, figure_style, means_in_words, thousands
from mzprobe.stats import over_agents
from mzprobe.tables import near_an_end

_OF_STEPS = {"step_error": "step_signed_error", "grounded_error": "grounded_signed_error"}
_TYPICAL: dict[str, dict[str, Any]] = {
    "error": {"label": "mean of all", "linestyle": "-", "marker": "o"},
    "median": {"label": "median of all", "linestyle": "--", "marker": "s"},
    "without_ends": {"label": "mean of those with no end near", "linestyle": ":", "marker": "^"},
}


def aggregate_horizon(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard error over agents, one row a quantity, training step and horizon.

    `error` is the mean over an agent's states, `median` their median, `without_ends` the mean over those from which no
    end is near (of the longest horizon), `step_error` and `grounded_error` the mean magnitude of the error of step h
    alone, in the unrolled and in the re-grounded model. A table of before has the first two.
    """
    by = ["training_step", "h"]
    medians = frame.groupby([*by, "seed"])["error"].median().reset_index()
    parts = {"error": over_agents(frame, by=by, column="error"), "median": over_agents(medians, by=by, column="error")}
    if "end_within" in frame:
        far = frame.assign(error=frame["error"].mask(near_an_end(frame)))
        parts["without_ends"] = over_agents(far, by=by, column="error")
    for quantity, column in _OF_STEPS.items():
        if column in frame:
            parts[quantity] = over_agents(frame.assign(size=frame[column].abs()), by=by, column="size")
    return pd.concat([cells.assign(quantity=name) for name, cells in parts.items()], ignore_index=True)


def draw_horizon(cells: pd.DataFrame, *, title: str) -> Figure:
    """Draws the aggregate: mean errors, a line a horizon; typical ones at the longest; those of each step alone.

    Bands span one standard error. The untrained model (step 0) is said in words, so that the axes can show the others,
    unless there is no other; axes are logarithmic where errors span much. The third panel is drawn where the table has
    it; its last training step also in the re-grounded model.

    Args:
        cells: what `aggregate_horizon` gives.
        title: of the environment.
    """
    untrained = cells[(cells["training_step"] == 0) & (cells["quantity"] == "error")]
    if (cells["training_step"] > 0).any():
        cells = cells[cells["training_step"] > 0]
    else:
        untrained = untrained.iloc[:0]
    steps = bool(cells["quantity"].isin(_OF_STEPS).any())
    with figure_style():
        figure = Figure(figsize=(WIDTH + 1.8 * steps, 4.0), layout="constrained")
        panels = list(figure.subplots(1, 3 if steps else 2))
        _draw_means(panels[0], cells[cells["quantity"] == "error"], untrained)
        _draw_typical(panels[1], cells)
        if steps:
            _draw_steps(panels[2], cells)
        last = {"h": cells["h"].max(), "training_step": cells["training_step"].max()}
        typical = cells["quantity"].isin(_TYPICAL) & (cells["h"] == last["h"])
        error_axes(panels[:2], cells[(cells["quantity"] == "error") | typical])
        if steps:
            grounded = (cells["quantity"] == "grounded_error") & (cells["training_step"] == last["training_step"])
            error_axes(panels[2:], cells[(cells["quantity"] == "step_error") | grounded])
        figure.suptitle(f"{title}, {means_in_words(cells[cells['quantity'] == 'error'])}", fontsize=10)
    return figure


def _draw_means(axes: Axes, cells: pd.DataFrame, untrained: pd.DataFrame) -> None:
    horizons = np.sort(cells["h"].unique())
    colours = sns.color_palette("viridis_r", len(horizons) + 1)[1:]
    for h, colour in zip(horizons, colours, strict=True):
        draw_mean(axes, cells[cells["h"] == h], "training_step", colour=colour, label=str(h), marker="o")
    said = f"\n(untrained: {untrained['mean'].min():.2g} to {untrained['mean'].max():.2g})" if len(untrained) else ""
    axes.set_title(f"By horizon{said}", fontsize=PANEL_TITLE)
    axes.set_ylabel("Value prediction error\n(discounted reward)")
    _training_axis(axes)
    _legend(axes, "Horizon h (environment steps)", columns=5)


def _draw_typical(axes: Axes, cells: pd.DataFrame) -> None:
    largest = cells["h"].max()
    colour = sns.color_palette("viridis_r", 2)[1]
    for quantity, line in _TYPICAL.items():
        own = cells[(cells["quantity"] == quantity) & (cells["h"] == largest)].dropna(subset=["mean"])
        draw_mean(axes, own, "training_step", colour=colour, **line)
    axes.set_title(f"Over states, h = {largest}", fontsize=PANEL_TITLE)
    _training_axis(axes)
    _legend(axes, "States of an agent", columns=1)


def _draw_steps(axes: Axes, cells: pd.DataFrame) -> None:
    trained = np.sort(cells["training_step"].unique())
    colours = sns.color_palette("flare", len(trained))
    for step, colour in zip(trained, colours, strict=True):
        own = cells[(cells["quantity"] == "step_error") & (cells["training_step"] == step)]
        draw_mean(axes, own, "h", colour=colour, label=thousands(step), marker="o")
    last = cells[(cells["quantity"] == "grounded_error") & (cells["training_step"] == trained[-1])]
    draw_mean(
        axes,
        last,
        "h",
        colour="0.35",
        label=f"{thousands(trained[-1])}, encoded anew every step",
        linestyle=":",
        marker="^",
    )
    axes.set_title("Of each step alone", fontsize=PANEL_TITLE)
    axes.set_xlabel("Step k")
    axes.set_ylabel("Error of the predicted reward\n$|\\mathrm{E}[u_k - r_k]|$ (reward)")
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    _legend(axes, "Training steps", columns=3)


def _legend(axes: Axes, title: str, *, columns: int) -> None:
    """Below the panel, where no line passes under it."""
    spacing: dict[str, Any] = {"columnspacing": 1.0, "handlelength": 1.6, "handletextpad": 0.5}
    place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2)}
    axes.legend(title=title, frameon=False, ncols=columns, fontsize=7, **place, **spacing)


def _training_axis(axes: Axes) -> None:
    axes.set_xlabel("Training steps")
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(thousands))
