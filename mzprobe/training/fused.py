"""Loss and gradient of an `MLPNetwork` in one kernel: the result of `objective.py` and autograd, faster.

On a small network most of a torch step is spent on calls and short-lived memory. Here the forward pass keeps what the
backward pass needs in one workspace. Arrays are `[features, B]`, as in `mlp_kernels.py`, and unroll steps are computed
one after the other. A weight's gradient is summed over steps, and within a step over the batch, in that order.
"""

import numpy as np
from numpy.typing import NDArray

from mzprobe._kernel import kernel
from mzprobe.networks.fused.mlp_kernels import mean_atoms, minmax_lanes, perceptron, softmax_lanes
from mzprobe.networks.fused.products import add_product
from mzprobe.networks.fused.transposes import transpose
from mzprobe.networks.fused.weights import Layers, MLPWeights
from mzprobe.networks.support import EPSILON, Axis
from mzprobe.training.objective import policy_loss, reward_loss, value_loss
from mzprobe.training.targets import Batch
from mzprobe.training.workspace import Lanes, Workspace

Float32 = NDArray[np.float32]

COVERED = (reward_loss, value_loss, policy_loss)  # terms of the loss that the kernel supports, in this order


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
    """Fills `gradients` and `root_values` `[B]`, and returns the weighted (reward, value, policy) losses.

    `batch.observations` is flat here, `[B, size]`; `term_weights` are the weights of the terms in `COVERED`.
    """
    K = batch.actions.shape[0]
    _unroll(weights, batch, work)
    _clear(gradients, work)
    of_reward, of_value, of_policy = term_weights
    rewards_lose, values_lose, policies_lose = 0.0, 0.0, 0.0
    for k in range(K + 1):
        z, z_down, dz = work.z[k], work.z_down, work.dz[k]
        transpose(z, z_down)
        perceptron(z, weights.policy, work.hidden, work.policy)
        softmax_lanes(work.policy, work.row, work.powers_policy)
        policies_lose += _policy_gradient(work.policy, batch.policies[k], batch.policy_weights[k], of_policy)
        _head_gradient(z_down, work.policy, weights.policy, gradients.policy, 1, work, work.across_policy, dz)

        perceptron(z, weights.value, work.hidden, work.scalar)
        softmax_lanes(work.scalar, work.row, work.powers_scalar)
        if k == 0:
            mean_atoms(work.scalar, axis, work.row, work.values)
            for b in range(root_values.size):
                root_values[b] = np.float32(work.values[b])
        values_lose += _scalar_gradient(
            work.scalar, batch.values[k], batch.value_weights[k], of_value, axis, work.lanes
        )
        _head_gradient(z_down, work.scalar, weights.value, gradients.value, 2, work, work.across_scalar, dz)

        if k > 0:
            rewards_lose += _reward_term(k, weights, gradients, axis, batch, work, of_reward)
    transpose(work.turned[0], gradients.reward.w1)
    transpose(work.turned[1], gradients.policy.w1)
    transpose(work.turned[2], gradients.value.w1)
    _back_through_time(weights, gradients, work)
    return rewards_lose, values_lose, policies_lose


@kernel
def _clear(gradients: MLPWeights, work: Workspace) -> None:
    """Sets everything to 0 that steps add to."""
    for layers in gradients:
        layers.w1[:] = np.float32(0)
        layers.b1[:] = np.float32(0)
        layers.w2[:] = np.float32(0)
        layers.b2[:] = np.float32(0)
    for turned in work.turned:
        turned[:] = np.float32(0)
    work.dz[:] = np.float32(0)


@kernel
def _reward_term(
    k: int, weights: MLPWeights, gradients: MLPWeights, axis: Axis, batch: Batch, work: Workspace, weight: float
) -> float:
    """Adds the gradient of the reward that led to latent k, whose transpose is in `work.z_down`; returns its loss."""
    z, dz = work.z[k], work.dz[k]
    of_all = work.step.shape[0] > 0  # the head reads the whole step
    read, down, dread = (work.step, work.step_down, work.dstep) if of_all else (z, work.z_down, dz)
    if of_all:
        _lay_side_by_side(work.x[k - 1], z, work.step)
        transpose(work.step, work.step_down)
        work.dstep[:] = np.float32(0)
    perceptron(read, weights.reward, work.hidden, work.scalar)
    softmax_lanes(work.scalar, work.row, work.powers_scalar)
    loss = _scalar_gradient(work.scalar, batch.rewards[k - 1], batch.reward_weights[k - 1], weight, axis, work.lanes)
    _head_gradient(down, work.scalar, weights.reward, gradients.reward, 0, work, work.across_scalar, dread)
    if of_all:
        _add_to_latents(work.dstep, work.dz[k - 1], dz)
    return loss


