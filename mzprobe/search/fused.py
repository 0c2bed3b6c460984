"""The fused path: selection, the MLP, rollouts, expansion and backup in one kernel.

A torch call costs more than a small network's work, so for `MLPNetwork` on the CPU nothing here leaves compiled code.
Trees are searched in blocks, one block after the other, so that a block's nodes stay in the cache.
"""

import numpy as np
from numpy.typing import NDArray

from mzprobe._kernel import kernel
from mzprobe.networks.fused.mlp_kernels import (
    Block,
    lanes_of,
    new_block,
    place_action,
    policy_block,
    represent_block,
    reward_block,
    step_block,
    value_block,
)
from mzprobe.networks.fused.transposes import copy, transpose
from mzprobe.networks.fused.weights import MLPWeights
from mzprobe.networks.support import Axis
from mzprobe.search.rollouts import rollout_action
from mzprobe.search.rules.selection import Selection
from mzprobe.search.stages import plant, select
from mzprobe.search.tree import Forest, backup, expand

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]
UInt64 = NDArray[np.uint64]


@kernel
def fused_search(
    weights: MLPWeights,
    axis: Axis,
    observations: Float32,
    forest: Forest,
    selection: Selection,
    gamma: float,
    uniform: bool,
    legal: Bool,
    horizon: int,
    from_root: bool,
    keys: UInt64,
) -> None:
    """Grows every tree by M - 1 simulations from observations `[B, size]`.

    Args:
        weights: the network's weights.
        axis: support of the reward and value heads.
        observations: observations of the roots.
        forest: fresh trees, filled in place.
        selection: the rule.
        gamma: discount of every edge.
        uniform: whether the prior is uniform instead of the policy.
        legal: legal actions of the roots, `[B, A]`, or `[0, A]` where all are legal. Below the root all count as legal,
            since a latent does not know.
        horizon: horizon of rollout leaves, or -1 for leaves of the value head.
        from_root: whether the horizon is counted from the root, else from the leaf.
        keys: keys of the rollouts, `[B]`, or `[0]` without rollouts.
    """
    B, M, A = forest.edges.shape
    block = new_block(weights, lanes_of(B))
    L, lanes = block.z.shape
    latents = np.zeros((lanes, M, L), np.float32)
    # Latents of the nodes to expand. One latent has the same memory layout as row and as column: no copy is needed.
    chosen = block.x[:L].reshape((1, L)) if lanes == 1 else np.zeros((lanes, L), np.float32)
    nodes = np.zeros(lanes, np.int32)
    actions = np.zeros(lanes, np.int32)
    r = np.zeros(lanes)
    v = np.zeros(lanes)
    depth = np.zeros((lanes, M), np.int32)  # 0 throughout where the horizon is counted from the leaf
    for first in range(0, B, lanes):
        count = min(lanes, B - first)
        represent_block(weights, block, observations, first, count)
        for slot in range(M):
            if slot > 0:
                select(forest, first, selection, nodes[:count], actions[:count])
                for i in range(count):
                    depth[i, slot] = depth[i, nodes[i]] + from_root
                    copy(latents[i, nodes[i]], chosen[i])
                    place_action(block.x, L, i, actions[i])
                if lanes > 1:
                    transpose(chosen, block.x[:L])
                step_block(weights, block)
            transpose(block.z, latents[:, slot])
            if not uniform:
                policy_block(weights, block)
            for i in range(count):
                for a in range(A):
                    forest.edges[first + i, slot, a].prior = 1.0 / A if uniform else np.float64(block.policy[a, i])
            if slot > 0:
                reward_block(weights, axis, block, r[:count])
                for i in range(count):
                    if 0 <= horizon < depth[i, slot]:
                        r[i] = 0.0
            if horizon < 0:
                value_block(weights, axis, block, v[:count])
            else:
                _roll_block_out(weights, axis, gamma, keys[first:], slot, horizon - depth[:count, slot], block, v)
            if slot == 0:
                plant(forest, first, v[:count], selection, legal)
                continue
            for i in range(count):
                expand(forest, first + i, slot, nodes[i], actions[i], r[i], gamma)
                backup(forest, first + i, slot, v[i])


@kernel
def _roll_block_out(
    weights: MLPWeights,
    axis: Axis,
    gamma: float,
    keys: UInt64,
    slot: int,
    left: Int32,
    block: Block,
    v: Float64,
) -> None:
    """Takes `left[i]` random steps from the latent of lane i; fills v with the discounted predicted rewards."""
    L, A = block.z.shape[0], block.policy.shape[0]
    v[: left.size] = 0.0
    r = np.empty(left.size)
    discount = 1.0
    for t in range(left.max()):
        for j in range(L):
            block.x[j] = block.z[j]
        for i in range(left.size):
            place_action(block.x, L, i, rollout_action(keys[i], slot, t, A))
        step_block(weights, block)
        reward_block(weights, axis, block, r)
        for i in range(left.size):
            if t < left[i]:
                v[i] += discount * r[i]
        discount *= gamma
