"""The network protocol, the training interface on top of it, and parts that networks share."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mzprobe.networks.support import Support


@runtime_checkable
class MuZeroNetwork(Protocol):
    """The learned model as everything but the loss sees it: batched functions whose rewards and values are scalars.

    `check_network` tests an implementation. To probe a network of your own, these three functions are enough.
    """

    def represent(self, observations: Tensor) -> Tensor:
        """Encodes observations `[B, *shape]` as latents `[B, ...]` (h_theta)."""
        ...

    def dynamics(self, latents: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Steps latents `[B, ...]` by int64 actions `[B]` (g_theta).

        Returns the next latents and the reward `[B]` in environment units.
        """
        ...

    def predict(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Returns policy logits `[B, A]` and value `[B]`, in environment units, of latents `[B, ...]` (f_theta)."""
        ...


@contextmanager
def evaluating(network: MuZeroNetwork) -> Iterator[None]:
    """Holds a network in evaluation mode, if it is a torch module; on exit, every part returns to its earlier mode.

    An agent that is probed while it is trained must be left as it was.
    """
    if not isinstance(network, nn.Module) or not network.training:
        yield
        return
    trained = [part for part in network.modules() if part.training]
    network.eval()
    try:
        yield
    finally:
        for part in trained:
            part.training = True


class Unroll(NamedTuple):
    """Predictions of a network along recorded actions; index k counts steps in the model."""

    reward_logits: Tensor  # [K, B, atoms], k = 1..K
    policy_logits: Tensor  # [K + 1, B, A], k = 0..K
    value_logits: Tensor  # [K + 1, B, atoms], k = 0..K


ActionEncoding = Literal["share", "one_hot"]

ROWS_OF_IMAGES = 16  # rows of a call of convolutions on a CPU


class TrainableNetwork(nn.Module, ABC):
    """A network that the trainer can train: it also returns the categorical logits that the loss compares.

    A subclass defines `represent`, `transition`, `reward_logits` and `prediction_logits`; the protocol's scalar
    functions and the unroll follow from them.
    """

    support: Support
    num_actions: int
    cpu_batch_size: int | None = None  # rows of a call whose bits must repeat, if a row costs a CPU more than a call

    @property
    def kept_per_step(self) -> int:
        """Approximate count of numbers kept for the gradient, per position and unroll step; 0 where not known."""
        return 0

    @property
    def kept_per_position(self) -> int:
        """Approximate count of further numbers kept per position, for the representation; 0 where not known."""
        return 0

    @abstractmethod
    def represent(self, observations: Tensor) -> Tensor:
        """See `MuZeroNetwork.represent`."""

    @abstractmethod
    def transition(self, latents: Tensor, actions: Tensor) -> Tensor:
        """Steps latents `[B, ...]` by actions `[B]` to the next latents, the state part of g_theta."""

    @abstractmethod
    def reward_logits(self, latents: Tensor, actions: Tensor, next_latents: Tensor) -> Tensor:
        """Returns the reward logits `[B, atoms]` of a step, the reward part of g_theta.

        The step leads from latents `[B, ...]` by actions `[B]` to the next latents.
        """

    @abstractmethod
    def prediction_logits(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Returns policy logits `[B, A]` and value logits `[B, atoms]`, f_theta before the value is decoded."""

    def dynamics(self, latents: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """See `MuZeroNetwork.dynamics`."""
        following = self.transition(latents, actions)
        return following, self.support.scalar(self.reward_logits(latents, actions, following))

    def predict(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """See `MuZeroNetwork.predict`."""
        policy, value = self.prediction_logits(latents)
        return policy, self.support.scalar(value)

    def unroll(self, observations: Tensor, actions: Tensor) -> Unroll:
        """Predicts along actions `[K, B]` from observations `[B, *shape]`.

        Half of the gradient passes each step of the dynamics (MuZero, appendix G). The heads run once over all K + 1
        latents.
        """
        latents = [self.represent(observations)]
        for chosen in actions:
            latents.append(self.transition(halve_gradient(latents[-1]), chosen))
        K, B = actions.shape
        every = torch.cat(latents)
        policy, value = self.prediction_logits(every)
        reward = self.reward_logits(every[:-B], actions.reshape(-1), every[B:])
        atoms = self.support.atoms
        return Unroll(reward.view(K, B, atoms), policy.view(K + 1, B, self.num_actions), value.view(K + 1, B, atoms))

    def weight_arrays(self) -> dict[str, NDArray[Any]]:
        """Returns all weights and buffers by name, as arrays that share memory with the network on a CPU."""
        return {name: tensor.detach().cpu().numpy() for name, tensor in self.state_dict().items()}


class _HalveGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004 - autograd's signature
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        return gradients[0] * 0.5


def halve_gradient(x: Tensor) -> Tensor:
    """Returns `x`, and halves the gradient that passes back through it."""
    result: Tensor = _HalveGradient.apply(x)  # type: ignore[no-untyped-call]
    return result


def minmax_scale(latents: Tensor) -> Tensor:
    """Scales each latent vector `[B, L]` to [0, 1] (MuZero, appendix G); 1e-5 keeps a constant one finite."""
    low, high = torch.aminmax(latents, dim=-1, keepdim=True)
    return (latents - low) / (high - low + MINMAX_EPSILON)


MINMAX_EPSILON = 1e-5


def with_actions(latents: Tensor, actions: Tensor, num_actions: int, encoding: ActionEncoding = "one_hot") -> Tensor:
    """Appends encoded actions `[B]` to latents `[B, L]` or planes `[B, C, H, W]`, along dimension 1.

    Args:
        latents: latents of the states.
        actions: int64 actions taken there.
        num_actions: A.
        encoding: encoding of an action a: A entries or planes of which one is 1, or a single one of a / A.
    """
    if encoding == "one_hot":
        chosen = nn.functional.one_hot(actions, num_actions).to(latents.dtype)
    else:
        chosen = (actions.to(latents.dtype) / num_actions)[:, None]
    planes = latents.shape[2:]
    shaped = chosen.view(*chosen.shape, *(1 for _ in planes)).expand(*chosen.shape, *planes)
    return torch.cat((latents, shaped), dim=1)
