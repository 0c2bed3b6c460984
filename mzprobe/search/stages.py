"""The stages of a search over whole trees: plant, select, and expand with backup."""

import numpy as np
from numpy.typing import NDArray

from mzprobe._kernel import borrowing, kernel
from mzprobe.search.rules.gumbel import gumbel_root, gumbel_walk
from mzprobe.search.rules.puct import puct_root, puct_walk
from mzprobe.search.rules.selection import Selection
from mzprobe.search.tree import Forest, backup, expand, forbid

Bool = NDArray[np.bool_]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]


@borrowing
def plant(forest: Forest, first: int, value: Float64, selection: Selection, legal: Bool) -> None:
    """Prepares the roots of trees `first`, `first + 1`, ... for a search by a rule.

    Records each root's first visit and its value, masks illegal actions, and lets the rule prepare the root
    (`puct_root` or `gumbel_root`).

    Args:
        forest: trees whose roots have their priors in place.
        first: first tree; there are as many trees as values.
        value: values of the roots.
        selection: the rule.
        legal: legal actions of all roots, `[B, A]`, or `[0, A]` where all are legal.
    """
    for i in range(value.size):
        b = first + i
        forest.nodes[b, 0].visits = 1
        forest.nodes[b, 0].value = value[i]
        forest.nodes[b, 0].value_sum = value[i]
        if legal.shape[0] > 0:
            forbid(forest, b, 0, legal[b])
        if selection.gumbel:
            gumbel_root(forest, b, selection)
        else:
            puct_root(forest, b, selection)


@borrowing
def select(forest: Forest, first: int, selection: Selection, nodes: Int32, actions: Int32) -> None:
    """Walks trees `first`, `first + 1`, ... down to untried actions; fills in the nodes and those actions."""
    if selection.gumbel:
        for i in range(nodes.size):
            nodes[i], actions[i] = gumbel_walk(forest, first + i, selection)
    else:
        for i in range(nodes.size):
            nodes[i], actions[i] = puct_walk(forest, first + i, selection)


@kernel
def expand_all(
    forest: Forest,
    slot: int,
    nodes: Int32,
    actions: Int32,
    reward: Float64,
    discount: Float64,
    prior: Float64,
    value: Float64,
    legal: Bool,
) -> None:
    """Expands slot `slot` of every tree and backs its value up.

    Arrays are `[B]`, prior and legal `[B, A]`; legal is `[0, A]` where all actions are legal.
    """
    for b in range(nodes.size):
        expand(forest, b, slot, nodes[b], actions[b], reward[b], discount[b])
        for a in range(prior.shape[1]):
            forest.edges[b, slot, a].prior = prior[b, a]
        if legal.shape[0] > 0:
            forbid(forest, b, slot, legal[b])
        backup(forest, b, slot, value[b])
