"""A network of small perceptrons, for vector observations."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from mzprobe.networks.core import TrainableNetwork, minmax_scale, with_actions
from mzprobe.networks.fused.engines import KernelEngine
from mzprobe.networks.fused.weights import FusedWeights, Layers, MLPWeights
from mzprobe.networks.support import Support


class MLPNetwork(TrainableNetwork):
    """Five perceptrons with one hidden layer each: representation, dynamics, and three heads.

    Latents are min-max scaled to [0, 1]. The dynamics read the latent and the one-hot action. The reward head reads the
    next latent, or the latent, the action and the next latent.

    Args:
        observation_size: entries of the flattened observation.
        num_actions: A.
        latent: entries of the latent, L.
        hidden: width of every hidden layer, H.
        support: support of the reward and value heads.
        reward_input: input of the reward head, `next` or `transition`.
        generator: draws the initial weights; required, so that a seed decides them.
    """

    def __init__(
        self,
        *,
        observation_size: int,
        num_actions: int,
        latent: int = 32,
        hidden: int = 64,
        support: Support,
        reward_input: Literal["next", "transition"] = "next",
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.num_actions = num_actions
        self.support = support
        self.latent = latent
        self.representation = Perceptron(observation_size, hidden, latent)
        self.dynamics_function = Perceptron(latent + num_actions, hidden, latent)
        self.reward_input = reward_input
        read = latent if reward_input == "next" else latent + num_actions + latent
        self.reward_head = Perceptron(read, hidden, support.atoms)
        self.policy_head = Perceptron(latent, hidden, num_actions)
        self.value_head = Perceptron(latent, hidden, support.atoms)
        for body in (self.representation, self.dynamics_function):
            body.initialise(generator, zero_output=False)
        for head in (self.reward_head, self.policy_head, self.value_head):
            head.initialise(generator, zero_output=True)

    def represent(self, observations: Tensor) -> Tensor:
        """Encodes float32 observations `[B, *shape]` as latents `[B, L]` (h_theta)."""
        return minmax_scale(self.representation(observations.reshape(len(observations), -1)))  # also of shape [B]

    def transition(self, latents: Tensor, actions: Tensor) -> Tensor:
        """Steps latents `[B, L]` by int64 actions `[B]` to the next latents `[B, L]`, the state part of g_theta."""
        return minmax_scale(self.dynamics_function(with_actions(latents, actions, self.num_actions)))

    def reward_logits(self, latents: Tensor, actions: Tensor, next_latents: Tensor) -> Tensor:
        """Returns reward logits `[B, atoms]`."""
        read = next_latents
        if self.reward_input == "transition":
            read = torch.cat((with_actions(latents, actions, self.num_actions), next_latents), dim=1)
        logits: Tensor = self.reward_head(read)
        return logits

    def prediction_logits(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Returns policy logits `[B, A]` and value logits `[B, atoms]`."""
        return self.policy_head(latents), self.value_head(latents)

    def perceptrons(self) -> "tuple[Perceptron, ...]":
        """Returns the five perceptrons, in the order of `MLPWeights`."""
        return (
            self.representation,
            self.dynamics_function,
            self.reward_head,
            self.policy_head,
            self.value_head,
        )

    def weights(self) -> MLPWeights:
        """Returns the parameters as numpy views for the fused CPU kernels; the views follow training in place."""
        return MLPWeights(*(body.layers() for body in self.perceptrons()))

    def kernel_engine(self) -> KernelEngine | None:
        """Returns the engine on the CPU, or None where the kernels may not compute the same.

        That is so for a subclass, which may compute anything, for another kind of support, and for parameters that are
        computed from others (`torch.nn.utils.parametrizations`), whose views would not follow training.
        """
        own = [p for body in self.perceptrons() for p in (body.w1, body.b1, body.w2, body.b2)]
        plain = {*map(id, own)} == {*map(id, self.parameters())}
        ours = type(self) is MLPNetwork and type(self.support) is Support and plain
        return KernelEngine(FusedWeights(self.weights(), self.support)) if ours else None

    @property
    def kept_per_step(self) -> int:
        """See `TrainableNetwork.kept_per_step`."""
        return 2 * self.latent + self.representation.w1.shape[1]


class Perceptron(nn.Module):
    """Two layers, relu(x @ w1 + b1) @ w2 + b2.

    Weights are `[inputs, outputs]`, the layout in which small products are fastest.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.w1 = nn.Parameter(torch.zeros(inputs, hidden))
        self.b1 = nn.Parameter(torch.zeros(hidden))
        self.w2 = nn.Parameter(torch.zeros(hidden, outputs))
        self.b2 = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Maps `[B, inputs]` to `[B, outputs]`."""
        return torch.addmm(self.b2, torch.relu(torch.addmm(self.b1, x, self.w1)), self.w2)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator, *, zero_output: bool) -> None:
        """Draws parameters uniformly within 1/sqrt(fan in); with `zero_output`, a head predicts nothing at first."""
        for weight, bias in ((self.w1, self.b1), (self.w2, self.b2)):
            bound = 1 / math.sqrt(len(weight))
            for parameter in (weight, bias):
                # Not `uniform_`, whose rounding depends on the processor; 2 u - 1 is exact.
                parameter.copy_((2 * torch.rand(parameter.shape, generator=generator) - 1) * bound)
        if zero_output:
            self.w2.zero_()
            self.b2.zero_()

    def layers(self) -> Layers:
        """Returns the parameters as numpy views."""
        return Layers(*(p.detach().numpy() for p in (self.w1, self.b1, self.w2, self.b2)))
