"""Statistics with the agent (seed) as the unit: states are nested in agents, never pooled as if independent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Float64 = NDArray[np.float64]
Kind = Literal["spearman", "kendall"]

_ROUNDING = 1e-12  # relative; sums and products of the same numbers in another order differ by less
_NUMBERS_AT_ONCE = 2**20  # bounds the memory of a bootstrap: 8 MB per array


@dataclass(frozen=True)
class Interval:
    """Estimate and both ends of its interval, all in the unit of the estimate; NaN where undefined."""

    estimate: float
    low: float
    high: float


# Means over agents


def over_agents(frame: pd.DataFrame, *, by: Sequence[str], column: str, agent: str = "seed") -> pd.DataFrame:
    """Computes the mean and standard error over agents, each agent first reduced to its own mean.

    Args:
        frame: long table, one row per observation; NaN in `column` is left out.
        by: columns that define a cell.
        column: column that is averaged.
        agent: column that tells agents apart.

    Returns:
        One row per cell: `by`, `mean`, `standard_error` (sd / sqrt(agents), NaN for a single agent) and `agents`, the
        number of agents with a number in the cell. A cell without any keeps its row, with mean NaN and 0 agents.
    """
    # NaN keys are kept: an agent in memory may have no known training step.
    within = frame.groupby([*by, agent], sort=True, dropna=False)[column].mean()
    cells = within.groupby(level=list(by), sort=True, dropna=False)
    agents = cells.count()
    spread = cells.std(ddof=1)
    result = pd.DataFrame({"mean": cells.mean(), "standard_error": spread / np.sqrt(agents), "agents": agents})
    return result.reset_index()


def mean_interval(values: ArrayLike, *, level: float = 0.95) -> Interval:
    """Computes the mean over agents with Student's t interval, mean -+ t(level, n - 1) sd / sqrt(n).

    The interval is exact if agents are normally distributed. For a single agent the ends are NaN.

    Args:
        values: [n], one number per agent.
        level: of confidence, in (0, 1).

    Raises:
        ValueError: there is no number, one is not finite, or `level` is not in (0, 1).
    """
    numbers = finite_numbers(values)
    tail = tail_of(level)
    mean = float(numbers.mean())
    if numbers.size == 1:
        return Interval(mean, np.nan, np.nan)
    half = float(stats.t.isf(tail, numbers.size - 1) * stats.sem(numbers))
    return Interval(mean, mean - half, mean + half)


def bootstrap_mean(
    groups: Sequence[ArrayLike],
    *,
    generator: np.random.Generator,
    resamples: int = 10_000,
    level: float = 0.95,
    states: bool = True,
) -> Interval:
    """Computes the mean of agents' means with a percentile bootstrap interval.

    Agents are resampled, then states within each. An agent that is drawn twice has its states resampled twice,
    independently. For a single agent the ends are NaN.

    The spread of agents' means already includes that of their states, so resampling states counts the latter a second
    time: the interval is a little too wide where states are few.

    With few agents it covers the true mean less often than `level` says. Coverage measured at 0.95 for normal agents,
    each with ten states whose spread equals that of the agents: 94.6 % for 30 agents, 92 % for 10, 86 % for 5. Without
    resampling states: 93.2, 90 and 83 %. `mean_interval` of the agents' means covers it in 95 % and should be used for
    few agents.

    Args:
        groups: one array [states] per agent; agents may have different numbers of states.
        generator: source of the draws.
        resamples: number of bootstrap draws.
        level: of confidence, in (0, 1).
        states: whether states are resampled too; else each agent keeps its mean.

    Raises:
        ValueError: there is no agent, an agent has no state, a number is not finite, `resamples` is less than 1 or
            `level` is not in (0, 1).
    """
    agents = [finite_numbers(group) for group in groups]
    if not agents:
        raise ValueError("There is no agent.")
    tail = tail_of(level)
    widest = max(numbers.size for numbers in agents) if states else 1
    portions = _portions(resamples, numbers_each=max(len(agents), widest))
    means = np.array([numbers.mean() for numbers in agents])
    if len(agents) == 1:
        return Interval(float(means[0]), np.nan, np.nan)
    draws = []
    for rows in portions:
        chosen = generator.integers(len(agents), size=(rows, len(agents)))
        drawn = _resampled_states(agents, chosen, generator) if states else means[chosen]
        draws.append(drawn.mean(axis=1))
    return _percentile(float(means.mean()), np.concatenate(draws), tail)


def bootstrap_over_agents(
    frame: pd.DataFrame,
    *,
    by: Sequence[str],
    column: str,
    generator: np.random.Generator,
    agent: str = "seed",
    resamples: int = 10_000,
    level: float = 0.95,
    states: bool = True,
) -> pd.DataFrame:
    """Computes `bootstrap_mean` of every cell of a long table; arguments as there and in `over_agents`.

    Returns:
        One row per cell: `by`, `mean`, `low`, `high` and `agents`, the number of agents with a number in the cell.
        `low` and `high` are NaN for fewer than two agents, and `mean` too for none.

    Raises:
        ValueError: a number is infinite, `resamples` is less than 1 or `level` is not in (0, 1).
    """
    rows = []
    for key, cell in frame.groupby(list(by), sort=True, dropna=False):
        known = cell.dropna(subset=[column])
        groups = [group.to_numpy(dtype=float) for _, group in known.groupby(agent, sort=True)[column]]
        found = Interval(np.nan, np.nan, np.nan)
        if groups:
            found = bootstrap_mean(groups, generator=generator, resamples=resamples, level=level, states=states)
        rows.append((*key, found.estimate, found.low, found.high, len(groups)))
    return pd.DataFrame(rows, columns=[*by, "mean", "low", "high", "agents"])


def _resampled_states(agents: list[Float64], chosen: NDArray[np.int64], generator: np.random.Generator) -> Float64:
    """Returns the mean of newly drawn states of each of the agents `chosen` [rows, agents], in the same shape."""
    means = np.empty(chosen.shape)
    for index, numbers in enumerate(agents):
        places = chosen == index
        drawn = generator.integers(numbers.size, size=(np.count_nonzero(places), numbers.size))
        means[places] = numbers[drawn].mean(axis=1)
    return means


# Ranks


def tied_levels(numbers: Float64, scale: Float64 | None = None) -> NDArray[np.int64]:
    """Returns the levels 0, 1, ... of the numbers within each row `[S, n]`; numbers equal up to rounding share a level.

    Args:
        numbers: `[S, n]`, products or sums of floats, or differences of sums. Equal ones may differ by rounding,
            where factors or terms are taken in another order. Products are positive.
        scale: `[S]`, magnitude of the sums in a row, which are equal within 1e-12 of it. None for products, which are
            equal within 1e-12 of themselves.
    """
    order = np.argsort(numbers, axis=1, kind="stable")
    ordered = np.take_along_axis(numbers, order, axis=1)
    apart = _ROUNDING * (ordered if scale is None else scale[:, None])
    above = np.diff(ordered, axis=1, prepend=ordered[:, :1]) > apart
    level = np.empty(numbers.shape, np.int64)
    np.put_along_axis(level, order, above.cumsum(axis=1), axis=1)
    return level


def ranked(level: NDArray[np.int64], values: Float64) -> tuple[NDArray[np.int64], Float64]:
    """Returns the ranks 1 .. n of each row's levels `[S, n]`, and the values averaged over entries of equal level.

    The order of ranks within a level is arbitrary, so each entry gets the mean value of its level.
    """
    S, n = level.shape
    rank = np.empty((S, n), np.int64)
    np.put_along_axis(rank, np.argsort(level, axis=1, kind="stable"), np.arange(1, n + 1)[None], axis=1)
    means = [(np.bincount(x, weights=v) / np.bincount(x))[x] for x, v in zip(level, values, strict=True)]
    return rank, np.stack(means)


# Rank correlation


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Returns Spearman's rho, with ties at their mean rank; NaN where x or y is constant."""
    ranks = np.stack([stats.rankdata(x), stats.rankdata(y)])
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    spread = np.sqrt((centred**2).sum(axis=1).prod())
    return float((centred[0] * centred[1]).sum() / spread) if spread > 0 else float("nan")


