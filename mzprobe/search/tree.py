"""Search trees as arrays, and the functions that add a node to them and back its value up.

Every path of the search, whatever its model and its rule, uses these functions and no others. They keep IEEE order, so
that a plain-Python search gives the same visit counts (`tests/helpers/reference.py`).
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mzprobe._kernel import inlined
from mzprobe.system.memory import refuse_more_than_fits

Bool = NDArray[np.bool_]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]

UNTRIED = -1
ILLEGAL = -2

# All that a walk reads of a node, or of an edge, is adjacent in memory, so that it touches few cache lines.
NODE = np.dtype(
    [
        ("value", np.float64),
        ("value_sum", np.float64),
        ("discount", np.float64),
        ("visits", np.int32),
        ("parent", np.int32),
        ("parent_action", np.int32),
    ],
    align=True,
)
EDGE = np.dtype(
    [("prior", np.float64), ("q", np.float64), ("reward", np.float64), ("visits", np.int32), ("child", np.int32)],
    align=True,
)


class Forest(NamedTuple):
    """B search trees of at most M nodes, in the records that the kernels walk; the fields are those of `Tree`."""

    nodes: Any  # [B, M] of NODE
    edges: Any  # [B, M, A] of EDGE
    bounds: Float64  # [B, 2], smallest and largest Q seen


class Tree(NamedTuple):
    """B search trees of at most M nodes; node 0 is the root and node i was expanded by simulation i."""

    visits: Int32  # [B, M], N(s)
    value: Float64  # [B, M], the model's value of s, as a leaf
    value_sum: Float64  # [B, M], sum of the returns backed up through s
    parent: Int32  # [B, M], -1 at the root
    parent_action: Int32  # [B, M]
    discount: Float64  # [B, M], of the step that led to s
    child: Int32  # [B, M, A], slot of the child; UNTRIED or ILLEGAL where there is none
    edge_visits: Int32  # [B, M, A], N(s, a)
    reward: Float64  # [B, M, A]
    prior: Float64  # [B, M, A]
    q: Float64  # [B, M, A], r + discount V(child); 0 where untried
    bounds: Float64  # [B, 2], smallest and largest Q seen


def new_forest(batch: int, nodes: int, num_actions: int) -> Forest:
    """Allocates `batch` trees of up to `nodes` nodes, none of them expanded.

    Raises:
        UsageError: if they do not fit into memory.
    """
    size = batch * nodes * (NODE.itemsize + EDGE.itemsize * num_actions)
    refuse_more_than_fits(size, what=f"{batch:,} search trees of {nodes - 1:,} simulations")
    forest = Forest(
        nodes=np.zeros((batch, nodes), NODE),
        edges=np.zeros((batch, nodes, num_actions), EDGE),
        bounds=np.empty((batch, 2)),
    )
    forest.nodes["discount"] = 1
    forest.nodes["parent"] = forest.nodes["parent_action"] = -1
    forest.edges["child"] = UNTRIED
    forest.bounds[:] = (np.inf, -np.inf)
    return forest


def arrays_of(forest: Forest) -> Tree:
    """Returns the same trees as views, with one array per quantity."""
    nodes, edges = forest.nodes, forest.edges
    of_edges = {"child": "child", "edge_visits": "visits", "reward": "reward", "prior": "prior", "q": "q"}
    return Tree(
        **{name: nodes[name] for name in NODE.names or ()},
        **{name: edges[field] for name, field in of_edges.items()},
        bounds=forest.bounds,
    )


@inlined
def expand(forest: Forest, b: int, slot: int, node: int, action: int, reward: float, discount: float) -> None:
    """Adds node `slot` below `node`; its prior is written by the caller."""
    forest.nodes[b, slot].discount = discount
    forest.nodes[b, slot].parent = node
    forest.nodes[b, slot].parent_action = action
    forest.edges[b, node, action].child = slot
    forest.edges[b, node, action].reward = reward


@inlined
def backup(forest: Forest, b: int, slot: int, value: float) -> None:
    """Backs the leaf's value up to the root by G = r + discount G, and updates visits and Q on the way."""
    forest.nodes[b, slot].visits = 1
    forest.nodes[b, slot].value = value
    forest.nodes[b, slot].value_sum = value
    node = slot
    G = value
    while forest.nodes[b, node].parent >= 0:
        up = forest.nodes[b, node].parent
        a = forest.nodes[b, node].parent_action
        r = forest.edges[b, up, a].reward
        discount = forest.nodes[b, node].discount
        q = r + discount * (forest.nodes[b, node].value_sum / forest.nodes[b, node].visits)
        forest.edges[b, up, a].q = q
        forest.edges[b, up, a].visits += 1
        forest.bounds[b, 0] = min(forest.bounds[b, 0], q)
        forest.bounds[b, 1] = max(forest.bounds[b, 1], q)
        G = r + discount * G
        forest.nodes[b, up].visits += 1
        forest.nodes[b, up].value_sum += G
        node = up


@inlined
def forbid(forest: Forest, b: int, slot: int, legal: Bool) -> None:
    """Masks a node's illegal actions, given the legal ones `[A]`, and renormalises its prior.

    If no prior is left, it becomes uniform over the legal actions. A node without any, a terminal one, stays unchanged.
    """
    total = 0.0
    count = 0
    for a in range(legal.size):
        if legal[a]:
            total += forest.edges[b, slot, a].prior
            count += 1
    for a in range(legal.size):
        if count and not legal[a]:
            forest.edges[b, slot, a].child = ILLEGAL
            forest.edges[b, slot, a].prior = 0.0
        elif 0 < count < legal.size:
            forest.edges[b, slot, a].prior = forest.edges[b, slot, a].prior / total if total > 0 else 1.0 / count
