"""Random tabular MDPs, wrong models of them, and what such models are worth in plain Python."""

import itertools

import numpy as np
from brute import random_policy
from hypothesis import strategies as st

from mzprobe.envs import random_mdp
from mzprobe.probes.model_tables import ModelTables, along_real_states, tables_over_states

seeds = st.integers(0, 10**6)


def draw(seed):
    return np.random.default_rng([seed, 3])


def tiny_mdp(seed, *, num_states=4, gamma=0.9):
    return random_mdp(seed, num_states=num_states, num_actions=2, terminal_fraction=0.25, gamma=gamma)


def wrong_tables(seed, *, num_states=4, stochastic=False):
    """Random tables over the states, unlike the truth."""
    generator, shape = draw(seed), (num_states, 2)
    transitions = generator.integers(num_states, size=shape)
    if stochastic:
        transitions = generator.dirichlet(np.full(num_states, 0.5), size=shape)
    return tables_over_states(transitions, generator.standard_normal(shape))


def latent_tables(seed, *, num_states=4, num_nodes=6):
    """Random nodes that stand for no state."""
    generator, shape = draw(seed), (num_nodes, 2)
    return ModelTables(
        start=generator.integers(num_nodes, size=num_states),
        transitions=generator.integers(num_nodes, size=shape),
        rewards=generator.standard_normal(shape),
        value=generator.standard_normal(num_nodes),
        policy=generator.dirichlet(np.ones(2), size=num_nodes),
    )


def any_model(seed, env):
    """One of the three kinds of model whose nodes stand for real states."""
    S = len(env.transitions)
    if seed % 3 == 0:
        return wrong_tables(seed, num_states=S)
    if seed % 3 == 1:
        return wrong_tables(seed, num_states=S, stochastic=True)
    return along_real_states(env, latent_tables(seed, num_states=S))


def policies_of(seed, n, num_states=4):
    return np.stack([random_policy(seed + i, num_states, 2, zeros=i % 2 == 0).probabilities for i in range(n)])


def deterministic(num_states, num_actions):
    """Every policy that picks one action a state."""
    choices = itertools.product(range(num_actions), repeat=num_states)
    return [[[float(a == b) for b in range(num_actions)] for a in choice] for choice in choices]


def following(transitions, node, action):
    """(probability, next node) pairs."""
    entry = transitions[node][action]
    return [(1.0, entry)] if np.ndim(entry) == 0 else [(p, n) for n, p in enumerate(entry)]


def updated(transitions, rewards, policy, v, gamma, node, k):
    """(T^k v)(node) by recursion; the policy and v are lists over nodes."""
    if k == 0:
        return v[node]
    total = 0.0
    for action, weight in enumerate(policy[node]):
        later = sum(
            p * updated(transitions, rewards, policy, v, gamma, n, k - 1)
            for p, n in following(transitions, node, action)
        )
        total += weight * (rewards[node][action] + gamma * later)
    return total


def value_by_iteration(transitions, rewards, policy, gamma):
    """v_pi at every node, by updates until nothing is left of where they began; the policy is over nodes."""
    transitions, rewards, policy = np.array(transitions), np.array(rewards), np.array(policy)
    v = np.zeros(len(rewards))
    while True:
        next_v = v[transitions] if transitions.ndim == 2 else transitions @ v
        new = (policy * (rewards + gamma * next_v)).sum(axis=1)
        if np.abs(new - v).max() < 1e-14:
            return new
        v = new


def proper_by_iteration(env, model, policy):
    gamma = env.spec.gamma
    true = value_by_iteration(env.transitions, env.rewards, policy, gamma)
    modelled = value_by_iteration(model.transitions, model.rewards, np.array(policy)[model.state], gamma)
    return np.abs(true - modelled[model.start])


def optimum(transitions, rewards, gamma):
    """Q* at every node, by value iteration."""
    q = np.zeros(np.shape(rewards))
    for _ in range(1000):
        v = q.max(axis=1)
        q = rewards + gamma * (v[transitions] if np.ndim(transitions) == 2 else transitions @ v)
    return q
