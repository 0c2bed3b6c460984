"""Search rules compared by N: their returns, the entropy of their policy targets, and how often they decide best."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from mzprobe.figures.style import (
    BLUE,
    GREEN,
    ORANGE,
    PANEL_TITLE,
    WIDTH,
    draw_mean,
    figure_style,
    legend_below,
    means_in_words,
    of_steps,
    simulations_axis,
    thousands,
)
from mzprobe.stats import over_agents

QUANTITIES = {
    "return": "Return (undiscounted reward)",
    "entropy": "Entropy of the target (nats)",
    "fidelity": "Probability of a best action",
    "regret": "Regret (discounted reward)",
    "target_regret": "Regret of the target (discounted reward)",
}
_DRAWN = ("return", "entropy", "fidelity")
RULES: dict[str, dict[str, Any]] = {
    "puct": {"label": "PUCT", "colour": BLUE, "marker": "o", "linewidth": 2.2, "markersize": 5},  # shows behind others
    "gumbel": {"label": "Gumbel", "colour": ORANGE, "marker": "s", "linestyle": "--"},
    "regularised": {"label": "regularised policy", "colour": GREEN, "marker": "^"},
}
_ROWS = {"trained": "Trained and acting by it", "acting": "Acting alone, agents of {}"}


@of_steps
def aggregate_operators(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the mean and standard error over agents of each quantity, one row per rule and N, at the last step.

    In rows `acting`, all rules act for agents that were trained alike; among several trainings, these are the agents
    trained by PUCT with the most simulations, if there are any. With several trainings there are also rows `trained`,
    of agents that act by the rule and N that they were trained with.

    Args:
        frame: a table `operators`, or those of all variants with a column `variant`.
    """
    training = ["trained_rule", "trained_simulations"]
    last = frame[frame["training_step"] == frame.groupby(training)["training_step"].transform("max")]
    trainings = last[training].drop_duplicates()
    first = trainings.assign(other=trainings["trained_rule"] != "puct").sort_values(
        ["other", "trained_simulations"], ascending=[True, False]
    )
    reference = (last["trained_rule"] == first["trained_rule"].iloc[0]) & (
        last["trained_simulations"] == first["trained_simulations"].iloc[0]
    )
    parts = [last[reference].assign(row="acting")]
    if len(trainings) > 1:
        own = (last["rule"] == last["trained_rule"]) & (last["simulations"] == last["trained_simulations"])
        parts.append(last[own].assign(row="trained"))
    rows = pd.concat(parts, ignore_index=True)
    by = ["row", "training_step", *training, "rule", "simulations"]
    by = ["variant", *by] if "variant" in frame else by
    cells = [over_agents(rows, by=by, column=name).assign(quantity=name) for name in QUANTITIES]
    return pd.concat(cells, ignore_index=True)


def draw_operators(cells: pd.DataFrame, *, title: str) -> Figure:
    """Draws the aggregate: one panel per quantity, with one line per rule against N and bands of one standard error.

    With several trainings, one row of panels shows agents that act as they were trained, and another all rules acting
    for the same agents.

    Args:
        cells: result of `aggregate_operators`.
        title: start of the figure's title, usually the environment's name.
    """
    kinds = [row for row in _ROWS if row in set(cells["row"])]
    with figure_style():
        figure = Figure(figsize=(WIDTH, 2.1 * len(kinds) + 0.9), layout="constrained")
        grid = figure.subplots(len(kinds), len(_DRAWN), sharex=True, sharey="col", squeeze=False)
        for row, panels in zip(kinds, grid, strict=True):
            for name, axes in zip(_DRAWN, panels, strict=True):
                here = cells[(cells["row"] == row) & (cells["quantity"] == name)].sort_values("simulations")
                for rule, line in RULES.items():
                    draw_mean(axes, here[here["rule"] == rule], "simulations", **line)
                axes.grid(axis="y")
                if row == kinds[0]:
                    axes.set_title(QUANTITIES[name], fontsize=PANEL_TITLE)
            if len(kinds) > 1:
                panels[0].set_ylabel(_row_title(cells, row), fontsize=8)
        simulations_axis(grid[0, 0], cells["simulations"].to_numpy())
        for axes in grid[-1]:
            axes.set_xlabel("Simulations, N")
        steps = " and ".join(thousands(step) for step in sorted(set(cells["training_step"])))
        figure.suptitle(f"{title}, step {steps}, {means_in_words(cells)}", fontsize=10)
        legend_below(figure, (line["label"] for line in RULES.values()), title="Search rule", columns=3)
    return figure


def _row_title(cells: pd.DataFrame, row: str) -> str:
    """Describes what the panels of a row show."""
    of = cells[cells["row"] == row].iloc[0]
    return _ROWS[row].format(f"{RULES[of['trained_rule']]['label']}, N = {of['trained_simulations']}")
