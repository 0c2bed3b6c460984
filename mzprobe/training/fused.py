"""Loss and gradient of an `MLPNetwork` in one kernel: what `objective.py` and autograd give, faster.

On a small network most of a torch step is calls and short-lived memory. Here the forward pass keeps what the backward
pass needs in one workspace. A batch lies across, as in `mlp_kernels.py`, one unroll step after the other; a weight's
gradient is summed over steps, and within a step over the batch, in that order.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mzprobe._kernel import kernel
from mzprobe.networks.mlp import Layers, MLPWeights
from mzprobe.networks.mlp_kernels import mean_atoms, minmax_lanes, perceptron, softmax_lanes
from mzprobe.networks.products import add_product
from mzprobe.networks.support import EPSILON, Axis
from mzprobe.training.objective import policy_loss, reward_loss, value_loss
from mzprobe.training.targets import Batch

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]

COVERED = (reward_loss, value_loss, policy_loss)  # terms that the gradient knows, in this order


class Workspace(NamedTuple):
    """Memory of one training step, reused."""

    seen: Float32  # [observation size, B]
    x: Float32  # [K, L + A, B], inputs of the dynamics
    h_body: Float32  # [K + 1, H, B], hidden activations of representation (step 0) and dynamics
    z: Float32  # [K + 1, L, B], latents
    scale: Float32  # [K + 1, B], 1 / (max - min + eps) of the unscaled latents
    hidden: Float32  # [H, B], of the head at hand
    dz: Float32  # [K + 1, L, B]
    dy: Float32  # [L, B], gradient before the latents' scaling
    dh: Float32  # [H, B]
    scalar: Float32  # [atoms, B], logits of reward or value, then probabilities, then their gradient
    policy: Float32  # [A, B], the same
    powers_scalar: Int32  # [atoms B], scratch of the exponentials
    powers_policy: Int32  # [A B]
    row: Float32  # [B]
    values: Float64  # [B], at the roots
    across: Float32  # [B, H], dh with the batch down
    across_scalar: Float32  # [B, atoms]
    across_policy: Float32  # [B, A]
    across_latent: Float32  # [B, L]
    step: Float32  # [L + A + L, B], what a reward head of transitions reads, or [0, B]
    dstep: Float32  # the same, its gradient


def workspace(weights: MLPWeights, *, B: int, K: int) -> Workspace:
    """Memory for batches of B positions unrolled K steps."""
    L, H = weights.representation.w2.shape[1], weights.representation.w1.shape[1]
    A, atoms = weights.policy.w2.shape[1], weights.value.w2.shape[1]
    read = weights.reward.w1.shape[0]
    step = read if read > L else 0

    def room(*shape: int) -> Float32:
        return np.zeros(shape, np.float32)

    return Workspace(
        seen=room(weights.representation.w1.shape[0], B),
        x=room(K, L + A, B),
        h_body=room(K + 1, H, B),
        z=room(K + 1, L, B),
        scale=room(K + 1, B),
        hidden=room(H, B),
        dz=room(K + 1, L, B),
        dy=room(L, B),
        dh=room(H, B),
        scalar=room(atoms, B),
        policy=room(A, B),
        powers_scalar=np.zeros(atoms * B, np.int32),
        powers_policy=np.zeros(A * B, np.int32),
        row=room(B),
        values=np.zeros(B),
        across=room(B, H),
        across_scalar=room(B, atoms),
        across_policy=room(B, A),
        across_latent=room(B, L),
        step=room(step, B),
        dstep=room(step, B),
    )


@kernel
def fused_gradient(
    weights: MLPWeights,
    gradients: MLPWeights,
    axis: Axis,
    batch: Batch,
    work: Workspace,
    root_values: Float32,
    term_weights: tuple[float, float, float],
) -> tuple[float, float, float]:
    """Writes the gradient of the loss and gives its (reward, value, policy) parts; `root_values [B]` is filled.

    `batch.observations` is flat here, `[B, size]`; `term_weights` are of the terms `COVERED`.
    """
    K = batch.actions.shape[0]
    _unroll(weights, batch, work)
    for layers in gradients:
        layers.w1[:] = np.float32(0)
        layers.b1[:] = np.float32(0)
        layers.w2[:] = np.float32(0)
        layers.b2[:] = np.float32(0)
    work.dz[:] = np.float32(0)
    of_reward, of_value, of_policy = term_weights
    reward_loss, value_loss, policy_loss = 0.0, 0.0, 0.0
    for k in range(K + 1):
        z, dz = work.z[k], work.dz[k]
        perceptron(z, weights.policy, work.hidden, work.policy)
        softmax_lanes(work.policy, work.row, work.powers_policy)
        policy_loss += _policy_gradient(work.policy, batch.policies[k], batch.policy_weights[k], of_policy)
        _head_gradient(z, work.policy, weights.policy, gradients.policy, work, work.across_policy, dz)

        perceptron(z, weights.value, work.hidden, work.scalar)
        softmax_lanes(work.scalar, work.row, work.powers_scalar)
        if k == 0:
            mean_atoms(work.scalar, axis, work.row, work.values)
            for b in range(root_values.size):
                root_values[b] = np.float32(work.values[b])
        value_loss += _scalar_gradient(work.scalar, batch.values[k], batch.value_weights[k], of_value, axis)
        _head_gradient(z, work.scalar, weights.value, gradients.value, work, work.across_scalar, dz)

        if k > 0:
            of_all = work.step.shape[0] > 0
            read, dread = (work.step, work.dstep) if of_all else (z, dz)
            if of_all:
                _lay_side_by_side(work.x[k - 1], z, work.step)
                work.dstep[:] = np.float32(0)
            perceptron(read, weights.reward, work.hidden, work.scalar)
            softmax_lanes(work.scalar, work.row, work.powers_scalar)
            reward_loss += _scalar_gradient(
                work.scalar, batch.rewards[k - 1], batch.reward_weights[k - 1], of_reward, axis
            )
            _head_gradient(read, work.scalar, weights.reward, gradients.reward, work, work.across_scalar, dread)
            if of_all:
                _add_to_latents(work.dstep, work.dz[k - 1], dz)
    _back_through_time(weights, gradients, work)
    return reward_loss, value_loss, policy_loss


@kernel
def _lay_side_by_side(x: Float32, z: Float32, step: Float32) -> None:
    """Step = x over z."""
    for j in range(step.shape[0]):
        for b in range(step.shape[1]):
            step[j, b] = x[j, b] if j < x.shape[0] else z[j - x.shape[0], b]


@kernel
def _add_to_latents(dstep: Float32, before: Float32, after: Float32) -> None:
    """Adds the gradient of what a reward head read to that of both latents."""
    L, past = before.shape[0], dstep.shape[0] - after.shape[0]
    for j in range(L):
        for b in range(before.shape[1]):
            before[j, b] += dstep[j, b]
            after[j, b] += dstep[past + j, b]


@kernel
def _unroll(weights: MLPWeights, batch: Batch, work: Workspace) -> None:
    """Latents of all steps, with what led to them."""
    K, B = batch.actions.shape
    L, A = work.z.shape[1], work.policy.shape[0]
    for b in range(B):
        for j in range(work.seen.shape[0]):
            work.seen[j, b] = batch.observations[b, j]
    perceptron(work.seen, weights.representation, work.h_body[0], work.z[0])
    minmax_lanes(work.z[0], work.scale[0], work.row)
    for k in range(K):
        for j in range(L):
            work.x[k, j] = work.z[k, j]
        for a in range(A):
            for b in range(B):
                work.x[k, L + a, b] = np.float32(1) if a == batch.actions[k, b] else np.float32(0)
        perceptron(work.x[k], weights.dynamics, work.h_body[k + 1], work.z[k + 1])
        minmax_lanes(work.z[k + 1], work.scale[k + 1], work.row)


@kernel
def _back_through_time(weights: MLPWeights, gradients: MLPWeights, work: Workspace) -> None:
    """Carries dz through the dynamics, half of it each step, and through the representation."""
    L = work.z.shape[1]
    for k in range(work.x.shape[0], 0, -1):
        _minmax_gradient(work.z[k], work.scale[k], work.dz[k], work.dy)
        _body_gradient(work.x[k - 1], work.h_body[k], weights.dynamics, gradients.dynamics, work)
        for j in range(work.dh.shape[0]):
            for b in range(work.dh.shape[1]):
                work.dh[j, b] *= np.float32(0.5)
        add_product(weights.dynamics.w1[:L], work.dh, work.dz[k - 1])
    _minmax_gradient(work.z[0], work.scale[0], work.dz[0], work.dy)
    _body_gradient(work.seen, work.h_body[0], weights.representation, gradients.representation, work)


@kernel
def _head_gradient(
    x: Float32, dout: Float32, layers: Layers, gradients: Layers, work: Workspace, across: Float32, dx: Float32
) -> None:
    """Adds the gradient of a head from that of its logits `dout`, with `across` as room, and that of its input."""
    _hidden_gradient(dout, layers, work.hidden, work.dh)
    _weight_gradient(x, work.hidden, dout, gradients, work, across)
    add_product(layers.w1, work.dh, dx)


@kernel
def _body_gradient(x: Float32, hidden: Float32, layers: Layers, gradients: Layers, work: Workspace) -> None:
    """Adds the gradient of representation or dynamics from that of the unscaled latents, `work.dy`."""
    _hidden_gradient(work.dy, layers, hidden, work.dh)
    _weight_gradient(x, hidden, work.dy, gradients, work, work.across_latent)


@kernel
def _hidden_gradient(dout: Float32, layers: Layers, hidden: Float32, dh: Float32) -> None:
    """Through the output layer and the ReLU."""
    dh[:] = np.float32(0)
    add_product(layers.w2, dout, dh)
    for j in range(dh.shape[0]):
        for b in range(dh.shape[1]):
            dh[j, b] = dh[j, b] if hidden[j, b] > 0 else np.float32(0)


@kernel
def _weight_gradient(
    x: Float32, hidden: Float32, dout: Float32, gradients: Layers, work: Workspace, across: Float32
) -> None:
    """Adds x dh' and hidden dout', and the biases' sums, over the batch in its order."""
    _lay_down(work.dh, work.across)
    _lay_down(dout, across)
    add_product(x, work.across, gradients.w1)
    add_product(hidden, across, gradients.w2)
    _add_rows(work.across, gradients.b1)
    _add_rows(across, gradients.b2)


