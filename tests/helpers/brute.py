"""The probes in plain Python: slow, short, and without a line of the package's own arithmetic."""

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from models import TabularModel
from reference import reference_search, rolled_out, rollout_action, rollout_key, tie_key
from torch import nn
from torch.nn import functional

from mzprobe.envs import random_mdp
from mzprobe.envs.tabular import TabularStates
from mzprobe.probes.sampling import Sample


def small_mdp(seed, num_actions=2):
    """Six states, some of them ends, and episodes of up to six steps."""
    return random_mdp(seed, num_states=6, num_actions=num_actions, terminal_fraction=0.3, time_limit=6)


class TabularNetwork(nn.Module):
    """A learned model given as tables: its latent is the one-hot index of a state that it believes to be in.

    Without logits and values it has no preference, and finds nothing worth anything.
    """

    def __init__(self, transitions, rewards, logits=None, values=None):
        super().__init__()
        self.transitions = torch.tensor(np.array(transitions))  # [S, A]
        self.rewards = torch.tensor(np.array(rewards, np.float64))  # [S, A]
        S, A = self.rewards.shape
        self.logits = torch.zeros(S, A) if logits is None else torch.tensor(np.array(logits, np.float64))
        self.values = torch.zeros(S) if values is None else torch.tensor(np.array(values, np.float64))

    def represent(self, observations):
        """The observation is one-hot already."""
        return observations.double()

    def dynamics(self, latents, actions):
        """Looks the next state and the reward up."""
        index = latents.argmax(dim=-1)
        following = functional.one_hot(self.transitions[index, actions], len(self.transitions)).double()
        return following, self.rewards[index, actions]

    def predict(self, latents):
        """Looks logits and value up."""
        index = latents.argmax(dim=-1)
        return self.logits[index], self.values[index]


@dataclass(frozen=True)
class TabularPolicy:
    """A policy given as a table of probabilities."""

    probabilities: np.ndarray  # [S, A]
    temperature: float = 1.0

    def distribution(self, states):
        """Looks the states up."""
        return self.probabilities[states.index]


def wrong_network(seed, num_states, num_actions):
    """A learned model whose tables are all random, and others than those of the MDP of the same seed."""
    draw = np.random.default_rng([seed, 1])
    return TabularNetwork(
        draw.integers(num_states, size=(num_states, num_actions)),
        draw.standard_normal((num_states, num_actions)),
        draw.standard_normal((num_states, num_actions)),
        draw.standard_normal(num_states),
    )


def random_policy(seed, num_states, num_actions, *, zeros=False):
    """A random policy; with `zeros`, there is an action in every state that it never takes."""
    draw = np.random.default_rng([seed, 2])
    weights = draw.random((num_states, num_actions)) + 0.1
    if zeros:
        weights[np.arange(num_states), draw.integers(num_actions, size=num_states)] = 0.0
    return TabularPolicy(weights / weights.sum(axis=1, keepdims=True))


def case(seed, *, num_states=5, num_actions=2, zeros=False):
    """A random MDP, a random wrong model of it, a random policy, and all its states to start from."""
    env = random_mdp(seed, num_states=num_states, num_actions=num_actions, terminal_fraction=0.4, gamma=0.9)
    policy = random_policy(seed, num_states, num_actions, zeros=zeros)
    everywhere = np.arange(num_states)
    sample = Sample(states=TabularStates(everywhere), episode=everywhere * 2, time=everywhere * 3)
    return env, wrong_network(seed, num_states, num_actions), policy, sample


def oracle(env):
    """The model that knows the MDP."""
    return TabularNetwork(env.transitions, env.rewards)


# Action sequences


@dataclass(frozen=True)
class Path:
    """One action sequence from one state."""

    probability: float
    value: float  # v: discounted real rewards
    predicted: float  # v̂: discounted predicted rewards
    alive_predicted: float  # v̂ without what follows a terminal state
    alive: bool  # whether the last state is not terminal
    real: int  # last state
    believed: int  # last state that the model believes in
    reward: float  # of the last action
    predicted_reward: float  # of it, in the model
    grounded_reward: float  # of it, in the model that was told the real state before


def follow(environment, network, policy, state, actions):
    """Takes the actions one by one, in the truth and in the model."""
    gamma = environment.spec.gamma
    real, believed = state, state
    probability, value, predicted, alive_predicted = 1.0, 0.0, 0.0, 0.0
    last = (0.0, 0.0, 0.0)
    for t, action in enumerate(actions):
        ended = environment.terminal_states[real]
        probability *= policy.probabilities[real, action]
        value += gamma**t * environment.rewards[real, action]
        guess = float(network.rewards[believed, action])
        predicted += gamma**t * guess
        alive_predicted += 0.0 if ended else gamma**t * guess
        last = (float(environment.rewards[real, action]), guess, float(network.rewards[real, action]))
        real = environment.transitions[real, action]
        believed = int(network.transitions[believed, action])
    alive = not environment.terminal_states[real]
    return Path(probability, value, predicted, alive_predicted, alive, real, believed, *last)