@kernel
def _lay_side_by_side(x: Float32, z: Float32, step: Float32) -> None:
    """Fills `step` with x stacked on top of z."""
    for j in range(step.shape[0]):
        for b in range(step.shape[1]):
            step[j, b] = x[j, b] if j < x.shape[0] else z[j - x.shape[0], b]


@kernel
def _add_to_latents(dstep: Float32, before: Float32, after: Float32) -> None:
    """Adds the gradient of a reward head's input, x over z, to those of the latents before and after the step."""
    L, past = before.shape[0], dstep.shape[0] - after.shape[0]
    for j in range(L):
        for b in range(before.shape[1]):
            before[j, b] += dstep[j, b]
            after[j, b] += dstep[past + j, b]


@kernel
def _unroll(weights: MLPWeights, batch: Batch, work: Workspace) -> None:
    """Computes the latents of all steps, and keeps their inputs, hidden activations and scales."""
    K, B = batch.actions.shape
    L, A = work.z.shape[1], work.policy.shape[0]
    transpose(batch.observations, work.seen)
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
    """Backpropagates dz through the dynamics, halving it at each step, and through the representation."""
    L = work.z.shape[1]
    for k in range(work.x.shape[0], 0, -1):
        _minmax_gradient(work.z[k], work.scale[k], work.dz[k], work.lanes, work.dy)
        _body_gradient(work.x[k - 1], work.h_body[k], weights.dynamics, gradients.dynamics, work)
        for j in range(work.dh.shape[0]):
            for b in range(work.dh.shape[1]):
                work.dh[j, b] *= np.float32(0.5)
        add_product(weights.dynamics.w1[:L], work.dh, work.dz[k - 1])
    _minmax_gradient(work.z[0], work.scale[0], work.dz[0], work.lanes, work.dy)
    _body_gradient(work.seen, work.h_body[0], weights.representation, gradients.representation, work)


@kernel
def _head_gradient(
    x_down: Float32,
    dout: Float32,
    layers: Layers,
    gradients: Layers,
    head: int,
    work: Workspace,
    across: Float32,
    dx: Float32,
) -> None:
    """Adds the gradients of a head's weights and of its input `dx`, given that of its logits `dout`.

    `across` is scratch. Heads share their input, so the input is passed transposed, `[B, features]`, and the gradient
    of w1 is summed transposed in `work.turned`.
    """
    _hidden_gradient(dout, layers, work.hidden, work.dh)
    add_product(work.dh, x_down, work.turned[head])
    _add_columns(work.dh, gradients.b1)
    transpose(dout, across)
    add_product(work.hidden, across, gradients.w2)
    _add_rows(across, gradients.b2)
    add_product(layers.w1, work.dh, dx)


@kernel
def _body_gradient(x: Float32, hidden: Float32, layers: Layers, gradients: Layers, work: Workspace) -> None:
    """Adds the gradient of the representation or dynamics, given that of the unscaled latents, `work.dy`.

    It is x dh' and hidden dy' for the weights and sums for the biases, over the batch in its order.
    """
    _hidden_gradient(work.dy, layers, hidden, work.dh)
    transpose(work.dh, work.across)
    transpose(work.dy, work.across_latent)
    add_product(x, work.across, gradients.w1)
    add_product(hidden, work.across_latent, gradients.w2)
    _add_rows(work.across, gradients.b1)
    _add_rows(work.across_latent, gradients.b2)


@kernel
def _hidden_gradient(dout: Float32, layers: Layers, hidden: Float32, dh: Float32) -> None:
    """Backpropagates `dout` through the output layer and the ReLU; fills `dh`."""
    dh[:] = np.float32(0)
    add_product(layers.w2, dout, dh)
    for j in range(dh.shape[0]):
        for b in range(dh.shape[1]):
            dh[j, b] = dh[j, b] if hidden[j, b] > 0 else np.float32(0)


