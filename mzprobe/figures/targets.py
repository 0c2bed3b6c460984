"""Value targets against the true value, by the time since their episode was stored."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mzprobe.figures.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PANEL_TITLE,
    StepFormatter,
    draw_mean,
    figure_style,
    label_rows,
    legend_below,
    means_in_words,
    of_steps,
    panel_rows,
    start_at_zero,
    thousands,
    variant_looks,
)
from mzprobe.stats import over_agents

PARTS = 5  # number of parts of a replay buffer, by age
LINES: dict[str, dict[str, Any]] = {
    "value": {"label": "true value of the behaviour policy", "colour": GREEN, "marker": "s"},
    "target": {"label": "stored target", "colour": ORANGE, "marker": "o", "linestyle": "--"},
    "predicted_value": {"label": "value head", "colour": BLUE, "marker": "^", "linestyle": ":"},
}
_QUANTITIES = (*LINES, "priority", "decode_bias", "age")


@of_steps
def aggregate_targets(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the mean and standard error over agents of every quantity, by training step and fifth of positions.

    Fifth 1 holds an agent's youngest positions; positions of equal age are in the same fifth.
    """
    parts = _in_parts(frame, ["seed", "training_step"])
    found = [
        over_agents(parts, by=["training_step", "part"], column=quantity).assign(quantity=quantity)
        for quantity in _QUANTITIES
    ]
    columns = ["training_step", "quantity", "part", "mean", "standard_error", "agents"]
    return pd.concat(found, ignore_index=True)[columns]


def _in_parts(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Adds a column `part`, 1 to `PARTS` by age among the rows with equal entries in the columns `by`."""
    rank = frame.groupby(by)["age"].rank(pct=True)
    return frame.assign(part=np.ceil(rank * PARTS).clip(1, PARTS).astype(int))


@of_steps
def aggregate_oldest(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the mean and standard error over agents of target minus true value, in the oldest fifth of positions.

    One row per variant and training step; below 0 the targets are too low. `age` is the mean age of that fifth.

    Args:
        frame: tables of all variants, with a column `variant`.
    """
    by = ["variant", "training_step"]
    parts = _in_parts(frame, [*by, "seed"])
    # With many positions of equal age, an agent's last part may not be the fifth.
    oldest = parts[parts["part"] == parts.groupby([*by, "seed"])["part"].transform("max")]
    cells = over_agents(oldest.assign(error=oldest["target"] - oldest["value"]), by=by, column="error")
    age = over_agents(oldest, by=by, column="age").set_index(by)["mean"].rename("age")
    return cells.join(age, on=by)[[*by, "age", "mean", "standard_error", "agents"]]


def draw_oldest(cells: pd.DataFrame, *, title: str) -> Figure:
    """Draws the aggregate: one line per variant.

    Args:
        cells: result of `aggregate_oldest`, variants in order.
        title: start of the figure's title, usually the environment's name.
    """
    looks = variant_looks(cells["variant"].unique())
    with figure_style():
        figure = Figure(figsize=(4.6, 3.6), layout="constrained")
        axes = figure.subplots()
        for variant, look in looks.items():
            draw_mean(axes, cells[cells["variant"] == variant], "training_step", **look)
        axes.axhline(0, color=GREY, linewidth=0.8)
        axes.set_xlabel("Training steps")
        axes.xaxis.set_major_formatter(StepFormatter())
        axes.set_ylabel("Target minus true value\n(discounted reward)")
        axes.grid(axis="y")
        figure.suptitle(f"{title}, {means_in_words(cells)},\nthe oldest fifth of the replay buffer", fontsize=10)
        legend_below(figure, looks, title="Variant", columns=4)
    return figure


def draw_targets(cells: pd.DataFrame, *, title: str) -> Figure:
    """Draws the aggregate: one panel per training step, against the mean age of each fifth of the positions.

    Args:
        cells: result of `aggregate_targets`.
        title: start of the figure's title, usually the environment's name.
    """
    steps = np.sort(cells["training_step"].unique())
    with figure_style():
        figure, panels = panel_rows(len(steps), xlabel="Age (training steps)")
        for step, axes in zip(steps, panels, strict=True):
            panel = cells[cells["training_step"] == step]
            age = panel[panel["quantity"] == "age"].set_index("part")["mean"]
            for quantity, line in LINES.items():
                own = panel[panel["quantity"] == quantity]
                draw_mean(axes, own.assign(age=own["part"].map(age)), "age", **line)
            axes.set_title(f"Step {thousands(step)}", fontsize=PANEL_TITLE)
            axes.grid(axis="y")
        start_at_zero(panels[0], cells[cells["quantity"].isin([*LINES])])
        figure.suptitle(f"{title}, {means_in_words(cells)}, positions of the replay buffer", fontsize=10)
        label_rows(figure, panels, "Value (discounted reward)")
        legend_below(figure, (line["label"] for line in LINES.values()), title="Value by", columns=3)
    return figure