def kendall(x: ArrayLike, y: ArrayLike) -> float:
    """Returns Kendall's tau-b; NaN where x or y is constant."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(stats.kendalltau(x, y).statistic)


def rank_correlation(
    x: ArrayLike,
    y: ArrayLike,
    *,
    kind: Kind,
    generator: np.random.Generator,
    level: float = 0.95,
    resamples: int = 10_000,
) -> Interval:
    """Computes Spearman's rho or Kendall's tau-b with a percentile bootstrap interval over pairs.

    A resample in which all x or all y are equal has no correlation and is left out. At level 0.95 the interval covered
    the true correlation in 94 to 98 % of samples of 20 or 50 bivariate normal pairs of correlation 0, 0.5 and 0.8; the
    BCa interval did in 95 to 98 %, and was no narrower.

    Args:
        x: [n].
        y: [n].
        kind: which of the two.
        generator: source of the draws.
        level: of confidence, in (0, 1).
        resamples: number of bootstrap draws; time and memory grow with n^2.

    Returns:
        The correlation and its interval: all NaN where x or y is constant, the ends NaN where x or y is constant in
        every resample.

    Raises:
        ValueError: x and y are not of one length, are empty or have a number that is not finite, `kind` is neither,
            `resamples` is less than 1 or `level` is not in (0, 1).
    """
    first, second = finite_numbers(x), finite_numbers(y)
    if first.size != second.size:
        raise ValueError(f"x and y must have one length, not {first.size} and {second.size}.")
    if kind not in ("spearman", "kendall"):
        raise ValueError(f"A rank correlation is spearman or kendall, not {kind}.")
    tail, n = tail_of(level), first.size
    portions = _portions(resamples, numbers_each=n)
    correlate = _spearman if kind == "spearman" else _kendall
    orders = _comparisons(first), _comparisons(second)
    estimate = float(correlate(np.ones((1, n)), *orders)[0])
    if np.isnan(estimate):
        return Interval(np.nan, np.nan, np.nan)
    even = np.full(n, 1 / n)
    draws = [correlate(generator.multinomial(n, even, size=rows).astype(float), *orders) for rows in portions]
    return _percentile(estimate, np.concatenate(draws), tail)


def _comparisons(numbers: Float64) -> Float64:
    """Returns the sign of numbers[i] - numbers[j], [n, n], from which ranks follow."""
    return (numbers[:, None] > numbers).astype(float) - (numbers[:, None] < numbers)


def _spearman(times: Float64, x: Float64, y: Float64) -> Float64:
    """Returns Spearman's rho of samples that hold pair i `times` [rows, n] times; x and y are `_comparisons`.

    The number of entries of a sample below i, less that of entries above, is twice the distance of i's rank from the
    mean rank.
    """
    rank_x, rank_y = times @ x.T, times @ y.T
    return _ratio(*((times * product).sum(axis=1) for product in (rank_x * rank_y, rank_x**2, rank_y**2)))


def _kendall(times: Float64, x: Float64, y: Float64) -> Float64:
    """Returns Kendall's tau-b (Kendall 1945) of the same samples.

    It is the number of concordant pairs less that of discordant ones, over the geometric mean of the numbers of pairs
    that are not tied in x and in y.
    """
    return _ratio(*(((times @ product) * times).sum(axis=1) for product in (x * y, x**2, y**2)))


def _ratio(xy: Float64, xx: Float64, yy: Float64) -> Float64:
    """Returns xy / sqrt(xx yy), NaN where x or y is constant; exactly 1 for equal order, as all are whole numbers."""
    scale = np.sqrt(xx * yy)
    result: Float64 = np.divide(xy, scale, out=np.full_like(scale, np.nan), where=scale > 0)
    return result


# Common parts


def finite_numbers(values: ArrayLike) -> Float64:
    """Returns the values as float64 [n].

    Raises:
        ValueError: they are not one-dimensional, there is none, or one is not finite.
    """
    numbers = np.asarray(values, dtype=float)
    if numbers.ndim != 1 or numbers.size == 0 or not np.isfinite(numbers).all():
        raise ValueError("Values must be a list of at least one number, all finite.")
    return numbers


def tail_of(level: float) -> float:
    """Returns the probability beyond each end of an interval, (1 - level) / 2.

    Raises:
        ValueError: `level` is not in (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"The level must lie between 0 and 1, not {level}.")
    return (1 - level) / 2


def _portions(resamples: int, *, numbers_each: int) -> list[int]:
    """Splits the resamples into portions whose arrays stay small; returns the size of each."""
    if resamples < 1:
        raise ValueError(f"There must be a resample, not {resamples}.")
    rows = max(1, _NUMBERS_AT_ONCE // numbers_each)
    return [min(rows, resamples - start) for start in range(0, resamples, rows)]


def _percentile(estimate: float, draws: Float64, tail: float) -> Interval:
    """Returns the percentile interval of the draws that are not NaN, widened to contain the estimate if needed."""
    known = draws[~np.isnan(draws)]
    if known.size == 0:
        return Interval(estimate, np.nan, np.nan)
    low, high = np.quantile(known, [tail, 1 - tail])
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate))
