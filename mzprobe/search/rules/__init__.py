"""Search rules: how the root is prepared, which action is tried next, and what to play and to learn after a search."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mzprobe.config import SearchConfig
from mzprobe.search.rules.gumbel import considered_table, gumbel_results
from mzprobe.search.rules.puct import exploration_table
from mzprobe.search.rules.regularised import multiplier, regularised
from mzprobe.search.rules.selection import Selection
from mzprobe.search.tree import ILLEGAL, Forest, Tree, arrays_of

Float64 = NDArray[np.float64]
UInt64 = NDArray[np.uint64]

__all__ = ["Improved", "Selection", "improved_by", "noise_for", "noise_of_roots", "pi_bar", "selection_for"]


class Improved(NamedTuple):
    """Policies that a rule derives at the roots, `[B, A]`; None where the visits serve."""

    policy: Float64 | None  # improved policy, to be learned
    winner: Float64 | None  # one-hot, the action to play where no temperature is asked for
    worth: Float64 | None = None  # [B], value of `policy` under completed Q; None where the visit mean serves


def noise_for(config: SearchConfig, generator: np.random.Generator | None, shape: tuple[int, int]) -> Float64:
    """Draws the root noise of a rule, `[B, A]`; returns `[0, A]` without a generator."""
    B, A = shape
    if generator is None:
        return np.zeros((0, A))
    if config.rule == "gumbel":
        return generator.gumbel(size=shape)
    return generator.dirichlet(np.full(A, config.dirichlet_alpha), size=B)


def noise_of_roots(config: SearchConfig, keys: UInt64, num_actions: int) -> Float64:
    """Draws the root noise of a rule, `[B, A]`, for each root by its own key."""
    drawn = [noise_for(config, np.random.Generator(np.random.PCG64(int(key))), (1, num_actions)) for key in keys]
    return np.concatenate(drawn)


def selection_for(
    config: SearchConfig, *, floor: float, ties: UInt64, shape: tuple[int, int], noise: Float64
) -> Selection:
    """Returns the rule that a configuration names, as the kernels read it.

    Args:
        config: configuration of the search.
        floor: smallest divisor of the Q normalisation, in environment units.
        ties: keys of the lots, `[B]`, or `[0]` where ties go to the lowest action.
        shape: B and A.
        noise: noise from `noise_for` or `noise_of_roots`.
    """
    by_gumbel, none = config.rule == "gumbel", np.zeros((0, shape[1]))
    expansion = config.node_visits == "all"
    table = np.zeros(0)
    if not by_gumbel:
        table = exploration_table(config.simulations, c1=config.c1, c2=config.c2, expansion=expansion)
    considered, scores = np.zeros((0, 0), np.int32), none
    if by_gumbel:
        considered = considered_table(shape[1], config.simulations, config.considered)
        scores = noise.copy() if len(noise) else np.zeros(shape)  # a copy: the kernels add to it
    return Selection(
        gumbel=by_gumbel,
        floor=floor,
        ties=ties,
        table=table,
        noise=none if by_gumbel else noise,
        fraction=config.dirichlet_fraction,
        mean=config.untried == "mean",
        considered=considered,
        scores=scores,
        visit_offset=config.c_visit,
        q_scale=config.c_scale,
        whole_tree=config.q_range == "tree",
        scratch=np.zeros(shape[1]),
    )


def improved_by(config: SearchConfig, forest: Forest, selection: Selection) -> Improved:
    """Returns the policies that the rule derives from searched trees."""
    if config.rule == "puct":
        return Improved(None, None)
    if config.rule == "regularised":
        return Improved(pi_bar(config, arrays_of(forest), selection.floor), None)
    shape = forest.edges[:, 0].shape
    policy, winner, worth = np.empty(shape), np.empty(shape), np.empty(shape[0])
    gumbel_results(forest, selection, policy, winner, worth)
    return Improved(policy, winner, worth)


def pi_bar(config: SearchConfig, tree: Tree, floor: float) -> Float64:
    """Returns the regularised policy of the roots of trees that PUCT has grown, `[B, A]`."""
    low, high = tree.bounds[:, :1], tree.bounds[:, 1:]
    visits, scale = tree.edge_visits[:, 0], np.maximum(high - low, floor)
    untried = np.zeros_like(low)
    if config.untried == "mean":  # the same as `mean_of_tried` at a root
        count = (visits > 0).sum(axis=1, keepdims=True)
        mean = np.where(visits > 0, tree.q[:, 0], 0.0).sum(axis=1, keepdims=True) / np.maximum(count, 1)
        untried = np.where(np.isfinite(low), np.clip((mean - low) / scale, 0.0, 1.0), 0.0)
    q = np.where(visits > 0, (tree.q[:, 0] - low) / scale, untried)
    legal = (tree.child[:, 0] != ILLEGAL).sum(axis=1)
    lambdas = multiplier(visits.sum(axis=1).astype(np.float64), legal.astype(np.float64), config)
    return regularised(tree.prior[:, 0].copy(), q, lambdas)
