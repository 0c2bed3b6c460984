"""Gumbel's rule and the regularised policy in plain Python: what the kernels must equal.

Written from the papers' formulas (Danihelka et al. 2022, sections 3 and 4, appendix D; Grill et al. 2020, section 3),
with logarithms where the kernels have products.
"""

import math
from decimal import Decimal, localcontext

import numpy as np
from reference import Node, lot


def halving(actions, simulations):
    """Visits of the action that each simulation tries, of so many actions."""
    if actions <= 1:
        return list(range(simulations))
    rounds = math.ceil(math.log2(actions))
    sequence, visits, contenders = [], [0] * actions, actions
    while len(sequence) < simulations:
        for _ in range(max(1, int(simulations / (rounds * contenders)))):
            sequence.extend(visits[:contenders])
            visits[:contenders] = [n + 1 for n in visits[:contenders]]
        contenders = max(2, contenders // 2)
    return sequence[:simulations]


def completed_sigma(node, floor, c_visit, c_scale, seen=None):
    """sigma of completed and scaled Q, one number an action; None where it is illegal. `seen` are the Q of the tree."""
    q = completed_q(node)
    of = q.values() if seen is None else seen
    width = max(max(of, default=0) - min(of, default=0), floor)
    weight = (c_visit + max(node.edge_visits)) * c_scale
    return [weight * (q[a] - min(q.values())) / width if a in q else None for a in range(len(node.prior))]


def improved_policy(node, floor, c_visit, c_scale, seen=None):
    """softmax(log P + sigma(Q)) over the legal actions."""
    sigma = completed_sigma(node, floor, c_visit, c_scale, seen)
    logits = [math.log(node.prior[a]) + sigma[a] if a in node.legal else -math.inf for a in range(len(sigma))]
    weights = [math.exp(x - max(logits)) for x in logits]
    return [w / sum(weights) for w in weights]


def best(scores, key, number):
    """The largest score that is not None; those within 1e-9 by lot, or the lowest action without a key."""
    chosen, top = 0, -math.inf
    for a, score in enumerate(scores):
        if score is None:
            continue
        tied = key is not None and abs(score - top) <= 1e-9
        if lot(key, number, a) > lot(key, number, chosen) if tied else score > top:
            chosen = a
        top = max(top, score)
    return chosen


def completed_q(node):
    """Q of each legal action, v_mix where it is untried."""
    tried = [a for a in node.legal if node.edge_visits[a] > 0]
    total = sum(node.edge_visits)
    mixed = node.value
    if tried:
        mass = sum(node.prior[a] for a in tried)
        weighted = sum(node.prior[a] * node.q[a] for a in tried) / mass
        mixed = (node.value + total * weighted) / (1 + total)
    return {a: node.q[a] if a in tried else mixed for a in node.legal}


def gumbel_reference(
    start, expand, *, simulations, discount, floor, considered, c_visit, c_scale, whole_tree, g, key, legal
):
    """Gumbel's search of one root: its node, improved policy, the action that halving leaves, what the policy is worth.

    Args:
        start: () -> (state, prior, value) of the root.
        expand: (state, action) -> (state, reward, prior, value).
        simulations: N.
        discount: (state, action) -> of that edge.
        floor: smallest divisor of the normalisation.
        considered: most actions tried at the root.
        c_visit: as in the paper.
        c_scale: as in the paper.
        whole_tree: whether every Q that the tree has seen scales, not those of the node.
        g: Gumbel numbers, one an action.
        key: of the lots, or None.
        legal: state -> its legal actions, a list.
    """

    def masked(state, prior, value):
        node = Node(state, prior, value)
        node.legal = legal(state) or list(range(len(prior)))
        mass = sum(node.prior[a] for a in node.legal)
        if len(node.legal) < len(node.prior):
            node.prior = [p / mass if a in node.legal else 0.0 for a, p in enumerate(node.prior)]
        return node

    root, count = masked(*start()), 1
    seen = [] if whole_tree else None

    def root_scores(visited):
        sigma = completed_sigma(root, floor, c_visit, c_scale, seen)
        return [
            g[a] + math.log(root.prior[a]) + sigma[a] if a in root.legal and root.edge_visits[a] == visited else None
            for a in range(len(g))
        ]

    for visited in halving(min(considered, len(root.legal)), simulations):
        node, path = root, []
        action = best(root_scores(visited), key, 0)
        while True:
            path.append((node, action))
            if action not in node.children:
                break
            node = node.children[action]
            improved = improved_policy(node, floor, c_visit, c_scale, seen)
            total = sum(node.edge_visits)
            scores = [
                improved[a] - node.edge_visits[a] / (1 + total) if a in node.legal else None
                for a in range(len(improved))
            ]
            action = best(scores, key, node.number)
        state, reward, prior, value = expand(node.state, action)
        leaf = masked(state, prior, value)
        leaf.number, count = count, count + 1
        node.children[action], node.rewards[action] = leaf, float(reward)
        G = leaf.value
        for up, a in reversed(path):
            child, r, d = up.children[a], up.rewards[a], discount(up.state, a)
            up.q[a] = r + d * (child.value_sum / child.visits)
            up.edge_visits[a] += 1
            if whole_tree:
                seen.append(up.q[a])
            G = r + d * G
            up.visits += 1
            up.value_sum += G
    winner = best(root_scores(max(root.edge_visits)), key, 0)
    improved = improved_policy(root, floor, c_visit, c_scale, seen)
    q = completed_q(root)
    return root, improved, winner, sum(improved[a] * q[a] for a in q)


def pi_bar_by_newton(prior, q, multiplier):
    """lambda P / (alpha - Q), alpha by Newton's method, which rises from the left, on numbers of 60 digits."""
    with localcontext(prec=60):
        m = Decimal(float(multiplier))
        pairs = [(Decimal(float(x)), Decimal(float(y))) for x, y in zip(q, prior, strict=True)]
        alpha = max(x + m * y for x, y in pairs if y > 0)
        for _ in range(200):
            excess = sum(m * y / (alpha - x) for x, y in pairs if y > 0) - 1
            slope = -sum(m * y / (alpha - x) ** 2 for x, y in pairs if y > 0)
            alpha -= excess / slope
        return np.array([float(m * y / (alpha - x)) if y > 0 else 0.0 for x, y in pairs])
