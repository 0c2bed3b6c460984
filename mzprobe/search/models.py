"""What a search plans in: the planning-model protocol, and the learned model."""

from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mzprobe.networks.core import MuZeroNetwork
from mzprobe.networks.mlp import MLPNetwork, MLPWeights

Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]
Prior = Literal["policy", "uniform"]


class Leaf(NamedTuple):
    """What a planning model says of B nodes, one in each tree."""

    reward: Float64  # [B], of the step that led there; 0 for roots
    prior: Float64  # [B, A], probabilities
    value: Float64  # [B], discounted return from there on


class PlanningModel(Protocol):
    """A model to search in. Nodes are its own affair: it keeps them in an arena, by tree and slot."""

    num_actions: int
    gamma: float

    def start(self, roots: Any, capacity: int) -> tuple[Any, Leaf]:
        """Opens an arena with room for `capacity` nodes a tree and puts B roots in slot 0."""
        ...

    def expand(self, arena: Any, nodes: Int32, actions: Int32, slot: int) -> Leaf:
        """Steps the node in slot `nodes[b]` of tree b by `actions[b]`; keeps the result in slot `slot`."""
        ...


class LearnedModel:
    """Planning in the network: roots are observations `[B, *shape]`, nodes are latents on the device.

    Args:
        network: any `MuZeroNetwork`.
        num_actions: A.
        gamma: discount.
        prior: the network's policy, or uniform.
        device: where the network lives.
    """

    def __init__(
        self,
        network: MuZeroNetwork,
        *,
        num_actions: int,
        gamma: float,
        prior: Prior = "policy",
        device: torch.device | str = "cpu",
    ) -> None:
        self.network = network
        self.num_actions = num_actions
        self.gamma = gamma
        self.prior: Prior = prior
        self.device = torch.device(device)

    @cached_property
    def fused_weights(self) -> MLPWeights | None:
        """Views of the weights that the fused path can use, or None where it cannot run this network."""
        if type(self.network) is MLPNetwork and self.device.type == "cpu":
            return self.network.weights()
        return None

    @torch.inference_mode()
    def start(self, roots: Any, capacity: int) -> tuple["LatentArena", Leaf]:
        """Encodes observations `[B, *shape]` into the roots."""
        observations = torch.as_tensor(roots, dtype=torch.float32, device=self.device)
        latents = self.network.represent(observations)
        arena = LatentArena(
            latents.new_empty((capacity, *latents.shape)), torch.arange(len(latents), device=self.device)
        )
        arena.latents[0] = latents
        reward = torch.zeros(len(latents), device=self.device)
        return arena, self._leaf(reward, latents)

    @torch.inference_mode()
    def expand(self, arena: "LatentArena", nodes: Int32, actions: Int32, slot: int) -> Leaf:
        """One dynamics and one prediction call for the whole batch."""
        parents = arena.latents[torch.from_numpy(nodes).to(self.device), arena.trees]
        chosen = torch.from_numpy(actions).to(self.device, torch.int64)
        latents, reward = self.network.dynamics(parents, chosen)
        arena.latents[slot] = latents
        return self._leaf(reward, latents)

    def _leaf(self, reward: Tensor, latents: Tensor) -> Leaf:
        logits, value = self.network.predict(latents)
        # One transfer for the three: a copy from the device costs more than the bytes.
        joined = torch.cat((reward[:, None], value[:, None], torch.softmax(logits, dim=1)), dim=1)
        numbers = joined.cpu().numpy().astype(np.float64)
        prior = numbers[:, 2:]
        if self.prior == "uniform":
            prior = np.full_like(prior, 1 / self.num_actions)
        return Leaf(numbers[:, 0], prior, numbers[:, 1])


class LatentArena(NamedTuple):
    """Latents of every node of every tree."""

    latents: Tensor  # [capacity, B, ...]
    trees: Tensor  # [B], 0 .. B - 1
