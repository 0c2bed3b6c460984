"""Training targets as pure functions (the paper, section 2.2; MuZero, appendix G and its pseudocode)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mzprobe._kernel import kernel

Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]
Int32 = NDArray[np.int32]
Bool = NDArray[np.bool_]


class Batch(NamedTuple):
    """What one training step compares; k counts steps in the model, and the weights hold all factors of the loss."""

    observations: Float32  # [B, *shape], at k = 0
    actions: Int64  # [K, B], the action that leads from k to k + 1
    rewards: Float32  # [K, B], environment units
    values: Float32  # [K + 1, B], environment units
    policies: Float32  # [K + 1, B, A]
    reward_weights: Float32  # [K, B], 0 where nothing was recorded
    value_weights: Float32  # [K + 1, B]
    policy_weights: Float32  # [K + 1, B], 0 also from the end on


@kernel
def n_step_values(rewards: Float64, root_values: Float64, *, n: int, gamma: float) -> Float64:
    """z_t = sum_{i<n} gamma^i r_{t+i} + gamma^n v_{t+n}, for t = 0..T.

    Args:
        rewards: `[T]`, environment units.
        root_values: `[T + 1]`, of the search at each state. The last is that of the state where the episode was
            left: 0 if it terminated there (absorbing), the search's root value if it was truncated (bootstrap).
        n: real rewards before the bootstrap; near the end, those that there are.
        gamma: discount.

    Returns:
        `[T + 1]`.
    """
    T = rewards.size
    z = np.empty(T + 1)
    for t in range(T + 1):
        last = min(t + n, T)
        G = root_values[last]
        for i in range(last - 1, t - 1, -1):
            G = rewards[i] + gamma * G
        z[t] = G
    return z


def step_scales(K: int) -> Float64:
    """Loss scale of each unroll step `[K + 1]`: 1 at k = 0, then 1/K, so that the unroll weighs as much as the root."""
    scales = np.full(K + 1, 1 / K)
    scales[0] = 1
    return scales


@kernel
def gather_targets(
    slots: Int64,
    fillers: Int64,
    left: Int32,
    terminated: Bool,
    actions: Int64,
    rewards: Float32,
    values: Float32,
    policies: Float32,
    importance: Float64,
    scales: Float64,
    value_weight: float,
    out: Batch,
) -> None:
    """Fills `out` with targets for the positions `slots` `[B]` of a replay buffer.

    Past a terminal end the state is absorbing: reward 0, value 0, no policy target, any action (`fillers [K, B]`).
    Past a truncated end nothing is known and nothing is compared.

    Args:
        slots: positions to start from.
        fillers: actions for steps past the end.
        left: `[capacity]`, steps from each position to its episode's last state.
        terminated: `[capacity]`, whether that last state is terminal.
        actions: `[capacity]`, recorded.
        rewards: `[capacity]`, recorded.
        values: `[capacity]`, value targets.
        policies: `[capacity, A]`, policy targets.
        importance: `[B]`, importance weights.
        scales: `[K + 1]`, `step_scales`.
        value_weight: weight of the value loss.
        out: filled in place.
    """
    B = slots.size
    K = out.actions.shape[0]
    for b in range(B):
        p = slots[b]
        end = left[p]
        for k in range(K + 1):
            weight = scales[k] * importance[b] / B
            known = k < end or (k == end and not terminated[p])
            absorbed = terminated[p] and k >= end
            out.values[k, b] = values[p + k] if known else 0.0
            out.value_weights[k, b] = value_weight * weight if known or absorbed else 0.0
            out.policy_weights[k, b] = weight if known else 0.0
            for a in range(out.policies.shape[2]):
                out.policies[k, b, a] = policies[p + k, a] if known else 0.0
            if k < K:
                taken = k < end
                after = scales[k + 1] * importance[b] / B
                out.actions[k, b] = actions[p + k] if taken else fillers[k, b]
                out.rewards[k, b] = rewards[p + k] if taken else 0.0
                out.reward_weights[k, b] = after if taken or terminated[p] else 0.0
