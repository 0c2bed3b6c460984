"""Fully connected networks with normalised hidden layers, built from existing weights."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mzprobe.networks.core import TrainableNetwork, with_actions
from mzprobe.networks.fully_connected import PARTS, Chain
from mzprobe.networks.support import Support, symlog

_NORM_EPSILON = 1e-6  # added to a layer's variance, as in flax
_RANGE = 1e-5  # smallest range that a latent is divided by


class NormedChain(NamedTuple):
    """Linear layers, each but the last followed by a layer normalisation and SiLU."""

    layers: Chain
    norms: Sequence[tuple[Tensor, Tensor]]  # scale and bias [outputs] after each layer but the last


class NormedFullyConnected(TrainableNetwork):
    """Five chains; one-hot actions are appended to the latent; the reward is read from the next latent.

    Args:
        chains: chain of each of `PARTS`.
        support: support of both scalar heads.
        uniform: share of the uniform policy in pi_theta.
    """

    def __init__(self, chains: Mapping[str, NormedChain], *, support: Support, uniform: float) -> None:
        super().__init__()
        self.support = support
        self.num_actions = len(chains["policy"].layers[-1][1])
        self.uniform = uniform
        self.chains = nn.ModuleDict({part: _Normed(chains[part]) for part in PARTS})

    def represent(self, observations: Tensor) -> Tensor:
        """See `MuZeroNetwork.represent`; the chain reads the symlog of the observations."""
        return _scaled(self.chains["representation"](symlog(observations.flatten(1))))

    def transition(self, latents: Tensor, actions: Tensor) -> Tensor:
        """See `TrainableNetwork.transition`."""
        return _scaled(self.chains["dynamics"](with_actions(latents, actions, self.num_actions)))

    def reward_logits(self, latents: Tensor, actions: Tensor, next_latents: Tensor) -> Tensor:  # noqa: ARG002
        """See `TrainableNetwork.reward_logits`."""
        logits: Tensor = self.chains["reward"](next_latents)
        return logits

    def prediction_logits(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """See `TrainableNetwork.prediction_logits`; the policy is log((1 - u) softmax + u / A), u being `uniform`."""
        policy, value = self.chains["policy"](latents), self.chains["value"](latents)
        if self.uniform:
            even = self.uniform / self.num_actions
            policy = torch.log((1 - self.uniform) * torch.softmax(policy, dim=1) + even)
        return policy, value


class _Normed(nn.Module):
    def __init__(self, chain: NormedChain) -> None:
        super().__init__()
        self.weights, self.biases = (nn.ParameterList(layer[part] for layer in chain.layers) for part in (0, 1))
        self.scales, self.shifts = (nn.ParameterList(norm[part] for norm in chain.norms) for part in (0, 1))

    def forward(self, x: Tensor) -> Tensor:
        hidden = zip(self.weights, self.biases, self.scales, self.shifts, strict=False)  # the last has no norm
        for weight, bias, scale, shift in hidden:
            x = nn.functional.linear(x, weight, bias)
            x = nn.functional.silu(nn.functional.layer_norm(x, scale.shape, scale, shift, _NORM_EPSILON))
        return nn.functional.linear(x, self.weights[-1], self.biases[-1])


def _scaled(latents: Tensor) -> Tensor:
    """Scales each latent of `[B, L]` to [0, 1] by its own range."""
    low, high = torch.aminmax(latents, dim=1, keepdim=True)
    return (latents - low) / (high - low).clamp(min=_RANGE)
