"""The claims of "What Model Does MuZero Learn?" (He et al., ECAI 2024), sections 3 and 4, as effects on tables.

Unless it says otherwise, a claim is about trained models (step 0 is left out) and its cells are training steps. Every
measure gives one row a cell and agent: `cell`, `seed`, `effect`, where a positive effect speaks for the claim.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mzprobe.claims.core import Claim, MissingError
from mzprobe.probes.tables import own_prior
from mzprobe.stats import kendall

NEAR_ZERO = 0.05  # of the mean magnitude of true values


# Section 3: evaluating policies


def planning_beats_prior_online(frame: pd.DataFrame) -> pd.DataFrame:
    """Return of acting by search minus that of the sampled policy prior."""
    means = _means(_trained(frame), ["training_step", "policy"], "return")
    return _by_step(_of(means, "behaviour") - _of(means, "prior"))


def error_grows_with_horizon(frame: pd.DataFrame) -> pd.DataFrame:
    """Kendall's tau between h and the agent's error."""
    errors = _errors(_trained(frame), ["training_step", "seed", "h"]).unstack("h")  # noqa: PD010 - there is one number each
    horizons = errors.columns.to_numpy()
    taus = [_kendall(horizons, row) for row in errors.to_numpy()]
    return _by_step(pd.Series(taus, index=errors.index))


def near_zero_at_one_step(frame: pd.DataFrame) -> pd.DataFrame:
    """`NEAR_ZERO` minus the error at h = 1 over the mean magnitude of true values there."""
    first = _trained(frame[frame["h"] == 1])
    magnitude = first["value"].abs().groupby([first["training_step"], first["seed"]]).mean()
    error = _errors(first, ["training_step", "seed"])
    return _by_step(NEAR_ZERO - error / magnitude.where(magnitude > 0))


def error_falls_with_probability(frame: pd.DataFrame) -> pd.DataFrame:
    """Minus Spearman's rho of probability and error, the mean over an agent's states."""
    return _by_step(-_trained(frame).groupby(["training_step", "seed"])["rho"].first())


def trend_grows_with_training(frame: pd.DataFrame) -> pd.DataFrame:
    """Kendall's tau between training step and minus rho."""
    rho = _trained(frame).groupby(["seed", "training_step"])["rho"].first().dropna()
    taus = {seed: _kendall(own.index.get_level_values("training_step"), -own) for seed, own in rho.groupby("seed")}
    return pd.DataFrame({"cell": "all steps", "seed": list(taus), "effect": list(taus.values())})


def diagonal_is_smallest(frame: pd.DataFrame) -> pd.DataFrame:
    """Error of the model and states of X for the policy of Y minus that for its own; a cell is a pair of steps."""
    pairs = _off_diagonal(frame)
    cells = [f"X = {x:,}; Y = {y:,}" for x, y in zip(pairs["training_step"], pairs["policy_step"], strict=True)]
    return pairs.assign(cell=cells)


