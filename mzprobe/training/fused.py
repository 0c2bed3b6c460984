"""Loss and gradient of an `MLPNetwork` in one kernel: what `losses.py` and autograd give, faster.

On a small network most of a torch step is calls and short-lived memory. Here the forward pass keeps what the backward
pass needs in one workspace, and every product over all unroll steps is a single BLAS call.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mzprobe._kernel import fast_kernel
from mzprobe.networks.mlp import Layers, MLPWeights
from mzprobe.networks.mlp_kernels import mean_atom, minmax_rows, perceptron, softmax_rows
from mzprobe.networks.support import EPSILON, Axis
from mzprobe.training.targets import Batch

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]


class Workspace(NamedTuple):
    """Memory of one training step, reused; R = (K + 1) B rows, step by step."""

    x: Float32  # [K B, L + A], inputs of the dynamics
    h_body: Float32  # [R, H], hidden activations of representation (first B rows) and dynamics
    z: Float32  # [R, L], latents
    scale: Float32  # [R], 1 / (max - min + eps) of the unscaled latents
    hidden: Float32  # [R, H], of the head at hand
    dz: Float32  # [R, L]
    dz_head: Float32  # [R, L]
    dy: Float32  # [R, L], gradient before the latents' scaling
    dh: Float32  # [R, H]
    dx: Float32  # [B, L + A]
    reward: Float32  # [K B, atoms], logits, then probabilities, then their gradient
    value: Float32  # [R, atoms]
    policy: Float32  # [R, A]
    powers: Int32  # [R * atoms or A], scratch of the exponentials


def workspace(weights: MLPWeights, *, B: int, K: int) -> Workspace:
    """Memory for batches of B positions unrolled K steps."""
    L, H = weights.representation.w2.shape[1], weights.representation.w1.shape[1]
    A, atoms = weights.policy.w2.shape[1], weights.value.w2.shape[1]
    R = (K + 1) * B

    def room(*shape: int) -> Float32:
        return np.zeros(shape, np.float32)

    return Workspace(
        x=room(K * B, L + A),
        h_body=room(R, H),
        z=room(R, L),
        scale=room(R),
        hidden=room(R, H),
        dz=room(R, L),
        dz_head=room(R, L),
        dy=room(R, L),
        dh=room(R, H),
        dx=room(B, L + A),
        reward=room(K * B, atoms),
        value=room(R, atoms),
        policy=room(R, A),
        powers=np.zeros(R * max(A, atoms), np.int32),
    )


@fast_kernel
def fused_gradient(
    weights: MLPWeights,
    gradients: MLPWeights,
    axis: Axis,
    batch: Batch,
    work: Workspace,
    root_values: Float32,
) -> tuple[float, float, float]:
    """Writes the gradient of the loss and gives its (reward, value, policy) parts; `root_values [B]` is filled.

    `batch.observations` is flat here, `[B, size]`.
    """
    K, B = batch.actions.shape
    L = work.z.shape[1]
    A = work.policy.shape[1]
    perceptron(batch.observations, weights.representation, work.h_body[:B], work.z[:B])
    minmax_rows(work.z[:B], work.scale[:B])
    for k in range(K):
        here, after = slice(k * B, (k + 1) * B), slice((k + 1) * B, (k + 2) * B)
        for b in range(B):
            for j in range(L):
                work.x[k * B + b, j] = work.z[k * B + b, j]
            for a in range(A):
                work.x[k * B + b, L + a] = np.float32(1) if a == batch.actions[k, b] else np.float32(0)
        perceptron(work.x[here], weights.dynamics, work.h_body[after], work.z[after])
        minmax_rows(work.z[after], work.scale[after])

    work.dz[:] = 0
    perceptron(work.z, weights.policy, work.hidden, work.policy)
    policy_loss = _policy_gradient(work.policy, batch, work.powers)
    _perceptron_gradient(work.z, work.hidden, work.policy, weights.policy, gradients.policy, work.dh, work.dz_head)
    _accumulate(work.dz, work.dz_head)

    perceptron(work.z, weights.value, work.hidden, work.value)
    value_loss = _scalar_gradient(work.value, batch.values, batch.value_weights, axis, work.powers, root_values)
    _perceptron_gradient(work.z, work.hidden, work.value, weights.value, gradients.value, work.dh, work.dz_head)
    _accumulate(work.dz, work.dz_head)

    unrolled = slice(B, (K + 1) * B)
    nothing = root_values[:0]
    perceptron(work.z[unrolled], weights.reward, work.hidden[unrolled], work.reward)
    reward_loss = _scalar_gradient(work.reward, batch.rewards, batch.reward_weights, axis, work.powers, nothing)
    _perceptron_gradient(
        work.z[unrolled],
        work.hidden[unrolled],
        work.reward,
        weights.reward,
        gradients.reward,
        work.dh[unrolled],
        work.dz_head[unrolled],
    )
    _accumulate(work.dz[unrolled], work.dz_head[unrolled])
    _back_through_time(weights, gradients, batch, work)
    return reward_loss, value_loss, policy_loss


@fast_kernel
def _back_through_time(weights: MLPWeights, gradients: MLPWeights, batch: Batch, work: Workspace) -> None:
    """Carries dz through the dynamics, half of it each step, and through the representation."""
    K, B = batch.actions.shape
    L = work.z.shape[1]
    for k in range(K, 0, -1):
        here, before = slice(k * B, (k + 1) * B), slice((k - 1) * B, k * B)
        _minmax_gradient(work.z[here], work.scale[here], work.dz[here], work.dy[here])
        _hidden_gradient(work.dy[here], weights.dynamics, work.h_body[here], work.dh[here])
        np.dot(work.dh[here], weights.dynamics.w1.T, work.dx)
        dz = work.dz[before]
        for b in range(B):
            for j in range(L):
                dz[b, j] += np.float32(0.5) * work.dx[b, j]
    _minmax_gradient(work.z[:B], work.scale[:B], work.dz[:B], work.dy[:B])
    _hidden_gradient(work.dy[:B], weights.representation, work.h_body[:B], work.dh[:B])
    _weight_gradient(work.x, work.h_body[B:], work.dy[B:], work.dh[B:], gradients.dynamics)
    _weight_gradient(batch.observations, work.h_body[:B], work.dy[:B], work.dh[:B], gradients.representation)


@fast_kernel
def _perceptron_gradient(
    x: Float32, hidden: Float32, dout: Float32, layers: Layers, gradients: Layers, dh: Float32, dx: Float32
) -> None:
    """Gradient of a head from that of its logits `dout`."""
    _hidden_gradient(dout, layers, hidden, dh)
    np.dot(dh, layers.w1.T, dx)
    _weight_gradient(x, hidden, dout, dh, gradients)


@fast_kernel
def _hidden_gradient(dout: Float32, layers: Layers, hidden: Float32, dh: Float32) -> None:
    """Through the output layer and the ReLU."""
    np.dot(dout, layers.w2.T, dh)
    for i in range(dh.shape[0]):
        for j in range(dh.shape[1]):
            dh[i, j] = dh[i, j] if hidden[i, j] > 0 else np.float32(0)


@fast_kernel
def _weight_gradient(x: Float32, hidden: Float32, dout: Float32, dh: Float32, gradients: Layers) -> None:
    np.dot(x.T, dh, gradients.w1)
    np.dot(hidden.T, dout, gradients.w2)
    _column_sums(dh, gradients.b1)
    _column_sums(dout, gradients.b2)


@fast_kernel
def _column_sums(rows: Float32, out: Float32) -> None:
    out[:] = 0
    for i in range(rows.shape[0]):
        for j in range(out.size):
            out[j] += rows[i, j]


@fast_kernel
def _accumulate(total: Float32, part: Float32) -> None:
    for i in range(total.shape[0]):
        for j in range(total.shape[1]):
            total[i, j] += part[i, j]


@fast_kernel
def _minmax_gradient(z: Float32, scale: Float32, dz: Float32, dy: Float32) -> None:
    """From scaled to unscaled latents: z = (y - min) s, s = 1 / (max - min + eps).

    dz_j/dy_j = s; through the minimum -s (1 - z_j) for every j, through the maximum -s z_j.
    """
    for i in range(z.shape[0]):
        lowest = 0
        highest = 0
        through_low = np.float32(0)
        through_high = np.float32(0)
        for j in range(z.shape[1]):
            if z[i, j] < z[i, lowest]:
                lowest = j
            if z[i, j] > z[i, highest]:
                highest = j
            through_low += dz[i, j] * (np.float32(1) - z[i, j])
            through_high += dz[i, j] * z[i, j]
        for j in range(z.shape[1]):
            dy[i, j] = dz[i, j] * scale[i]
        dy[i, lowest] -= scale[i] * through_low
        dy[i, highest] -= scale[i] * through_high


@fast_kernel
def _policy_gradient(logits: Float32, batch: Batch, powers: Int32) -> float:
    """Turns policy logits into the gradient of their weighted cross-entropy; gives the loss."""
    steps, B, A = batch.policies.shape
    softmax_rows(logits, powers)
    loss = 0.0
    for k in range(steps):
        for b in range(B):
            weight = batch.policy_weights[k, b]
            row = logits[k * B + b]
            total = np.float32(0)
            for a in range(A):
                total += batch.policies[k, b, a]
            for a in range(A):
                target = batch.policies[k, b, a]
                if target > 0:
                    loss -= weight * target * np.log(row[a])
                row[a] = weight * (total * row[a] - target)
    return loss


@fast_kernel
def _scalar_gradient(
    logits: Float32,
    targets: Float32,
    weights: Float32,
    axis: Axis,
    powers: Int32,
    scalars: Float32,
) -> float:
    """Turns categorical logits into the gradient of their cross-entropy to two-hot targets; gives the loss.

    The first rows' predictions, as many as `scalars` has room for, are decoded into it.
    """
    steps, B = targets.shape
    atoms = logits.shape[1]
    softmax_rows(logits, powers)
    for b in range(scalars.size):
        scalars[b] = mean_atom(logits, b, axis)
    maximum = axis.minimum + axis.spacing * (atoms - 1)
    loss = 0.0
    for k in range(steps):
        for b in range(B):
            x = targets[k, b] * axis.reward_scale
            y = np.sign(x) * (np.sqrt(np.abs(x) + 1) - 1) + EPSILON * x
            place = (min(max(y, axis.minimum), maximum) - axis.minimum) / axis.spacing
            low = max(0, min(int(np.floor(place)), atoms - 2))  # a NaN stays inside the row
            share = np.float32(place - low)
            weight = weights[k, b]
            row = logits[k * B + b]
            if share < 1:
                loss -= weight * (1 - share) * np.log(row[low])
            if share > 0:
                loss -= weight * share * np.log(row[low + 1])
            for j in range(atoms):
                row[j] *= weight
            row[low] -= weight * (np.float32(1) - share)
            row[low + 1] -= weight * share
    return loss
