"""Sign-flip tests with the agent (seed) as the unit: p-values, their intervals, and tests of many cells."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mzprobe.stats import Interval, finite_numbers, tail_of

Float64 = NDArray[np.float64]
Alternative = Literal["two-sided", "greater", "less"]

SIGN_PATTERNS = 2**15  # patterns enumerated at most (15 agents); with more agents, number of patterns sampled
_ROUNDING = 1e-9  # statistics of order 1 that differ by less count as equal
_NEAR = 1e-12  # fraction of the sum of magnitudes; sums nearer to 0 count as ties


def sign_flip(
    differences: ArrayLike, *, generator: np.random.Generator, alternative: Alternative = "two-sided"
) -> float:
    """Returns the p-value of the paired sign-flip permutation test of the hypothesis that the mean difference is 0.

    Under the hypothesis the members of a pair are exchangeable, so each difference is as likely with the other sign.
    For at most 15 agents all 2^n patterns of signs are enumerated, and p is exact. For more, 2^15 patterns are sampled,
    and the observed one counts as one more. The two-sided p is twice the smaller one-sided p, at most 1. Sums that
    differ by less than 2e-12 of the sum of magnitudes count as tied. See also `smallest_p`.

    Args:
        differences: [n], one per agent.
        generator: source of the sampled patterns.
        alternative: hypothesis about the mean difference: not 0, greater than 0, or less than 0.

    Raises:
        ValueError: there is no difference, one is not finite, or there is no such alternative.
    """
    numbers = finite_numbers(differences)
    if alternative not in ("two-sided", "greater", "less"):
        raise ValueError(f"The alternative is two-sided, greater or less, not {alternative}.")
    sums = _flips(numbers.size, generator) @ numbers  # flipping a set changes the total by -2 times the set's sum
    greater, less = _shares(sums, near=_NEAR * np.abs(numbers).sum())
    return {"greater": greater, "less": less, "two-sided": min(1.0, 2 * min(greater, less))}[alternative]


def sign_flip_interval(differences: ArrayLike, *, generator: np.random.Generator, level: float = 0.95) -> Interval:
    """Returns the mean difference with the interval of all means that `sign_flip` does not reject at 1 - level.

    Whether a mean m is rejected depends on how many sets of agents have a mean on its wrong side (Hartigan 1969). The
    ends are therefore order statistics of the means of all sets of agents, so the interval lies within the range of the
    differences, and it contains 0 exactly where p is above 1 - level, given generators in the same state. With too few
    agents to reject any mean (fewer than 6 at level 0.95) the ends are NaN.

    Args:
        differences: [n], one per agent.
        generator: source of the sampled patterns.
        level: of confidence, in (0, 1).

    Raises:
        ValueError: there is no difference, one is not finite, or `level` is not in (0, 1).
    """
    numbers = finite_numbers(differences)
    flips = _flips(numbers.size, generator)
    return Interval(float(numbers.mean()), *_interval(flips @ numbers, flips.sum(axis=1), tail=tail_of(level)))


def sign_flip_least(
    rows: Sequence[ArrayLike], *, generator: np.random.Generator, level: float = 0.95
) -> tuple[Interval, float]:
    """Tests whether the smallest effect among rivals, averaged over rows, is above 0, whichever rival truly has it.

    The rivals of the estimate are chosen with the data that are tested: in each row the one with the smallest mean over
    agents. If it alone were tested, a steady rival might be chosen instead of a noisy one that truly has the smaller
    effect, and p would be too small. Here each set of agents chooses its own rivals, and the mean of its smallest means
    replaces its mean in `sign_flip` and in the lower end of `sign_flip_interval`. No choice of rivals gives a set a
    smaller mean, so p of a positive effect is at least that of `sign_flip` for every choice (an intersection-union
    test, Berger 1982, which is conservative). The estimate, the upper end and p of a negative effect are those of the
    chosen rivals and too small by selection, so a negative effect is no evidence.

    Args:
        rows: one [agents, rivals] array of effects per row; the agents are the same in all rows, the number of rivals
            may differ.
        generator: source of the sampled patterns.
        level: of confidence, in (0, 1).

    Returns:
        Mean over rows of the smallest mean over agents, with its interval, and the two-sided p.

    Raises:
        ValueError: there is no row, a row is not [agents, rivals] with one of each, agents differ between rows, a
            number is not finite, or `level` is not in (0, 1).
    """
    effects = [np.asarray(row, dtype=float) for row in rows]
    if not effects or any(row.ndim != 2 or row.size == 0 or not np.isfinite(row).all() for row in effects):
        raise ValueError("Each row must be [agents, rivals], at least one of each, all finite, and there must be one.")
    if len({len(row) for row in effects}) > 1:
        raise ValueError("All rows must have the same agents.")
    tail, flips = tail_of(level), _flips(len(effects[0]), generator)
    chosen = np.mean([row[:, row.mean(axis=0).argmin()] for row in effects], axis=0)
    least = np.mean([(flips @ row).min(axis=1) for row in effects], axis=0)  # [patterns], of each set's own rivals
    near = _NEAR * max(float(np.abs(row).sum(axis=0).max()) for row in effects)
    sums, counts = flips @ chosen, flips.sum(axis=1)
    p = 2 * min(_shares(least, near=near)[0], _shares(sums, near=near)[1])
    (low, _), (_, high) = (_interval(some, counts, tail=tail) for some in (least, sums))
    return Interval(float(chosen.mean()), low, high), min(1.0, p)


def worst_sign_flip(effects: ArrayLike, *, generator: np.random.Generator) -> tuple[int, float]:
    """Tests whether any of several cells, measured on the same agents, is below 0 (Westfall and Young 1993).

    The statistic of a cell is its sum over the root of its sum of squares, which no flip changes. An agent has the same
    sign in all cells. The share of patterns of signs whose smallest statistic is no larger than the observed one is
    adjusted for the number of cells, however they depend on each other. Patterns are enumerated or sampled as in
    `sign_flip`.

    Args:
        effects: [agents, cells], one number per agent and cell.
        generator: source of the sampled patterns.

    Returns:
        The index of the cell with the smallest statistic, and its two-sided p: twice the share, at most 1.

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
    """Returns the smallest two-sided p that `sign_flip` can return: 2 / 2^agents, beyond 15 agents 2 / (2^15 + 1).

    It is reached where all differences have the same sign. Five agents cannot reach 0.05: 2 / 2^5 = 0.0625.

    Raises:
        ValueError: there is no agent.
    """
    if agents < 1:
        raise ValueError(f"There must be an agent, not {agents}.")
    return 2.0 / (2**agents if 2**agents <= SIGN_PATTERNS else SIGN_PATTERNS + 1)


