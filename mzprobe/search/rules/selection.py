"""The settings of a rule as kernels read them, and how the best of several scores is found."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mzprobe._kernel import inlined
from mzprobe.search.lots import lot

Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]
UInt64 = NDArray[np.uint64]

# Scores (of order 1) that are closer than this differ only by the rounding of sums added in another order.
_SAME = 1e-9


class Selection(NamedTuple):
    """A rule for one batch of searches, as the kernels read it. Arrays that the rule does not use are empty."""

    gumbel: bool  # whether the rule is Gumbel's, else PUCT
    floor: float  # smallest divisor of a normalisation of Q, environment units
    ties: UInt64  # [B], keys of the lots; [0] where ties go to the lowest action
    table: Float64  # [N + 2], PUCT: weight of the prior by N(s)
    noise: Float64  # [B, A], PUCT: noise of the root priors; [0, A] for none
    fraction: float  # PUCT: share of the noise in the root prior
    mean: bool  # PUCT: whether an untried action gets a mean of those tried, else the least seen
    considered: Int32  # [A + 1, N], Gumbel: visits that a root action must have, by number of legal actions
    scores: Float64  # [B, A], Gumbel: Gumbel numbers, to which the roots' log-priors are added
    visit_offset: float  # Gumbel: c_visit
    q_scale: float  # Gumbel: c_scale
    whole_tree: bool  # Gumbel: whether Q is scaled by the range of the tree, else by that of its node
    scratch: Float64  # [A], Gumbel: memory for an improved policy


@inlined
def wins(selection: Selection, b: int, node: int, a: int, score: float, chosen: int, best: float) -> bool:
    """Whether action `a` replaces the one chosen so far; ties are drawn by lot, or go to the lowest action."""
    tied = selection.ties.size > 0 and abs(score - best) <= _SAME
    if tied:
        return bool(lot(selection.ties[b], node, a) > lot(selection.ties[b], node, chosen))
    return score > best
