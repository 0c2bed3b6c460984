"""Figure 7: return of planning with the learned and with the true model, guided by the policy or a uniform prior."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mzprobe.figures.style import (
    GREEDY,
    GREEN,
    ORANGE,
    PANEL_TITLE,
    SAMPLED,
    draw_level,
    draw_mean,
    figure_style,
    label_rows,
    legend_below,
    means_in_words,
    of_steps,
    panel_rows,
    simulations_axis,
    start_at_zero,
    thousands,
)
from mzprobe.stats import over_agents

_HOLLOW: dict[str, Any] = {"linewidth": 0.8, "markersize": 5, "markerfacecolor": "none", "zorder": 3}
_BROAD: dict[str, Any] = {"linewidth": 1.8, "markersize": 4}  # visible behind the true model's lines on top of them
LINES: dict[tuple[str, str, str], dict[str, Any]] = {  # by model, prior, and where the prior is evaluated
    ("learned", "policy", "latent"): {
        "label": "learned model, policy prior",
        "colour": ORANGE,
        "marker": "o",
        **_BROAD,
    },
    ("learned", "policy", "state"): {
        "label": "learned model, prior at real states",
        "colour": ORANGE,
        "marker": "^",
        "linestyle": "--",
        **_HOLLOW,
    },
    ("learned", "uniform", "none"): {
        "label": "learned model, uniform prior",
        "colour": ORANGE,
        "marker": "o",
        "linestyle": ":",
        **_BROAD,
    },
    ("true", "policy", "state"): {"label": "true model, policy prior", "colour": GREEN, "marker": "s"},
    ("true", "policy", "latent"): {
        "label": "true model, prior at latents",
        "colour": GREEN,
        "marker": "v",
        "linestyle": "--",
        **_HOLLOW,
    },
    ("true", "uniform", "none"): {
        "label": "true model, uniform prior",
        "colour": GREEN,
        "marker": "s",
        "linestyle": ":",
    },
}
PRIOR_ALONE: tuple[dict[str, Any], ...] = (  # sampled, greedy
    {"label": "policy prior alone, sampled", "colour": SAMPLED, "dashes": "-."},
    {"label": "policy prior alone, greedy", "colour": GREEDY, "dashes": (0, (6, 2))},
)
RANDOM_PLAY = "random play"
ONE_STEP: dict[str, dict[str, Any]] = {
    "learned": {"label": "one step of the learned model", "colour": ORANGE, "dashes": (0, (1, 3))},
    "true": {"label": "one step of the true model", "colour": GREEN, "dashes": (0, (1, 3))},
}
_LEAVES = {"rollout": "leaf values by random rollout", "value": "leaf values by the value network"}


@of_steps
def aggregate_planning(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the mean and standard error over agents of the return, one row per training step, way to act and N."""
    how = ["leaf", "horizon", "counted_from", "temperature"]
    by = ["training_step", "model", "prior", "prior_at", *how, "simulations"]
    return over_agents(frame, by=by, column="return")


def draw_planning(cells: pd.DataFrame, *, title: str) -> Figure:
    """Draws the aggregate: one panel per training step, one colour per model, bands of one standard error.

    The uniform prior is dotted, as in the paper. The policy prior is dashed where it is evaluated in the other model's
    place: at encoded real states for the learned model, at unrolled latents for the true one. Acting without a search
    has no N and is a horizontal line: the policy prior, sampled and greedy, and, where measured, random play and the
    best single step in either model.

    Args:
        cells: result of `aggregate_planning`.
        title: start of the figure's title, usually the environment's name.
    """
    steps = np.sort(cells["training_step"].unique())
    searched = cells[cells["simulations"] > 0]
    with figure_style():
        figure, panels = panel_rows(len(steps), xlabel="Simulations per step, N")
        for step, axes in zip(steps, panels, strict=True):
            _draw_panel(axes, cells[cells["training_step"] == step])
            axes.set_title(f"Step {thousands(step)}", fontsize=PANEL_TITLE)
            axes.grid(axis="y")
        start_at_zero(panels[0], cells)
        simulations_axis(panels[0], searched["simulations"].to_numpy())
        figure.suptitle(f"{title}, {means_in_words(cells)}{_how(searched)}", fontsize=10)
        label_rows(figure, panels, "Return (undiscounted reward)")
        labels = [line["label"] for line in (*LINES.values(), *ONE_STEP.values(), *PRIOR_ALONE)]
        legend_below(figure, [*labels, RANDOM_PLAY], title="Acts by search in, or without one by", columns=3)
    return figure


def _draw_panel(axes: Axes, panel: pd.DataFrame) -> None:
    for (model, prior, prior_at), line in LINES.items():
        own = (panel["model"] == model) & (panel["prior"] == prior) & (panel["prior_at"] == prior_at)
        draw_mean(axes, panel[own], "simulations", **line)
    alone = panel[(panel["model"] == "none") & (panel["prior"] == "policy")]
    for line, greedy in zip(PRIOR_ALONE, (False, True), strict=True):
        draw_level(axes, alone[(alone["temperature"] == 0) == greedy], **line)
    by_lot = panel[(panel["model"] == "none") & (panel["prior"] == "uniform")]
    draw_level(axes, by_lot, colour="0.7", dashes="-", label=RANDOM_PLAY)
    for model, line in ONE_STEP.items():
        draw_level(axes, panel[(panel["model"] == model) & (panel["prior"] == "none")], **line)


def _how(searched: pd.DataFrame) -> str:
    """Describes for the title how leaves were valued and how far the search planned."""
    if searched.empty:
        return ""
    leaf, horizon, start = searched[["leaf", "horizon", "counted_from"]].iloc[0]
    until = f"{horizon} steps from the {start}" if horizon else "unlimited planning horizon"
    return f"\n{_LEAVES[leaf]}, {until}"
