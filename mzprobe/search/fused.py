"""The fused path: select, an MLP's arithmetic, expand and backup in one kernel, a block of trees at a time.

A torch call costs more than a small network's work, so for `MLPNetwork` on the CPU nothing here leaves compiled code.
Trees are taken in blocks, run to the end one block after the other, so that a block's nodes stay in the cache.
"""

import numpy as np
from numpy.typing import NDArray

from mzprobe._kernel import kernel
from mzprobe.networks.mlp import MLPWeights
from mzprobe.networks.mlp_kernels import mean_atom, minmax_rows, perceptron, softmax_rows
from mzprobe.search.tree import Tree, backup, expand, plant, select

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

BLOCK = 32  # trees that share one matrix product; a multiple of four (see mlp_kernels)


@kernel
def fused_search(
    weights: MLPWeights,
    minimum: float,
    spacing: float,
    observations: Float32,
    tree: Tree,
    table: Float64,
    floor: float,
    gamma: float,
    uniform: bool,
    noise: Float64,
    fraction: float,
) -> None:
    """Grows every tree by M - 1 simulations from observations `[B, size]`.

    Args:
        weights: of the network.
        minimum: lowest atom of the support.
        spacing: of its atoms.
        observations: roots.
        tree: fresh trees, filled in place.
        table: `exploration_table`.
        floor: smallest divisor of the Q normalisation.
        gamma: discount.
        uniform: whether the prior is uniform instead of the policy.
        noise: root noise `[B, A]`, or `[0, A]` for none.
        fraction: share of the noise in the root prior.
    """
    B, M, A = tree.prior.shape
    L = weights.dynamics.w2.shape[1]
    H = weights.dynamics.w1.shape[1]
    rows = min(BLOCK, (B + 3) // 4 * 4)
    if max(L + A, H, observations.shape[1]) > 256:  # BLAS sums so long a row in an order that depends on the block
        rows = BLOCK
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
    for first in range(0, B, rows):
        count = min(rows, B - first)
        seen[:count] = observations[first : first + count]
        perceptron(seen, weights.representation, hidden, z)
        for slot in range(M):
            if slot > 0:
                for i in range(count):
                    nodes[i], actions[i] = select(tree, first + i, table, floor)
                    for j in range(L):
                        x[i, j] = latents[i, nodes[i], j]
                    for a in range(A):
                        x[i, L + a] = np.float32(1) if a == actions[i] else np.float32(0)
                perceptron(x, weights.dynamics, hidden, z)
            minmax_rows(z, scale)
            perceptron(z, weights.policy, hidden, policy)
            softmax_rows(policy, powers_policy)
            perceptron(z, weights.value, hidden, value)
            softmax_rows(value, powers_atoms)
            if slot > 0:
                perceptron(z, weights.reward, hidden, reward)
                softmax_rows(reward, powers_atoms)
            for i in range(count):
                b = first + i
                for j in range(L):
                    latents[i, slot, j] = z[i, j]
                for a in range(A):
                    tree.prior[b, slot, a] = 1.0 / A if uniform else np.float64(policy[i, a])
                v = mean_atom(value, i, minimum, spacing)
                if slot > 0:
                    r = mean_atom(reward, i, minimum, spacing)
                    expand(tree, b, slot, nodes[i], actions[i], r)
                    backup(tree, b, slot, v, gamma)
                else:
                    plant(tree, b, v)
                    for a in range(A):
                        if noise.shape[0] > 0:
                            mixed = (1 - fraction) * tree.prior[b, 0, a] + fraction * noise[b, a]
                            tree.prior[b, 0, a] = mixed
