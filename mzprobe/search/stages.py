"""The stages of a search on whole trees: plant, select, and expand with backup."""

import numpy as np
from numpy.typing import NDArray

from mzprobe._kernel import inlined, kernel
from mzprobe.search.rules.gumbel import gumbel_choice, gumbel_root
from mzprobe.search.rules.puct import puct_choice, puct_root
from mzprobe.search.rules.selection import Selection
from mzprobe.search.tree import Tree, backup, expand, forbid

Bool = NDArray[np.bool_]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]


@inlined
def plant(tree: Tree, b: int, value: float, selection: Selection, legal: Bool) -> None:
    """Counts the visit that expanded the root, whose prior is in place, and hands it to the rule.

    `legal` is `[B, A]`, or `[0, A]` where all actions are.
    """
    tree.visits[b, 0] = 1
    tree.value[b, 0] = value
    tree.value_sum[b, 0] = value
    if legal.shape[0] > 0:
        forbid(tree, b, 0, legal[b])
    if selection.gumbel:
        gumbel_root(tree, b, selection)
    else:
        puct_root(tree, b, selection)


@inlined
def select(tree: Tree, b: int, selection: Selection) -> tuple[int, int]:
    """Walks tree b down to an untried action; gives the node and that action."""
    scale = 1.0 / max(tree.bounds[b, 1] - tree.bounds[b, 0], selection.floor)
    node = 0
    chosen = 0
    while True:
        if selection.gumbel:
            chosen = gumbel_choice(tree, b, node, selection)
        else:
            chosen = puct_choice(tree, b, node, scale, selection)
        following = tree.child[b, node, chosen]
        if following < 0:
            break
        node = following
    return node, chosen


@kernel
def plant_all(tree: Tree, prior: Float64, value: Float64, selection: Selection, legal: Bool) -> None:
    """Roots of all trees: prior `[B, A]`, value `[B]`, legal `[B, A]` or `[0, A]`."""
    tree.prior[:, 0] = prior
    for b in range(value.size):
        plant(tree, b, value[b], selection, legal)


@kernel
def select_all(tree: Tree, selection: Selection, nodes: Int32, actions: Int32) -> None:
    """Fills nodes `[B]` and actions `[B]` with each tree's next expansion."""
    for b in range(nodes.size):
        nodes[b], actions[b] = select(tree, b, selection)


@kernel
def backup_all(
    tree: Tree,
    slot: int,
    nodes: Int32,
    actions: Int32,
    reward: Float64,
    discount: Float64,
    prior: Float64,
    value: Float64,
    legal: Bool,
) -> None:
    """Expands slot `slot` of every tree and backs its value up; arrays are `[B]`, prior and legal as in `plant_all`."""
    for b in range(nodes.size):
        expand(tree, b, slot, nodes[b], actions[b], reward[b], discount[b])
        for a in range(prior.shape[1]):
            tree.prior[b, slot, a] = prior[b, a]
        if legal.shape[0] > 0:
            forbid(tree, b, slot, legal[b])
        backup(tree, b, slot, value[b])
