"""What a reader must know about the tables before the verdicts: steps left out, and truths that cannot differ."""

from collections.abc import Mapping

import pandas as pd

from mzprobe.claims.core import shared_steps
from mzprobe.tables import Table

_SAME = 1e-6  # true values that differ by less are sums of the same rewards in another order
_COMPARED = {"cross": "policies", "sequences": "action sequences"}  # by probe, what is compared at each state


def caveats(tables: Mapping[str, Table]) -> list[str]:
    """Returns a sentence for each thing that limits what claims say, in the order of the tables.

    Args:
        tables: what the claims are judged on, by probe.
    """
    sentences = []
    for probe, table in tables.items():
        sentences += [f"{probe}: {sentence}" for sentence in _left_out(table.frame)]
        known = probe in _COMPARED and {"state", "value"} <= {*table.frame}
        if known and not truth_varies(table.frame).any():
            sentences.append(
                f"{probe}: at none of the states do {_COMPARED[probe]} differ in true value, so that errors differ by "
                "what the model predicts alone"
            )
    return sentences


def truth_varies(frame: pd.DataFrame) -> "pd.Series[bool]":
    """Whether the true values of what is compared at a state differ, by seed, training step and state.

    Args:
        frame: table of a question that compares policies or sequences at the same states.
    """
    values = frame.groupby(["seed", "training_step", "state"])["value"]
    varies: pd.Series[bool] = values.max() - values.min() > _SAME
    return varies


def _left_out(frame: pd.DataFrame) -> list[str]:
    """Says which training steps are left out since some agents lack them."""
    rest = frame[~shared_steps(frame)]
    if rest.empty:
        return []
    steps = sorted(rest["training_step"].dropna().unique())
    having = rest.groupby("training_step")["seed"].agg(set)
    lacking = sorted({*frame["seed"]} - set.intersection(*having))
    first, last = f"{steps[0]:,}", f"{steps[-1]:,}"
    which = f"step {first} is" if len(steps) == 1 else f"{len(steps)} steps from {first} to {last} are"
    agents = f"seed{'s' if len(lacking) > 1 else ''} {', '.join(map(str, lacking))}"
    return [f"training {which} left out, which not all agents have ({agents})"]
