"""Returns of different ways to act with the policy, value and model that a study's variants have learned."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mzprobe.figures.style import (
    GREY,
    WIDTH,
    agents_as_text,
    agents_of_text,
    figure_style,
    legend_below,
    means_in_words,
    thousands,
    variant_looks,
)
from mzprobe.stats import over_agents
from mzprobe.tables import own_prior

POLICY, GREEDY, ONE_STEP, MCTS = "policy, sampled", "policy, greedy", "one-step value", "MCTS"
_ROWS = (
    (POLICY, "none"),
    (GREEDY, "none"),
    (ONE_STEP, "learned"),
    (ONE_STEP, "true"),
    (MCTS, "learned"),
    (MCTS, "true"),
)
_DATASET = "mean return of the dataset"
_LINE = 0.15  # height in inches of one variant in a row


def aggregate_acting(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the mean and standard error over agents of the return, one row per variant and way to act.

    Each variant is taken at its last training step. The search is the one with the policy prior and the most
    simulations. `returns` has every agent's own mean, in order of seeds, separated by spaces.

    Args:
        frame: tables `planning-value` of all variants, with a column `variant`.
    """
    last = frame[frame["training_step"] == frame.groupby("variant")["training_step"].transform("max")]
    acts = last.assign(act=_acts(last)).dropna(subset=["act"])
    by = ["variant", "training_step", "model", "act", "simulations"]
    own = acts.groupby([*by, "seed"])["return"].mean()
    returns = own.groupby(level=by).apply(agents_as_text).rename("returns")
    cells = over_agents(acts, by=by, column="return").join(returns, on=by)
    rows = [_ROWS.index(key) for key in zip(cells["act"], cells["model"], strict=True)]
    return cells.assign(row=rows).sort_values(["variant", "row"], ignore_index=True).drop(columns="row")


def draw_acting(cells: pd.DataFrame, *, title: str, reference: float | None = None) -> Figure:
    """Draws the aggregate: one row per way to act, with a line per variant of its agents, their mean and its error.

    Bars span one standard error. A variant that cannot act in some way, because it has no model, is labelled so.

    Args:
        cells: result of `aggregate_acting`, variants in order.
        title: start of the figure's title, usually the environment's name.
        reference: mean return of the episodes that were learned from, if any.
    """
    variants = list(cells["variant"].unique())
    looks = variant_looks(variants)
    rows = [row for row in _ROWS if row in set(zip(cells["act"], cells["model"], strict=True))]
    with figure_style():
        height = _LINE * (len(variants) + 1.5) * len(rows) + 1.2
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots()
        for i, (act, model) in enumerate(rows):
            here = cells[(cells["act"] == act) & (cells["model"] == model)].set_index("variant")
            for j, variant in enumerate(variants):
                y = i + (j - (len(variants) - 1) / 2) / (len(variants) + 1.5)
                _draw_line(axes, here, variant, y, **looks[variant])
            if i:
                axes.axhline(i - 0.5, color="0.9", linewidth=0.8, zorder=0)
        if reference is not None:
            axes.axvline(reference, color=GREY, linestyle=":", linewidth=1.2, label=_DATASET)
        axes.set_yticks(range(len(rows)), [_name(cells, act, model) for act, model in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("Return (undiscounted reward)")
        if cells["mean"].min() >= 0:
            axes.set_xlim(left=0)
        axes.grid(axis="x")
        axes.set_title(f"{title}, {_steps(cells)}, {means_in_words(cells)}")
        legend_below(figure, [*variants, _DATASET], title="Variant", columns=4)
    return figure


def _acts(frame: pd.DataFrame) -> pd.Series:
    """Returns the way in which each row acts, or None for rows that are not compared."""
    searched = frame["simulations"] > 0
    most = frame["simulations"] == frame["simulations"].max()
    acts = pd.Series(None, index=frame.index, dtype=object)
    alone = (frame["model"] == "none") & (frame["prior"] == "policy")
    acts[alone & (frame["temperature"] > 0)] = POLICY
    acts[alone & (frame["temperature"] == 0)] = GREEDY
    acts[(frame["model"] != "none") & (frame["prior"] == "none")] = ONE_STEP
    acts[searched & most & (frame["prior"] == "policy") & own_prior(frame)] = MCTS
    return acts


def _draw_line(axes: Axes, here: pd.DataFrame, variant: str, y: float, *, label: str, **look: object) -> None:
    """Draws one variant in one row: its agents, their mean and its standard error, or a note that it has no model."""
    colour, marker = look["colour"], look["marker"]
    if variant not in here.index:
        left, none = ("axes fraction", "data"), "learned no model"
        axes.annotate(none, (0, y), (4, 0), left, "offset points", color=colour, va="center", size=6.5)
        return
    cell = here.loc[variant]
    own = agents_of_text(cell["returns"])
    axes.plot(
        own, [y] * len(own), linestyle="none", marker="o", markersize=3, color=colour, alpha=0.35, markeredgewidth=0
    )
    filled = colour if look.get("linestyle", "-") == "-" else "white"
    axes.errorbar(
        cell["mean"],
        y,
        xerr=cell["standard_error"],
        color=colour,
        marker=marker,
        markerfacecolor=filled,
        markersize=4.5,
        linestyle="none",
        elinewidth=1.2,
        label=label,
    )


def _name(cells: pd.DataFrame, act: str, model: str) -> str:
    """Returns the label of a row."""
    here = cells[(cells["act"] == act) & (cells["model"] == model)]
    said = f"{act} (N = {_range(here['simulations'].unique().tolist())})" if act == MCTS else act
    return said if model == "none" else f"{said},\n{model} model"


def _steps(cells: pd.DataFrame) -> str:
    """Describes the training steps that are shown."""
    return f"step {_range([thousands(step) for step in sorted(cells['training_step'].unique())])}"


def _range(values: Sequence[object]) -> str:
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"
