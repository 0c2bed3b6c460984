"""Engines of networks that run in compiled kernels on a CPU."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mzprobe.inputs import as_floats
from mzprobe.networks.fused.chain_kernels import (
    ChainWeights,
    predict_chains,
    represent_chains,
    roll_chains,
    step_chains,
)
from mzprobe.networks.fused.mlp_kernels import predict_all, represent_all, roll_all, step_all, value_atoms_all
from mzprobe.networks.fused.weights import FusedWeights
from mzprobe.networks.support import Support


class KernelEngine:
    """An `MLPNetwork`; follows its training in place."""

    def __init__(self, fused: FusedWeights) -> None:
        self.weights, self.support = fused
        self.axis = self.support.axis

    def fused_search(self) -> FusedWeights | None:
        """As in the protocol."""
        return FusedWeights(self.weights, self.support)

    def fused_gradient(self) -> FusedWeights | None:
        """As in the protocol."""
        return FusedWeights(self.weights, self.support)

    def represent(self, observations: Any) -> Tensor:
        """As in the protocol."""
        given = as_floats(observations).reshape(len(observations), -1)
        latents = np.empty((len(given), self.weights.representation.w2.shape[1]), np.float32)
        represent_all(self.weights, given, latents)
        return torch.from_numpy(latents)

    def dynamics(self, latents: Tensor, actions: Any) -> tuple[Tensor, Tensor]:
        """As in the protocol; rewards in float64."""
        given = _rows(latents)
        following, reward = np.empty_like(given), np.empty(len(given))
        step_all(self.weights, self.axis, given, np.ascontiguousarray(actions, np.int64), following, reward)
        return torch.from_numpy(following), torch.from_numpy(reward)

    def rewards_along(self, latents: Tensor, actions: Any) -> Tensor:
        """As in the protocol, in float64."""
        chosen = np.ascontiguousarray(actions, np.int64)
        rewards = np.empty(chosen.shape)
        roll_all(self.weights, self.axis, _rows(latents), chosen, rewards)
        return torch.from_numpy(rewards)

    def predict(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """As in the protocol, in float64."""
        given = _rows(latents)
        prior, value = np.empty((len(given), self.weights.policy.w2.shape[1])), np.empty(len(given))
        predict_all(self.weights, self.axis, given, prior, value)
        return torch.from_numpy(prior), torch.from_numpy(value)

    def value_distribution(self, latents: Tensor) -> Tensor:
        """As in the protocol."""
        given = _rows(latents)
        atoms = np.empty((len(given), self.weights.value.w2.shape[1]), np.float32)
        value_atoms_all(self.weights, given, atoms)
        return torch.from_numpy(atoms)


class ChainEngine:
    """A `FullyConnected`, with the weights that it had then."""

    def __init__(self, weights: ChainWeights, support: Support) -> None:
        self.weights, self.support = weights, support

    def fused_search(self) -> FusedWeights | None:
        """As in the protocol: none."""
        return None

    def fused_gradient(self) -> FusedWeights | None:
        """As in the protocol: none."""
        return None

    def represent(self, observations: Any) -> Tensor:
        """As in the protocol."""
        given = as_floats(observations).reshape(len(observations), -1)
        latents = np.empty((len(given), self.weights.dynamics[-1].b.size), np.float32)
        represent_chains(self.weights, given, latents)
        return torch.from_numpy(latents)

    def dynamics(self, latents: Tensor, actions: Any) -> tuple[Tensor, Tensor]:
        """As in the protocol; rewards in float64."""
        given = _rows(latents)
        following, reward = np.empty_like(given), np.empty(len(given))
        step_chains(self.weights, given, np.ascontiguousarray(actions, np.int64), following, reward)
        return torch.from_numpy(following), torch.from_numpy(reward)

    def rewards_along(self, latents: Tensor, actions: Any) -> Tensor:
        """As in the protocol, in float64."""
        chosen = np.ascontiguousarray(actions, np.int64)
        rewards = np.empty(chosen.shape)
        roll_chains(self.weights, _rows(latents), chosen, rewards)
        return torch.from_numpy(rewards)

    def predict(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """As in the protocol, in float64."""
        prior, value, _ = self._predicted(latents)
        return prior, value

    def value_distribution(self, latents: Tensor) -> Tensor:
        """As in the protocol."""
        return self._predicted(latents)[2]

    def _predicted(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        given, weights = _rows(latents), self.weights
        prior, value = np.empty((len(given), weights.policy[-1].b.size)), np.empty(len(given))
        atoms = np.empty((len(given), weights.value[-1].b.size), np.float32)
        predict_chains(weights, given, prior, value, atoms)
        return torch.from_numpy(prior), torch.from_numpy(value), torch.from_numpy(atoms)


def _rows(latents: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(latents.numpy())
