"""Inspected states for the page: packed by agent and training step, and unpacked there when they are shown."""

import base64
import gzip
import json
import math
from typing import Any

import numpy as np
import pandas as pd

from mzprobe.tables import Table

STATES = "inspect"  # name of the table of inspected states
LARGEST = 3_000_000  # bytes of a run's states at most
DIGITS = 4  # significant digits that the page holds and shows
LETTERS = 1000  # characters of the longest observation that is shown

_RETURNS = ("true_return", "true_return_error")
_TREE = (
    *("parent", "meaning", "visits", "q", "prior", "leaf_value"),
    *("reward", "predicted_reward", "latent_distance"),
    *_RETURNS,  # true returns of the state and of its actions
)
_SEQUENCE = ("meaning", "reward", "predicted_reward", "value", "predicted_value", "latent_distance", "probability")
_STATE = ("state", "episode", "time", "chosen", "error", *_RETURNS, "picture")


def kept_states(table: Table) -> dict[str, Any]:
    """Returns the states of a run for the page: the agents and training steps that have some, and their packed states.

    As long as they take more than `LARGEST` bytes, every second training step is left out, but never the last one.
    """
    packed = {
        (int(str(seed)), int(str(step))): packed_text([_state(own) for _, own in rows.groupby("state", sort=False)])
        for (seed, step), rows in table.frame.groupby(["seed", "training_step"], sort=True)
    }
    steps = sorted({step for _, step in packed})
    kept = [*steps]
    while len(kept) > 1 and sum(len(text) for (_, step), text in packed.items() if step in kept) > LARGEST:
        kept = kept[::-1][::2][::-1]
    here = {at: text for at, text in packed.items() if at[1] in kept}
    left_out = [step for step in steps if step not in kept]
    return {"at": [list(at) for at in here], "packed": list(here.values()), "left_out": left_out}


def packed_text(values: Any) -> str:
    """Returns values as JSON, compressed by gzip (RFC 1952), in base64."""
    text = json.dumps(values, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def short(number: float) -> float | int | None:
    """Rounds a number to `DIGITS` significant digits, except whole ones; returns None if it is not finite."""
    if not math.isfinite(number):
        return None
    rounded = number if float(number).is_integer() else float(f"{number:.{DIGITS}g}")
    return int(rounded) if float(rounded).is_integer() else rounded


def _state(rows: pd.DataFrame) -> dict[str, Any]:
    first = rows.iloc[0]
    observation = json.dumps(_shortened(json.loads(first["observation"])), separators=(", ", ":"))
    return {
        **{name: _entry(first[name]) for name in _STATE},
        "observation": observation if len(observation) <= LETTERS else "",
        "parts": [_part(str(part), own) for part, own in rows.groupby("part", sort=False)],
    }


def _part(part: str, rows: pd.DataFrame) -> dict[str, Any]:
    """Returns a tree or a sequence by columns."""
    tree = bool(rows["visits"].notna().any())
    columns = {name: [_entry(entry) for entry in rows[name].tolist()] for name in (_TREE if tree else _SEQUENCE)}
    return {"name": part, "tree": tree, "ends": np.flatnonzero(rows["terminal"]).tolist(), **columns}


def _entry(entry: Any) -> Any:
    return str(entry) if isinstance(entry, str) else short(entry)


def _shortened(seen: Any) -> Any:
    return [_shortened(one) for one in seen] if isinstance(seen, list) else short(float(seen))
