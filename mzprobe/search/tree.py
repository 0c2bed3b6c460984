"""Search trees as arrays, and what hangs a node into them and carries its value up.

Every path of the search, whatever it plans in and by whatever rule, uses these functions and no others. They keep IEEE
order, so that a plain-Python search gives the same visit counts (`tests/reference.py`).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mzprobe._kernel import inlined
from mzprobe.memory import refuse_more_than_fits

Bool = NDArray[np.bool_]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]

UNTRIED = -1
ILLEGAL = -2


class Tree(NamedTuple):
    """B search trees of at most M nodes; node 0 is the root and node i was expanded by simulation i."""

    visits: Int32  # [B, M], N(s)
    value: Float64  # [B, M], of s as the model gave it, a leaf's
    value_sum: Float64  # [B, M], sum of the returns backed up through s
    parent: Int32  # [B, M], -1 at the root
    parent_action: Int32  # [B, M]
    discount: Float64  # [B, M], of the step that led there
    child: Int32  # [B, M, A], UNTRIED or ILLEGAL where there is none
    edge_visits: Int32  # [B, M, A], N(s, a)
    reward: Float64  # [B, M, A]
    prior: Float64  # [B, M, A]
    q: Float64  # [B, M, A], r + discount V(child); 0 where untried
    bounds: Float64  # [B, 2], smallest and largest Q seen


def new_tree(batch: int, nodes: int, num_actions: int) -> Tree:
    """Room for `batch` trees of up to `nodes` nodes, none expanded."""
    size = batch * nodes * (36 + 32 * num_actions)
    refuse_more_than_fits(size, what=f"{batch:,} search trees of {nodes - 1:,} simulations")
    node, edge = (batch, nodes), (batch, nodes, num_actions)
    tree = Tree(
        visits=np.zeros(node, np.int32),
        value=np.zeros(node),
        value_sum=np.zeros(node),
        parent=np.empty(node, np.int32),
        parent_action=np.empty(node, np.int32),
        discount=np.ones(node),
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


@inlined
def expand(tree: Tree, b: int, slot: int, node: int, action: int, reward: float, discount: float) -> None:
    """Hangs node `slot` under `node`; its prior is written by the caller."""
    tree.discount[b, slot] = discount
    tree.parent[b, slot] = node
    tree.parent_action[b, slot] = action
    tree.child[b, node, action] = slot
    tree.reward[b, node, action] = reward


@inlined
def backup(tree: Tree, b: int, slot: int, value: float) -> None:
    """Carries the leaf's value to the root: G = r + discount G, visits and Q on the way."""
    tree.visits[b, slot] = 1
    tree.value[b, slot] = value
    tree.value_sum[b, slot] = value
    node = slot
    G = value
    while tree.parent[b, node] >= 0:
        up = tree.parent[b, node]
        a = tree.parent_action[b, node]
        r = tree.reward[b, up, a]
        discount = tree.discount[b, node]
        q = r + discount * (tree.value_sum[b, node] / tree.visits[b, node])
        tree.q[b, up, a] = q
        tree.edge_visits[b, up, a] += 1
        tree.bounds[b, 0] = min(tree.bounds[b, 0], q)
        tree.bounds[b, 1] = max(tree.bounds[b, 1], q)
        G = r + discount * G
        tree.visits[b, up] += 1
        tree.value_sum[b, up] += G
        node = up


@inlined
def forbid(tree: Tree, b: int, slot: int, legal: Bool) -> None:
    """Takes what is illegal `[A]` out of a node and out of its prior; where nothing is legal (an end), nothing."""
    total = 0.0
    count = 0
    for a in range(legal.size):
        if legal[a]:
            total += tree.prior[b, slot, a]
            count += 1
    for a in range(legal.size):
        if count and not legal[a]:
            tree.child[b, slot, a] = ILLEGAL
            tree.prior[b, slot, a] = 0.0
        elif 0 < count < legal.size:
            tree.prior[b, slot, a] = tree.prior[b, slot, a] / total if total > 0 else 1.0 / count
