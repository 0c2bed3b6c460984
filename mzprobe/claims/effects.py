"""Measures of claims: each computes an effect from a table, one number for every agent.

Unless stated otherwise, a claim is about trained models (step 0 is left out) and its cells are training steps. Every
measure returns one row per cell and agent (`cell`, `seed`, `effect`), and a positive effect supports the claim. Free
search is search with a uniform prior.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from mzprobe.claims.core import MissingError
from mzprobe.claims.means import (
    agent_means,
    by_step,
    first_reaching,
    kendall_or_0,
    mean_errors,
    mean_rho,
    off_diagonal,
    over_steps,
    part_of,
    prior_gaps,
    returns_alone,
    returns_at_most,
    searched_returns,
    slope,
    some_rows,
    step_errors,
    step_labels,
    trained_rows,
)
from mzprobe.tables import own_temperature

NEAR_ZERO = 0.05  # share of the mean magnitude of true values

Measure = Callable[[pd.DataFrame], pd.DataFrame]


# Section 3: evaluating policies


def planning_beats_prior_online(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the return of acting by search minus that of the sampled policy prior."""
    means = agent_means(trained_rows(frame), ["training_step", "policy"], "return")
    return by_step(part_of(means, "behaviour") - part_of(means, "prior"))


def planning_beats_greedy_prior_online(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the return of acting by search minus that of the policy prior's most likely action."""
    means = agent_means(trained_rows(frame), ["training_step", "policy"], "return")
    return by_step(part_of(means, "behaviour") - part_of(means, "greedy"))


def error_grows_with_horizon(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes Kendall's tau between h and the agent's error."""
    errors = mean_errors(trained_rows(frame), ["training_step", "seed", "h"]).unstack("h")  # noqa: PD010 - there is one number each
    horizons = errors.columns.to_numpy()
    taus = [kendall_or_0(horizons, row) for row in errors.to_numpy()]
    return by_step(pd.Series(taus, index=errors.index))


def near_zero_at_one_step(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes `NEAR_ZERO` minus the error at h = 1 as a share of the magnitude of true values there.

    Both are means of magnitudes where all sequences were enumerated, and root mean squares where they were sampled (see
    `mean_errors`).
    """
    first = trained_rows(frame[frame["h"] == 1])
    groups = [first["training_step"], first["seed"]]
    magnitude = first["value"].abs().groupby(groups).mean()
    if not first["exact"].all():
        magnitude = np.sqrt((first["value"] ** 2).groupby(groups).mean())
    return by_step(NEAR_ZERO - mean_errors(first, ["training_step", "seed"]) / magnitude.where(magnitude > 0))


def error_compounds(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the error at the largest h minus h times that at 1, over their sum.

    It is positive if the error grows faster than by equal steps. A ratio of the two would have a heavy tail on one
    side, and flipping its sign would find effects that are not there.
    """
    errors = mean_errors(trained_rows(frame), ["training_step", "seed", "h"]).unstack("h")  # noqa: PD010
    h = errors.columns.max()
    added = h * errors[1]
    return by_step((errors[h] - added) / (errors[h] + added).where(errors[h] + added > 0))


def step_error_grows(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes Kendall's tau between k and the mean over states of |E[u_k - r_k]|, the error of step k alone."""
    errors = step_errors(frame, "step")
    taus = [kendall_or_0(errors.columns.to_numpy(), row) for row in errors.to_numpy()]
    return by_step(pd.Series(taus, index=errors.index))


def unrolling_adds_error(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes a step's error in the unrolled minus that in the re-grounded model, averaged over all but the first."""
    unrolled, grounded = (step_errors(frame, name) for name in ("step", "grounded"))
    return by_step((unrolled - grounded).drop(columns=1).mean(axis=1))


def error_falls_late(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes minus Kendall's tau between training step and error at the largest h, over the second half of steps."""
    last = trained_rows(frame[frame["h"] == frame["h"].max()])
    errors = mean_errors(last, ["seed", "training_step"]).unstack("training_step")  # noqa: PD010
    late = errors[errors.columns[len(errors.columns) // 2 :]]
    return over_steps({seed: -kendall_or_0(late.columns.to_numpy(), row) for seed, row in late.iterrows()})


def error_falls_with(way: str) -> Measure:
    """Returns a measure: minus Spearman's rho of a probability and the error, the mean over an agent's states.

    Args:
        way: kind of probability, as the end of the column's name (`_at_1` for `state_rho_at_1`).
    """

    def measure(frame: pd.DataFrame) -> pd.DataFrame:
        return by_step(-mean_rho(frame, way))

    return measure


def trend_grows_with_training(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes Kendall's tau between training step and minus rho."""
    rho = mean_rho(frame, "").dropna().swaplevel()
    taus = {seed: kendall_or_0(own.index.get_level_values("training_step"), -own) for seed, own in rho.groupby("seed")}
    return over_steps(taus)


def diagonal_is_smallest(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the error of the model and states of X for the policy of Y minus that for its own.

    A cell is a pair of steps, untrained ones included.
    """
    pairs = off_diagonal(frame)
    cells = [f"X = {x:,}; Y = {y:,}" for x, y in zip(pairs["training_step"], pairs["policy_step"], strict=True)]
    return pairs.assign(cell=cells)


def own_policy_is_easier(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the mean over trained Y of the difference of `diagonal_is_smallest`, in the row of each trained X."""
    pairs = off_diagonal(trained_rows(frame))
    pairs = some_rows(pairs[pairs["policy_step"] > 0])
    return by_step(pairs.groupby(["training_step", "seed"])["effect"].mean())


def own_policy_is_row_minimum(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the difference of `diagonal_is_smallest` for each trained Y, a rival, in the row of each trained X.

    The claim is about the rival with the smallest mean over agents. If each agent's rival were chosen by the other
    agents, it would be unbiased, but no agent's effect would be independent of another's.
    """
    pairs = off_diagonal(trained_rows(frame))
    pairs = some_rows(pairs[pairs["policy_step"] > 0])
    pairs = pairs.assign(cell=step_labels(pairs["training_step"]), rival=pairs["policy_step"])
    return pairs[["cell", "rival", "seed", "effect"]]


def error_rises_with_distance(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the slope of the error on TV(pi_X, pi_Y) over the policies Y of a row X.

    Its unit is discounted reward for a distance of 1.
    """
    own = some_rows(own_temperature(trained_rows(frame)))
    if "tv" not in own:
        raise MissingError
    means = ["training_step", "seed", "policy_step"]
    cells = mean_errors(own, means).to_frame("error").join(own.groupby(means)["tv"].mean())
    centred = cells - cells.groupby(["training_step", "seed"]).transform("mean")
    products = pd.DataFrame({"xy": centred["tv"] * centred["error"], "xx": centred["tv"] ** 2})
    sums = products.groupby(["training_step", "seed"]).sum()
    return by_step(sums["xy"] / sums["xx"].where(sums["xx"] > 0))


def early_models_misjudge_later_policies(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the mean over Y > X of the difference of `diagonal_is_smallest`.

    X is in the first half of the trained steps.
    """
    steps = np.unique(trained_rows(frame)["training_step"])
    pairs = off_diagonal(frame)
    later = pairs["training_step"].isin(steps[: len(steps) // 2]) & (pairs["policy_step"] > pairs["training_step"])
    return by_step(some_rows(pairs[later]).groupby(["training_step", "seed"])["effect"].mean())


# Section 4: improving policies


def prior_lowers(column: str) -> Measure:
    """Returns a measure: a column of the search's table with the uniform prior minus that with the policy prior.

    Cells are pairs of training step and N.
    """

    def measure(frame: pd.DataFrame) -> pd.DataFrame:
        if column not in frame:
            raise MissingError
        means = agent_means(trained_rows(frame), ["training_step", "simulations", "prior"], column)
        effects = (part_of(means, "uniform") - part_of(means, "policy")).rename("effect").reset_index()
        steps, simulations = effects["training_step"].map("{:,}".format), effects["simulations"].astype(str)
        effects["cell"] = "step " + steps + ", N = " + simulations
        return pd.DataFrame(effects, columns=["cell", "seed", "effect"])

    return measure


def free_search_lags(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the return of free search in the true model minus that in the learned one, averaged over N."""
    searched = searched_returns(frame).mean(axis=1)
    return by_step(part_of(searched, ("true", "uniform")) - part_of(searched, ("learned", "uniform")))


def free_search_lags_at_most_simulations(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the difference of `free_search_lags` at the largest N alone."""
    most = returns_at_most(frame)
    return by_step(part_of(most, ("true", "uniform")) - part_of(most, ("learned", "uniform")))


def free_search_improves(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes Kendall's tau between training step and return of free search in the learned model, averaged over N."""
    returns = part_of(searched_returns(frame).mean(axis=1), ("learned", "uniform")).unstack("training_step")  # noqa: PD010
    return over_steps({seed: kendall_or_0(returns.columns.to_numpy(), row) for seed, row in returns.iterrows()})


def free_search_beats_random(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the return of free search in the learned model, averaged over N, minus that of random play."""
    by_lot = trained_rows(frame[(frame["model"] == "none") & (frame["prior"] == "uniform")])
    random = by_lot.groupby(["training_step", "seed"])["return"].mean()
    return by_step(part_of(searched_returns(frame).mean(axis=1), ("learned", "uniform")) - random)


def free_search_needs_more_simulations(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the doublings of N that free search needs in the learned model beyond the true one for a given return.

    That return is half-way between an agent's smallest and largest mean of free search at that step, over both models
    and all N. A model that never reaches it counts as reaching it at twice the largest N.
    """
    searched = searched_returns(frame)
    found = {model: part_of(searched.loc, (model, "uniform")) for model in ("learned", "true")}
    low = pd.concat(found.values(), axis=1).min(axis=1)
    high = pd.concat(found.values(), axis=1).max(axis=1)
    needed = {model: first_reaching(returns, (low + high) / 2) for model, returns in found.items()}
    return by_step(needed["learned"] - needed["true"])


def planning_beats_prior(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the return of planning with prior and learned model at the largest N minus that of the sampled prior."""
    return by_step(part_of(returns_at_most(frame), ("learned", "policy")) - returns_alone(frame, greedy=False))


def planning_beats_greedy_prior(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the return of planning as in `planning_beats_prior`, minus that of the prior's most likely action."""
    return by_step(part_of(returns_at_most(frame), ("learned", "policy")) - returns_alone(frame, greedy=True))


def true_model_returns_more(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the return of planning with prior in the true model minus that in the learned one, at the largest N."""
    most = returns_at_most(frame)
    return by_step(part_of(most, ("true", "policy")) - part_of(most, ("learned", "policy")))


def prior_matters_more_in_learned_model(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the return with the policy prior minus that with the uniform one, learned minus true model.

    It is averaged over N.
    """
    gaps = prior_gaps(frame)
    return by_step((gaps["learned"] - gaps["true"]).mean(axis=1))


def gap_closes_faster_in_true_model(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes the change of what the policy prior adds when N doubles, in the learned minus in the true model.

    The change is the least-squares slope in log2 N.
    """
    gaps = prior_gaps(frame)
    return by_step(slope(gaps["learned"]) - slope(gaps["true"]))


# Beyond the paper


def search_improves(model: str) -> Measure:
    """Returns a measure: improvement by a search in `model` with policy prior, value leaves and the largest N."""

    def measure(frame: pd.DataFrame) -> pd.DataFrame:
        searched = (frame["prior"] == "policy") & (frame["leaf"] == "value") & (frame["model"] == model)
        most = trained_rows(frame[searched & (frame["simulations"] == frame["simulations"].max())])
        return by_step(most.groupby(["training_step", "seed"])["improvement"].mean())

    return measure


def old_targets_lag(frame: pd.DataFrame) -> pd.DataFrame:
    """Computes true value minus target, the older half of an agent's positions minus the younger one.

    Halves are by rank of age. There is no effect where all positions have the same age.
    """
    trained = trained_rows(frame)
    age = trained.groupby(["training_step", "seed"])["age"]
    old, young = age.rank(pct=True) > 0.5, age.transform("nunique") > 1
    lag = (trained["value"] - trained["target"]).groupby([trained["training_step"], trained["seed"]])
    return by_step(lag.apply(lambda own: own[old].mean() - own[young & ~old].mean()))
