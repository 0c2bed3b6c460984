"""Content of the interactive chart of each figure, in the style of the printed figure."""

from dataclasses import replace
from typing import Any

import pandas as pd

from mzprobe.figures import equivalence, improvement, online, operators, planning, search_error, targets
from mzprobe.figures.comparison import keys_of
from mzprobe.figures.style import BLUE, GREEN, GREY, ORANGE
from mzprobe.report.charts import Chart, Line, Part, also, look, looks

_ERROR, _RETURN = "Value prediction error (discounted reward)", "Return (undiscounted reward)"
_STEPS, _N = "Training steps", "Simulations, N"


def _online() -> Chart:
    lines = looks(online.LINES, "policy")
    return Chart(
        heading="Figure 2: return while acting",
        says="Return of the behaviour policy, which searches, and of the policy prior alone, by training step.",
        parts=(Part(title="Return", ylabel=_RETURN, x="training_step", xlabel=_STEPS, lines=lines),),
    )


def _horizon() -> Chart:
    over: dict[str, Any] = {"x": "training_step", "xlabel": _STEPS, "by": "h", "named": "h = {}", "ylabel": _ERROR}
    over |= {"leave_untrained": True}
    step: dict[str, Any] = {"x": "h", "xlabel": "Step k", "by": "training_step", "named": "step {}"}
    step |= {"leave_untrained": True}
    return Chart(
        heading="Figure 3: error of the behaviour policy by horizon",
        says="How far the model's value of acting by its own behaviour policy for h steps lies from the true one.",
        parts=(
            Part(title="Mean over states, by training step", where={"quantity": "error"}, **over),
            Part(
                title="Mean over states, by horizon",
                where={"quantity": "error"},
                **step | {"xlabel": "Horizon h (environment steps)", "ylabel": _ERROR},
            ),
            Part(title="Median state, by training step", where={"quantity": "median"}, **over),
            Part(title="Without states near an end, by training step", where={"quantity": "without_ends"}, **over),
            Part(title="Of step k alone", where={"quantity": "step_error"}, ylabel="|E[u_k - r_k]| (reward)", **step),
            Part(
                title="Of step k alone, re-grounded",
                where={"quantity": "grounded_error"},
                ylabel="|E[u_k - r_k]| (reward)",
                **step,
            ),
        ),
    )


def _sequences() -> Chart:
    ranks: dict[str, Any] = {
        "x": "rank",
        "xlabel": "Rank (1: least probable)",
        "by": "training_step",
        "named": "step {}",
        "last_only": True,
    }
    ways = {
        "rho": ("", BLUE, "o"),
        "rho_at_1": (" at T = 1", ORANGE, "s"),
        "rho_smoothed": (", smoothed", GREEN, "^"),
        "rho_prior": (", by the policy prior", GREY, "D"),
    }
    rhos = {
        name: {"label": f"Spearman's rho{way}", "colour": colour, "marker": marker}
        for name, (way, colour, marker) in ways.items()
    }
    return Chart(
        heading="Figure 4: error of likely and unlikely sequences",
        says="All action sequences of a state, ranked by their probability under the behaviour policy.",
        parts=(
            Part(title="Error by rank", where={"quantity": "rank_error"}, ylabel=_ERROR, **ranks),
            Part(
                title="Probability by rank",
                where={"quantity": "probability"},
                ylabel="Probability under the behaviour policy",
                ylog=True,
                **ranks,
            ),
            Part(
                title="Rank correlation of probability and error",
                ylabel="Spearman's rho",
                x="training_step",
                xlabel=_STEPS,
                lines=looks(rhos, "quantity"),
            ),
        ),
    )


def _cross() -> Chart:
    matrix: dict[str, Any] = {"x": "policy_step", "xlabel": "Policy of training step Y", "by": "training_step"}
    at: dict[str, Any] = {"choose": ("policies_at",)}
    return Chart(
        heading="Figure 5: the model of one step, the policy of another",
        says="Error of the model and at the states of training step X (rows) for the behaviour policy of step Y. "
        "Bold: the smallest error of its row, in most agents too.",
        parts=(
            Part(title="Matrix of errors", ylabel="Model and states of training step X", matrix="mean", **matrix, **at),
            Part(
                title="Matrix, relative to the row's diagonal",
                ylabel="Model and states of training step X",
                matrix="ratio",
                **matrix,
                **at,
            ),
            Part(title="Rows as lines", ylabel=_ERROR, named="X = {}", leave_untrained=True, **matrix, **at),
        ),
    )


def _search_error() -> Chart:
    prior = looks(search_error.LINES, "prior")
    names = {"tv": "Total variation of prior and visits", "kl": "KL divergence of prior and visits (nats)"}
    parts = []
    for quantity, (title, ylabel) in search_error.PANELS.items():
        own = [also(line, quantity=quantity) for line in prior]
        if quantity in search_error.REGULARISED:
            dotted = [replace(line, label=line.label + search_error.DOTS, dash="dot") for line in prior]
            own += [also(line, quantity=search_error.REGULARISED[quantity]) for line in dotted]
        parts.append(
            Part(
                title=names.get(quantity, title),
                ylabel=names.get(quantity, ylabel.replace("\n", " ")),
                x="simulations",
                xlabel=_N,
                lines=tuple(own),
                choose=("training_step",),
                xlog=True,
            )
        )
    return Chart(
        heading="Figure 6: where the search goes, and how wrong the model is there",
        says="Error along what the search simulates, and how far its visits leave the prior.",
        parts=tuple(parts),
    )


