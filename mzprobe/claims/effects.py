"""Measures of claims: each computes an effect from a table, one number for every agent.

Unless stated otherwise, a claim is about trained models (step 0 is left out) and its cells are training steps. Every
measure returns one row per cell and agent (`cell`, `seed`, `effect`), and a positive effect supports the claim. Free
search is search with a uniform prior.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mzprobe.claims.core import MissingError
from mzprobe.stats import kendall
from mzprobe.tables import own_prior, own_temperature

NEAR_ZERO = 0.05  # share of the mean magnitude of true values
AT_RANDOM = 2  # simulations; up to these, the prior decides the choices whatever the model says: never compared

Measure = Callable[[pd.DataFrame], pd.DataFrame]


# Section 3: evaluating policies


def planning_beats_prior_online(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the return of acting by search minus that of the sampled policy prior."""
    means = _means(_trained(frame), ["training_step", "policy"], "return")
    return _by_step(_of(means, "behaviour") - _of(means, "prior"))


def planning_beats_greedy_prior_online(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the return of acting by search minus that of the policy prior's most likely action."""
    means = _means(_trained(frame), ["training_step", "policy"], "return")
    return _by_step(_of(means, "behaviour") - _of(means, "greedy"))


def error_grows_with_horizon(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes Kendall's tau between h and the agent's error."""
    errors = _errors(_trained(frame), ["training_step", "seed", "h"]).unstack("h")  # noqa: PD010 - there is one number each
    horizons = errors.columns.to_numpy()
    taus = [_kendall(horizons, row) for row in errors.to_numpy()]
    return _by_step(pd.Series(taus, index=errors.index))


def near_zero_at_one_step(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes `NEAR_ZERO` minus the error at h = 1 as a share of the magnitude of true values there.

    Both are means of magnitudes where all sequences were enumerated, and root mean squares where they were sampled (see
    `_errors`).
    """
    first = _trained(frame[frame["h"] == 1])
    groups = [first["training_step"], first["seed"]]
    magnitude = first["value"].abs().groupby(groups).mean()
    if not first["exact"].all():
        magnitude = np.sqrt((first["value"] ** 2).groupby(groups).mean())
    return _by_step(NEAR_ZERO - _errors(first, ["training_step", "seed"]) / magnitude.where(magnitude > 0))


def error_compounds(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the error at the largest h minus h times that at 1, over their sum.

    It is positive if the error grows faster than by equal steps. A ratio of the two would have a heavy tail on one
    side, and flipping its sign would find effects that are not there.
    """
    errors = _errors(_trained(frame), ["training_step", "seed", "h"]).unstack("h")  # noqa: PD010
    h = errors.columns.max()
    added = h * errors[1]
    return _by_step((errors[h] - added) / (errors[h] + added).where(errors[h] + added > 0))


def step_error_grows(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes Kendall's tau between k and the mean over states of |E[u_k - r_k]|, the error of step k alone."""
    errors = _step_errors(frame, "step")
    taus = [_kendall(errors.columns.to_numpy(), row) for row in errors.to_numpy()]
    return _by_step(pd.Series(taus, index=errors.index))


def unrolling_adds_error(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes a step's error in the unrolled minus that in the re-grounded model, averaged over all but the first."""
    unrolled, grounded = (_step_errors(frame, name) for name in ("step", "grounded"))
    return _by_step((unrolled - grounded).drop(columns=1).mean(axis=1))


def error_falls_late(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes minus Kendall's tau between training step and error at the largest h, over the second half of steps."""
    last = _trained(frame[frame["h"] == frame["h"].max()])
    errors = _errors(last, ["seed", "training_step"]).unstack("training_step")  # noqa: PD010
    late = errors[errors.columns[len(errors.columns) // 2 :]]
    return _over_steps({seed: -_kendall(late.columns.to_numpy(), row) for seed, row in late.iterrows()})


def error_falls_with(way: str) -> Measure:
    """Returns a measure: minus Spearman's rho of a probability and the error, the mean over an agent's states.

    Args:
        way: kind of probability, as the end of the column's name (`_at_1` for `state_rho_at_1`).
    """

    def measure(frame: pd.DataFrame) -> pd.DataFrame:
        return _by_step(-_rho(frame, way))

    return measure


def trend_grows_with_training(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes Kendall's tau between training step and minus rho."""
    rho = _rho(frame, "").dropna().swaplevel()
    taus = {seed: _kendall(own.index.get_level_values("training_step"), -own) for seed, own in rho.groupby("seed")}
    return _over_steps(taus)


def diagonal_is_smallest(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the error of the model and states of X for the policy of Y minus that for its own.

    A cell is a pair of steps, untrained ones included.
    """
    pairs = _off_diagonal(frame)
    cells = [f"X = {x:,}; Y = {y:,}" for x, y in zip(pairs["training_step"], pairs["policy_step"], strict=True)]
    return pairs.assign(cell=cells)


def own_policy_is_easier(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the mean over trained Y of the difference of `diagonal_is_smallest`, in the row of each trained X."""
    pairs = _off_diagonal(_trained(frame))
    pairs = _some(pairs[pairs["policy_step"] > 0])
    return _by_step(pairs.groupby(["training_step", "seed"])["effect"].mean())


def own_policy_is_row_minimum(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the difference of `diagonal_is_smallest` for each trained Y, a rival, in the row of each trained X.

    The claim is about the rival with the smallest mean over agents. If each agent's rival were chosen by the other
    agents, it would be unbiased, but no agent's effect would be independent of another's.
    """
    pairs = _off_diagonal(_trained(frame))
    pairs = _some(pairs[pairs["policy_step"] > 0])
    pairs = pairs.assign(cell=_labels(pairs["training_step"]), rival=pairs["policy_step"])
    return pairs[["cell", "rival", "seed", "effect"]]


def error_rises_with_distance(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the slope of the error on TV(pi_X, pi_Y) over the policies Y of a row X.

    Its unit is discounted reward for a distance of 1.
    """
    own = _some(own_temperature(_trained(frame)))
    if "tv" not in own:
        raise MissingError
    means = ["training_step", "seed", "policy_step"]
    cells = _errors(own, means).to_frame("error").join(own.groupby(means)["tv"].mean())
    centred = cells - cells.groupby(["training_step", "seed"]).transform("mean")
    products = pd.DataFrame({"xy": centred["tv"] * centred["error"], "xx": centred["tv"] ** 2})
    sums = products.groupby(["training_step", "seed"]).sum()
    return _by_step(sums["xy"] / sums["xx"].where(sums["xx"] > 0))


def early_models_misjudge_later_policies(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the mean over Y > X of the difference of `diagonal_is_smallest`.

    X is in the first half of the trained steps.
    """
    steps = np.unique(_trained(frame)["training_step"])
    pairs = _off_diagonal(frame)
    later = pairs["training_step"].isin(steps[: len(steps) // 2]) & (pairs["policy_step"] > pairs["training_step"])
    return _by_step(_some(pairs[later]).groupby(["training_step", "seed"])["effect"].mean())


# Section 4: improving policies


def prior_lowers(column: str) -> Measure:
    """Returns a measure: a column of the search's table with the uniform prior minus that with the policy prior.

    Cells are pairs of training step and N.
    """

    def measure(frame: pd.DataFrame) -> pd.DataFrame:
        if column not in frame:
            raise MissingError
        means = _means(_trained(frame), ["training_step", "simulations", "prior"], column)
        effects = (_of(means, "uniform") - _of(means, "policy")).rename("effect").reset_index()
        steps, simulations = effects["training_step"].map("{:,}".format), effects["simulations"].astype(str)
        effects["cell"] = "step " + steps + ", N = " + simulations
        return pd.DataFrame(effects, columns=["cell", "seed", "effect"])

    return measure


def free_search_lags(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the return of free search in the true model minus that in the learned one, averaged over N."""
    searched = _searched(frame).mean(axis=1)
    return _by_step(_of(searched, ("true", "uniform")) - _of(searched, ("learned", "uniform")))


def free_search_lags_at_most_simulations(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the difference of `free_search_lags` at the largest N alone."""
    most = _most(frame)
    return _by_step(_of(most, ("true", "uniform")) - _of(most, ("learned", "uniform")))


def free_search_improves(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes Kendall's tau between training step and return of free search in the learned model, averaged over N."""
    returns = _of(_searched(frame).mean(axis=1), ("learned", "uniform")).unstack("training_step")  # noqa: PD010
    return _over_steps({seed: _kendall(returns.columns.to_numpy(), row) for seed, row in returns.iterrows()})


def free_search_beats_random(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the return of free search in the learned model, averaged over N, minus that of random play."""
    by_lot = _trained(frame[(frame["model"] == "none") & (frame["prior"] == "uniform")])
    random = by_lot.groupby(["training_step", "seed"])["return"].mean()
    return _by_step(_of(_searched(frame).mean(axis=1), ("learned", "uniform")) - random)


def free_search_needs_more_simulations(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the doublings of N that free search needs in the learned model beyond the true one for a given return.

    That return is half-way between an agent's smallest and largest mean of free search at that step, over both models
    and all N. A model that never reaches it counts as reaching it at twice the largest N.
    """
    searched = _searched(frame)
    found = {model: _of(searched.loc, (model, "uniform")) for model in ("learned", "true")}
    low = pd.concat(found.values(), axis=1).min(axis=1)
    high = pd.concat(found.values(), axis=1).max(axis=1)
    needed = {model: _first_reaching(returns, (low + high) / 2) for model, returns in found.items()}
    return _by_step(needed["learned"] - needed["true"])


def planning_beats_prior(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the return of planning with prior and learned model at the largest N minus that of the sampled prior."""
    return _by_step(_of(_most(frame), ("learned", "policy")) - _alone(frame, greedy=False))


def planning_beats_greedy_prior(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the return of planning as in `planning_beats_prior`, minus that of the prior's most likely action."""
    return _by_step(_of(_most(frame), ("learned", "policy")) - _alone(frame, greedy=True))


def true_model_returns_more(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the return of planning with prior in the true model minus that in the learned one, at the largest N."""
    most = _most(frame)
    return _by_step(_of(most, ("true", "policy")) - _of(most, ("learned", "policy")))


def prior_matters_more_in_learned_model(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the return with the policy prior minus that with the uniform one, learned minus true model.

    It is averaged over N.
    """
    gaps = _gaps(frame)
    return _by_step((gaps["learned"] - gaps["true"]).mean(axis=1))


def gap_closes_faster_in_true_model(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the change of what the policy prior adds when N doubles, in the learned minus in the true model.

    The change is the least-squares slope in log2 N.
    """
    gaps = _gaps(frame)
    return _by_step(_slope(gaps["learned"]) - _slope(gaps["true"]))


# Beyond the paper


def search_improves(model: str) -> Measure:
    """Returns a measure: improvement by a search in `model` with policy prior, value leaves and the largest N."""

    def measure(frame: pd.DataFrame) -> pd.DataFrame:
        searched = (frame["prior"] == "policy") & (frame["leaf"] == "value") & (frame["model"] == model)
        most = _trained(frame[searched & (frame["simulations"] == frame["simulations"].max())])
        return _by_step(most.groupby(["training_step", "seed"])["improvement"].mean())

    return measure


def old_targets_lag(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes true value minus target, the older half of an agent's positions minus the younger one.

    Halves are by rank of age. There is no effect where all positions have the same age.
    """
    trained = _trained(frame)
    age = trained.groupby(["training_step", "seed"])["age"]
    old, young = age.rank(pct=True) > 0.5, age.transform("nunique") > 1
    lag = (trained["value"] - trained["target"]).groupby([trained["training_step"], trained["seed"]])
    return _by_step(lag.apply(lambda own: own[old].mean() - own[young & ~old].mean()))


# Helpers


def _trained(frame: pd.DataFrame) -> pd.DataFrame:
    return _some(frame[frame["training_step"] > 0])


def _some(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the frame, or raises a `MissingError` if it is empty."""
    if frame.empty:
        raise MissingError
    return frame


def _of(means: Any, key: Any) -> Any:
    """Returns the part of `means` under a key, or raises a `MissingError` if there is none."""
    try:
        return means[key]
    except KeyError:
        raise MissingError from None


def _means(frame: pd.DataFrame, by: Sequence[str], column: str) -> Any:
    """Returns an agent's means: rows by all of `by` but the last and by seed, one column per value of the last."""
    *rows, last = by
    return frame.pivot_table(index=[*rows, "seed"], columns=last, values=column, aggfunc="mean")


def _errors(frame: pd.DataFrame, by: Sequence[str]) -> Any:
    """Returns value prediction error by cell: the mean over states, or the root mean square if sequences were sampled.

    The magnitude of a sampled mean is too large, and more so the more sequences differ, which grows with h. Its square
    minus the squared standard error is unbiased.
    """
    if frame["exact"].all():
        return _some(frame.dropna(subset=["error"])).groupby(list(by))["error"].mean()
    squares = frame.assign(square=frame["signed_error"] ** 2 - frame["standard_error"] ** 2)
    return np.sqrt(_some(squares.dropna(subset=["square"])).groupby(list(by))["square"].mean().clip(lower=0))


def _step_errors(frame: pd.DataFrame, name: str) -> Any:
    """Returns `_errors` of single steps, unrolled ("step") or re-grounded ("grounded").

    Rows are by training step and seed, columns are h. Older tables have no standard errors of single steps; of these,
    only steps with all sequences enumerated count.
    """
    trained = _trained(frame)
    if f"{name}_signed_error" not in trained:
        raise MissingError
    known = trained.get(f"{name}_standard_error", pd.Series(np.nan, index=trained.index))
    trained = trained.assign(standard_error=known.mask(known.isna() & trained["exact"], 0.0))
    trained = _some(trained[trained["standard_error"].notna()])
    signed = trained[f"{name}_signed_error"]
    alone = trained.assign(error=signed.abs(), signed_error=signed)
    return _errors(alone, ["training_step", "seed", "h"]).unstack("h")  # noqa: PD010


def _rho(frame: pd.DataFrame, way: str) -> Any:
    """Returns Spearman's rho by training step and seed, the mean over the states that have one."""
    trained = _trained(frame)
    if f"state_rho{way}" not in trained:
        raise MissingError
    of_states = trained.groupby(["training_step", "seed", "state"])[f"state_rho{way}"].first()
    return of_states.groupby(["training_step", "seed"]).mean()


def _first_reaching(returns: Any, wanted: Any) -> Any:
    """Returns log2 of the smallest N (columns) at which returns reach `wanted`, by row.

    It is log2 of twice the largest N if they never do, and NaN if a return is missing.
    """
    numbers = returns.columns.to_numpy()
    reached = returns.ge(wanted, axis=0).to_numpy()
    first = np.where(reached.any(axis=1), numbers[reached.argmax(axis=1)], 2 * numbers.max())
    return pd.Series(np.log2(first), index=returns.index).where(returns.notna().all(axis=1))


def _over_steps(effects: Mapping[Any, float]) -> pd.DataFrame:
    """Returns rows with one number per agent, for all of its steps together."""
    return pd.DataFrame({"cell": "all steps", "seed": list(effects), "effect": list(effects.values())})


def _labels(steps: Any) -> Any:
    """Returns the cell labels of training steps."""
    return "step " + steps.map("{:,}".format)


def _by_step(effect: Any) -> pd.DataFrame:
    """Returns a series by training step and seed as rows of a measure."""
    rows = effect.rename("effect").reset_index()
    rows["cell"] = _labels(rows["training_step"])
    return pd.DataFrame(rows, columns=["cell", "seed", "effect"])


def _kendall(x: Any, y: Any) -> float:
    """Returns Kendall's tau; 0 where y is constant, since no growth counts as evidence against growth.

    It is NaN for a single point, or if y has a NaN.
    """
    if len(x) < 2 or np.isnan(y).any():
        return float("nan")
    return kendall(x, y) if np.ptp(y) > 0 else 0.0


def _off_diagonal(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the error of X, Y minus that of X, X as `effect`, by training_step X, policy_step Y and seed."""
    errors = _errors(own_temperature(frame), ["training_step", "policy_step", "seed"])
    errors = errors.rename("error").reset_index()
    own = errors.loc[errors["training_step"] == errors["policy_step"], ["training_step", "seed", "error"]]
    pairs = errors.merge(own, on=["training_step", "seed"], suffixes=("", "_own"))
    pairs = pairs.assign(effect=pairs["error"] - pairs["error_own"])
    return _some(pairs[pairs["training_step"] != pairs["policy_step"]])


def _searched(frame: pd.DataFrame) -> Any:
    """Returns mean returns of planning: rows by (model, prior, training step, seed), columns N."""
    planned = _trained(frame[(frame["simulations"] > AT_RANDOM) & own_prior(frame)])
    return _means(planned, ["model", "prior", "training_step", "simulations"], "return")


def _most(frame: pd.DataFrame) -> Any:
    """Returns mean returns of planning at the largest N, under keys (model, prior)."""
    searched = _searched(frame)
    return searched[searched.columns.max()]


def _alone(frame: pd.DataFrame, *, greedy: bool) -> Any:
    """Returns mean returns of the policy prior alone, by training step and seed."""
    own = (frame["model"] == "none") & (frame["prior"] == "policy") & ((frame["temperature"] == 0) == greedy)
    alone = _trained(frame[own])
    return alone.groupby(["training_step", "seed"])["return"].mean()


def _gaps(frame: pd.DataFrame) -> dict[str, Any]:
    """Returns what the policy prior adds to a uniform one in each model: rows by training step and seed, columns N."""
    searched = _searched(frame)
    found = {}
    for model in ("learned", "true"):
        policy, uniform = (_of(searched.loc, (model, prior)) for prior in ("policy", "uniform"))
        found[model] = policy - uniform
    return found


def _slope(gaps: Any) -> Any:
    """Returns the least-squares slope of each row against log2 N, or raises a `MissingError` for a single N."""
    if gaps.shape[1] < 2:
        raise MissingError
    x: NDArray[np.float64] = np.log2(gaps.columns.to_numpy(dtype=float))
    centred = x - x.mean()
    return (gaps * centred).sum(axis=1, skipna=False) / (centred**2).sum()
