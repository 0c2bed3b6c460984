"""The obvious, slow search and target: plain Python, one tree, one number at a time. What is fast must equal it.

The operations on floats stand in the order that `mzprobe/search/tree.py` documents, so equality is bit for bit.
"""

import numpy as np


class Node:
    """One node: what the model said of it, and what the search has counted."""

    def __init__(self, state, prior, value):
        self.state = state
        self.prior = [float(p) for p in prior]
        self.visits = 1
        self.value_sum = float(value)
        self.children = {}  # by action
        self.rewards = {}
        self.edge_visits = [0] * len(self.prior)
        self.q = [0.0] * len(self.prior)


def reference_search(start, expand, *, simulations, gamma, c1, c2, floor, noise=None, fraction=0.0):
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
    """
    root = Node(*start())
    if noise is not None:
        root.prior = [(1 - fraction) * p + fraction * float(x) for p, x in zip(root.prior, noise, strict=True)]
    nodes = [root]
    low, high = float("inf"), float("-inf")
    for _ in range(simulations):
        scale = 1.0 / max(high - low, floor)
        path, node = [], root
        while True:
            action = best_action(node, low, scale, c1, c2)
            path.append((node, action))
            if action not in node.children:
                break
            node = node.children[action]
        state, reward, prior, value = expand(node.state, action)
        leaf = Node(state, prior, value)
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


def best_action(node, low, scale, c1, c2):
    """argmax_a of Q' + P sqrt(N) / (1 + n) (c1 + log((N + c2 + 1) / c2)), the lowest action on ties."""
    N = np.float64(node.visits)
    exploration = float(np.sqrt(N) * (c1 + np.log((N + c2 + 1) / c2)))
    scores = []
    for prior, n, q in zip(node.prior, node.edge_visits, node.q, strict=True):
        score = prior * exploration / (1 + n)
        if n > 0:
            score += (q - low) * scale
        scores.append(score)
    return scores.index(max(scores))


def n_step_value(rewards, root_values, t, n, gamma):
    """z_t = sum_{i<n} gamma^i r_{t+i} + gamma^n v_{t+n}, with the real rewards that there are."""
    steps = min(n, len(rewards) - t)
    return sum(gamma**i * rewards[t + i] for i in range(steps)) + gamma**steps * root_values[t + steps]