def all_paths(environment, network, policy, state, horizon):
    """Every one of the A^h sequences."""
    A = environment.spec.num_actions
    sequences = itertools.product(range(A), repeat=horizon)
    return [follow(environment, network, policy, state, actions) for actions in sequences]


def drawn_paths(environment, network, policy, state, uniforms):
    """One sequence a row of uniform numbers `[m, h]`, each with the probability 1 / m."""
    paths = []
    for row in uniforms:
        real, actions = state, []
        for uniform in row:
            actions.append(drawn(policy.probabilities[real], uniform))
            real = environment.transitions[real, actions[-1]]
        path = follow(environment, network, policy, state, actions)
        paths.append(replace(path, probability=1 / len(uniforms)))
    return paths


def summary(paths):
    """The columns of the probe for one state and horizon."""

    def expect(numbers):
        return math.fsum(path.probability * number for path, number in zip(paths, numbers, strict=True))

    difference = [path.value - path.predicted for path in paths]
    magnitude = expect(abs(x) for x in difference)
    return {
        "value": expect(path.value for path in paths),
        "predicted_value": expect(path.predicted for path in paths),
        "error": abs(expect(difference)),
        "sequence_error": magnitude,
        "cancellation": abs(expect(difference)) / magnitude if magnitude else math.nan,
        "signed_error": -expect(difference),
        "alive_error": abs(expect(path.value - path.alive_predicted for path in paths)),
        "alive_probability": expect(float(path.alive) for path in paths),
        "step_reward": expect(path.reward for path in paths),
        "step_signed_error": expect(path.predicted_reward - path.reward for path in paths),
        "grounded_signed_error": expect(path.grounded_reward - path.reward for path in paths),
        "end_within": any(path.probability > 0 and not path.alive for path in paths),
    }


def bellman_parts(environment, network, paths, k, real_values):
    """The parts of the order-k Bellman error of one state, predicted minus true: rewards, bootstrap, E|sum|."""
    gamma = environment.spec.gamma
    rewards = [path.predicted - path.value for path in paths]
    after = [float(network.values[path.believed]) - real_values[path.real] * path.alive for path in paths]
    bootstrap = [gamma**k * x for x in after]
    weights = [path.probability for path in paths]
    return (
        math.fsum(p * x for p, x in zip(weights, rewards, strict=True)),
        math.fsum(p * x for p, x in zip(weights, bootstrap, strict=True)),
        math.fsum(p * abs(x + y) for p, x, y in zip(weights, rewards, bootstrap, strict=True)),
    )


# Episodes


def drawn(probabilities, uniform):
    """The action at which the cumulative distribution passes a number in [0, 1)."""
    cumulative = np.cumsum(probabilities)
    return int(np.flatnonzero(uniform * cumulative[-1] < cumulative)[0])


@dataclass(frozen=True)
class Episode:
    """One episode, from its start to its end or to the time limit."""

    states: list  # acted in
    actions: list
    total: float  # undiscounted
    terminated: bool


def played(environment, distribution, start, uniforms):
    """An episode of a policy (state -> probabilities), one step after the other, one number of [0, 1) a step."""
    state, states, actions, total = int(start), [], [], 0.0
    for uniform in uniforms:
        states.append(state)
        actions.append(drawn(distribution(state), uniform))
        total += environment.rewards[state, actions[-1]]
        state = int(environment.transitions[state, actions[-1]])
        if environment.terminal_states[state]:
            return Episode(states, actions, total, True)
    return Episode(states, actions, total, False)


# Searches


def planned(environment, network, state, *, model, prior, config, rollout=None, prior_at=None):
    """The plain search from a state, in the learned or in the true model: its root, and its nodes in order.

    Args:
        environment: a `TabularEnvironment`.
        network: a `TabularNetwork`.
        state: index of the root.
        model: learned or true.
        prior: policy or uniform.
        config: constants and simulations.
        rollout: of the leaves, or None for those of the network's value.
        prior_at: latent or state, where the policy network is asked; None asks it where the model stands.
    """
    S, A = environment.transitions.shape
    policy = torch.softmax(network.logits, dim=1).double().numpy() if prior == "policy" else np.full((S, A), 1 / A)
    calls = calls_of(environment, network, model, policy, state)
    if prior_at is not None:
        other = calls_of(environment, network, "learned" if prior_at == "latent" else "true", policy, state)
        calls = advised(*calls, *other)
    if rollout is not None:
        key = rollout_key(np.eye(S, dtype=np.float32)[state], rollout.seed)
        calls = rolled_out(
            *calls,
            key=key,
            horizon=rollout.horizon,
            gamma=environment.spec.gamma,
            num_actions=A,
            from_root=rollout.counted_from == "root",
        )
    return reference_search(
        *calls,
        simulations=config.simulations,
        gamma=environment.spec.gamma,
        c1=config.c1,
        c2=config.c2,
        floor=config.normalisation_floor,
        key=tie_key(np.eye(S, dtype=np.float32)[state]) if config.ties == "lot" else None,
    )


