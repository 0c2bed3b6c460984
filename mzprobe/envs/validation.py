"""Validation of specifications, seeds and actions, shared by the environments."""

import sys
from numbers import Integral, Real
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mzprobe.envs.core import EnvironmentSpec, Int64, ObservationType


def valid_spec(spec: EnvironmentSpec) -> EnvironmentSpec:
    """Returns the specification if it is consistent.

    Raises:
        ValueError: if it is not; the message names the field.
    """
    if not (_is(spec.num_actions, Integral) and spec.num_actions >= 1):
        raise ValueError(f"num_actions must be at least 1, not {spec.num_actions!r}")
    if not _is(spec.gamma, Real):
        raise ValueError(f"gamma must be a number such as 0.95, not {spec.gamma!r}")
    if not 0 < spec.gamma <= 1:
        raise ValueError(f"gamma must lie in (0, 1], not {spec.gamma}")
    if not (_is(spec.time_limit, Integral) and spec.time_limit >= 1):
        raise ValueError(f"time_limit must be at least 1 step, not {spec.time_limit!r}")
    if len(spec.action_meanings) != spec.num_actions:
        raise ValueError(f"action_meanings must name {spec.num_actions} actions, not {len(spec.action_meanings)}")
    if any(size < 1 for size in spec.observation_shape):
        raise ValueError(f"observation_shape must hold sizes of at least 1, not {spec.observation_shape}")
    if spec.observation_dtype not in get_args(ObservationType):
        raise ValueError(f"observation_dtype must be float32, uint8 or bool, not {spec.observation_dtype}")
    return spec


def of_gymnasium(given: object) -> str:
    """Returns advice on using a Gymnasium environment or its class, as the end of a sentence; "" for anything else."""
    gymnasium = sys.modules.get("gymnasium")
    kind = given if isinstance(given, type) else type(given)
    if gymnasium is None or not issubclass(kind, gymnasium.Env):
        return ""
    return ": register it with Gymnasium in a module and name it 'gym:MODULE:ID'"


def _is(given: object, kind: type) -> bool:
    return isinstance(given, kind) and not isinstance(given, bool)


def integers(values: ArrayLike, what: str) -> Int64:
    """Converts a list of integers to a contiguous int64 array `[n]`.

    Raises:
        ValueError: if it is not one-dimensional or holds anything but integers.
    """
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(f"{what} must be integers of shape [n], not {dtype_and_shape(array)}")
    return np.ascontiguousarray(array, dtype=np.int64)


def valid_seeds(seeds: ArrayLike) -> Int64:
    """Converts seeds to an int64 array `[B]`.

    Raises:
        ValueError: if they are not integers from 0 to 2^63 - 1.
    """
    numbers = integers(seeds, "seeds")
    if numbers.size and numbers.min() < 0:
        raise ValueError(f"seeds must lie in 0..2^63 - 1, not {np.asarray(seeds)[numbers.argmin()]}")
    return numbers


def valid_actions(actions: ArrayLike, *, batch: int, num_actions: int) -> Int64:
    """Converts actions to an int64 array `[B]`.

    Raises:
        ValueError: if they are not one integer per state, or one lies outside 0..A-1.
    """
    chosen = integers(actions, "actions")
    if len(chosen) != batch:
        raise ValueError(f"step needs one action a state: {batch} states, {len(chosen)} actions")
    if batch and chosen.view(np.uint64).max() >= num_actions:  # unsigned, a negative number is large: one pass
        wrong = chosen[(chosen < 0) | (chosen >= num_actions)][0]
        raise ValueError(f"actions must lie in 0..{num_actions - 1}, not {wrong}")
    return chosen


def valid_sequences(actions: ArrayLike, *, batch: int, num_actions: int) -> Int64:
    """Converts action sequences to an int64 array `[B, T]`.

    Raises:
        ValueError: if there is not one sequence per state, or an action lies outside 0..A-1.
    """
    table = np.asarray(actions)
    if table.ndim != 2 or len(table) != batch:
        raise ValueError(f"{batch} states need one action sequence each, not {dtype_and_shape(table)}")
    return valid_actions(table.ravel(), batch=table.size, num_actions=num_actions).reshape(table.shape)


def dtype_and_shape(array: NDArray[Any]) -> str:
    """Returns the dtype and shape of an array as text."""
    return f"{array.dtype} {list(array.shape)}"
