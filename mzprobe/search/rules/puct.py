"""PUCT: the rule of MuZero.

At a node it picks the action with the largest (the paper's Eq. 2; MuZero, appendix B)

    Q'(s, a) + P(s, a) sqrt(N(s)) / (1 + N(s, a)) * (c1 + log((N(s) + c2 + 1) / c2))

where Q'(s, a) is r + gamma V(child), scaled by the smallest and largest Q seen in the tree. For an unvisited action it
is 0, or the value that EfficientZero assumes (`mean_of_tried`). N(s) counts the visit that expanded s, unless
configured otherwise. Ties up to rounding are broken by a lot of root, node and action (`lots.py`), unless configured
otherwise: with the lowest action, as in the plain rule, a uniform prior would leave the same actions for last at every
node.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mzprobe import libm
from mzprobe._kernel import inlined
from mzprobe.search.rules.selection import Selection, wins
from mzprobe.search.tree import ILLEGAL, Forest

Float64 = NDArray[np.float64]


@lru_cache(maxsize=64)
def exploration_table(simulations: int, *, c1: float, c2: float, expansion: bool = True) -> Float64:
    """Returns sqrt(N) (c1 + log((N + c2 + 1) / c2)) by a node's visits 0 .. simulations + 1; cached, hence read-only.

    Args:
        simulations: simulations per search.
        c1: weight of the prior.
        c2: visits at which that weight begins to grow.
        expansion: whether N counts the visit that expanded the node.
    """
    N = np.arange(simulations + 2, dtype=np.float64)
    if not expansion:
        N = np.maximum(N - 1, 0.0)
    table = np.asarray(np.sqrt(N) * (c1 + libm.log((N + c2 + 1) / c2)))
    table.setflags(write=False)
    return table


@inlined
def puct_root(forest: Forest, b: int, selection: Selection) -> None:
    """Mixes the noise into the root's prior.

    Illegal actions get no noise; the rest is renormalised, as if drawn from a Dirichlet over the legal actions. With a
    small alpha, all noise may have fallen on illegal actions; then the legal one that wins ties at the root gets it.
    """
    if selection.noise.shape[0] == 0:
        return
    total = 0.0
    illegal = 0
    drawn = -1
    for a in range(forest.edges.shape[2]):
        if forest.edges[b, 0, a].child == ILLEGAL:
            illegal += 1
        else:
            total += selection.noise[b, a]
            if drawn < 0 or wins(selection, b, 0, a, 0.0, drawn, 0.0):
                drawn = a
    for a in range(forest.edges.shape[2]):
        prior, noise = forest.edges[b, 0, a].prior, selection.noise[b, a]
        if illegal > 0:
            if forest.edges[b, 0, a].child == ILLEGAL:
                noise = 0.0
            elif total > 0:
                noise /= total
            else:
                noise = 1.0 if a == drawn else 0.0
        forest.edges[b, 0, a].prior = (1 - selection.fraction) * prior + selection.fraction * noise


@inlined
def puct_walk(forest: Forest, b: int, selection: Selection) -> tuple[int, int]:
    """Walks tree b down to an untried action; returns the node and that action."""
    low = forest.bounds[b, 0]
    scale = 1.0 / max(forest.bounds[b, 1] - low, selection.floor)
    node = 0
    mean = 0.0
    while True:
        untried = 0.0
        if selection.mean:
            mean = mean_of_tried(forest, b, node, mean)
            if np.isfinite(low):
                untried = min(max((mean - low) * scale, 0.0), 1.0)
        chosen = puct_choice(forest, b, node, low, scale, untried, selection)
        following = forest.edges[b, node, chosen].child
        if following < 0:
            return node, chosen
        node = following


@inlined
def mean_of_tried(forest: Forest, b: int, node: int, of_parent: float) -> float:
    """Returns the Q that EfficientZero assumes for an untried action (Ye et al. 2021, its published code): a mean of Q.

    At the root it is the mean over the actions tried there, 0 if there are none. Below the root, the parent's mean
    `of_parent` counts as one more of them.
    """
    total, count = of_parent, 1
    if node == 0:
        total, count = 0.0, 0
    for a in range(forest.edges.shape[2]):
        if forest.edges[b, node, a].visits > 0:
            total += forest.edges[b, node, a].q
            count += 1
    return total / count if count > 0 else 0.0


@inlined
def puct_choice(
    forest: Forest, b: int, node: int, low: float, scale: float, untried: float, selection: Selection
) -> int:
    """Returns the action to try next at a node.

    `low` is the tree's smallest Q and `scale` the inverse of its range of Q. An untried action has the scaled Q
    `untried`.
    """
    exploration = selection.table[forest.nodes[b, node].visits]
    best = -np.inf
    chosen = 0
    for a in range(forest.edges.shape[2]):
        if forest.edges[b, node, a].child != ILLEGAL:
            n = forest.edges[b, node, a].visits
            score = forest.edges[b, node, a].prior * exploration / (1 + n)
            if n > 0:
                score += (forest.edges[b, node, a].q - low) * scale
            else:
                score += untried
            if wins(selection, b, node, a, score, chosen, best):
                chosen = a
            best = max(best, score)
    return chosen
