"""Figure 3: value prediction error of the behaviour policy, by training step and horizon, and step by step."""

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mzprobe.figures.style import (
    PANEL_TITLE,
    WIDTH,
    StepFormatter,
    draw_mean,
    error_axes,
    figure_style,
    means_in_words,
    of_steps,
    thousands,
)
from mzprobe.stats import over_agents
from mzprobe.tables import near_an_end

_ERROR = "Value prediction error\n(discounted reward)"
_OF_STEPS = {"step_error": "step_signed_error", "grounded_error": "grounded_signed_error"}
_TYPICAL: dict[str, dict[str, Any]] = {
    "error": {"label": "mean of all", "linestyle": "-", "marker": "o"},
    "median": {"label": "median of all", "linestyle": "--", "marker": "s"},
    "without_ends": {"label": "mean of those with no end near", "linestyle": ":", "marker": "^"},
}


@of_steps
def aggregate_horizon(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the mean and standard error over agents, one row per quantity, training step and horizon.

    `error` is the mean over an agent's states, `median` their median, and `without_ends` the mean over those that are
    not near the end of an episode (see `near_an_end`). `step_error` and `grounded_error` are the mean magnitudes of the
    error of step h alone, in the unrolled and in the re-grounded model. Older tables have only the first two.
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
    """Draws the aggregate in panels: mean errors by horizon, errors over states, and errors of each step alone.

    The first panel has the mean errors over training, with one line per horizon; the second the mean, the median and
    the mean without states near an end, at the longest horizon. With a single training step, these stand over the
    horizon instead, in one panel. The last panel is drawn if the table has errors of single steps, and shows the last
    training step also in the re-grounded model.

    Bands span one standard error. Errors of the untrained model (step 0) are given in words, so that the axes fit the
    others, unless there is no other model. Axes are logarithmic where errors span a wide range.

    Args:
        cells: result of `aggregate_horizon`.
        title: start of the figure's title, usually the environment's name.
    """
    untrained = cells[(cells["training_step"] == 0) & (cells["quantity"] == "error")]
    if (cells["training_step"] > 0).any():
        cells = cells[cells["training_step"] > 0]
    else:
        untrained = untrained.iloc[:0]
    alone = len(cells["training_step"].unique()) == 1
    steps = bool(cells["quantity"].isin(_OF_STEPS).any())
    typical = cells[cells["quantity"].isin(_TYPICAL)]
    longest = typical[typical["h"] == cells["h"].max()]
    with figure_style():
        figure = Figure(figsize=(WIDTH + 1.8 * (steps and not alone), 4.0), layout="constrained")
        panels = list(figure.subplots(1, 2 - alone + steps, squeeze=False).flat)
        if alone:
            _draw_by_horizon(panels[0], typical, untrained)
            error_axes(panels[:1], typical)
        else:
            _draw_means(panels[0], typical[typical["quantity"] == "error"], untrained)
            _draw_over_states(panels[1], longest)
            error_axes(panels[:2], pd.concat([typical[typical["quantity"] == "error"], longest]))
        if steps:
            _draw_steps(panels[-1], cells)
            last = cells["training_step"] == cells["training_step"].max()
            grounded = (cells["quantity"] == "grounded_error") & last
            error_axes(panels[-1:], cells[(cells["quantity"] == "step_error") | grounded])
        figure.suptitle(f"{title}, {means_in_words(typical[typical['quantity'] == 'error'])}", fontsize=10)
    return figure


def _draw_by_horizon(axes: Axes, cells: pd.DataFrame, untrained: pd.DataFrame) -> None:
    _draw_typical(axes, cells, "h")
    step = thousands(cells["training_step"].iloc[0])
    axes.set_title(f"By horizon, at training step {step}{_in_words(untrained)}", fontsize=PANEL_TITLE)
    axes.set_xlabel("Horizon h (environment steps)")
    axes.set_ylabel(_ERROR)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    _legend(axes, "States of an agent", columns=1)


def _draw_means(axes: Axes, cells: pd.DataFrame, untrained: pd.DataFrame) -> None:
    horizons = np.sort(cells["h"].unique())
    colours = sns.color_palette("viridis_r", len(horizons) + 1)[1:]
    for h, colour in zip(horizons, colours, strict=True):
        draw_mean(axes, cells[cells["h"] == h], "training_step", colour=colour, label=str(h), marker="o")
    axes.set_title(f"By horizon{_in_words(untrained)}", fontsize=PANEL_TITLE)
    axes.set_ylabel(_ERROR)
    _training_axis(axes)
    _legend(axes, "Horizon h (environment steps)", columns=5)


def _in_words(untrained: pd.DataFrame) -> str:
    """Describes the errors of the untrained model, which no axis shows; empty if there is none."""
    return f"\n(untrained: {untrained['mean'].min():.2g} to {untrained['mean'].max():.2g})" if len(untrained) else ""


def _draw_over_states(axes: Axes, cells: pd.DataFrame) -> None:
    _draw_typical(axes, cells, "training_step")
    axes.set_title(f"Over states, h = {cells['h'].iloc[0]}", fontsize=PANEL_TITLE)
    _training_axis(axes)
    _legend(axes, "States of an agent", columns=1)


def _draw_typical(axes: Axes, cells: pd.DataFrame, x: str) -> None:
    colour = sns.color_palette("viridis_r", 2)[1]
    for quantity, line in _TYPICAL.items():
        draw_mean(axes, cells[cells["quantity"] == quantity].dropna(subset=["mean"]), x, colour=colour, **line)


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
    """Adds a legend below the panel, where it hides no line."""
    spacing: dict[str, Any] = {"columnspacing": 1.0, "handlelength": 1.6, "handletextpad": 0.5}
    place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2)}
    axes.legend(title=title, frameon=False, ncols=columns, fontsize=7, **place, **spacing)


def _training_axis(axes: Axes) -> None:
    axes.set_xlabel("Training steps")
    axes.xaxis.set_major_formatter(StepFormatter())
