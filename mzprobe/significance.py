"""Tests with the agent (seed) as the unit, by flipping signs: p-values, intervals that belong to them, many cells."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mzprobe.stats import Interval, finite_numbers, tail_of

Float64 = NDArray[np.float64]
Alternative = Literal["two-sided", "greater", "less"]

SIGN_PATTERNS = 2**15  # all are enumerated up to here (15 agents), so many are sampled beyond
_ROUNDING = 1e-9  # statistics of order 1 that differ by less are equal
_NEAR = 1e-12  # of the sum of magnitudes: sums that are nearer to 0 are ties


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
    greater, less = _shares(sums, near=_NEAR * np.abs(numbers).sum())
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
    flips = _flips(numbers.size, generator)
    return Interval(float(numbers.mean()), *_interval(flips @ numbers, flips.sum(axis=1), tail=tail_of(level)))


def sign_flip_least(
    rows: Sequence[ArrayLike], *, generator: np.random.Generator, level: float = 0.95
) -> tuple[Interval, float]:
    """Is the effect of the rival with the smallest one above 0, whichever rival that truly is? Averaged over rows.

    The rivals of the estimate are chosen by the numbers that are tested: in each row the one of the smallest mean over
    agents. Tested alone, a steady rival may be chosen in place of a noisy one that truly has the smaller effect, and p
    is too small. Here each set of agents chooses its own rivals, and the set's smallest means take the place of its
    mean in `sign_flip` and in the lower end of `sign_flip_interval`. No choice of rivals gives a set a smaller mean, so
    p of a positive effect is at least that of `sign_flip` for every choice (an intersection-union test, Berger 1982, on
    the safe side). The estimate, the upper end and p of a negative effect are those of the chosen rivals, too small by
    chance: a negative effect says nothing.

    Args:
        rows: [agents, rivals] for each row, one effect each; the same agents in all, rivals as many as there are.
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


def _shares(sums: Float64, *, near: float) -> tuple[float, float]:
    """The shares of sets of agents whose sums are not above and not below 0; those within `near` of it are neither."""
    return float(np.mean(sums <= near)), float(np.mean(sums >= -near))


def _interval(sums: Float64, counts: Float64, *, tail: float) -> tuple[float, float]:
    """Both ends, order statistics of the means of sets of agents, given their sums and sizes `[patterns]`."""
    means = np.sort(sums[counts > 0] / counts[counts > 0])
    # Those with an empty set count on either side: m is kept where 1 + (means <= m) > tail * patterns.
    never = sums.size - means.size
    rank = int(np.floor(tail * sums.size + _ROUNDING)) - never
    if rank < 0:
        return np.nan, np.nan
    return float(means[rank]), float(means[means.size - 1 - rank])


def _flips(agents: int, generator: np.random.Generator) -> Float64:
    """Patterns of signs `[patterns, agents]`, 1 where one is flipped: all of them, or the one that was seen and draws.

    The first pattern flips none.
    """
    if 2**agents <= SIGN_PATTERNS:
        return ((np.arange(2**agents)[:, None] >> np.arange(agents)) & 1).astype(float)
    drawn = generator.integers(2, size=(SIGN_PATTERNS, agents)).astype(float)
    return np.concatenate([np.zeros((1, agents)), drawn])