def calls_of(environment, network, model, policy, state):
    """(start, expand) of the learned or the true model, from a state."""
    tables = TabularModel(
        environment.transitions if model == "true" else network.transitions.numpy(),
        environment.rewards if model == "true" else network.rewards.numpy(),
        policy,
        network.values.double().numpy(),
        terminal=environment.terminal_states if model == "true" else None,
        gamma=environment.spec.gamma,
    )
    return tables.callables(state)


def advised(start, expand, start_adviser, expand_adviser):
    """(start, expand) of the first model with the priors of the second, which takes the same actions."""

    def both():
        (state, _, value), (other, prior, _) = start(), start_adviser()
        return (state, other), prior, value

    def expand_both(states, action):
        state, reward, _, value = expand(states[0], action)
        other, _, prior, _ = expand_adviser(states[1], action)
        return (state, other), reward, prior, value

    return both, expand_both


def visit_policy(root, temperature):
    """N^(1/T) / sum N^(1/T); at T = 0 the most visited, of these the ones of largest Q, those of equal Q alike."""
    if temperature == 0:
        most = [n == max(root.edge_visits) for n in root.edge_visits]
        best = max(q for q, among in zip(root.q, most, strict=True) if among)
        weights = [float(among and q >= best - 1e-9 * abs(best)) for q, among in zip(root.q, most, strict=True)]
    else:
        weights = [n ** (1 / temperature) for n in root.edge_visits]
    return [weight / sum(weights) for weight in weights]


def one_step(environment, network, state, *, model):
    """Probabilities: all on the best of one step in the learned or the true model, followed by the network's value."""
    true = model == "true"
    transitions = environment.transitions if true else network.transitions.numpy()
    rewards = environment.rewards if true else network.rewards.numpy()
    returns = []
    for action, following in enumerate(transitions[state]):
        ended = true and environment.terminal_states[following]
        value = 0.0 if ended else float(network.values[following])
        returns.append(rewards[state, action] + environment.spec.gamma * value)
    return [float(action == returns.index(max(returns))) for action in range(len(returns))]


def simulated_actions(nodes, key, horizon, num_actions):
    """For every simulation, the actions of its path in the tree and those of the rollout after it."""
    above = {id(child): (node, action) for node in nodes for action, child in node.children.items()}
    for slot, node in enumerate(nodes[1:], start=1):
        path = []
        while id(node) in above:
            node, action = above[id(node)]
            path.insert(0, action)
        yield path, [rollout_action(key, slot, t, num_actions) for t in range(horizon - len(path))]


def error_along(environment, network, state, actions):
    """|v - v̂| of actions taken one by one in the truth and in the model."""
    return abs(curse(environment, network, state, actions))


def search_summary(environment, network, state, *, prior, simulations, rollout, config):
    """The columns of the search probe for one state, prior and N, from a search of just these N simulations.

    And every simulation's length and error.
    """
    A = environment.spec.num_actions
    config = config.model_copy(update={"simulations": simulations})
    root, nodes = planned(environment, network, state, model="learned", prior=prior, config=config, rollout=rollout)
    key = rollout_key(np.eye(len(environment.transitions), dtype=np.float32)[state], rollout.seed)
    path_errors, errors, lengths = [], [], []
    for path, rest in simulated_actions(nodes, key, rollout.horizon, A):
        counted = path[: rollout.horizon]
        path_errors.append(error_along(environment, network, state, counted))
        errors.append(error_along(environment, network, state, counted + rest))
        lengths.append(len(counted))
    policy = torch.softmax(network.logits[state], dim=0).tolist()
    visited = [(1 + n) / (A + sum(root.edge_visits)) for n in root.edge_visits]
    return {
        "path_error": math.fsum(path_errors) / simulations,
        "trajectory_error": math.fsum(errors) / simulations,
        "step_error": math.fsum(e / n for e, n in zip(path_errors, lengths, strict=True)) / simulations,
        "path_length": sum(lengths) / simulations,
        "tv": sum(abs(p - q) for p, q in zip(policy, visited, strict=True)) / 2,
        "kl": sum(p * math.log(p / q) for p, q in zip(policy, visited, strict=True)),
        "curse": curse(environment, network, state, most_visited_actions(root)[: rollout.horizon]),
    }, list(zip(lengths, path_errors, strict=True))


def matched_error(own, other):
    """The mean error of a search's (length, error) pairs, a length weighed by what is common with another search."""
    total, weight = 0.0, 0
    for length in {n for n, _ in own}:
        errors, others = [e for n, e in own if n == length], [n for n, _ in other if n == length]
        common = min(len(errors), len(others))
        total, weight = total + common * sum(errors) / len(errors), weight + common
    return total / weight if weight else math.nan


def most_visited_actions(root):
    """From the root always the most visited child, the lowest action first among equals."""
    node, actions = root, []
    while node.children:
        actions.append(node.edge_visits.index(max(node.edge_visits)))
        node = node.children[actions[-1]]
    return actions


def curse(environment, network, state, actions):
    """v̂ - v of actions taken one by one."""
    path = follow(environment, network, TabularPolicy(np.ones(environment.rewards.shape)), state, actions)
    return path.predicted - path.value
