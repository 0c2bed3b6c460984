"""Who runs a network: batched calls in which each row has the same bits in whatever batch it stands."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mzprobe.inputs import as_floats, as_tensor
from mzprobe.networks.core import MuZeroNetwork, TrainableNetwork
from mzprobe.networks.fully_connected import FullyConnected
from mzprobe.networks.fused.chain_kernels import predict_chains, represent_chains, roll_chains, step_chains
from mzprobe.networks.fused.mlp_kernels import predict_all, represent_all, roll_all, step_all, value_atoms_all
from mzprobe.networks.fused.weights import MLPWeights
from mzprobe.networks.mlp import MLPNetwork
from mzprobe.networks.rows import ROWS, by_rows
from mzprobe.networks.support import Axis


class Engine(Protocol):
    """A network in evaluation, no gradient kept; tensors live on its device."""

    def represent(self, observations: Any) -> Tensor:
        """h_theta: observations `[B, *shape]`, an array or a tensor -> latents `[B, ...]`."""
        ...

    def dynamics(self, latents: Tensor, actions: Any) -> tuple[Tensor, Tensor]:
        """g_theta: latents `[B, ...]`, actions `[B]` -> next latents, reward `[B]`, environment units."""
        ...

    def rewards_along(self, latents: Tensor, actions: Any) -> Tensor:
        """Rewards of g_theta along actions `[B, T]` from latents `[B, ...]`: `[B, T]`, environment units."""
        ...

    def predict(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """f_theta: latents `[B, ...]` -> pi_theta `[B, A]`, probabilities, and value `[B]`, environment units."""
        ...

    def value_distribution(self, latents: Tensor) -> Tensor:
        """The categorical distribution that the value is read from, `[B, atoms]`, of a `TrainableNetwork` alone."""
        ...


def engine_for(network: MuZeroNetwork, *, device: torch.device | str = "cpu", rows: int | None = ROWS) -> "Engine":
    """The engine of a network.

    Args:
        network: an `MLPNetwork` on the CPU runs in our own kernels, whose bits are the same on every processor with
            fused multiply-add; any other is called by torch.
        device: where the network lives.
        rows: of every call by torch (see `by_rows`); None calls with the batch as it is.
    """
    if runs_in_kernels(network, device):
        assert isinstance(network, MLPNetwork)
        return KernelEngine(network)
    if type(network) is FullyConnected and torch.device(device).type == "cpu":
        return ChainEngine(network)
    return TorchEngine(network, device=device, rows=rows)


def runs_in_kernels(network: MuZeroNetwork, device: torch.device | str) -> bool:
    """Whether our own kernels know the network: exactly an `MLPNetwork`, since a subclass may compute anything."""
    return type(network) is MLPNetwork and torch.device(device).type == "cpu"


class TorchEngine:
    """Calls of a fixed size to any network, on any device."""

    def __init__(self, network: MuZeroNetwork, *, device: torch.device | str = "cpu", rows: int | None = ROWS) -> None:
        self.network = network
        self.device = torch.device(device)
        self.rows = rows

    @torch.inference_mode()
    def represent(self, observations: Any) -> Tensor:
        """As in the protocol."""
        given = as_tensor(observations, device=self.device)
        (latents,) = self._call(lambda o: (self.network.represent(o),), given)
        return latents

    @torch.inference_mode()
    def dynamics(self, latents: Tensor, actions: Any) -> tuple[Tensor, Tensor]:
        """As in the protocol."""
        chosen = torch.as_tensor(actions, dtype=torch.int64, device=self.device)
        following, reward = self._call(self.network.dynamics, latents, chosen)
        return following, reward

    def rewards_along(self, latents: Tensor, actions: Any) -> Tensor:
        """As in the protocol."""
        rewards = []
        for chosen in torch.as_tensor(actions, dtype=torch.int64, device=self.device).unbind(dim=1):
            latents, reward = self.dynamics(latents, chosen)
            rewards.append(reward)
        return torch.stack(rewards, dim=1) if rewards else latents.new_zeros((len(latents), 0))

    @torch.inference_mode()
    def predict(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """As in the protocol."""
        logits, value = self._call(self.network.predict, latents)
        return torch.softmax(logits, dim=1), value

    @torch.inference_mode()
    def value_distribution(self, latents: Tensor) -> Tensor:
        """As in the protocol."""
        assert isinstance(self.network, TrainableNetwork)
        _, logits = self._call(self.network.prediction_logits, latents)
        return torch.softmax(logits, dim=1)

    def _call(self, function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor) -> list[Tensor]:
        return by_rows(function, *inputs, rows=self.rows)


class KernelEngine:
    """An `MLPNetwork` on the CPU in compiled kernels; follows its training in place."""

    def __init__(self, network: MLPNetwork) -> None:
        self.weights: MLPWeights = network.weights()
        self.axis: Axis = network.support.axis

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
    """A `FullyConnected` on the CPU in compiled kernels, with the weights that it has now."""

    def __init__(self, network: FullyConnected) -> None:
        self.weights = network.chain_weights()

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
