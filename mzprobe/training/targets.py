"""Training targets as pure functions (the paper, section 2.2; MuZero, appendix G and its pseudocode)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mzprobe._kernel import kernel

Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]
Rewards = NDArray[np.float32] | NDArray[np.float64]
Int64 = NDArray[np.int64]
Int32 = NDArray[np.int32]
Bool = NDArray[np.bool_]


class Batch(NamedTuple):
    """Observations, actions and targets of one training step; k counts steps in the model.

    The weights hold all factors of the loss except the weights of its terms.
    """

    observations: NDArray[Any]  # [B, *shape], at k = 0, in the environment's dtype
    actions: Int64  # [K, B], the action that leads from k to k + 1
    rewards: Float32  # [K, B], environment units
    values: Float32  # [K + 1, B], environment units
    policies: Float32  # [K + 1, B, A]
    reward_weights: Float32  # [K, B], 0 past a truncated end
    value_weights: Float32  # [K + 1, B], 0 past a truncated end
    policy_weights: Float32  # [K + 1, B], 0 past a truncated end and from a terminal end on


def joined(parts: Sequence[Batch]) -> Batch:
    """Joins batches into one; the loss weights of each part are scaled by its share of the whole.

    Importance weights stay normalised by the largest of their own part.
    """
    if len(parts) == 1:
        return parts[0]
    B = sum(len(part.observations) for part in parts)
    shares = [np.float32(len(part.observations) / B) for part in parts]
    weighed = [
        part._replace(
            reward_weights=part.reward_weights * share,
            value_weights=part.value_weights * share,
            policy_weights=part.policy_weights * share,
        )
        for part, share in zip(parts, shares, strict=True)
    ]
    columns = [np.concatenate(arrays, axis=1) for arrays in zip(*(part[1:] for part in weighed), strict=True)]
    return Batch(np.concatenate([part.observations for part in parts]), *columns)


@kernel
def bootstrapped(first: int, last: int, rewards: Rewards, root_values: Rewards, gamma: float) -> float:
    """Returns the rewards of steps `first` to `last - 1` plus the root value at `last`, all discounted to `first`."""
    G = float(root_values[last])
    for i in range(last - 1, first - 1, -1):
        G = rewards[i] + gamma * G
    return G


@kernel
def n_step_values(rewards: Float64, root_values: Float64, *, n: int, gamma: float) -> Float64:
    """Computes z_t = sum_{i<n} gamma^i r_{t+i} + gamma^n v_{t+n}, for t = 0..T.

    Args:
        rewards: `[T]`, environment units.
        root_values: `[T + 1]`, root values of the search at each state. The last one is 0 if the episode terminated
            there (absorbing), and the search's root value if it was truncated (bootstrap).
        n: number of real rewards before the bootstrap; near the end, as many as are left.
        gamma: discount.

    Returns:
        Value targets, `[T + 1]`.
    """
    T = rewards.size
    z = np.empty(T + 1)
    for t in range(T + 1):
        z[t] = bootstrapped(t, min(t + n, T), rewards, root_values, gamma)
    return z


@kernel
def values_of_age(
    slots: Int64, n: Int64, left: Int32, rewards: Float32, root_values: Float32, gamma: float, out: Float32
) -> None:
    """Fills `out` `[M]` with the value targets of slots `[M]`, each with its own n `[M]`, cut at its episode's end."""
    for i in range(slots.size):
        p = slots[i]
        out[i] = bootstrapped(p, p + min(n[i], left[p]), rewards, root_values, gamma)


@kernel
def next_targets(left: Int32, terminated: Bool, cursor: int, count: int) -> tuple[Int64, int]:
    """Returns the next slots `[M]`, M <= count, that have targets, and the cursor to continue from.

    Args:
        left: `[used]`, steps from each slot to its episode's last state, -1 in free slots.
        terminated: `[capacity]`, whether that last state is terminal, and so has no target.
        cursor: slot to begin at; every slot is visited at most once.
        count: largest number of slots.
    """
    used = left.size
    slots = np.empty(min(count, used), np.int64)
    found = 0
    for i in range(used):
        if found == slots.size:
            return slots, (cursor + i) % used
        p = (cursor + i) % used
        if left[p] > 0 or (left[p] == 0 and not terminated[p]):
            slots[found] = p
            found += 1
    return slots[:found], cursor


@kernel
def rebootstrap(
    slots: Int64, root_values: Float64, left: Int32, rewards: Float32, values: Float32, *, n: int, gamma: float
) -> None:
    """Recomputes the value targets that bootstrap from root values `[M]` of slots `[M]`, as in `n_step_values`.

    A non-final state affects only the target n steps earlier; a truncated end affects the n targets before it and its
    own.
    """
    for i in range(slots.size):
        p = slots[i]
        G = root_values[i]
        whole = left[p] > 0  # only the target n steps earlier bootstraps here
        if not whole:
            values[p] = G
        for k in range(1, n + 1):
            t = p - k
            if t < 0 or left[t] != left[p] + k:
                break
            G = rewards[t] + gamma * G
            if not whole or k == n:
                values[t] = G


def step_scales(K: int) -> Float64:
    """Returns the loss scale of each unroll step `[K + 1]`: 1 at k = 0, then 1/K: root and unroll weigh alike."""
    scales = np.full(K + 1, 1 / max(K, 1))
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
    out: Batch,
) -> None:
    """Fills `out` with targets for the positions `slots` `[B]` of a replay buffer.

    From a terminal end on the state is absorbing: reward 0, value 0, no policy target, and the actions of `fillers`.
    Past a truncated end nothing is known, and all weights are 0.

    Args:
        slots: `[B]`, positions to start from.
        fillers: `[K, B]`, actions for steps past the end.
        left: `[capacity]`, steps from each position to its episode's last state.
        terminated: `[capacity]`, whether that last state is terminal.
        actions: `[capacity]`, recorded actions.
        rewards: `[capacity]`, recorded rewards.
        values: `[capacity]`, value targets.
        policies: `[capacity, A]`, policy targets.
        importance: `[B]`, importance weights.
        scales: `[K + 1]`, result of `step_scales`.
        out: batch to fill in place.
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
            out.value_weights[k, b] = weight if known or absorbed else 0.0
            out.policy_weights[k, b] = weight if known else 0.0
            for a in range(out.policies.shape[2]):
                out.policies[k, b, a] = policies[p + k, a] if known else 0.0
            if k < K:
                taken = k < end
                after = scales[k + 1] * importance[b] / B
                out.actions[k, b] = actions[p + k] if taken else fillers[k, b]
                out.rewards[k, b] = rewards[p + k] if taken else 0.0
                out.reward_weights[k, b] = after if taken or terminated[p] else 0.0


@kernel
def renew_values(
    slots: Int64,
    n: Int64,
    left: Int32,
    terminated: Bool,
    rewards: Float32,
    root_values: Float32,
    gamma: float,
    out: Batch,
) -> None:
    """Replaces the value targets that `gather_targets` gave slots `[B]` by those with n `[B]`, where n is not 0."""
    for b in range(slots.size):
        p = slots[b]
        for k in range(out.values.shape[0]):
            if n[b] and (k < left[p] or (k == left[p] and not terminated[p])):
                last = p + k + min(n[b], left[p + k])
                out.values[k, b] = bootstrapped(p + k, last, rewards, root_values, gamma)
