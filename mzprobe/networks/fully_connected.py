"""Fully connected networks as other code bases define them, built from existing weights."""

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
    """Scaling of a latent to [0, 1], (z - min) / (max - min), with an epsilon that keeps it finite."""

    epsilon: float = 0.0  # added to the range
    always: bool = True  # whether epsilon is added to every range, or only to ranges below it
    rectified: bool = False  # whether z passes through a ReLU first

    def __call__(self, latents: Tensor) -> Tensor:
        """Scales each latent of `[B, L]`."""
        z = torch.relu(latents) if self.rectified else latents
        low, high = torch.aminmax(z, dim=1, keepdim=True)
        width = high - low
        wider = width + self.epsilon
        return (z - low) / (wider if self.always else torch.where(width < self.epsilon, wider, width))


class FullyConnected(TrainableNetwork):
    """Five chains of linear layers; one-hot actions are appended to the latent.

    Args:
        chains: layers of each of `PARTS`.
        support: support of both scalar heads.
        activation: activation between the layers of a chain.
        scale: scaling of latents, after the representation and after the dynamics.
        rewards: input of the reward chain: the next latent before it is scaled, or the latent and the action.
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
        """See `MuZeroNetwork.represent`."""
        return self.scale(self.chains["representation"](observations.flatten(1)))

    def transition(self, latents: Tensor, actions: Tensor) -> Tensor:
        """See `TrainableNetwork.transition`."""
        return self.scale(self.chains["dynamics"](with_actions(latents, actions, self.num_actions)))

    def reward_logits(self, latents: Tensor, actions: Tensor, next_latents: Tensor) -> Tensor:  # noqa: ARG002
        """See `TrainableNetwork.reward_logits`; this head does not read `next_latents`, which are scaled."""
        given = with_actions(latents, actions, self.num_actions)
        logits: Tensor = self.chains["reward"](given if self.rewards == "step" else self.chains["dynamics"](given))
        return logits

    def prediction_logits(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """See `TrainableNetwork.prediction_logits`."""
        return self.chains["policy"](latents), self.chains["value"](latents)

    def dynamics(self, latents: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """See `MuZeroNetwork.dynamics`."""
        given = with_actions(latents, actions, self.num_actions)
        following = self.chains["dynamics"](given)
        logits = self.chains["reward"](given if self.rewards == "step" else following)
        return self.scale(following), self.support.scalar(logits)

    def chain_weights(self) -> ChainWeights:
        """Returns a copy of the weights for the kernels, on the CPU."""
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
        """Returns the network's engine on the CPU, or None where the kernels may not compute the same.

        That is so for a subclass, which may compute anything, for another kind of support, since the kernels decode
        scalars by the inverse of h, and for a network that may still learn, since the engine has a copy of the weights.
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
        """Returns the layers for the kernels, with weights transposed."""
        return tuple(
            Linear(np.ascontiguousarray(weight.detach().cpu().numpy().T), bias.detach().cpu().numpy().copy())
            for weight, bias in zip(self.weights, self.biases, strict=True)
        )
