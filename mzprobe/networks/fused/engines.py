"""Engines of networks that run in compiled kernels on a CPU."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

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

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]


class _Sizes(NamedTuple):
    """Sizes of a network's inputs. Kernels check no bounds, so arguments are checked here, as torch would do."""

    inputs: int
    latents: int
    actions: int

    def observed(self, observations: Any) -> Float32:
        given = as_floats(observations).reshape(len(observations), -1)
        if given.shape[1] != self.inputs:
            raise ValueError(f"observations have {given.shape[1]} numbers each, and this network reads {self.inputs}")
        return given

    def rows(self, latents: Tensor) -> Float32:
        given = np.ascontiguousarray(latents.numpy(), np.float32)
        if given.ndim != 2 or given.shape[1] != self.latents:
            raise ValueError(f"latents of shape {given.shape}, and this network's are [B, {self.latents}]")
        return given

    def chosen(self, actions: Any, rows: int, *, dimensions: int) -> Int64:
        given = np.ascontiguousarray(actions, np.int64)
        if given.ndim != dimensions or len(given) != rows:
            raise ValueError(f"actions of shape {given.shape} for {rows} latents")
        if given.size and not 0 <= given.min() <= given.max() < self.actions:
            raise ValueError(
                f"actions {given.min()} to {given.max()}, of which this network has 0 to {self.actions - 1}"
            )
        return given


class _CompiledEngine:
    """Common part of both engines, which allocates the results and calls the kernels.

    Args:
        sizes: sizes of the network's inputs.
        represent: kernel with its weights, called with observations and the latents to fill.
        step: the same, called with latents, actions, and the next latents and rewards to fill.
        roll: the same, called with latents, action sequences and the rewards to fill.
    """

    def __init__(
        self,
        sizes: _Sizes,
        *,
        represent: Callable[..., None],
        step: Callable[..., None],
        roll: Callable[..., None],
    ) -> None:
        self.sizes = sizes
        self._represent, self._step, self._roll = represent, step, roll

    def represent(self, observations: Any) -> Tensor:
        """See `Engine.represent`."""
        given = self.sizes.observed(observations)
        latents = np.empty((len(given), self.sizes.latents), np.float32)
        self._represent(given, latents)
        return torch.from_numpy(latents)

    def dynamics(self, latents: Tensor, actions: Any) -> tuple[Tensor, Tensor]:
        """See `Engine.dynamics`; rewards are float64."""
        given = self.sizes.rows(latents)
        following, reward = np.empty_like(given), np.empty(len(given))
        self._step(given, self.sizes.chosen(actions, len(given), dimensions=1), following, reward)
        return torch.from_numpy(following), torch.from_numpy(reward)

    def rewards_along(self, latents: Tensor, actions: Any) -> Tensor:
        """See `Engine.rewards_along`; rewards are float64."""
        given = self.sizes.rows(latents)
        chosen = self.sizes.chosen(actions, len(given), dimensions=2)
        rewards = np.empty(chosen.shape)
        self._roll(given, chosen, rewards)
        return torch.from_numpy(rewards)


class KernelEngine(_CompiledEngine):
    """Engine of an `MLPNetwork`; its weights follow training in place."""

    def __init__(self, fused: FusedWeights) -> None:
        self._fused = fused
        weights, support = self.weights, self.support = fused
        self.axis = support.axis
        first, latent, policy = weights.representation.w1, weights.representation.w2, weights.policy.w2
        super().__init__(
            _Sizes(first.shape[0], latent.shape[1], policy.shape[1]),
            represent=partial(represent_all, weights),
            step=partial(step_all, weights, self.axis),
            roll=partial(roll_all, weights, self.axis),
        )

    def fused_search(self) -> FusedWeights | None:
        """See `Engine.fused_search`."""
        return self._fused

    def fused_gradient(self) -> FusedWeights | None:
        """See `Engine.fused_gradient`."""
        return self._fused

    def predict(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """See `Engine.predict`; results are float64."""
        given = self.sizes.rows(latents)
        prior, value = np.empty((len(given), self.sizes.actions)), np.empty(len(given))
        predict_all(self.weights, self.axis, given, prior, value)
        return torch.from_numpy(prior), torch.from_numpy(value)

    def value_distribution(self, latents: Tensor) -> Tensor:
        """See `Engine.value_distribution`."""
        given = self.sizes.rows(latents)
        atoms = np.empty((len(given), self.weights.value.w2.shape[1]), np.float32)
        value_atoms_all(self.weights, given, atoms)
        return torch.from_numpy(atoms)


class ChainEngine(_CompiledEngine):
    """Engine of a `FullyConnected`, with a copy of its weights."""

    def __init__(self, weights: ChainWeights, support: Support) -> None:
        self.weights, self.support = weights, support
        first, latent, policy = weights.representation[0].w, weights.dynamics[-1].b, weights.policy[-1].b
        super().__init__(
            _Sizes(first.shape[0], latent.size, policy.size),
            represent=partial(represent_chains, weights),
            step=partial(step_chains, weights),
            roll=partial(roll_chains, weights),
        )

    def fused_search(self) -> FusedWeights | None:
        """Returns None: there is no fused search of chains."""
        return None

    def fused_gradient(self) -> FusedWeights | None:
        """Returns None: there is no fused gradient of chains."""
        return None

    def predict(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """See `Engine.predict`; results are float64."""
        prior, value, _ = self._predicted(latents)
        return prior, value

    def value_distribution(self, latents: Tensor) -> Tensor:
        """See `Engine.value_distribution`."""
        return self._predicted(latents)[2]

    def _predicted(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        given, weights = self.sizes.rows(latents), self.weights
        prior, value = np.empty((len(given), self.sizes.actions)), np.empty(len(given))
        atoms = np.empty((len(given), weights.value[-1].b.size), np.float32)
        predict_chains(weights, given, prior, value, atoms)
        return torch.from_numpy(prior), torch.from_numpy(value), torch.from_numpy(atoms)