@kernel
def _lay_down(x: Float32, out: Float32) -> None:
    """Out = x', in squares that fit a cache line."""
    m, n = x.shape
    for first in range(0, m, 16):
        for start in range(0, n, 16):
            for b in range(start, min(start + 16, n)):
                for j in range(first, min(first + 16, m)):
                    out[b, j] = x[j, b]


@kernel
def _add_rows(rows: Float32, out: Float32) -> None:
    for i in range(rows.shape[0]):
        for j in range(out.size):
            out[j] += rows[i, j]


@kernel
def _minmax_gradient(z: Float32, scale: Float32, dz: Float32, dy: Float32) -> None:
    """From scaled to unscaled latents: z = (y - min) s, s = 1 / (max - min + eps).

    dz_j/dy_j = s; through the minimum -s (1 - z_j) for every j, through the maximum -s z_j.
    """
    L = z.shape[0]
    for b in range(z.shape[1]):
        lowest = 0
        highest = 0
        through_low = np.float32(0)
        through_high = np.float32(0)
        for j in range(L):
            if z[j, b] < z[lowest, b]:
                lowest = j
            if z[j, b] > z[highest, b]:
                highest = j
            through_low += dz[j, b] * (np.float32(1) - z[j, b])
            through_high += dz[j, b] * z[j, b]
        for j in range(L):
            dy[j, b] = dz[j, b] * scale[b]
        dy[lowest, b] -= scale[b] * through_low
        dy[highest, b] -= scale[b] * through_high


