"""The fused path: select, an MLP's arithmetic, rollouts, expand and backup in one kernel, a block of trees at a time.

A torch call costs more than a small network's work, so for `MLPNetwork` on the CPU nothing here leaves compiled code.
Trees are taken in blocks, run to the end one block after the other, so that a block's nodes stay in the cache.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mzprobe._kernel import kernel
from mzprobe.networks.mlp import MLPWeights
from mzprobe.networks.mlp_kernels import mean_atom, minmax_rows, perceptron, rows_of, softmax_rows
from mzprobe.networks.support import Axis
from mzprobe.search.rollouts import rollout_action
from mzprobe.search.tree import Tree, backup, expand, plant, select

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]
UInt64 = NDArray[np.uint64]


class Scratch(NamedTuple):
    """Buffers of a block of rows that a rollout writes to."""

    x: Float32  # [rows, L + A], latent and action
    hidden: Float32  # [rows, H]
    z: Float32  # [rows, L], latents; the rollout's start
    scale: Float32  # [rows]
    reward: Float32  # [rows, atoms]
    powers: Int32  # [rows * atoms]


@kernel
def fused_search(
    weights: MLPWeights,
    axis: Axis,
    observations: Float32,
    tree: Tree,
    table: Float64,
    floor: float,
    gamma: float,
    uniform: bool,
    noise: Float64,
    fraction: float,
    horizon: int,
    keys: UInt64,
) -> None:
    """Grows every tree by M - 1 simulations from observations `[B, size]`.

    Args:
        weights: of the network.
        axis: of the reward and value heads.
        observations: roots.
        tree: fresh trees, filled in place.
        table: `exploration_table`.
        floor: smallest divisor of the Q normalisation.
        gamma: discount.
        uniform: whether the prior is uniform instead of the policy.
        noise: root noise `[B, A]`, or `[0, A]` for none.
        fraction: share of the noise in the root prior.
        horizon: of rollout leaves, or -1 for leaves of the value head.
        keys: of the rollouts, `[B]`, or `[0]` for none.
    """
    B, M, A = tree.prior.shape
    L = weights.dynamics.w2.shape[1]
    H = weights.dynamics.w1.shape[1]
    rows = rows_of(B, max(L + A, H, observations.shape[1]))
    x = np.zeros((rows, L + A), np.float32)
    seen = np.zeros((rows, observations.shape[1]), np.float32)
    hidden = np.zeros((rows, H), np.float32)
    z = np.zeros((rows, L), np.float32)
    scale = np.zeros(rows, np.float32)
    reward = np.zeros((rows, weights.reward.w2.shape[1]), np.float32)
    policy = np.zeros((rows, A), np.float32)
    value = np.zeros((rows, weights.value.w2.shape[1]), np.float32)
    powers_atoms = np.zeros(reward.size, np.int32)
    powers_policy = np.zeros(policy.size, np.int32)
    latents = np.zeros((rows, M, L), np.float32)
    nodes = np.zeros(rows, np.int32)
    actions = np.zeros(rows, np.int32)
    r = np.zeros(rows)
    v = np.zeros(rows)
    depth = np.zeros((rows, M), np.int32)
    scratch = Scratch(x, hidden, z, scale, reward, powers_atoms)
    for first in range(0, B, rows):
        count = min(rows, B - first)
        seen[:count] = observations[first : first + count]
        perceptron(seen, weights.representation, hidden, z)
        for slot in range(M):
            if slot > 0:
                for i in range(count):
                    nodes[i], actions[i] = select(tree, first + i, table, floor)
                    depth[i, slot] = depth[i, nodes[i]] + 1
                    for j in range(L):
                        x[i, j] = latents[i, nodes[i], j]
                    for a in range(A):
                        x[i, L + a] = np.float32(1) if a == actions[i] else np.float32(0)
                perceptron(x, weights.dynamics, hidden, z)
            minmax_rows(z, scale)
            for i in range(count):
                for j in range(L):
                    latents[i, slot, j] = z[i, j]
            if not uniform:
                perceptron(z, weights.policy, hidden, policy)
                softmax_rows(policy, powers_policy)
            for i in range(count):
                for a in range(A):
                    tree.prior[first + i, slot, a] = 1.0 / A if uniform else np.float64(policy[i, a])
            if slot > 0:
                perceptron(z, weights.reward, hidden, reward)
                softmax_rows(reward, powers_atoms)
                for i in range(count):
                    beyond = 0 <= horizon < depth[i, slot]
                    r[i] = 0.0 if beyond else mean_atom(reward, i, axis)
            if horizon < 0:
                perceptron(z, weights.value, hidden, value)
                softmax_rows(value, powers_atoms)
                for i in range(count):
                    v[i] = mean_atom(value, i, axis)
            else:
                left = horizon - depth[:count, slot]
                _roll_out(weights, axis, gamma, keys[first:], slot, left, scratch, v)
            for i in range(count):
                if slot > 0:
                    expand(tree, first + i, slot, nodes[i], actions[i], r[i])
                    backup(tree, first + i, slot, v[i], gamma)
                else:
                    plant(tree, first + i, v[i])
                    for a in range(A):
                        if noise.shape[0] > 0:
                            mixed = (1 - fraction) * tree.prior[first + i, 0, a] + fraction * noise[first + i, a]
                            tree.prior[first + i, 0, a] = mixed


@kernel
def _roll_out(
    weights: MLPWeights,
    axis: Axis,
    gamma: float,
    keys: UInt64,
    slot: int,
    left: Int32,
    scratch: Scratch,
    v: Float64,
) -> None:
    """Random actions from the latents for `left` steps a row; v is left holding their discounted predicted reward."""
    x, hidden, z, scale, reward, powers = scratch
    L = z.shape[1]
    A = x.shape[1] - L
    v[: left.size] = 0.0
    discount = 1.0
    for t in range(left.max()):
        for i in range(left.size):
            action = rollout_action(keys[i], slot, t, A)
            for j in range(L):
                x[i, j] = z[i, j]
            for a in range(A):
                x[i, L + a] = np.float32(1) if a == action else np.float32(0)
        perceptron(x, weights.dynamics, hidden, z)
        minmax_rows(z, scale)
        perceptron(z, weights.reward, hidden, reward)
        softmax_rows(reward, powers)
        for i in range(left.size):
            if t < left[i]:
                v[i] += discount * mean_atom(reward, i, axis)
        discount *= gamma
