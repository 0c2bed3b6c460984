"""Rollout leaves: random actions from a leaf to a planning horizon, counted from the root or from the leaf.

The actions are drawn by lot from the root's observation, the simulation and the step (`lots.py`). Where all actions are
legal, they are the same in the learned and in the true model.

Counted from the root, nothing beyond the horizon counts: a node deeper than that has reward 0 and value 0, so that the
search maximises the discounted reward of its first `horizon` steps. Counted from the leaf, every leaf is followed by
`horizon` steps: deeper ones see further, and where rewards have one sign their values are larger in size.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mzprobe._kernel import inlined, kernel
from mzprobe.envs.core import Environment, legal_actions, rewards_along, step_of
from mzprobe.search.lots import lot, root_keys

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
UInt64 = NDArray[np.uint64]

_S32 = np.uint64(32)


CountedFrom = Literal["root", "leaf"]


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """Settings of a rollout, which values a leaf by the rewards of random actions in the model that is planned in.

    Raises:
        ValueError: if the horizon is below 1 or the seed is not in [0, 2^64).
    """

    horizon: int  # steps
    seed: int = 0  # seed of the actions
    counted_from: CountedFrom = "root"

    def __post_init__(self) -> None:
        if self.horizon < 1 or not 0 <= self.seed < 2**64:
            raise ValueError(f"a rollout needs horizon >= 1 and 0 <= seed < 2^64, not {self.horizon} and {self.seed}")


@inlined
def rollout_action(key: np.uint64, slot: int, step: int, num_actions: int) -> int:
    """Returns the action of step `step` of the rollout from node `slot` of a tree, uniform over `num_actions`."""
    return np.int64(((lot(key, slot, step) >> _S32) * np.uint64(num_actions)) >> _S32)  # type: ignore[return-value]


@kernel
def legal_rollout_actions(keys: UInt64, slot: int, step: int, legal: Bool) -> Int64:
    """Returns step `step` of every tree's rollout from node `slot`, `[B]`, uniform over the legal actions `[B, A]`."""
    B, A = legal.shape
    actions = np.zeros(B, np.int64)
    for b in range(B):
        left = rollout_action(keys[b], slot, step, legal[b].sum())
        for a in range(A):
            if legal[b, a]:
                if left == 0:
                    actions[b] = a
                left -= 1
    return actions


@kernel
def rollout_actions(keys: UInt64, slot: int, steps: int, num_actions: int) -> Int64:
    """Returns the actions of every tree's rollout from node `slot`, `[B, steps]`."""
    actions = np.empty((keys.size, steps), np.int64)
    for b in range(keys.size):
        for t in range(steps):
            actions[b, t] = rollout_action(keys[b], slot, t, num_actions)
    return actions


class RolloutArena:
    """Depths of all nodes of B trees, and the random actions from there on.

    Args:
        rollout: settings of the rollouts.
        observations: observations of the roots, `[B, ...]`.
        capacity: nodes per tree.
    """

    def __init__(self, rollout: Rollout, observations: NDArray[Any], capacity: int) -> None:
        self.horizon = rollout.horizon
        self.from_root = rollout.counted_from == "root"
        self.keys = root_keys(observations, rollout.seed)
        self.depth = np.zeros((capacity, len(observations)), np.int64)

    def place(self, nodes: Int32, slot: int) -> Int64:
        """Adds node `slot` of each tree below `nodes` `[B]`; returns the steps left to the horizon, -1 beyond it."""
        self.depth[slot] = self.depth[nodes, np.arange(nodes.size)] + 1
        return self.left(slot)

    def left(self, slot: int) -> Int64:
        """Returns the steps from each tree's node `slot` to the horizon, `[B]`; -1 beyond it."""
        return np.asarray(np.maximum(self.horizon - self.from_root * self.depth[slot], -1))

    def actions(self, slot: int, num_actions: int) -> Int64:
        """Returns random actions from node `slot`, `[B, T]`, where T is the length of the longest rollout."""
        steps = max(int(self.left(slot).max()), 0)
        return rollout_actions(self.keys, slot, steps, num_actions)


def rolled_out(environment: Environment, states: Any, arena: RolloutArena, slot: int) -> Float64:
    """Returns the real rewards of the rollouts from node `slot` of every tree, `[B, T]`, 0 after an end.

    Only legal actions are taken.
    """
    A = environment.spec.num_actions
    legal = legal_actions(environment, states)
    if legal is None:
        return rewards_along(environment, states, arena.actions(slot, A))
    rewards = np.zeros((len(states), max(int(arena.left(slot).max()), 0)))
    for t in range(rewards.shape[1]):
        actions = legal_rollout_actions(arena.keys, slot, t, legal)
        states, outcome = step_of(environment, states, actions)
        rewards[:, t] = outcome.reward
        legal = np.asarray(legal_actions(environment, states))
    return rewards


@kernel
def discounted(rewards: Float64, lengths: Int64, gamma: float) -> Float64:
    """Returns the sum of gamma^t r_t over the first `lengths` `[B]` of rewards `[B, T]`, added in order of t."""
    total = np.zeros(rewards.shape[0])
    for b in range(total.size):
        discount = 1.0
        for t in range(min(lengths[b], rewards.shape[1])):
            total[b] += discount * rewards[b, t]
            discount *= gamma
    return total
