"""Improvement of the search's action over the policy network's, state by state, by the number of simulations."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mzprobe.figures.style import (
    GREEN,
    GREY,
    ORANGE,
    PANEL_TITLE,
    draw_level,
    draw_mean,
    figure_style,
    label_rows,
    legend_below,
    means_in_words,
    of_steps,
    panel_rows,
    simulations_axis,
    thousands,
)
from mzprobe.stats import over_agents

_MODELS = {"learned": (ORANGE, "o"), "true": (GREEN, "s")}
LINES: dict[tuple[str, str], dict[str, Any]] = {
    (model, prior): {
        "label": f"{model} model, {prior} prior",
        "colour": colour,
        "marker": marker,
        "linestyle": dashes,
    }
    for prior, dashes in (("policy", "-"), ("uniform", ":"))
    for model, (colour, marker) in _MODELS.items()
}
POSSIBLE = "best action of all"


@of_steps
def aggregate_improvement(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the mean and standard error over agents of the improvement, one row per training step, search and N.

    Rows of the model `none`, with 0 simulations, hold the improvement of the best action of all.
    """
    by = ["training_step", "model", "prior", "leaf", "simulations"]
    best = frame.assign(possible=frame["best_value"] - frame["prior_value"], model="none", prior="none", leaf="none")
    best = best.assign(simulations=0).drop_duplicates(["seed", "training_step", "state"])
    parts = [over_agents(best, by=by, column="possible"), over_agents(frame, by=by, column="improvement")]
    return pd.concat(parts, ignore_index=True)


def draw_improvement(cells: pd.DataFrame, *, title: str) -> Figure:
    """Draws the aggregate for value leaves: one panel per training step, one colour per model.

    Bands span one standard error. Above 0 the search acts better than the policy network's likeliest action; the grey
    level is that of the best action of all.

    Args:
        cells: result of `aggregate_improvement`.
        title: start of the figure's title, usually the environment's name.
    """
    steps = np.sort(cells["training_step"].unique())
    with figure_style():
        figure, panels = panel_rows(len(steps), xlabel="Simulations, N")
        for step, axes in zip(steps, panels, strict=True):
            panel = cells[cells["training_step"] == step]
            axes.axhline(0, color="0.6", linewidth=0.6)
            for (model, prior), line in LINES.items():
                own = (panel["model"] == model) & (panel["prior"] == prior) & (panel["leaf"] == "value")
                draw_mean(axes, panel[own], "simulations", **line)
            best = panel[panel["model"] == "none"]
            draw_level(axes, best, colour=GREY, dashes=(0, (1, 1)), label=POSSIBLE)
            axes.set_title(f"Step {thousands(step)}", fontsize=PANEL_TITLE)
            axes.grid(axis="y")
        simulations_axis(panels[0], cells.loc[cells["simulations"] > 0, "simulations"].to_numpy())
        figure.suptitle(f"{title}, {means_in_words(cells)}\nleaf values by the value network", fontsize=10)
        label_rows(figure, panels, "Improvement (discounted reward)")
        legend_below(
            figure, [*(line["label"] for line in LINES.values()), POSSIBLE], title="Acts by search in", columns=3
        )
    return figure
