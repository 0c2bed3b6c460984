"""Tests with the agent (seed) as the unit, by flipping signs: p-values, intervals that belong to them, many cells."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mzprobe.stats import Interval, finite_numbers, tail_of

Float64 = NDArray[np.float64]
Alternative = Literal["two-sided", "greater", "less"]

SIGN_PATTERNS = 2**15  # all are enumerated up to here (15 agents), so many are sampled beyond
_ROUNDING = 1e-9  # statistics of order 1 that differ by less are equal


def sign_flip(
    differences: ArrayLike, *, generator: np.random.Generator, alternative: Alternative = "two-sided"
) -> float:
    """p-value of the paired sign-flip permutation test that the mean difference is 0.

    If the two of a pair are alike, then every difference is as likely with the other sign. For at most 15 agents all
    2^n patterns of signs are enumerated, and p is exact; else 2^15 are sampled, and the pattern that was seen counts as
    one more. The two-sided p is twice the smaller of the one-sided ones, at most 1. See `smallest_p`. Sums that
    differ by less than 2e-12 of the sum of magnitudes count as tied.

    Args:
        differences: [n], one an agent.
        generator: source of the sampled patterns.
        alternative: of the mean difference: not 0, greater or less.

    Raises:
        ValueError: there is no difference, one is not finite, or there is no such alternative.
    """
    numbers = finite_numbers(differences)
    if alternative not in ("two-sided", "greater", "less"):
        raise ValueError(f"The alternative is two-sided, greater or less, not {alternative}.")
    sums = _flips(numbers.size, generator) @ numbers  # a pattern changes the sum by -2 times that of those it flips
    near = 1e-12 * np.abs(numbers).sum()
    greater, less = float(np.mean(sums <= near)), float(np.mean(sums >= -near))
    return {"greater": greater, "less": less, "two-sided": min(1.0, 2 * min(greater, less))}[alternative]


def sign_flip_interval(differences: ArrayLike, *, generator: np.random.Generator, level: float = 0.95) -> Interval:
    """Mean difference with the interval of all means that `sign_flip` does not reject at 1 - level.

    A mean m is rejected by how many sets of agents have a mean on its wrong side (Hartigan 1969): the ends are order
    statistics of the means of all sets of agents, so the interval stays where the differences lie, and it contains 0
    exactly where p is above 1 - level, given generators that draw alike. Agents too few to reject any mean have no
    interval: the ends are NaN, below 6 agents at level 0.95.

    Args:
        differences: [n], one an agent.
        generator: source of the sampled patterns.
        level: of confidence, in (0, 1).

    Raises:
        ValueError: there is no difference, one is not finite, or `level` is not in (0, 1).
    """
    numbers = finite_numbers(differences)
    tail = tail_of(level)
    flips = _flips(numbers.size, generator)
    sums, counts = flips @ numbers, flips.sum(axis=1)
    means = np.sort(sums[counts > 0] / counts[counts > 0])
    # Those with an empty set count on either side: m is kept where 1 + (means <= m) > tail * patterns.
    never = sums.size - means.size
    rank = int(np.floor(tail * sums.size + _ROUNDING)) - never
    if rank < 0:
        return Interval(float(numbers.mean()), np.nan, np.nan)
    return Interval(float(numbers.mean()), float(means[rank]), float(means[means.size - 1 - rank]))


def worst_sign_flip(effects: ArrayLike, *, generator: np.random.Generator) -> tuple[int, float]:
    """Is any of several cells, measured on the same agents, below 0? Agents are flipped (Westfall and Young 1993).

    A cell's statistic is its sum over the root of its sum of squares, which no flip changes. p is the share of patterns
    of signs, one sign an agent in all cells, whose smallest statistic is no larger than the one seen: it is adjusted
    for the number of cells, whatever they have in common. Enumerated and sampled as in `sign_flip`.

    Args:
        effects: [agents, cells], one number an agent and cell.
        generator: source of the sampled patterns.

    Returns:
        The cell of the smallest statistic, and its two-sided p: twice the share, at most 1.

    Raises:
        ValueError: `effects` is not two-dimensional, is empty or has a number that is not finite.
    """
    numbers = np.asarray(effects, dtype=float)
    if numbers.ndim != 2 or numbers.size == 0 or not np.isfinite(numbers).all():
        raise ValueError("Effects must be [agents, cells], at least one of each, all finite.")
    agents = len(numbers)
    scale = np.sqrt((numbers**2).sum(axis=0))
    scaled = np.divide(numbers, scale, out=np.zeros_like(numbers), where=scale > 0)
    patterns = 1.0 - 2.0 * _flips(agents, generator)
    seen = scaled.sum(axis=0)
    smallest = (patterns @ scaled).min(axis=1)
    share = np.mean(smallest <= seen.min() + _ROUNDING)
    return int(seen.argmin()), float(min(1.0, 2 * share))


def smallest_p(agents: int) -> float:
    """The smallest two-sided p that `sign_flip` can give: 2 / 2^agents, and beyond 15 agents 2 / (2^15 + 1).

    It is reached where all differences have the same sign. Five agents cannot reach 0.05: 2 / 2^5 = 0.0625.

    Raises:
        ValueError: there is no agent.
    """
    if agents < 1:
        raise ValueError(f"There must be an agent, not {agents}.")
    return 2.0 / (2**agents if 2**agents <= SIGN_PATTERNS else SIGN_PATTERNS + 1)


def holm(p: ArrayLike) -> Float64:
    """Holm's step-down adjusted p-values (Holm 1979), in the order given.

    The i-th smallest of m is multiplied by m - i + 1, is at least the one before it, and at most 1.

    Args:
        p: [m]; NaN is no test: it stays NaN and is not counted in m.

    Raises:
        ValueError: `p` is not one-dimensional, or a number is not in [0, 1].
    """
    adjusted = np.array(p, dtype=float)
    known = np.flatnonzero(~np.isnan(adjusted))
    if adjusted.ndim != 1 or not np.all((adjusted[known] >= 0) & (adjusted[known] <= 1)):
        raise ValueError("p-values must be a list of numbers in [0, 1] or NaN.")
    order = known[np.argsort(adjusted[known])]
    factors = np.arange(order.size, 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(adjusted[order] * factors), 1)
    return adjusted


def _flips(agents: int, generator: np.random.Generator) -> Float64:
    """Patterns of signs `[patterns, agents]`, 1 where one is flipped: all of them, or the one that was seen and draws.

    The first pattern flips none.
    """
    if 2**agents <= SIGN_PATTERNS:
        return ((np.arange(2**agents)[:, None] >> np.arange(agents)) & 1).astype(float)
    drawn = generator.integers(2, size=(SIGN_PATTERNS, agents)).astype(float)
    return np.concatenate([np.zeros((1, agents)), drawn])