@kernel
def _policy_gradient(probabilities: Float32, targets: Float32, weights: Float32, of_term: float) -> float:
    """Turns policies `[A, B]` into the gradient of their weighted cross-entropy to targets `[B, A]`; gives the loss."""
    B, A = targets.shape
    loss = 0.0
    for b in range(B):
        weight = weights[b] * np.float32(of_term)
        total = np.float32(0)
        for a in range(A):
            total += targets[b, a]
        for a in range(A):
            target = targets[b, a]
            if target > 0:
                loss -= weight * target * np.log(probabilities[a, b])
            probabilities[a, b] = weight * (total * probabilities[a, b] - target)
    return loss


@kernel
def _scalar_gradient(probabilities: Float32, targets: Float32, weights: Float32, of_term: float, axis: Axis) -> float:
    """Turns `[atoms, B]` into the gradient of their cross-entropy to two-hot targets `[B]`; gives the loss."""
    atoms, B = probabilities.shape
    maximum = axis.minimum + axis.spacing * (atoms - 1)
    loss = 0.0
    for b in range(B):
        x = targets[b] * axis.reward_scale
        y = np.sign(x) * (np.sqrt(np.abs(x) + 1) - 1) + EPSILON * x
        place = (min(max(y, axis.minimum), maximum) - axis.minimum) / axis.spacing
        low = max(0, min(int(np.floor(place)), atoms - 2))  # a NaN stays inside
        share = np.float32(place - low)
        weight = weights[b] * np.float32(of_term)
        # In their logarithms, before they are overwritten.
        if share < 1:
            loss -= weight * (1 - share) * np.log(probabilities[low, b])
        if share > 0:
            loss -= weight * share * np.log(probabilities[low + 1, b])
        for j in range(atoms):
            probabilities[j, b] *= weight
        probabilities[low, b] -= weight * (np.float32(1) - share)
        probabilities[low + 1, b] -= weight * share
    return loss