def early_models_misjudge_later_policies(frame: pd.DataFrame) -> pd.DataFrame:
    """The same for all Y > X, averaged; X in the first half of the trained steps."""
    steps = np.unique(_trained(frame)["training_step"])
    pairs = _off_diagonal(frame)
    later = pairs["training_step"].isin(steps[: len(steps) // 2]) & (pairs["policy_step"] > pairs["training_step"])
    return _by_step(_some(pairs[later]).groupby(["training_step", "seed"])["effect"].mean())


# Section 4: improving policies


def prior_lowers(column: str) -> Any:
    """A measure: a column of the search's table with the uniform prior minus that with the policy's; cells are N."""

    def measure(frame: pd.DataFrame) -> pd.DataFrame:
        means = _means(_trained(frame), ["training_step", "simulations", "prior"], column)
        effects = (_of(means, "uniform") - _of(means, "policy")).rename("effect").reset_index()
        steps, simulations = effects["training_step"].map("{:,}".format), effects["simulations"].astype(str)
        effects["cell"] = "step " + steps + ", N = " + simulations
        return pd.DataFrame(effects, columns=["cell", "seed", "effect"])

    return measure


def free_search_lags(frame: pd.DataFrame) -> pd.DataFrame:
    """Return of free search in the true model minus that in the learned one, averaged over N."""
    searched = _searched(frame).mean(axis=1)
    return _by_step(_of(searched, ("true", "uniform")) - _of(searched, ("learned", "uniform")))


def free_search_lags_at_most_simulations(frame: pd.DataFrame) -> pd.DataFrame:
    """The same at the largest N alone."""
    most = _most(frame)
    return _by_step(_of(most, ("true", "uniform")) - _of(most, ("learned", "uniform")))


def planning_beats_prior(frame: pd.DataFrame) -> pd.DataFrame:
    """Return of planning with prior and learned model at the largest N, minus that of the sampled policy prior."""
    return _by_step(_of(_most(frame), ("learned", "policy")) - _alone(frame, greedy=False))


def planning_beats_greedy_prior(frame: pd.DataFrame) -> pd.DataFrame:
    """The same, minus that of the policy prior's most likely action."""
    return _by_step(_of(_most(frame), ("learned", "policy")) - _alone(frame, greedy=True))


def true_model_returns_more(frame: pd.DataFrame) -> pd.DataFrame:
    """Return of planning with prior in the true model minus that in the learned one, at the largest N."""
    most = _most(frame)
    return _by_step(_of(most, ("true", "policy")) - _of(most, ("learned", "policy")))


def prior_matters_more_in_learned_model(frame: pd.DataFrame) -> pd.DataFrame:
    """Return with the policy prior minus that with the uniform one, learned minus true model, averaged over N."""
    gaps = _gaps(frame)
    return _by_step((gaps["learned"] - gaps["true"]).mean(axis=1))


def gap_closes_faster_in_true_model(frame: pd.DataFrame) -> pd.DataFrame:
    """Change of that gap when N doubles (least squares in log2 N), in the learned minus in the true model."""
    gaps = _gaps(frame)
    return _by_step(_slope(gaps["learned"]) - _slope(gaps["true"]))


# Parts


def _trained(frame: pd.DataFrame) -> pd.DataFrame:
    return _some(frame[frame["training_step"] > 0])


def _some(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame, if it has a row."""
    if frame.empty:
        raise MissingError
    return frame


def _of(means: Any, key: Any) -> Any:
    """The part of means under a key, if it is there."""
    try:
        return means[key]
    except KeyError:
        raise MissingError from None


def _means(frame: pd.DataFrame, by: Sequence[str], column: str) -> Any:
    """An agent's means: rows by all of `by` but the last and by seed, a column for each value of the last."""
    *rows, last = by
    return frame.pivot_table(index=[*rows, "seed"], columns=last, values=column, aggfunc="mean")


def _errors(frame: pd.DataFrame, by: Sequence[str]) -> Any:
    """Value prediction error by cell: the mean over states, or the root mean square where sequences were sampled.

    The magnitude of a sampled mean is too large, the more so the more sequences differ, which grows with h; its
    square less the squared standard error is unbiased.
    """
    if frame["exact"].all():
        return _some(frame.dropna(subset=["error"])).groupby(list(by))["error"].mean()
    squares = frame.assign(square=frame["signed_error"] ** 2 - frame["standard_error"] ** 2)
    return np.sqrt(_some(squares.dropna(subset=["square"])).groupby(list(by))["square"].mean().clip(lower=0))


def _by_step(effect: Any) -> pd.DataFrame:
    """Rows of a series by training step and seed."""
    rows = effect.rename("effect").reset_index()
    rows["cell"] = "step " + rows["training_step"].map("{:,}".format)
    return pd.DataFrame(rows, columns=["cell", "seed", "effect"])


def _kendall(x: Any, y: Any) -> float:
    """Kendall's tau; 0 where y is constant, since a thing that does not grow speaks against its growth."""
    if len(x) < 2 or np.isnan(y).any():
        return float("nan")
    return kendall(x, y) if np.ptp(y) > 0 else 0.0


def _off_diagonal(frame: pd.DataFrame) -> pd.DataFrame:
    """`effect` by training_step X, policy_step Y and seed: the error of X, Y minus that of X, X."""
    errors = _errors(frame, ["training_step", "policy_step", "seed"]).rename("error").reset_index()
    own = errors.loc[errors["training_step"] == errors["policy_step"], ["training_step", "seed", "error"]]
    pairs = errors.merge(own, on=["training_step", "seed"], suffixes=("", "_own"))
    pairs = pairs.assign(effect=pairs["error"] - pairs["error_own"])
    return _some(pairs[pairs["training_step"] != pairs["policy_step"]])


def _searched(frame: pd.DataFrame) -> Any:
    """Mean returns of planning: rows by (model, prior, training step, seed), columns N."""
    planned = _trained(frame[(frame["simulations"] > 0) & own_prior(frame)])
    return _means(planned, ["model", "prior", "training_step", "simulations"], "return")


def _most(frame: pd.DataFrame) -> Any:
    """Those at the largest N, by (model, prior)."""
    searched = _searched(frame)
    return searched[searched.columns.max()]


def _alone(frame: pd.DataFrame, *, greedy: bool) -> Any:
    """Mean returns of the policy prior alone, by training step and seed."""
    own = (frame["model"] == "none") & (frame["prior"] == "policy") & ((frame["temperature"] == 0) == greedy)
    alone = _trained(frame[own])
    return alone.groupby(["training_step", "seed"])["return"].mean()


def _gaps(frame: pd.DataFrame) -> dict[str, Any]:
    """What the policy prior adds to a uniform one in each model: rows by training step and seed, columns N."""
    searched = _searched(frame)
    found = {}
    for model in ("learned", "true"):
        policy, uniform = (_of(searched.loc, (model, prior)) for prior in ("policy", "uniform"))
        found[model] = policy - uniform
    return found


def _slope(gaps: Any) -> Any:
    """Least squares slope of each row against log2 N; of a single N there is none."""
    if gaps.shape[1] < 2:
        raise MissingError
    x: NDArray[np.float64] = np.log2(gaps.columns.to_numpy(dtype=float))
    centred = x - x.mean()
    return (gaps * centred).sum(axis=1, skipna=False) / (centred**2).sum()


CLAIMS = (
    Claim(
        name="planning-beats-prior-online",
        section="3.1",
        sentence="While acting, search returns more than the policy prior alone, on average over training.",
        effect="return of search minus that of the sampled policy prior",
        probe="online",
        measure=planning_beats_prior_online,
    ),
    Claim(
        name="planning-always-beats-prior-online",
        section="3.1",
        sentence="While acting, search returns more than the policy prior alone at every trained checkpoint.",
        effect="return of search minus that of the sampled policy prior; of the step that decides",
        probe="online",
        measure=planning_beats_prior_online,
        every=True,
    ),
    Claim(
        name="error-grows-with-horizon",
        section="3.3",
        sentence="The longer the horizon, the larger is the value prediction error of the behaviour policy.",
        effect="Kendall's tau between h and error",
        probe="horizon",
        measure=error_grows_with_horizon,
    ),
    Claim(
        name="near-zero-at-one-step",
        section="3.3",
        sentence="At short horizons there is hardly any error: at h = 1 less than 5 % of the true value.",
        effect="0.05 minus the error's share of the true value's magnitude",
        probe="horizon",
        measure=near_zero_at_one_step,
    ),
    Claim(
        name="error-falls-with-probability",
        section="3.4",
        sentence="The likelier the behaviour policy takes a sequence of actions, the smaller is its error.",
        effect="minus Spearman's rho of probability and error",
        probe="sequences",
        measure=error_falls_with_probability,
    ),
    Claim(
        name="trend-grows-with-training",
        section="3.4",
        sentence="That error falls with probability becomes more marked with training.",
        effect="Kendall's tau between training step and minus rho",
        probe="sequences",
        measure=trend_grows_with_training,
    ),
    Claim(
        name="diagonal-is-smallest",
        section="3.5",
        sentence="Every model, untrained too, has its smallest error for the policy of its own training step.",
        effect="error for the policy of Y minus that for X, discounted reward; of the pair that decides",
        probe="cross",
        measure=diagonal_is_smallest,
        every=True,
    ),
    Claim(
        name="early-models-misjudge-later-policies",
        section="3.5",
        sentence="Early models are more wrong about later policies than about their own.",
        effect="error for later policies minus that for the own one, discounted reward",
        probe="cross",
        measure=early_models_misjudge_later_policies,
    ),
    Claim(
        name="prior-lowers-tv",
        section="4",
        sentence="With the policy prior, the search's visits stay closer to it: in total variation.",
        effect="total variation with the uniform prior minus that with the policy's",
        probe="search",
        measure=prior_lowers("tv"),
    ),
    Claim(
        name="prior-lowers-kl",
        section="4",
        sentence="With the policy prior, the search's visits stay closer to it: in KL divergence.",
        effect="KL divergence with the uniform prior minus that with the policy's, nats",
        probe="search",
        measure=prior_lowers("kl"),
    ),
    Claim(
        name="prior-lowers-trajectory-error",
        section="4",
        sentence="With the policy prior, the model is less wrong about what the search simulates, rollouts included.",
        effect="error with the uniform prior minus that with the policy's, discounted reward",
        probe="search",
        measure=prior_lowers("trajectory_error"),
    ),
    Claim(
        name="prior-lowers-path-error",
        section="4",
        sentence="With the policy prior, the model is less wrong about what the search simulates, in the tree alone.",
        effect="error with the uniform prior minus that with the policy's, discounted reward",
        probe="search",
        measure=prior_lowers("path_error"),
    ),
    Claim(
        name="free-search-lags",
        section="4",
        sentence="With a uniform prior, planning in the learned model returns less than in the true one.",
        effect="return in the true minus that in the learned model, mean over N",
        probe="planning",
        measure=free_search_lags,
    ),
    Claim(
        name="free-search-lags-at-most-simulations",
        section="4",
        sentence="With a uniform prior and the most simulations, planning in the learned model still returns less.",
        effect="return in the true minus that in the learned model, largest N",
        probe="planning",
        measure=free_search_lags_at_most_simulations,
    ),
    Claim(
        name="planning-beats-prior",
        section="4",
        sentence="With enough simulations, planning with prior and learned model returns more than the prior alone.",
        effect="return at the largest N minus that of the sampled policy prior",
        probe="planning",
        measure=planning_beats_prior,
    ),
    Claim(
        name="planning-beats-greedy-prior",
        section="4",
        sentence="With enough simulations, it also returns more than always taking the prior's most likely action.",
        effect="return at the largest N minus that of the greedy policy prior",
        probe="planning",
        measure=planning_beats_greedy_prior,
    ),
    Claim(
        name="true-model-returns-more",
        section="4",
        sentence="With policy prior and the most simulations, planning returns more in the true model.",
        effect="return with the policy prior in the true minus that in the learned model, largest N",
        probe="planning",
        measure=true_model_returns_more,
    ),
    Claim(
        name="prior-matters-more-in-learned-model",
        section="4",
        sentence="The policy prior brings more in the learned model than in the true one.",
        effect="return with policy minus uniform prior, learned minus true model, mean over N",
        probe="planning",
        measure=prior_matters_more_in_learned_model,
    ),
    Claim(
        name="gap-closes-faster-in-true-model",
        section="4",
        sentence="As N grows, what the policy prior adds shrinks faster, or grows less, in the true model.",
        effect="change per doubling of N of what the policy prior adds, learned minus true model, return",
        probe="planning",
        measure=gap_closes_faster_in_true_model,
    ),
)