def _planning(leaf: str) -> Chart:
    lines = [*looks(planning.LINES, "model", "prior", "prior_at")]
    for line, temperature in zip(planning.PRIOR_ALONE, (1.0, 0.0), strict=True):
        alone = {"model": "none", "prior": "policy", "temperature": temperature}
        lines.append(look(line, alone, level=True))
    by_lot = {"label": planning.RANDOM_PLAY, "colour": "0.7"}
    lines.append(look(by_lot, {"model": "none", "prior": "uniform"}, level=True))
    for model, line in planning.ONE_STEP.items():
        lines.append(look(line, {"model": model, "prior": "none"}, level=True))
    part = Part(
        title="Return",
        ylabel=_RETURN,
        x="simulations",
        xlabel="Simulations per step, N",
        lines=tuple(lines),
        choose=("training_step",),
        xlog=True,
    )
    return Chart(
        heading=f"Figure 7: planning in the learned and in the true model, leaves by {leaf}",
        says="What acts without a search has no N and is a horizontal line.",
        parts=(part,),
    )


def _equivalence() -> Chart:
    same = ("training_step", "value_step")
    size = "Magnitude (discounted reward)"
    lines = looks(equivalence.LINES, "quantity")
    steps: dict[str, Any] = {"x": "training_step", "xlabel": _STEPS, "by": "k", "named": "k = {}"}
    steps |= {"leave_untrained": True}
    return Chart(
        heading="Value equivalence by order",
        says="Order-k Bellman error of the behaviour policy and the agent's own value head, and its two parts.",
        parts=(
            Part(
                title="By order k",
                ylabel=size,
                x="k",
                xlabel="Order k (environment steps)",
                lines=lines,
                same=same,
                choose=("training_step",),
            ),
            Part(title="By training step", ylabel=size, where={"quantity": "error"}, same=same, **steps),
        ),
    )


def _improvement() -> Chart:
    possible = {"label": improvement.POSSIBLE, "colour": GREY, "dashes": ":"}
    best = look(possible, {"model": "none"}, level=True)
    parts = []
    for leaf, said in (("value", "the value network"), ("rollout", "random rollout")):
        lines = looks(improvement.LINES, "model", "prior")
        own = [also(line, leaf=leaf) for line in lines]
        parts.append(
            Part(
                title=f"Leaf values by {said}",
                ylabel="Improvement (discounted reward)",
                x="simulations",
                xlabel=_N,
                lines=(*own, best),
                choose=("training_step",),
                xlog=True,
            )
        )
    return Chart(
        heading="Does the search act better than its prior?",
        says="True value of the search's action minus that of the policy network's likeliest one, state by state.",
        parts=tuple(parts),
    )


def _operators() -> Chart:
    rows = {"trained": "trained and acting by it", "acting": "acting alone"}
    return Chart(
        heading="Search rules compared",
        says="What each rule returns, how sure a policy it teaches, and how rightly it decides.",
        parts=tuple(
            Part(
                title=f"{ylabel.partition(' (')[0]}, {said}",
                ylabel=ylabel,
                x="simulations",
                xlabel=_N,
                where={"quantity": quantity, "row": row},
                lines=looks(operators.RULES, "rule"),
                xlog=True,
            )
            for row, said in rows.items()
            for quantity, ylabel in operators.QUANTITIES.items()
        ),
    )


def _targets() -> Chart:
    return Chart(
        heading="Value targets against the truth",
        says="Stored targets, the value head and the true value of the behaviour policy, by the age of a position.",
        parts=(
            Part(
                title="Value",
                ylabel="Value (discounted reward)",
                x="part",
                xlabel="Fifth of the positions (1: youngest)",
                lines=looks(targets.LINES, "quantity"),
                choose=("training_step",),
            ),
            Part(
                title="Mean age",
                ylabel="Age (training steps)",
                x="part",
                xlabel="Fifth of the positions (1: youngest)",
                where={"quantity": "age"},
                by="training_step",
                named="step {}",
            ),
        ),
    )


CHARTS = {
    "fig2-online": _online(),
    "fig3-horizon": _horizon(),
    "fig4-sequences": _sequences(),
    "fig5-cross": _cross(),
    "fig6-search": _search_error(),
    "fig7-planning": _planning("random rollout"),
    "fig7-planning-value": _planning("the value network"),
    "equivalence": _equivalence(),
    "improvement": _improvement(),
    "operators": _operators(),
    "targets": _targets(),
}


def chart_of(name: str, cells: pd.DataFrame) -> Chart:
    """Returns the chart of a figure; for one of an installed package, a default chart of its means.

    The default draws the means against the first numeric column that varies, or the first numeric one, or the first one
    of text. Of the other columns that vary, the last has one line per entry, and entries of the rest are chosen by the
    reader.

    Args:
        name: name of the figure.
        cells: aggregate of the figure, for all runs.
    """
    if name in CHARTS:
        return CHARTS[name]
    keys = keys_of(cells)
    several = [key for key in keys if len(cells[key].unique()) > 1]
    numbers = [key for key in keys if pd.api.types.is_numeric_dtype(cells[key])]
    x = next(iter([*(key for key in several if key in numbers), *numbers, *keys, "agents"]))
    *choose, by = [key for key in several if key != x] or [""]
    lines = () if by else (Line(label="mean", where={}),)
    said = x.replace("_", " ").capitalize()
    part = Part(
        title="Mean", ylabel="Mean", x=x, xlabel=said, by=by, named=f"{by} = {{}}", lines=lines, choose=tuple(choose)
    )
    return Chart(heading=name, says="A figure of an installed package's question.", parts=(part,))
