"""The obvious, slow search and target: plain Python, one tree, one number at a time. What is fast must equal it.

The operations on floats stand in the order that `mzprobe/search/tree.py` documents, so equality is bit for bit.
"""

import itertools
import struct

import numpy as np


class Node:
    """One node: what the model said of it, and what the search has counted."""

    def __init__(self, state, prior, value):
        self.state = state
        self.number = 0  # of its expansion
        self.prior = [float(p) for p in prior]
        self.value = float(value)
        self.visits = 1
        self.value_sum = self.value
        self.children = {}  # by action
        self.rewards = {}
        self.edge_visits = [0] * len(self.prior)
        self.q = [0.0] * len(self.prior)


def reference_search(
    start,
    expand,
    *,
    simulations,
    gamma,
    c1,
    c2,
    floor,
    noise=None,
    fraction=0.0,
    key=None,
    untried="least",
    expansion=1,
):
    """MCTS of one root; gives its node and all nodes in the order of their expansion.

    Args:
        start: () -> (state, prior, value) of the root.
        expand: (state, action) -> (state, reward, prior, value).
        simulations: N.
        gamma: discount.
        c1: weight of the prior.
        c2: visits at which that weight begins to grow.
        floor: smallest divisor of the Q normalisation.
        noise: root noise, one number an action, or None.
        fraction: its share.
        key: of the root's lots, by which ties are drawn; None takes the lowest action.
        untried: what an untried action is worth: `least`, or EfficientZero's `mean`.
        expansion: what the visit that expanded a node counts in N(s), 1 or 0.
    """
    root = Node(*start())
    if noise is not None:
        root.prior = [(1 - fraction) * p + fraction * float(x) for p, x in zip(root.prior, noise, strict=True)]
    nodes = [root]
    low, high = float("inf"), float("-inf")
    for _ in range(simulations):
        scale = 1.0 / max(high - low, floor)
        path, node, mean = [], root, None
        while True:
            tried = [q for q, n in zip(node.q, node.edge_visits, strict=True) if n > 0]
            tried = tried if mean is None else [mean, *tried]
            mean = sum(tried) / len(tried) if tried else 0.0
            worth = min(max((mean - low) * scale, 0.0), 1.0) if untried == "mean" and low <= high else 0.0
            action = best_action(node, low, scale, c1, c2, key, worth, expansion)
            path.append((node, action))
            if action not in node.children:
                break
            node = node.children[action]
        state, reward, prior, value = expand(node.state, action)
        leaf = Node(state, prior, value)
        leaf.number = len(nodes)
        node.children[action], node.rewards[action] = leaf, float(reward)
        nodes.append(leaf)
        G = leaf.value_sum
        for up, a in reversed(path):
            child, r = up.children[a], up.rewards[a]
            up.q[a] = r + gamma * (child.value_sum / child.visits)
            up.edge_visits[a] += 1
            low, high = min(low, up.q[a]), max(high, up.q[a])
            G = r + gamma * G
            up.visits += 1
            up.value_sum += G
    return root, nodes


def best_action(node, low, scale, c1, c2, key, untried=0.0, expansion=1):
    """argmax_a of Q' + P sqrt(N) / (1 + n) (c1 + log((N + c2 + 1) / c2)); ties by lot, or to the lowest action."""
    N = np.float64(node.visits - 1 + expansion)
    exploration = float(np.sqrt(N) * (c1 + np.log((N + c2 + 1) / c2)))
    scores = []
    for prior, n, q in zip(node.prior, node.edge_visits, node.q, strict=True):
        score = prior * exploration / (1 + n)
        score += (q - low) * scale if n > 0 else untried
        scores.append(score)
    if key is None:
        return scores.index(max(scores))
    best = 0
    for a, score in enumerate(scores[1:], start=1):
        top = max(scores[:a])
        tied = abs(score - top) <= 1e-9
        if lot(key, node.number, a) > lot(key, node.number, best) if tied else score > top:
            best = a
    return best


def assert_same_tree(result, b, root, nodes):
    """Compares tree b of a `SearchResult` that kept its tree with what `reference_search` gave, bit for bit."""
    assert result.visit_counts[b].tolist() == root.edge_visits
    assert result.root_value[b] == root.value_sum / root.visits
    tried = np.array(root.edge_visits) > 0
    np.testing.assert_array_equal(result.q[b], np.where(tried, root.q, np.nan))
    assert result.prior[b].tolist() == root.prior
    tree = result.tree
    assert tree.visits[b].tolist() == [x.visits for x in nodes]
    assert tree.value[b].tolist() == [x.value for x in nodes]
    assert tree.value_sum[b].tolist() == [x.value_sum for x in nodes]
    assert tree.edge_visits[b].tolist() == [x.edge_visits for x in nodes]
    assert tree.q[b].tolist() == [x.q for x in nodes]
    assert tree.prior[b].tolist() == [x.prior for x in nodes]


# Lots and rollouts

WORD = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix(x):
    """SplitMix64's finaliser on 64 bits."""
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & WORD
    x = (x ^ x >> 27) * 0x94D049BB133111EB & WORD
    return x ^ x >> 31


def rollout_key(observation, seed):
    """One number after the other goes into the key, as the bits of a float32."""
    key = mix(seed + GOLDEN & WORD)
    for x in np.ravel(observation).tolist():
        (bits,) = struct.unpack("<I", struct.pack("<f", 0.0 if x == 0 else x))
        key = mix(key + bits + GOLDEN & WORD)
    return key


def tie_key(observation):
    """What ties in the search from a root are drawn by."""
    return rollout_key(observation, int.from_bytes(b"ties", "big"))


def lot(key, first, second):
    """A hash of two counters."""
    return mix(mix(key + first * GOLDEN & WORD) + second * GOLDEN & WORD)


def rollout_action(key, slot, step, num_actions):
    """The upper 32 bits of a lot, scaled to 0 .. A - 1."""
    return (lot(key, slot, step) >> 32) * num_actions >> 32


def rolled_out(start, expand, *, key, horizon, gamma, num_actions, from_root=True):
    """(start, expand) of the same model up to a horizon, for one search; values are those of random actions in it.

    Args:
        start: () -> (state, prior, ignored value) of the root.
        expand: (state, action) -> (state, reward, prior, ignored value).
        key: of the root's actions.
        horizon: steps that count.
        gamma: discount.
        num_actions: A.
        from_root: whether they count from the root, else from each leaf.
    """
    slots = itertools.count()

    def value(state, depth):
        slot, total, discount = next(slots), 0.0, 1.0
        for t in range(horizon - depth):
            state, reward, _, _ = expand(state, rollout_action(key, slot, t, num_actions))
            total += discount * float(reward)
            discount *= gamma
        return total

    def start_at_depth_0():
        state, prior, _ = start()
        return (state, 0), prior, value(state, 0)

    def expand_one_deeper(node, action):
        state, reward, prior, _ = expand(node[0], action)
        depth = node[1] + from_root
        return (state, depth), reward if depth <= horizon else 0.0, prior, value(state, depth)

    return start_at_depth_0, expand_one_deeper


# Targets


def n_step_value(rewards, root_values, t, n, gamma):
    """z_t = sum_{i<n} gamma^i r_{t+i} + gamma^n v_{t+n}, with the real rewards that there are."""
    steps = min(n, len(rewards) - t)
    return sum(gamma**i * rewards[t + i] for i in range(steps)) + gamma**steps * root_values[t + steps]
