"""Rollout leaves: random actions from a leaf to a planning horizon that is counted from the root.

The actions are numbers of a counter-based hash of the root's observation, the simulation and the step. A root is
therefore planned for alike in whatever batch it stands, and alike in the learned and in the true model, which makes
their cells of Figure 7 paired.

What lies beyond the horizon counts for nothing: a node deeper than that has reward 0 and value 0, so that the search
maximises the discounted reward of its first `horizon` steps.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mzprobe._kernel import inlined, kernel

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
UInt64 = NDArray[np.uint64]

# SplitMix64 (Steele, Lea and Flood 2014): the golden ratio's increment and the finaliser's two factors.
_STEP = np.uint64(0x9E3779B97F4A7C15)
_FACTOR_1 = np.uint64(0xBF58476D1CE4E5B9)
_FACTOR_2 = np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _S32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """A leaf is worth what random actions bring, in the model that is planned in."""

    horizon: int  # steps, counted from the root
    seed: int = 0  # of the actions

    def __post_init__(self) -> None:
        if self.horizon < 1 or not 0 <= self.seed < 2**64:
            raise ValueError(f"a rollout needs horizon >= 1 and 0 <= seed < 2^64, not {self.horizon} and {self.seed}")


@inlined
def _mix(x: np.uint64) -> np.uint64:
    x = (x ^ (x >> _S30)) * _FACTOR_1
    x = (x ^ (x >> _S27)) * _FACTOR_2
    return x ^ (x >> _S31)


@inlined
def rollout_action(key: np.uint64, slot: int, step: int, num_actions: int) -> int:
    """The action of step `step` of the rollout from node `slot` of a tree, uniform over `num_actions`."""
    word = _mix(_mix(key + np.uint64(slot) * _STEP) + np.uint64(step) * _STEP)
    return np.int64(((word >> _S32) * np.uint64(num_actions)) >> _S32)  # type: ignore[return-value]


@kernel
def _keys(words: NDArray[np.uint32], seed: np.uint64) -> UInt64:
    keys = np.empty(words.shape[0], np.uint64)
    for b in range(words.shape[0]):
        key = _mix(seed + _STEP)
        for j in range(words.shape[1]):
            key = _mix(key + np.uint64(words[b, j]) + _STEP)
        keys[b] = key
    return keys


@kernel
def rollout_actions(keys: UInt64, slot: int, steps: int, num_actions: int) -> Int64:
    """Actions of every tree's rollout from node `slot`, `[B, steps]`."""
    actions = np.empty((keys.size, steps), np.int64)
    for b in range(keys.size):
        for t in range(steps):
            actions[b, t] = rollout_action(keys[b], slot, t, num_actions)
    return actions


def root_keys(observations: Float32, seed: int) -> UInt64:
    """A key for each root, from its observation `[B, ...]` and the seed."""
    flat = np.asarray(observations, np.float32).reshape(len(observations), -1) + np.float32(0)  # -0 becomes 0
    return _keys(np.ascontiguousarray(flat).view(np.uint32), np.uint64(seed))


class RolloutArena:
    """How deep every node of B trees lies, and the actions from there on.

    Args:
        rollout: horizon and seed.
        observations: of the roots, `[B, ...]`.
        capacity: nodes a tree.
    """

    def __init__(self, rollout: Rollout, observations: Float32, capacity: int) -> None:
        self.horizon = rollout.horizon
        self.keys = root_keys(observations, rollout.seed)
        self.depth = np.zeros((capacity, len(observations)), np.int64)

    def place(self, nodes: Int32, slot: int) -> Int64:
        """Hangs node `slot` of each tree under `nodes` `[B]`; gives the steps left to the horizon, -1 beyond it."""
        self.depth[slot] = self.depth[nodes, np.arange(nodes.size)] + 1
        return self.left(slot)

    def left(self, slot: int) -> Int64:
        """Steps from each tree's node `slot` to the horizon, `[B]`; -1 beyond it."""
        return np.asarray(np.maximum(self.horizon - self.depth[slot], -1))

    def actions(self, slot: int, num_actions: int) -> Int64:
        """Random actions from node `slot`, `[B, T]`, as many as the longest rollout takes."""
        steps = max(int(self.left(slot).max()), 0)
        return rollout_actions(self.keys, slot, steps, num_actions)


@kernel
def discounted(rewards: Float64, lengths: Int64, gamma: float) -> Float64:
    """Sum of gamma^t r_t over the first `lengths` `[B]` of rewards `[B, T]`, added in order of t."""
    total = np.zeros(rewards.shape[0])
    for b in range(total.size):
        discount = 1.0
        for t in range(min(lengths[b], rewards.shape[1])):
            total[b] += discount * rewards[b, t]
            discount *= gamma
    return total
