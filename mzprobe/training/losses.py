"""The loss of MuZero in torch: any trainable network, any device."""

from typing import NamedTuple

import torch
from torch import Tensor

from mzprobe.networks.core import TrainableNetwork
from mzprobe.networks.support import Support
from mzprobe.training.targets import Batch


class Losses(NamedTuple):
    """Weighted sums over a batch; `total` is what training minimises."""

    total: Tensor
    reward: Tensor
    value: Tensor
    policy: Tensor
    root_values: Tensor  # [B], v_theta at k = 0, environment units, for the priorities


def muzero_loss(network: TrainableNetwork, batch: Batch, device: torch.device) -> Losses:
    """Cross-entropies of reward, value and policy along the unroll, each with its weight (MuZero, Eq. 1)."""
    observations, actions, rewards, values, policies, *weights = (torch.from_numpy(array).to(device) for array in batch)
    reward_weights, value_weights, policy_weights = weights
    unroll = network.unroll(observations, actions)
    support = network.support
    reward = (reward_weights * scalar_cross_entropy(unroll.reward_logits, rewards, support)).sum()
    value = (value_weights * scalar_cross_entropy(unroll.value_logits, values, support)).sum()
    policy = (policy_weights * cross_entropy(unroll.policy_logits, policies)).sum()
    root_values = support.scalar(unroll.value_logits[0].detach())
    return Losses(reward + value + policy, reward, value, policy, root_values)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """-sum target log softmax(logits) over the last dimension."""
    return -(target * torch.log_softmax(logits, dim=-1)).sum(dim=-1)


def scalar_cross_entropy(logits: Tensor, scalars: Tensor, support: Support) -> Tensor:
    """Cross-entropy of logits `[..., atoms]` to the two-hot encoding of scalars `[...]`."""
    return cross_entropy(logits, support.two_hot(scalars))