@kernel
def _add_columns(x: Float32, out: Float32) -> None:
    """Adds the columns of x to `out`, in order. Eight independent sums at a time hide the latency of additions."""
    for first in range(0, x.shape[0], 8):
        if first + 8 <= x.shape[0]:
            s0, s1, s2, s3 = out[first], out[first + 1], out[first + 2], out[first + 3]
            s4, s5, s6, s7 = out[first + 4], out[first + 5], out[first + 6], out[first + 7]
            for b in range(x.shape[1]):
                s0 += x[first, b]
                s1 += x[first + 1, b]
                s2 += x[first + 2, b]
                s3 += x[first + 3, b]
                s4 += x[first + 4, b]
                s5 += x[first + 5, b]
                s6 += x[first + 6, b]
                s7 += x[first + 7, b]
            out[first], out[first + 1], out[first + 2], out[first + 3] = s0, s1, s2, s3
            out[first + 4], out[first + 5], out[first + 6], out[first + 7] = s4, s5, s6, s7
        else:
            for j in range(first, x.shape[0]):
                for b in range(x.shape[1]):
                    out[j] += x[j, b]


@kernel
def _add_rows(rows: Float32, out: Float32) -> None:
    for i in range(rows.shape[0]):
        for j in range(out.size):
            out[j] += rows[i, j]


@kernel
def _minmax_gradient(z: Float32, scale: Float32, dz: Float32, lanes: Lanes, dy: Float32) -> None:
    """Backpropagates from scaled to unscaled latents: z = (y - min) s, s = 1 / (max - min + eps).

    dz_j/dy_j = s; through the minimum -s (1 - z_j) for every j, through the maximum -s z_j.
    """
    B = z.shape[1]
    for b in range(B):
        lanes.lowest[b], lanes.highest[b] = 0, 0
        lanes.least[b], lanes.most[b] = z[0, b], z[0, b]
        lanes.through_low[b], lanes.through_high[b] = np.float32(0), np.float32(0)
    for j in range(z.shape[0]):
        for b in range(B):
            x = z[j, b]
            lanes.lowest[b] = np.int32(j) if x < lanes.least[b] else lanes.lowest[b]
            lanes.highest[b] = np.int32(j) if x > lanes.most[b] else lanes.highest[b]
            lanes.least[b] = min(lanes.least[b], x)
            lanes.most[b] = max(lanes.most[b], x)
            lanes.through_low[b] += dz[j, b] * (np.float32(1) - x)
            lanes.through_high[b] += dz[j, b] * x
            dy[j, b] = dz[j, b] * scale[b]
    for b in range(B):
        dy[lanes.lowest[b], b] -= scale[b] * lanes.through_low[b]
        dy[lanes.highest[b], b] -= scale[b] * lanes.through_high[b]


@kernel
def _policy_gradient(probabilities: Float32, targets: Float32, weights: Float32, of_term: float) -> float:
    """Turns policies `[A, B]` into the logits' gradient of the cross-entropy to targets `[B, A]`; returns the loss."""
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
def _scalar_gradient(
    probabilities: Float32, targets: Float32, weights: Float32, of_term: float, axis: Axis, lanes: Lanes
) -> float:
    """Turns `[atoms, B]` into the logits' gradient of the cross-entropy to two-hot targets `[B]`; returns the loss."""
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
        # The loss reads the probabilities before they are overwritten.
        if share < 1:
            loss -= weight * (1 - share) * np.log(probabilities[low, b])
        if share > 0:
            loss -= weight * share * np.log(probabilities[low + 1, b])
        lanes.atom[b], lanes.share[b], lanes.weight[b] = low, share, weight
    for j in range(atoms):
        for b in range(B):
            probabilities[j, b] *= lanes.weight[b]
    for b in range(B):
        low, share, weight = lanes.atom[b], lanes.share[b], lanes.weight[b]
        probabilities[low, b] -= weight * (np.float32(1) - share)
        probabilities[low + 1, b] -= weight * share
    return loss
