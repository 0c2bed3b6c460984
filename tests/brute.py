"""The horizon probe by plain enumeration: slow, short, and without a line of the package's own arithmetic."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class TabularNetwork(nn.Module):
    """A learned model given as tables: its latent is the one-hot index of a state that it believes to be in."""

    def __init__(self, transitions, rewards):
        super().__init__()
        self.transitions = torch.tensor(np.array(transitions))  # [S, A]
        self.rewards = torch.tensor(np.array(rewards, np.float64))  # [S, A]

    def represent(self, observations):
        """The observation is one-hot already."""
        return observations.double()

    def dynamics(self, latents, actions):
        """Looks the next state and the reward up."""
        index = latents.argmax(dim=-1)
        following = functional.one_hot(self.transitions[index, actions], len(self.transitions)).double()
        return following, self.rewards[index, actions]

    def predict(self, latents):
        """No preference, no value."""
        B, A = len(latents), self.rewards.shape[1]
        return torch.zeros(B, A), torch.zeros(B)


@dataclass(frozen=True)
class TabularPolicy:
    """A policy given as a table of probabilities."""

    probabilities: np.ndarray  # [S, A]

    def distribution(self, states):
        """Looks the states up."""
        return self.probabilities[states.index]


@dataclass(frozen=True)
class Path:
    """One action sequence from one state."""

    probability: float
    value: float  # v: discounted real rewards
    predicted: float  # v̂: discounted predicted rewards
    alive_predicted: float  # v̂ without what follows a terminal state
    alive: bool  # whether the last state is not terminal


def follow(environment, network, policy, state, actions):
    """Takes the actions one by one, in the truth and in the model."""
    gamma = environment.spec.gamma
    real, believed = state, state
    probability, value, predicted, alive_predicted = 1.0, 0.0, 0.0, 0.0
    for t, action in enumerate(actions):
        ended = environment.terminal_states[real]
        probability *= policy.probabilities[real, action]
        value += gamma**t * environment.rewards[real, action]
        guess = float(network.rewards[believed, action])
        predicted += gamma**t * guess
        alive_predicted += 0.0 if ended else gamma**t * guess
        real = environment.transitions[real, action]
        believed = int(network.transitions[believed, action])
    return Path(probability, value, predicted, alive_predicted, not environment.terminal_states[real])


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
            cumulative = np.cumsum(policy.probabilities[real])
            actions.append(int(np.flatnonzero(uniform * cumulative[-1] < cumulative)[0]))
            real = environment.transitions[real, actions[-1]]
        path = follow(environment, network, policy, state, actions)
        paths.append(Path(1 / len(uniforms), path.value, path.predicted, path.alive_predicted, path.alive))
    return paths


def summary(paths):
    """The columns of the probe for one state and horizon."""

    def expect(numbers):
        return math.fsum(path.probability * number for path, number in zip(paths, numbers, strict=True))

    difference = [path.value - path.predicted for path in paths]
    return {
        "value": expect(path.value for path in paths),
        "predicted_value": expect(path.predicted for path in paths),
        "error": abs(expect(difference)),
        "sequence_error": expect(abs(x) for x in difference),
        "signed_error": -expect(difference),
        "alive_error": abs(expect(path.value - path.alive_predicted for path in paths)),
        "alive_probability": expect(float(path.alive) for path in paths),
    }
