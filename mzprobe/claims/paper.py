"""The claims of "What Model Does MuZero Learn?" (He et al., ECAI 2024), sections 3 and 4, as effects on tables.

Unless it says otherwise, a claim is about trained models (step 0 is left out) and its cells are training steps. Every
measure gives one row a cell and agent: `cell`, `seed`, `effect`, where a positive effect speaks for the claim.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import kendalltau

from mzprobe.claims.core import Claim

NEAR_ZERO = 0.05  # of the mean magnitude of true values


# Section 3: evaluating policies


def planning_beats_prior_online(frame: pd.DataFrame) -> pd.DataFrame:
    """Return of acting by search minus that of the sampled policy prior."""
    means = _means(_trained(frame), ["training_step", "policy"], "return")
    return _by_step(means["behaviour"] - means["prior"])


def error_grows_with_horizon(frame: pd.DataFrame) -> pd.DataFrame:
    """Kendall's tau between h and the agent's mean error."""
    means = _means(_trained(frame), ["training_step", "h"], "error")
    return _by_step(means.apply(lambda row: _kendall(means.columns.to_numpy(), row.to_numpy()), axis=1))


def near_zero_at_one_step(frame: pd.DataFrame) -> pd.DataFrame:
    """`NEAR_ZERO` minus the mean error at h = 1 over the mean magnitude of true values there."""
    first = _trained(frame[frame["h"] == 1])
    first = first.assign(magnitude=first["value"].abs())
    means = first.groupby(["training_step", "seed"])[["error", "magnitude"]].mean()
    return _by_step(NEAR_ZERO - means["error"] / means["magnitude"].where(means["magnitude"] > 0))


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
    return _off_diagonal(frame, lambda x, y: x != y)


def early_models_misjudge_later_policies(frame: pd.DataFrame) -> pd.DataFrame:
    """The same for all Y > X, averaged; X in the first half of the trained steps."""
    steps = np.unique(_trained(frame)["training_step"])
    early = steps[: len(steps) // 2]
    pairs = _off_diagonal(frame, lambda x, y: x in early and y > x)
    pairs["cell"] = pairs["cell"].str.split(";").str[0]
    return pairs.groupby(["cell", "seed"], sort=False)["effect"].mean().reset_index()


# Section 4: improving policies


def prior_lowers(column: str) -> Any:
    """A measure: a column of the search's table with the uniform prior minus that with the policy's; cells are N."""

    def measure(frame: pd.DataFrame) -> pd.DataFrame:
        means = _means(frame, ["training_step", "simulations", "prior"], column)
        effects = (means["uniform"] - means["policy"]).rename("effect").reset_index()
        steps, simulations = effects["training_step"].map("{:,}".format), effects["simulations"].astype(str)
        effects["cell"] = "step " + steps + ", N = " + simulations
        return pd.DataFrame(effects, columns=["cell", "seed", "effect"])

    return measure


def free_search_lags(frame: pd.DataFrame) -> pd.DataFrame:
    """Return of free search in the true model minus that in the learned one, averaged over N."""
    searched = _searched(frame).mean(axis=1)
    return _by_step(searched["true", "uniform"] - searched["learned", "uniform"])


def planning_beats_prior(frame: pd.DataFrame) -> pd.DataFrame:
    """Return of planning with prior and learned model at the largest N, minus that of the sampled policy prior."""
    return _by_step(_most(frame)["learned", "policy"] - _alone(frame, greedy=False))


def planning_beats_greedy_prior(frame: pd.DataFrame) -> pd.DataFrame:
    """The same, minus that of the policy prior's most likely action."""
    return _by_step(_most(frame)["learned", "policy"] - _alone(frame, greedy=True))


def true_model_improves_more(frame: pd.DataFrame) -> pd.DataFrame:
    """Return of planning with prior in the true model minus that in the learned one, at the largest N."""
    most = _most(frame)
    return _by_step(most["true", "policy"] - most["learned", "policy"])


def gap_is_larger_in_the_learned_model(frame: pd.DataFrame) -> pd.DataFrame:
    """Return with the policy prior minus that with the uniform one, learned minus true model, averaged over N."""
    gaps = _gaps(frame)
    return _by_step((gaps["learned"] - gaps["true"]).mean(axis=1))


def gap_does_not_close(frame: pd.DataFrame) -> pd.DataFrame:
    """Change of that gap when N doubles (least squares in log2 N), in the learned minus in the true model."""
    gaps = _gaps(frame)
    return _by_step(_slope(gaps["learned"]) - _slope(gaps["true"]))


# Parts


def _trained(frame: pd.DataFrame) -> pd.DataFrame:
    return _some(frame[frame["training_step"] > 0])


