"""Means and errors of tables by cell and agent, of which the measures of claims are made."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mzprobe.claims.core import MissingError
from mzprobe.stats import kendall
from mzprobe.tables import own_prior, own_temperature

AT_RANDOM = 2  # simulations; up to these, the prior decides the choices whatever the model says: never compared


def trained_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of trained models, or raises a `MissingError` if there are none."""
    return some_rows(frame[frame["training_step"] > 0])


def some_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the frame, or raises a `MissingError` if it is empty."""
    if frame.empty:
        raise MissingError
    return frame


def part_of(means: Any, key: Any) -> Any:
    """Returns the part of `means` under a key, or raises a `MissingError` if there is none."""
    try:
        return means[key]
    except KeyError:
        raise MissingError from None


def agent_means(frame: pd.DataFrame, by: Sequence[str], column: str) -> Any:
    """Returns an agent's means: rows by all of `by` but the last and by seed, one column per value of the last."""
    *rows, last = by
    return frame.pivot_table(index=[*rows, "seed"], columns=last, values=column, aggfunc="mean")


def mean_errors(frame: pd.DataFrame, by: Sequence[str]) -> Any:
    """Returns value prediction error by cell: the mean over states, or the root mean square if sequences were sampled.

    The magnitude of a sampled mean is too large, and more so the more sequences differ, which grows with h. Its square
    minus the squared standard error is unbiased.
    """
    if frame["exact"].all():
        return some_rows(frame.dropna(subset=["error"])).groupby(list(by))["error"].mean()
    squares = frame.assign(square=frame["signed_error"] ** 2 - frame["standard_error"] ** 2)
    return np.sqrt(some_rows(squares.dropna(subset=["square"])).groupby(list(by))["square"].mean().clip(lower=0))


def step_errors(frame: pd.DataFrame, name: str) -> Any:
    """Returns `mean_errors` of single steps, unrolled ("step") or re-grounded ("grounded").

    Rows are by training step and seed, columns are h. Older tables have no standard errors of single steps; of these,
    only steps with all sequences enumerated count.
    """
    trained = trained_rows(frame)
    if f"{name}_signed_error" not in trained:
        raise MissingError
    known = trained.get(f"{name}_standard_error", pd.Series(np.nan, index=trained.index))
    trained = trained.assign(standard_error=known.mask(known.isna() & trained["exact"], 0.0))
    trained = some_rows(trained[trained["standard_error"].notna()])
    signed = trained[f"{name}_signed_error"]
    alone = trained.assign(error=signed.abs(), signed_error=signed)
    return mean_errors(alone, ["training_step", "seed", "h"]).unstack("h")  # noqa: PD010


def mean_rho(frame: pd.DataFrame, way: str) -> Any:
    """Returns Spearman's rho by training step and seed, the mean over the states that have one."""
    trained = trained_rows(frame)
    if f"state_rho{way}" not in trained:
        raise MissingError
    of_states = trained.groupby(["training_step", "seed", "state"])[f"state_rho{way}"].first()
    return of_states.groupby(["training_step", "seed"]).mean()


def first_reaching(returns: Any, wanted: Any) -> Any:
    """Returns log2 of the smallest N (columns) at which returns reach `wanted`, by row.

    It is log2 of twice the largest N if they never do, and NaN if a return is missing.
    """
    numbers = returns.columns.to_numpy()
    reached = returns.ge(wanted, axis=0).to_numpy()
    first = np.where(reached.any(axis=1), numbers[reached.argmax(axis=1)], 2 * numbers.max())
    return pd.Series(np.log2(first), index=returns.index).where(returns.notna().all(axis=1))


def over_steps(effects: Mapping[Any, float]) -> pd.DataFrame:
    """Returns rows with one number per agent, for all of its steps together."""
    return pd.DataFrame({"cell": "all steps", "seed": list(effects), "effect": list(effects.values())})


def step_labels(steps: Any) -> Any:
    """Returns the cell labels of training steps."""
    return "step " + steps.map("{:,}".format)


def by_step(effect: Any) -> pd.DataFrame:
    """Returns a series by training step and seed as rows of a measure."""
    rows = effect.rename("effect").reset_index()
    rows["cell"] = step_labels(rows["training_step"])
    return pd.DataFrame(rows, columns=["cell", "seed", "effect"])


def kendall_or_0(x: Any, y: Any) -> float:
    """Returns Kendall's tau; 0 where y is constant, since no growth counts as evidence against growth.

    It is NaN for a single point, or if y has a NaN.
    """
    if len(x) < 2 or np.isnan(y).any():
        return float("nan")
    return kendall(x, y) if np.ptp(y) > 0 else 0.0


def off_diagonal(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the error of X, Y minus that of X, X as `effect`, by training_step X, policy_step Y and seed."""
    errors = mean_errors(own_temperature(frame), ["training_step", "policy_step", "seed"])
    errors = errors.rename("error").reset_index()
    own = errors.loc[errors["training_step"] == errors["policy_step"], ["training_step", "seed", "error"]]
    pairs = errors.merge(own, on=["training_step", "seed"], suffixes=("", "_own"))
    pairs = pairs.assign(effect=pairs["error"] - pairs["error_own"])
    return some_rows(pairs[pairs["training_step"] != pairs["policy_step"]])


def searched_returns(frame: pd.DataFrame) -> Any:
    """Returns mean returns of planning: rows by (model, prior, training step, seed), columns N."""
    planned = trained_rows(frame[(frame["simulations"] > AT_RANDOM) & own_prior(frame)])
    return agent_means(planned, ["model", "prior", "training_step", "simulations"], "return")


def returns_at_most(frame: pd.DataFrame) -> Any:
    """Returns mean returns of planning at the largest N, under keys (model, prior)."""
    searched = searched_returns(frame)
    return searched[searched.columns.max()]


def returns_alone(frame: pd.DataFrame, *, greedy: bool) -> Any:
    """Returns mean returns of the policy prior alone, by training step and seed."""
    own = (frame["model"] == "none") & (frame["prior"] == "policy") & ((frame["temperature"] == 0) == greedy)
    alone = trained_rows(frame[own])
    return alone.groupby(["training_step", "seed"])["return"].mean()


def prior_gaps(frame: pd.DataFrame) -> dict[str, Any]:
    """Returns what the policy prior adds to a uniform one in each model: rows by training step and seed, columns N."""
    searched = searched_returns(frame)
    found = {}
    for model in ("learned", "true"):
        policy, uniform = (part_of(searched.loc, (model, prior)) for prior in ("policy", "uniform"))
        found[model] = policy - uniform
    return found


def slope(gaps: Any) -> Any:
    """Returns the least-squares slope of each row against log2 N, or raises a `MissingError` for a single N."""
    if gaps.shape[1] < 2:
        raise MissingError
    x: NDArray[np.float64] = np.log2(gaps.columns.to_numpy(dtype=float))
    centred = x - x.mean()
    return (gaps * centred).sum(axis=1, skipna=False) / (centred**2).sum()
