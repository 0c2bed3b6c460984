"""Figure 2: return of the behaviour policy and of the policy prior, by training step."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from mzprobe.figures.style import (
    BLUE,
    GREEDY,
    SAMPLED,
    StepFormatter,
    agents_as_text,
    agents_of_text,
    draw_mean,
    figure_style,
    legend_below,
    means_in_words,
    of_steps,
    start_at_zero,
)
from mzprobe.stats import over_agents

LINES: dict[str, dict[str, Any]] = {
    "behaviour": {"label": "MCTS (behaviour policy)", "colour": BLUE, "marker": "o"},
    # In the same greys and dashes as in Figure 7.
    "prior": {"label": "policy prior, sampled", "colour": SAMPLED, "marker": "s", "linestyle": "-."},
    "greedy": {"label": "policy prior, greedy", "colour": GREEDY, "marker": "^", "linestyle": (0, (6, 2))},
}
_AGENT, _COLDER = "MCTS, each agent", "first checkpoint at another temperature T"


@of_steps
def aggregate_online(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the mean and standard error over agents of the return, one row per policy and training step.

    `temperature` is that of the policy; `returns` has every agent's own mean, in order of seeds, separated by spaces.
    """
    by = ["policy", "training_step"]
    own = frame.groupby([*by, "seed"])["return"].mean().groupby(level=by)
    returns = own.apply(agents_as_text).rename("returns")
    temperature = frame.groupby(by)["temperature"].first()
    return over_agents(frame, by=by, column="return").join(temperature, on=by).join(returns, on=by)


def draw_online(cells: pd.DataFrame, *, title: str) -> Figure:
    """Draws the aggregate: one line per policy with the mean over agents, and a band of one standard error.

    Thin lines are single agents acting by the behaviour policy. Vertical lines mark changes of its temperature.

    Args:
        cells: result of `aggregate_online`.
        title: start of the figure's title, usually the environment's name.
    """
    with figure_style():
        figure = Figure(figsize=(4.6, 3.8), layout="constrained")
        axes = figure.subplots()
        behaviour = cells[cells["policy"] == "behaviour"]
        _draw_agents(axes, behaviour)
        for policy, line in LINES.items():
            draw_mean(axes, cells[cells["policy"] == policy], "training_step", **line)
        axes.set_title(f"{title}, {means_in_words(cells)}")
        axes.set_xlabel("Training steps")
        axes.set_ylabel("Return (undiscounted reward)")
        axes.xaxis.set_major_formatter(StepFormatter())
        start_at_zero(axes, cells)
        axes.grid(axis="y")
        _mark_temperatures(axes, behaviour)
        labels = [*(line["label"] for line in LINES.values()), _AGENT, _COLDER]
        legend_below(figure, labels, title="Acts by", columns=2)
    return figure


def _draw_agents(axes: Axes, behaviour: pd.DataFrame) -> None:
    """Draws a thin line per agent, if there are several and all have a return at every step."""
    own = [agents_of_text(returns) for returns in behaviour["returns"]]
    if len(own) > 1 and len({len(numbers) for numbers in own}) == 1 and len(own[0]) > 1:
        steps = behaviour["training_step"].to_numpy()
        lines = [np.column_stack([steps, returns]) for returns in np.array(own).T]
        axes.add_collection(LineCollection(lines, colors=[BLUE], linewidths=0.5, alpha=0.35, label=_AGENT))


def _mark_temperatures(axes: Axes, behaviour: pd.DataFrame) -> None:
    """Draws a vertical line at every training step from which the behaviour policy has another temperature."""
    T = behaviour["temperature"].to_numpy()
    changes = [i for i in range(1, len(T)) if T[i] != T[i - 1]]
    for height, i in enumerate(changes):  # text at the bottom, where few curves are, each a line higher
        step, place = behaviour["training_step"].iloc[i], (2, 3 + 8 * height)
        axes.axvline(step, color="0.8", linewidth=0.8, zorder=0, label=_COLDER)
        axes.annotate(f"T = {T[i]:g}", (step, 0), place, ("data", "axes fraction"), "offset points", fontsize=6)
