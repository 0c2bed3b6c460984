"""Training loss as named, weighted terms, in torch, for any trainable network on any device."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mzprobe.config import TrainingConfig
from mzprobe.inputs import as_tensor
from mzprobe.networks.core import TrainableNetwork, Unroll
from mzprobe.networks.support import Support
from mzprobe.training.targets import Batch


class Window(NamedTuple):
    """A `Batch` as tensors on the network's device."""

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    values: Tensor
    policies: Tensor
    reward_weights: Tensor
    value_weights: Tensor
    policy_weights: Tensor


@dataclass(frozen=True, kw_only=True)
class Term:
    """One term of the loss: a function that returns it for each position, `[B]`, and its weight."""

    name: str
    loss: Callable[[Unroll, Window, Support], Tensor]
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Objective that training minimises: the weighted sum of its terms over a batch."""

    terms: tuple[Term, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the losses, in order, as used in progress and checkpoints."""
        return tuple(f"{term.name}_loss" for term in self.terms)

    @property
    def learned(self) -> frozenset[str]:
        """Names of the terms with a weight other than 0."""
        return frozenset(term.name for term in self.terms if term.weight)

    def losses(
        self,
        network: TrainableNetwork,
        batch: Batch,
        device: torch.device,
        *,
        unrolled: Callable[[Tensor, Tensor], Unroll] | None = None,
    ) -> tuple[list[Tensor], Tensor]:
        """Returns the weighted loss of each term, and v_theta at the roots `[B]`, environment units, without gradient.

        Args:
            network: network on the device.
            batch: batch to learn from.
            device: device of the network.
            unrolled: function to call instead of the network's `unroll`, such as its compiled form.
        """
        observations, *others = batch
        moved = (torch.from_numpy(array).to(device) for array in others)
        window = Window(as_tensor(observations, device=device), *moved)
        predicted = (unrolled or network.unroll)(window.observations, window.actions)
        unroll = Unroll(*(logits.float() for logits in predicted))
        losses = [term.weight * term.loss(unroll, window, network.support).sum() for term in self.terms]
        return losses, network.support.scalar(unroll.value_logits[0].detach())


def reward_loss(unroll: Unroll, window: Window, support: Support) -> Tensor:
    """Returns the cross-entropy of the rewards along the unroll, `[B]` (MuZero, Eq. 1)."""
    return (window.reward_weights * scalar_cross_entropy(unroll.reward_logits, window.rewards, support)).sum(dim=0)


def value_loss(unroll: Unroll, window: Window, support: Support) -> Tensor:
    """Returns the cross-entropy of the values along the unroll, `[B]`."""
    return (window.value_weights * scalar_cross_entropy(unroll.value_logits, window.values, support)).sum(dim=0)


def policy_loss(unroll: Unroll, window: Window, support: Support) -> Tensor:  # noqa: ARG001 - as the others
    """Returns the cross-entropy of the policies along the unroll, `[B]`."""
    return (window.policy_weights * cross_entropy(unroll.policy_logits, window.policies)).sum(dim=0)


def muzero_objective(config: TrainingConfig) -> Objective:
    """Returns MuZero's objective: reward, value and policy, with the weights of a configuration."""
    return Objective(
        terms=(
            Term(name="reward", loss=reward_loss, weight=config.reward_loss_weight),
            Term(name="value", loss=value_loss, weight=config.value_loss_weight),
            Term(name="policy", loss=policy_loss, weight=config.policy_loss_weight),
        )
    )


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Computes -sum target log softmax(logits) over the last dimension."""
    return -(target * torch.log_softmax(logits, dim=-1)).sum(dim=-1)


def scalar_cross_entropy(logits: Tensor, scalars: Tensor, support: Support) -> Tensor:
    """Computes the cross-entropy of logits `[..., atoms]` to the two-hot encoding of scalars `[...]`."""
    return cross_entropy(logits, support.two_hot(scalars))
