"""How runs are compared in each question: which rows of its aggregate are drawn, and along which column."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pandas as pd

from mzprobe.figures.comparison import keys_of
from mzprobe.figures.cross import aggregate_cross
from mzprobe.figures.equivalence import aggregate_equivalence
from mzprobe.figures.horizon import aggregate_horizon
from mzprobe.figures.improvement import aggregate_improvement
from mzprobe.figures.inspect import aggregate_inspect
from mzprobe.figures.online import aggregate_online
from mzprobe.figures.operators import aggregate_operators
from mzprobe.figures.planning import aggregate_planning
from mzprobe.figures.search_error import aggregate_search_error
from mzprobe.figures.sequences import aggregate_sequences
from mzprobe.figures.targets import aggregate_targets
from mzprobe.probes.question import resolved
from mzprobe.settings import plugged_questions


class Panel(NamedTuple):
    """Panel of a figure: the rows of a question's aggregate with the entries `where`."""

    title: str
    where: Mapping[str, Any]
    ylabel: str
    log: bool = False  # whether its y axis is logarithmic


@dataclass(frozen=True, kw_only=True)
class View:
    """How runs are compared in one question."""

    table: str  # table of the question; also the default name of the files
    aggregate: Callable[[pd.DataFrame], pd.DataFrame]  # aggregate of the question's own figure
    x: str = ""  # column of the x axis; guessed if empty
    xlabel: str = ""
    panels: tuple[Panel, ...] = ()
    paired: bool = False  # whether its rows are episodes, with the same starts for all agents of an environment
    file: str = ""  # name of the files, for questions with several figures

    @property
    def name(self) -> str:
        """Name of the files."""
        return self.file or self.table


_ERROR, _RETURN = "Value prediction error\n(discounted reward)", "Return (undiscounted reward)"
_N = "Simulations per step, N"
_MOST = 12  # largest number of panels of a guessed view
_SEARCHES = {  # model, prior, and where the policy prior is evaluated
    "Learned model, policy prior": {"model": "learned", "prior": "policy", "prior_at": "latent"},
    "Learned model, uniform prior": {"model": "learned", "prior": "uniform"},
    "True model, policy prior": {"model": "true", "prior": "policy", "prior_at": "state"},
    "True model, uniform prior": {"model": "true", "prior": "uniform"},
}
_PLANNING = tuple(Panel(title, where, _RETURN) for title, where in _SEARCHES.items())
_IMPROVEMENT = tuple(
    Panel(title, {key: where[key] for key in ("model", "prior")} | {"leaf": "value"}, "Improvement (discounted reward)")
    for title, where in _SEARCHES.items()
)

VIEWS = (
    View(
        table="online",
        aggregate=aggregate_online,
        x="policy",
        xlabel="Who acts",
        panels=(Panel("", {}, _RETURN),),
        paired=True,
    ),
    View(
        table="horizon",
        aggregate=aggregate_horizon,
        x="h",
        xlabel="h, and step k",
        panels=(
            Panel("Over h steps", {"quantity": "error"}, _ERROR),
            Panel("The same, median state", {"quantity": "median"}, _ERROR),
            Panel(
                "Of step k alone",
                {"quantity": "step_error"},
                "Error of the predicted reward\n$|\\mathrm{E}[u_k - r_k]|$ (reward)",
            ),
        ),
    ),
    View(
        table="sequences",
        aggregate=aggregate_sequences,
        x="rank",
        xlabel="Rank (1: least probable)",
        panels=(
            Panel("Error", {"quantity": "rank_error"}, _ERROR),
            Panel("Probability", {"quantity": "probability"}, "Probability", log=True),
        ),
    ),
    View(
        table="search_error",
        aggregate=aggregate_search_error,
        x="simulations",
        xlabel="Simulations, N",
        panels=tuple(
            Panel(f"{title}, {prior} prior", {"quantity": quantity, "prior": prior}, ylabel)
            for quantity, title, ylabel in (
                ("trajectory_error", "Simulated trajectories", _ERROR),
                ("tv", "Visits against the prior", "Total variation"),
            )
            for prior in ("policy", "uniform")
        ),
    ),
    *(
        View(table=table, aggregate=aggregate_planning, x="simulations", xlabel=_N, panels=_PLANNING, paired=True)
        for table in ("planning", "planning-value")
    ),
    View(
        table="cross",
        aggregate=aggregate_cross,
        x="policy_step",
        xlabel="Policy of training step Y",
        panels=(Panel("Model and states of the last training step", {"policies_at": "own"}, _ERROR),),
    ),
    View(
        table="equivalence",
        aggregate=aggregate_equivalence,
        x="k",
        xlabel="Order k (environment steps)",
        panels=(Panel("Order-k Bellman error", {"quantity": "error"}, "Discounted reward"),),
    ),
    View(
        table="improvement",
        aggregate=aggregate_improvement,
        x="simulations",
        xlabel="Simulations, N",
        panels=_IMPROVEMENT,
    ),
    View(
        table="operators",
        aggregate=aggregate_operators,
        x="simulations",
        xlabel="Simulations, N",
        panels=tuple(
            Panel(title, {"quantity": quantity, "rule": rule}, label)
            for rule, title in (("puct", "PUCT"), ("gumbel", "Gumbel"), ("regularised", "Regularised"))
            for quantity, label in (
                ("return", _RETURN),
                ("fidelity", "Probability of a best action"),
                ("regret", "Regret (discounted reward)"),
            )
        ),
    ),
    View(
        table="targets",
        aggregate=aggregate_targets,
        x="part",
        xlabel="Fifth by age (1: youngest)",
        panels=tuple(
            Panel(title, {"quantity": quantity}, "Value (discounted reward)")
            for quantity, title in (
                ("target", "Stored target"),
                ("value", "True value of the behaviour policy"),
                ("predicted_value", "Value head"),
            )
        ),
    ),
    View(
        table="inspect",
        aggregate=aggregate_inspect,
        x="depth",
        xlabel="Steps along the sequence",
        panels=tuple(
            Panel(title, {"part": part}, _ERROR)
            for part, title in (
                ("likeliest", "Likeliest sequence"),
                ("best", "Best sequence"),
                ("worst", "Worst predicted sequence"),
            )
        ),
    ),
)


def all_views() -> tuple[View, ...]:
    """Returns the views of our questions, then those of installed packages' questions that have figures."""
    plugged = (
        View(table=question.name, aggregate=resolved(figure.aggregate), file=figure.name)
        for question in plugged_questions()
        for figure in question.figures
    )
    return (*VIEWS, *plugged)


def guessed(view: View, cells: pd.DataFrame) -> View:
    """Completes a view without an x axis: means along the first numeric column that varies, else the training step.

    There is one panel per combination of entries of the other columns that vary, at most `_MOST`.

    Args:
        view: view to complete; returned unchanged if it has an x axis.
        cells: aggregate of the question, at one training step.
    """
    if view.x:
        return view
    keys = keys_of(cells)
    several = [key for key in keys if key != "training_step" and len(cells[key].unique()) > 1]
    x = next((key for key in several if pd.api.types.is_numeric_dtype(cells[key])), "training_step")
    others = [key for key in several if key != x]
    found = [dict(zip(others, row, strict=True)) for row in cells[others].drop_duplicates().itertuples(index=False)]
    panels = [Panel(", ".join(f"{key} {entry}" for key, entry in where.items()), where, "Mean") for where in found]
    xlabel = x.replace("_", " ").capitalize()
    return replace(view, x=x, xlabel=xlabel, panels=tuple(panels[:_MOST]) or (Panel("", {}, "Mean"),))
