"""Search trees as arrays, and the kernels that walk them: select, expand, backup.

Every path of the search, whatever it plans in, uses these three functions and no others. They keep IEEE order, so
that a plain-Python search gives the same visit counts (`tests/reference.py`).

The rule at a node (the paper's Eq. 2; MuZero, appendix B) picks the largest

    Q'(s, a) + P(s, a) sqrt(N(s)) / (1 + N(s, a)) * (c1 + log((N(s) + c2 + 1) / c2))

where Q'(s, a) is r + gamma V(child) scaled by the smallest and largest Q seen in the tree, 0 for an unvisited action,
and N(s) counts the visit that expanded s. Among scores that are equal but for rounding, a lot of root, node and action
decides (`lots.py`): with the lowest action, as the plain rule has it, a uniform prior would leave the same actions for
last at every node.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mzprobe import libm
from mzprobe._kernel import inlined, kernel
from mzprobe.memory import refuse_more_than_fits
from mzprobe.search.lots import lot

Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]
UInt64 = NDArray[np.uint64]

# Scores closer than this are equal but for the rounding of sums that were added in another order; they are of order 1.
_SAME = 1e-9


class Tree(NamedTuple):
    """B search trees of at most M nodes; node 0 is the root and node i was expanded by simulation i."""

    visits: Int32  # [B, M], N(s)
    value: Float64  # [B, M], of s as the model gave it, a leaf's
    value_sum: Float64  # [B, M], sum of the returns backed up through s
    parent: Int32  # [B, M], -1 at the root
    parent_action: Int32  # [B, M]
    child: Int32  # [B, M, A], -1 where the action is untried
    edge_visits: Int32  # [B, M, A], N(s, a)
    reward: Float64  # [B, M, A]
    prior: Float64  # [B, M, A]
    q: Float64  # [B, M, A], r + gamma V(child); 0 where untried
    bounds: Float64  # [B, 2], smallest and largest Q seen


def new_tree(batch: int, nodes: int, num_actions: int) -> Tree:
    """Room for `batch` trees of up to `nodes` nodes, none expanded."""
    size = batch * nodes * (28 + 32 * num_actions)
    refuse_more_than_fits(size, what=f"{batch:,} search trees of {nodes - 1:,} simulations")
    node, edge = (batch, nodes), (batch, nodes, num_actions)
    tree = Tree(
        visits=np.zeros(node, np.int32),
        value=np.zeros(node),
        value_sum=np.zeros(node),
        parent=np.empty(node, np.int32),
        parent_action=np.empty(node, np.int32),
        child=np.empty(edge, np.int32),
        edge_visits=np.zeros(edge, np.int32),
        reward=np.zeros(edge),
        prior=np.zeros(edge),
        q=np.zeros(edge),
        bounds=np.empty((batch, 2)),
    )
    for index in (tree.parent, tree.parent_action, tree.child):
        index.fill(-1)
    tree.bounds[:] = (np.inf, -np.inf)
    return tree


@lru_cache(maxsize=64)
def exploration_table(simulations: int, *, c1: float, c2: float) -> Float64:
    """sqrt(N) (c1 + log((N + c2 + 1) / c2)) for N = 0 .. simulations + 1; read-only, since it is kept."""
    N = np.arange(simulations + 2, dtype=np.float64)
    table = np.asarray(np.sqrt(N) * (c1 + libm.log((N + c2 + 1) / c2)))
    table.setflags(write=False)
    return table


@inlined
def plant(tree: Tree, b: int, value: float) -> None:
    """Counts the visit that expanded the root; its prior is already in place."""
    tree.visits[b, 0] = 1
    tree.value[b, 0] = value
    tree.value_sum[b, 0] = value


@inlined
def select(tree: Tree, b: int, table: Float64, floor: float, keys: UInt64) -> tuple[int, int]:
    """Walks tree b down to an untried action; gives the node and that action.

    Ties are drawn with the tree's key, or go to the lowest action where there are no `keys`.
    """
    low, high = tree.bounds[b, 0], tree.bounds[b, 1]
    scale = 1.0 / max(high - low, floor)
    num_actions = tree.prior.shape[2]
    node = 0
    chosen = 0
    while True:
        exploration = table[tree.visits[b, node]]
        best = -np.inf
        chosen = 0
        for a in range(num_actions):
            n = tree.edge_visits[b, node, a]
            score = tree.prior[b, node, a] * exploration / (1 + n)
            if n > 0:
                score += (tree.q[b, node, a] - low) * scale
            tied = keys.size > 0 and abs(score - best) <= _SAME
            if (lot(keys[b], node, a) > lot(keys[b], node, chosen)) if tied else score > best:
                chosen = a
            best = max(best, score)
        following = tree.child[b, node, chosen]
        if following < 0:
            break
        node = following
    return node, chosen


@inlined
def expand(tree: Tree, b: int, slot: int, node: int, action: int, reward: float) -> None:
    """Hangs node `slot` under `node`; its prior is written by the caller."""
    tree.parent[b, slot] = node
    tree.parent_action[b, slot] = action
    tree.child[b, node, action] = slot
    tree.reward[b, node, action] = reward


@inlined
def backup(tree: Tree, b: int, slot: int, value: float, gamma: float) -> None:
    """Carries the leaf's value to the root: G = r + gamma G, visits and Q on the way."""
    tree.visits[b, slot] = 1
    tree.value[b, slot] = value
    tree.value_sum[b, slot] = value
    node = slot
    G = value
    while tree.parent[b, node] >= 0:
        up = tree.parent[b, node]
        a = tree.parent_action[b, node]
        r = tree.reward[b, up, a]
        q = r + gamma * (tree.value_sum[b, node] / tree.visits[b, node])
        tree.q[b, up, a] = q
        tree.edge_visits[b, up, a] += 1
        tree.bounds[b, 0] = min(tree.bounds[b, 0], q)
        tree.bounds[b, 1] = max(tree.bounds[b, 1], q)
        G = r + gamma * G
        tree.visits[b, up] += 1
        tree.value_sum[b, up] += G
        node = up


@kernel
def plant_all(tree: Tree, prior: Float64, value: Float64) -> None:
    """Roots of all trees: prior `[B, A]`, value `[B]`."""
    tree.prior[:, 0] = prior
    for b in range(value.size):
        plant(tree, b, value[b])


@kernel
def select_all(tree: Tree, table: Float64, floor: float, keys: UInt64, nodes: Int32, actions: Int32) -> None:
    """Fills nodes `[B]` and actions `[B]` with each tree's next expansion."""
    for b in range(nodes.size):
        nodes[b], actions[b] = select(tree, b, table, floor, keys)


@kernel
def backup_all(
    tree: Tree,
    slot: int,
    nodes: Int32,
    actions: Int32,
    reward: Float64,
    prior: Float64,
    value: Float64,
    gamma: float,
) -> None:
    """Expands slot `slot` of every tree and backs its value up; arrays are `[B]`, prior `[B, A]`."""
    for b in range(nodes.size):
        expand(tree, b, slot, nodes[b], actions[b], reward[b])
        for a in range(prior.shape[1]):
            tree.prior[b, slot, a] = prior[b, a]
        backup(tree, b, slot, value[b], gamma)