def holm(p: ArrayLike) -> Float64:
    """Returns Holm's step-down adjusted p-values (Holm 1979), in the order given.

    The i-th smallest of m is multiplied by m - i + 1, then raised to at least its predecessor, and is at most 1.

    Args:
        p: p-values; NaN stands for no test, stays NaN and is not counted in m.

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


def _shares(sums: Float64, *, near: float) -> tuple[float, float]:
    """Returns the shares of sums that are not above 0 and not below 0; sums within `near` of 0 count in both."""
    return float(np.mean(sums <= near)), float(np.mean(sums >= -near))


def _interval(sums: Float64, counts: Float64, *, tail: float) -> tuple[float, float]:
    """Returns both ends: order statistics of the means of sets of agents, given their sums and sizes `[patterns]`."""
    means = np.sort(sums[counts > 0] / counts[counts > 0])
    # Empty sets count on both sides: m is kept where (empty sets) + (means <= m) > tail * patterns.
    never = sums.size - means.size
    rank = int(np.floor(tail * sums.size + _ROUNDING)) - never
    if rank < 0:
        return np.nan, np.nan
    return float(means[rank]), float(means[means.size - 1 - rank])


def _flips(agents: int, generator: np.random.Generator) -> Float64:
    """Returns patterns of signs `[patterns, agents]`, 1 where an agent is flipped: all, or the observed one and draws.

    The first pattern is the observed one, which flips no agent.
    """
    if 2**agents <= SIGN_PATTERNS:
        return ((np.arange(2**agents)[:, None] >> np.arange(agents)) & 1).astype(float)
    drawn = generator.integers(2, size=(SIGN_PATTERNS, agents)).astype(float)
    return np.concatenate([np.zeros((1, agents)), drawn])
