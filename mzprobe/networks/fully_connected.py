"""Fully connected networks as other code writes them, put together from weights that are already there."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mzprobe.networks.core import TrainableNetwork, with_actions
from mzprobe.networks.fused.chain_kernels import ELU, RELU, ChainWeights, Linear
from mzprobe.networks.fused.engines import ChainEngine
from mzprobe.networks.support import Support

Chain = Sequence[tuple[Tensor, Tensor]]  # weight [outputs, inputs] and bias [outputs] of each linear layer
Activation = Literal["relu", "elu"]

PARTS = ("representation", "dynamics", "reward", "policy", "value")


class LatentScale(NamedTuple):
    """How a latent is scaled to [0, 1]: (z - min) / (max - min), and what keeps that finite."""

    epsilon: float = 0.0  # added to the range
    always: bool = True  # whether to every range, or only to one below it
    rectified: bool = False  # whether z passes a ReLU first

    def __call__(self, latents: Tensor) -> Tensor:
        """Latents `[B, L]`."""
        z = torch.relu(latents) if self.rectified else latents
        low, high = torch.aminmax(z, dim=1, keepdim=True)
        width = high - low
        wider = width + self.epsilon
        return (z - low) / (wider if self.always else torch.where(width < self.epsilon, wider, width))


class FullyConnected(TrainableNetwork):
    """Five chains of linear layers; actions are one-hot, appended to the latent.

    Args:
        chains: the layers of each of `PARTS`.
        support: of both scalar heads.
        activation: between the layers of a chain.
        scale: of latents, after the representation and after the dynamics.
        rewards: what the reward chain reads: the next latent before it is scaled, or the latent and the action.
    """

    def __init__(
        self,
        chains: Mapping[str, Chain],
        *,
        support: Support,
        activation: Activation,
        scale: LatentScale,
        rewards: Literal["unscaled", "step"],
    ) -> None:
        super().__init__()
        self.support = support
        self.num_actions = len(chains["policy"][-1][1])
        self.activation, self.scale, self.rewards = activation, scale, rewards
        self.chains = nn.ModuleDict({part: _Chain(chains[part], activation) for part in PARTS})

    def represent(self, observations: Tensor) -> Tensor:
        """As in the protocol."""
        return self.scale(self.chains["representation"](observations.flatten(1)))

    def transition(self, latents: Tensor, actions: Tensor) -> Tensor:
        """As in `TrainableNetwork`."""
        return self.scale(self.chains["dynamics"](with_actions(latents, actions, self.num_actions)))

    def reward_logits(self, latents: Tensor, actions: Tensor, next_latents: Tensor) -> Tensor:  # noqa: ARG002
        """As in `TrainableNetwork`; the next latents, which are scaled, are not what these heads read."""
        given = with_actions(latents, actions, self.num_actions)
        logits: Tensor = self.chains["reward"](given if self.rewards == "step" else self.chains["dynamics"](given))
        return logits

    def prediction_logits(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """As in `TrainableNetwork`."""
        return self.chains["policy"](latents), self.chains["value"](latents)

    def dynamics(self, latents: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """As in the protocol."""
        given = with_actions(latents, actions, self.num_actions)
        following = self.chains["dynamics"](given)
        logits = self.chains["reward"](given if self.rewards == "step" else following)
        return self.scale(following), self.support.scalar(logits)

    def chain_weights(self) -> ChainWeights:
        """The weights for the kernels, on the CPU; a copy."""
        layers = {part: chain.layers() for part, chain in self.chains.items()}  # type: ignore[operator]
        return ChainWeights(
            **layers,
            activation=RELU if self.activation == "relu" else ELU,
            epsilon=self.scale.epsilon,
            always=self.scale.always,
            rectified=self.scale.rectified,
            reads_step=self.rewards == "step",
            axis=self.support.axis,
            widest=max(len(layer.b) for chain in layers.values() for layer in chain),
        )

    def kernel_engine(self) -> ChainEngine | None:
        """Its engine on the CPU; None for a subclass, which may compute anything, and for one that may still learn.

        Its weights are copies, and its scalars those of h.
        """
        learns = any(parameter.requires_grad for parameter in self.parameters())
        if type(self) is not FullyConnected or type(self.support) is not Support or learns:
            return None
        return ChainEngine(self.chain_weights(), self.support)


class _Chain(nn.Module):
    """Linear layers with an activation in between."""

    def __init__(self, layers: Chain, activation: Activation) -> None:
        super().__init__()
        self.activation = torch.relu if activation == "relu" else nn.functional.elu
        self.weights = nn.ParameterList(weight for weight, _ in layers)
        self.biases = nn.ParameterList(bias for _, bias in layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = nn.functional.linear(self.activation(x) if layer else x, weight, bias)
        return x

    def layers(self) -> tuple[Linear, ...]:
        """For the kernels, weights transposed."""
        return tuple(
            Linear(np.ascontiguousarray(weight.detach().cpu().numpy().T), bias.detach().cpu().numpy().copy())
            for weight, bias in zip(self.weights, self.biases, strict=True)
        )
