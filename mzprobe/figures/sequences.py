"""Figure 4: probability and value prediction error of all action sequences, from the least to the most probable."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mzprobe.figures.style import (
    BLUE,
    ORANGE,
    PANEL_TITLE,
    agents_in_words,
    draw_mean,
    figure_style,
    legend_below,
    means_in_words,
    of_steps,
    panel_rows,
    thousands,
)
from mzprobe.stats import over_agents

_LINES: dict[str, dict[str, Any]] = {
    "probability": {"label": "probability under the behaviour policy (left axis)", "colour": BLUE, "linestyle": "--"},
    "rank_error": {"label": "value prediction error (right axis)", "colour": ORANGE},
}
_TIES = "probability 0 in half of the states or more: ties"
_WAYS = {"_at_1": "at T = 1", "_smoothed": "of smoothed visits"}  # other rankings, of which only rho is shown
_PRIOR = "_prior"  # another ranking, whose rho has no room in the figure and is only in the CSV


@of_steps
def aggregate_sequences(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the mean and standard error over agents of every quantity, by training step and rank.

    Quantities are `probability`, `rank_error` and `impossible`, the share of states whose sequence of that rank has
    probability 0, so that its rank is a tie. `rho` has no rank: it is Spearman's correlation of probability and error,
    over the agents for which it is defined. `rho_at_1`, `rho_smoothed` and `rho_prior` are the same with the
    probabilities at T = 1, of smoothed visits and of the policy prior. A training step without such agents has no row.
    """
    frame = frame.assign(impossible=(frame["probability"] == 0).astype(float))
    parts = [
        over_agents(frame, by=["training_step", "rank"], column=quantity).assign(quantity=quantity)
        for quantity in (*_LINES, "impossible")
    ]
    for quantity in [name for name in ("rho", *(f"rho{way}" for way in (*_WAYS, _PRIOR))) if name in frame]:
        rho = over_agents(frame.dropna(subset=[quantity]), by=["training_step"], column=quantity)
        parts.append(rho.assign(quantity=quantity, rank=None))
    columns = ["training_step", "quantity", "rank", "mean", "standard_error", "agents"]
    # Nullable integers, so that ranks stay whole beside rows without a rank.
    parts = [part[columns].astype({"rank": "Int64"}) for part in parts]
    return pd.concat(parts).sort_values(columns[:3], ignore_index=True)


def draw_sequences(cells: pd.DataFrame, *, title: str) -> Figure:
    """Draws the aggregate: one panel per training step, with probability on the left axis and error on the right one.

    Probabilities have a logarithmic axis with the same limits in all panels, which shows how certain the policy
    becomes. Ranks at which half of the states or more have ties of probability 0 are shaded. Panels also share the
    limits of the error, so that trained models can be compared. The untrained model (step 0) has its own axis if its
    errors exceed twice the trained models', and its panel then says so.

    Args:
        cells: result of `aggregate_sequences`.
        title: start of the figure's title, usually the environment's name.
    """
    ranked = cells[cells["rank"].notna()]
    steps = np.sort(ranked["training_step"].unique())
    limit, apart = _error_limit(ranked)
    with figure_style():
        figure, panels = panel_rows(len(steps), xlabel="Rank (1: least probable)", height=2.2)
        for step, left in zip(steps, panels, strict=True):
            panel, right = ranked[ranked["training_step"] == step], left.twinx()
            for axes, (quantity, line) in zip((left, right), _LINES.items(), strict=True):
                own_line = panel[panel["quantity"] == quantity]
                positive = own_line[own_line["mean"] > 0] if quantity == "probability" else own_line
                draw_mean(axes, positive, "rank", **line)
            _shade_ties(left, panel[panel["quantity"] == "impossible"])
            own = apart and step == 0
            right.set_ylim(0, None if own else limit)
            said = f"Step {thousands(step)}{' (errors on their own axis)' if own else ''}"
            left.set_title(f"{said}\n{_rho_in_words(cells, step)}", fontsize=PANEL_TITLE - 1.5)
            _finish(left, right, own=own, last=left is panels[-1])
        panels[0].set_yscale("log")
        panels[0].set_ylim(*_probability_limits(ranked))
        ranks = int(ranked["rank"].max())
        panels[0].set_xticks(sorted({1, max(1, ranks // 2), ranks}))
        figure.suptitle(f"{title}, {means_in_words(ranked)}", fontsize=10)
        legend_below(figure, (*(line["label"] for line in _LINES.values()), _TIES), title="At each rank", columns=2)
    return figure


def _shade_ties(axes: Axes, impossible: pd.DataFrame) -> None:
    tied = impossible.loc[impossible["mean"] >= 0.5, "rank"]
    if len(tied):
        axes.axvspan(float(tied.min()) - 0.5, float(tied.max()) + 0.5, color="0.9", linewidth=0, zorder=0, label=_TIES)


def _probability_limits(ranked: pd.DataFrame) -> tuple[float, float]:
    """Returns limits from below the smallest positive mean to 1, at most six powers of ten."""
    means = ranked.loc[(ranked["quantity"] == "probability") & (ranked["mean"] > 0), "mean"]
    return max(1e-6, float(means.min()) / 2), 1.0


def _error_limit(ranked: pd.DataFrame) -> tuple[float, bool]:
    """Returns the top of the shared axis of errors, and whether the untrained model has its own axis."""
    errors = ranked[ranked["quantity"] == "rank_error"]
    tops = (errors["mean"] + errors["standard_error"].fillna(0)).groupby(errors["training_step"]).max()
    trained = tops[tops.index > 0].max()  # NaN without a trained model
    apart = bool(tops.get(0, 0.0) > 2 * trained)
    # An axis needs a height even if all errors are 0.
    return float(1.05 * (trained if apart else tops.max()) or 1.0), apart


def _rho_in_words(cells: pd.DataFrame, step: int) -> str:
    here = cells[cells["training_step"] == step]
    rho = here[here["quantity"] == "rho"]
    if rho.empty:
        return "Spearman $\\rho$ undefined"
    fewer = int(rho["agents"].iloc[0]) < here["agents"].max()
    others = [
        f"{name}: {_mean_in_words(other)}"
        for way, name in _WAYS.items()
        if not (other := here[here["quantity"] == f"rho{way}"]).empty
    ]
    said = f"Spearman $\\rho$ = {_mean_in_words(rho)}{f' ({agents_in_words(rho)})' if fewer else ''}"
    return "\n".join([said, *others])


def _mean_in_words(rho: pd.DataFrame) -> str:
    """Formats the mean and standard error of the first row, which is the only one; without an error for one agent."""
    mean = _signed(rho["mean"].iloc[0])
    return f"{mean} ± {rho['standard_error'].iloc[0]:.2f}" if rho["agents"].iloc[0] > 1 else mean


def _signed(number: float) -> str:
    return f"{number:.2f}".replace("-", "\N{MINUS SIGN}")  # a true minus sign, as on the axes


def _finish(left: Axes, right: Axes, *, own: bool, last: bool) -> None:
    """Colours the two y axes like their lines, and puts labels and shared numbers only at the ends of a row."""
    place = left.get_subplotspec()
    assert place is not None
    right.spines["right"].set_visible(True)
    left.tick_params(axis="y", colors=BLUE)
    right.tick_params(axis="y", colors=ORANGE, labelright=own or last or place.is_last_col())
    if place.is_first_col():
        left.set_ylabel("Probability", color=BLUE)
    if place.is_last_col():
        right.set_ylabel("Value prediction error\n(discounted reward)", color=ORANGE)