def _some(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame, if it has a row: else there is nothing to compare, as where a column is missing (a LookupError)."""
    if frame.empty:
        raise LookupError("there are no such rows")
    return frame


def _means(frame: pd.DataFrame, by: Sequence[str], column: str) -> Any:
    """An agent's means: rows by all of `by` but the last and by seed, a column for each value of the last."""
    *rows, last = by
    return frame.pivot_table(index=[*rows, "seed"], columns=last, values=column, aggfunc="mean")


def _by_step(effect: Any) -> pd.DataFrame:
    """Rows of a series by training step and seed."""
    rows = effect.rename("effect").reset_index()
    rows["cell"] = "step " + rows["training_step"].map("{:,}".format)
    return pd.DataFrame(rows, columns=["cell", "seed", "effect"])


def _kendall(x: Any, y: Any) -> float:
    if len(x) < 2 or np.ptp(y) == 0:
        return float("nan")
    return float(kendalltau(x, y).statistic)


def _off_diagonal(frame: pd.DataFrame, chosen: Any) -> pd.DataFrame:
    """Errors of the pairs X, Y that are chosen, each minus the one of X, X."""
    errors = frame.groupby(["training_step", "policy_step", "seed"])["error"].mean().reset_index()
    own = errors.loc[errors["training_step"] == errors["policy_step"], ["training_step", "seed", "error"]]
    pairs = errors.merge(own, on=["training_step", "seed"], suffixes=("", "_own"))
    pairs = pairs[[bool(chosen(x, y)) for x, y in zip(pairs["training_step"], pairs["policy_step"], strict=True)]]
    pairs = _some(pairs)
    cells = [f"X = {x:,}; Y = {y:,}" for x, y in zip(pairs["training_step"], pairs["policy_step"], strict=True)]
    return pairs.assign(cell=cells, effect=pairs["error"] - pairs["error_own"])[["cell", "seed", "effect"]]


def _searched(frame: pd.DataFrame) -> Any:
    """Mean returns of planning: rows by (model, prior, training step, seed), columns N."""
    planned = _trained(frame[frame["model"] != "none"])
    return _means(planned, ["model", "prior", "training_step", "simulations"], "return")


def _most(frame: pd.DataFrame) -> Any:
    """Those at the largest N, by (model, prior)."""
    searched = _searched(frame)
    return searched[searched.columns.max()]


def _alone(frame: pd.DataFrame, *, greedy: bool) -> Any:
    """Mean returns of the policy prior alone, by training step and seed."""
    alone = _trained(frame[(frame["model"] == "none") & ((frame["temperature"] == 0) == greedy)])
    return alone.groupby(["training_step", "seed"])["return"].mean()


def _gaps(frame: pd.DataFrame) -> dict[str, Any]:
    """What the policy prior adds to a uniform one in each model: rows by training step and seed, columns N."""
    searched = _searched(frame)
    return {model: searched.loc[model, "policy"] - searched.loc[model, "uniform"] for model in ("learned", "true")}


def _slope(gaps: Any) -> Any:
    """Least squares slope of each row against log2 N."""
    x: NDArray[np.float64] = np.log2(gaps.columns.to_numpy(dtype=float))
    centred = x - x.mean()
    return (gaps * centred).sum(axis=1, skipna=False) / (centred**2).sum()


CLAIMS = (
    Claim(
        name="planning-beats-prior-online",
        section="3.1",
        sentence="While acting, search returns more than the policy prior alone.",
        effect="return of search minus that of the sampled policy prior",
        probe="online",
        measure=planning_beats_prior_online,
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
        sentence="That becomes more marked with training.",
        effect="Kendall's tau between training step and minus rho",
        probe="sequences",
        measure=trend_grows_with_training,
    ),
    Claim(
        name="diagonal-is-smallest",
        section="3.5",
        sentence="Every model, untrained too, has its smallest error for the policy of its own training step.",
        effect="error for the policy of Y minus that for X, discounted reward; of the pair where it is smallest",
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
        sentence="And more than the prior's most likely action.",
        effect="return at the largest N minus that of the greedy policy prior",
        probe="planning",
        measure=planning_beats_greedy_prior,
    ),
    Claim(
        name="true-model-improves-more",
        section="4",
        sentence="The true model improves on the policy prior by more than the learned one does.",
        effect="return with the policy prior in the true minus that in the learned model, largest N",
        probe="planning",
        measure=true_model_improves_more,
    ),
    Claim(
        name="prior-matters-more-in-learned-model",
        section="4",
        sentence="The policy prior brings more in the learned model than in the true one.",
        effect="return with policy minus uniform prior, learned minus true model, mean over N",
        probe="planning",
        measure=gap_is_larger_in_the_learned_model,
    ),
    Claim(
        name="gap-does-not-close",
        section="4",
        sentence="More simulations close that gap in the true model, and less so in the learned one.",
        effect="change of the gap per doubling of N, learned minus true model, return",
        probe="planning",
        measure=gap_does_not_close,
    ),
)
