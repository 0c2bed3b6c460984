"""Gumbel MuZero (Danihelka et al. 2022): few actions tried at the root, in halving rounds, by Gumbel numbers.

The root draws m actions without replacement, those with the largest g(a) + log P(a). Among the actions whose visit
count equals the next entry of the sequential-halving schedule, it tries the one with the largest

    g(a) + log P(a) + sigma(Q(a)).

Below the root, the action is tried whose visits lag most behind the improved policy pi' = softmax(log P + sigma(Q)),
that is the one with the largest

    pi'(a) - N(s, a) / (1 + sum_b N(s, b)).

sigma(q) = (c_visit + max_b N(s, b)) c_scale q. Q is r + gamma V(child), completed by v_mix for untried actions and
scaled to [0, 1] by the smallest and largest Q of its node, as in mctx, or by those of the tree, as in the paper.

v_mix = (v + sum_b N(s, b) * (sum of P Q over tried actions) / (sum of P over them)) / (1 + sum_b N(s, b)).
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mzprobe._kernel import borrowing, inlined, kernel
from mzprobe.search.rules.selection import Selection, wins
from mzprobe.search.tree import ILLEGAL, Forest

Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]

_SMALLEST = np.finfo(np.float64).tiny  # smallest probability, so that logarithms are finite


def considered_visits(actions: int, simulations: int) -> list[int]:
    """Returns, for each simulation, the visit count that the tried root action must have (sequential halving).

    Every round halves the `actions`, down to two, and gives each remaining one the same number of visits. The rounds
    together take about `simulations` visits; if more remain, the last round continues.
    """
    if actions <= 1:
        return list(range(simulations))
    rounds = math.ceil(math.log2(actions))
    sequence: list[int] = []
    visited, left = 0, actions  # visits of each action that is left, and how many are left
    while len(sequence) < simulations:
        for _ in range(max(1, simulations // (rounds * left))):
            sequence += [visited] * left
            visited += 1
        left = max(2, left // 2)
    return sequence[:simulations]


@lru_cache(maxsize=64)
def considered_table(num_actions: int, simulations: int, most: int) -> Int32:
    """Returns `considered_visits` for 0 .. A legal actions, at most `most` of them tried: `[A + 1, N]`, read-only."""
    rows = [considered_visits(min(legal, most), simulations) for legal in range(num_actions + 1)]
    table = np.array(rows, np.int32).reshape(num_actions + 1, simulations)
    table.setflags(write=False)
    return table


@borrowing
def gumbel_root(forest: Forest, b: int, selection: Selection) -> None:
    """Adds the log of the root's prior to its Gumbel numbers."""
    for a in range(forest.edges.shape[2]):
        selection.scores[b, a] += math.log(max(forest.edges[b, 0, a].prior, _SMALLEST))


@borrowing
def mixed_value(forest: Forest, b: int, node: int) -> float:
    """Returns v_mix of a node, the value that its untried actions are assumed to have."""
    total = 0
    weight = 0.0
    weighted = 0.0
    for a in range(forest.edges.shape[2]):
        n = forest.edges[b, node, a].visits
        if n > 0:
            p = max(forest.edges[b, node, a].prior, _SMALLEST)
            total += n
            weight += p
            weighted += p * forest.edges[b, node, a].q
    if total == 0:
        return float(forest.nodes[b, node].value)
    return float((forest.nodes[b, node].value + total * (weighted / weight)) / (total + 1))


@borrowing
def completed(forest: Forest, b: int, node: int, selection: Selection) -> tuple[float, float, float, int]:
    """Returns a node's v_mix, its largest completed Q, the factor that makes Q sigma(Q), and its sum of visits."""
    mixed = mixed_value(forest, b, node)
    low, high = np.inf, -np.inf
    most, total = 0, 0
    for a in range(forest.edges.shape[2]):
        if forest.edges[b, node, a].child != ILLEGAL:
            n = forest.edges[b, node, a].visits
            q = forest.edges[b, node, a].q if n > 0 else mixed
            low, high = min(low, q), max(high, q)
            most = max(most, n)
            total += n
    width = high - low
    if selection.whole_tree:
        width = forest.bounds[b, 1] - forest.bounds[b, 0]
    sigma = (selection.visit_offset + most) * selection.q_scale / max(width, selection.floor)
    return mixed, high, sigma, total


@borrowing
def root_choice(forest: Forest, b: int, visited: int, selection: Selection) -> int:
    """Returns the root's action with the largest g + log P + sigma(Q) among those with `visited` visits."""
    mixed, high, sigma, _ = completed(forest, b, 0, selection)
    best = -np.inf
    chosen = 0
    for a in range(forest.edges.shape[2]):
        n = forest.edges[b, 0, a].visits
        if n == visited and forest.edges[b, 0, a].child != ILLEGAL:
            score = selection.scores[b, a] + sigma * ((forest.edges[b, 0, a].q if n > 0 else mixed) - high)
            if wins(selection, b, 0, a, score, chosen, best):
                chosen = a
            best = max(best, score)
    return chosen


@borrowing
def improve(forest: Forest, b: int, node: int, selection: Selection, out: Float64) -> tuple[int, float]:
    """Fills `out` `[A]` with the improved policy softmax(log P + sigma(Q)) of a node.

    Returns the sum of the node's visits, and the mean of completed Q under that policy.
    """
    mixed, high, sigma, total = completed(forest, b, node, selection)
    whole = 0.0
    worth = 0.0
    for a in range(out.size):
        out[a] = 0.0
        if forest.edges[b, node, a].child != ILLEGAL:
            q = forest.edges[b, node, a].q if forest.edges[b, node, a].visits > 0 else mixed
            out[a] = max(forest.edges[b, node, a].prior, _SMALLEST) * math.exp(sigma * (q - high))
            whole += out[a]
            worth += out[a] * q
    for a in range(out.size):
        out[a] /= whole
    return total, worth / whole


@inlined
def gumbel_walk(forest: Forest, b: int, selection: Selection) -> tuple[int, int]:
    """Walks tree b down to an untried action; returns the node and that action."""
    node = 0
    while True:
        chosen = gumbel_choice(forest, b, node, selection)
        following = forest.edges[b, node, chosen].child
        if following < 0:
            return node, chosen
        node = following


@borrowing
def gumbel_choice(forest: Forest, b: int, node: int, selection: Selection) -> int:
    """Returns the action to try next at a node."""
    A = forest.edges.shape[2]
    if node == 0:
        legal = 0
        total = 0
        for a in range(A):
            legal += forest.edges[b, 0, a].child != ILLEGAL
            total += forest.edges[b, 0, a].visits
        return root_choice(forest, b, selection.considered[legal, total], selection)
    improved = selection.scratch
    total, _ = improve(forest, b, node, selection, improved)
    best = -np.inf
    chosen = 0
    for a in range(A):
        if forest.edges[b, node, a].child != ILLEGAL:
            score = improved[a] - forest.edges[b, node, a].visits / (1 + total)
            if wins(selection, b, node, a, score, chosen, best):
                chosen = a
            best = max(best, score)
    return chosen


@kernel
def gumbel_results(forest: Forest, selection: Selection, improved: Float64, winner: Float64, worth: Float64) -> None:
    """Fills improved policies `[B, A]`, their values `[B]`, and one-hot winners `[B, A]` of all roots."""
    for b in range(len(improved)):
        worth[b] = improve(forest, b, 0, selection, improved[b])[1]
        most = 0
        for a in range(improved.shape[1]):
            most = max(most, forest.edges[b, 0, a].visits)
        winner[b] = 0.0
        winner[b, root_choice(forest, b, most, selection)] = 1.0
