"""The arithmetic of `MLPNetwork` in numba, for batches too small to be worth a torch call.

Arrays are `[features, lanes]`, where a lane is one row of the batch, and every loop runs over the lanes side by side.
Sums over features are taken in their order, products are those of `products.py`, and nothing here may be reordered or
contracted. So no result depends on the lanes beside it, nor on the processor.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mzprobe._kernel import borrowing, kernel
from mzprobe.networks.core import MINMAX_EPSILON
from mzprobe.networks.fused.products import add_product, product_of_one
from mzprobe.networks.fused.transposes import transpose
from mzprobe.networks.fused.weights import Layers, MLPWeights
from mzprobe.networks.support import EPSILON, Axis

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

LANES = 32  # most lanes of a block: its activations and the weights fit the nearest cache

_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440e-4)
_SMALLEST = np.float32(-87.0)

# Added to a maximum: it makes -0 and 0 the same, and keeps LLVM from masked stores of what changes, which are slow on
# some processors.
_NOTHING = np.float32(0)


@kernel
def lanes_of(batch: int) -> int:
    """Returns the lanes of a block for a batch: one alone, else whole vector registers, up to `LANES`.

    No bit depends on it.
    """
    return batch if batch <= 1 else min(LANES, (batch + 7) // 8 * 8)


@borrowing
def perceptron(x: Float32, layers: Layers, hidden: Float32, out: Float32) -> None:
    """Sets out = w2' relu(w1' x + b1) + b2, `[outputs, lanes]`; `hidden` is left holding the activations."""
    layer_lanes(x, layers.w1, layers.b1, hidden)
    activations = hidden.reshape(hidden.size)
    for i in range(activations.size):
        activations[i] = max(activations[i], np.float32(0)) + _NOTHING
    layer_lanes(hidden, layers.w2, layers.b2, out)


@borrowing
def layer_lanes(x: Float32, weight: Float32, bias: Float32, out: Float32) -> None:
    """Sets out = weight' x + bias: the bias first, then the terms in their order."""
    if out.shape[1] == 1:  # one lane: the outputs are adjacent instead
        product_of_one(x.reshape(x.size), weight, bias, out.reshape(out.size))
    else:
        for j in range(out.shape[0]):
            for i in range(out.shape[1]):
                out[j, i] = bias[j]
        add_product(weight.T, x, out)


@borrowing
def _largest(x: Float32, sign: np.float32, out: Float32) -> None:
    """Sets out to the largest of sign * x in each lane."""
    if x.shape[1] == 1:  # one lane: the maximum stays in a register
        top = sign * x[0, 0] + _NOTHING
        for j in range(1, x.shape[0]):
            top = max(top, sign * x[j, 0]) + _NOTHING
        out[0] = top
        return
    for i in range(x.shape[1]):
        out[i] = sign * x[0, i] + _NOTHING
    for j in range(1, x.shape[0]):
        for i in range(x.shape[1]):
            out[i] = max(out[i], sign * x[j, i]) + _NOTHING


@borrowing
def _subtract(x: Float32, row: Float32) -> None:
    """Subtracts `row[i]` from every number of lane i."""
    if x.shape[1] == 1:  # one lane: the inner loop runs over adjacent numbers
        column, number = x.reshape(x.size), row[0]
        for j in range(column.size):
            column[j] -= number
        return
    for j in range(x.shape[0]):
        for i in range(x.shape[1]):
            x[j, i] -= row[i]


@borrowing
def _multiply(x: Float32, row: Float32) -> None:
    """Multiplies every number of lane i by `row[i]`."""
    if x.shape[1] == 1:
        column, number = x.reshape(x.size), row[0]
        for j in range(column.size):
            column[j] *= number
        return
    for j in range(x.shape[0]):
        for i in range(x.shape[1]):
            x[j, i] *= row[i]


@borrowing
def minmax_lanes(x: Float32, scale: Float32, low: Float32) -> None:
    """Scales each lane to [0, 1] in place; `scale[i]` is left holding 1 / (max - min + eps)."""
    _largest(x, np.float32(-1), low)
    _largest(x, np.float32(1), scale)
    for i in range(x.shape[1]):
        low[i] = -low[i]
        scale[i] = np.float32(1) / ((scale[i] - low[i]) + np.float32(MINMAX_EPSILON))
    _subtract(x, low)
    _multiply(x, scale)


@borrowing
def exponentials(x: Float32, powers: Int32) -> None:
    """Sets x = exp(x) in place for x <= 0, to a relative 5e-7; vectorises, unlike a libm call.

    exp(x) = 2^n exp(f), |f| <= ln(2)/2, the latter by a polynomial of degree 6 (Cephes' expf).
    """
    scales = powers.view(np.float32)
    for i in range(x.size):
        bounded = max(x[i], _SMALLEST)
        n = np.int32(bounded * _LOG2_E - np.float32(0.5))
        f = bounded - np.float32(n) * _LN2_HIGH
        f -= np.float32(n) * _LN2_LOW
        y = np.float32(1.9875691500e-4)
        y = y * f + np.float32(1.3981999507e-3)
        y = y * f + np.float32(8.3334519073e-3)
        y = y * f + np.float32(4.1665795894e-2)
        y = y * f + np.float32(1.6666665459e-1)
        y = y * f + np.float32(5.0000001201e-1)
        x[i] = y * f * f + f + np.float32(1)
        powers[i] = (n + np.int32(127)) << np.int32(23)
    for i in range(x.size):
        x[i] *= scales[i]


@borrowing
def _sum(x: Float32, out: Float32) -> None:
    """Sets out to the sum of each lane."""
    if x.shape[1] == 1:
        total = np.float32(0)
        for j in range(x.shape[0]):
            total += x[j, 0]
        out[0] = total
        return
    for i in range(x.shape[1]):
        out[i] = np.float32(0)
    for j in range(x.shape[0]):
        for i in range(x.shape[1]):
            out[i] += x[j, i]


@borrowing
def softmax_lanes(x: Float32, total: Float32, powers: Int32) -> None:
    """Turns each lane's logits into probabilities in place; `powers` has as many entries as x, `total` as lanes."""
    _largest(x, np.float32(1), total)
    _subtract(x, total)
    exponentials(x.reshape(x.size), powers)
    _sum(x, total)
    for i in range(x.shape[1]):
        total[i] = np.float32(1) / total[i]
    _multiply(x, total)


@borrowing
def mean_atoms(probabilities: Float32, axis: Axis, place: Float32, out: Float64) -> None:
    """Fills `out` with h^-1 of each lane's mean, in environment units (`Support.scalar`); `place` is scratch."""
    atoms = probabilities.shape[0]
    pairs = atoms // 2
    for i in range(out.size):
        place[i] = np.float32(0)
    for pair in range(pairs):
        distance = np.float32(pair + (1 + atoms % 2) / 2)
        below, above = pairs - 1 - pair, atoms - pairs + pair
        for i in range(out.size):
            place[i] += (probabilities[above, i] - probabilities[below, i]) * distance
    linear = 1 + 2 * EPSILON
    for i in range(out.size):
        mean = axis.centre + axis.spacing * place[i]
        size = abs(mean)
        q = 2 * size / (linear + np.sqrt(linear * linear + 4 * EPSILON * size))
        out[i] = np.sign(mean) * (q * q + 2 * q) / axis.reward_scale


class Block(NamedTuple):
    """Memory for a block of lanes that run through the network."""

    seen: Float32  # [observation size, lanes]
    step: Float32  # [L + A + L, lanes], x and z
    x: Float32  # [L + A, lanes], latent and action; a view
    hidden: Float32  # [H, lanes]
    z: Float32  # [L, lanes], latents, and the next latents after a step; a view
    policy: Float32  # [A, lanes]
    atoms: Float32  # [atoms, lanes], distribution of the reward or the value
    row: Float32  # [lanes], scratch
    other_row: Float32  # [lanes], scratch
    powers_policy: Int32  # [A * lanes], scratch of `exponentials`
    powers_atoms: Int32  # [atoms * lanes], scratch of `exponentials`


@kernel
def new_block(weights: MLPWeights, lanes: int) -> Block:
    """Allocates a block of `lanes` lanes."""
    inputs, A, atoms = weights.dynamics.w1.shape[0], weights.policy.w2.shape[1], weights.value.w2.shape[1]
    step = np.zeros((inputs + inputs - A, lanes), np.float32)
    return Block(
        np.zeros((weights.representation.w1.shape[0], lanes), np.float32),
        step,
        step[:inputs],
        np.zeros((weights.dynamics.w1.shape[1], lanes), np.float32),
        step[inputs:],
        np.zeros((A, lanes), np.float32),
        np.zeros((atoms, lanes), np.float32),
        np.zeros(lanes, np.float32),
        np.zeros(lanes, np.float32),
        np.zeros(A * lanes, np.int32),
        np.zeros(atoms * lanes, np.int32),
    )


@borrowing
def represent_block(weights: MLPWeights, block: Block, observations: Float32, first: int, count: int) -> None:
    """Sets z = h_theta of observations `first .. first + count - 1` of `[B, size]`."""
    transpose(observations[first : first + count], block.seen[:, :count])
    perceptron(block.seen, weights.representation, block.hidden, block.z)
    minmax_lanes(block.z, block.row, block.other_row)


@borrowing
def step_block(weights: MLPWeights, block: Block) -> None:
    """Sets z = the state part of g_theta at `block.x`."""
    perceptron(block.x, weights.dynamics, block.hidden, block.z)
    minmax_lanes(block.z, block.row, block.other_row)


@borrowing
def place_action(x: Float32, L: int, i: int, action: int) -> None:
    """Writes a lane's one-hot action below its latent of L entries."""
    for a in range(x.shape[0] - L):
        x[L + a, i] = np.float32(1) if a == action else np.float32(0)


@borrowing
def place_latents(block: Block, latents: Float32, first: int, count: int) -> None:
    """Writes latents `first .. first + count - 1` of `[B, L]` into z."""
    transpose(latents[first : first + count], block.z[:, :count])


@borrowing
def policy_block(weights: MLPWeights, block: Block) -> None:
    """Sets `block.policy` = pi_theta at z."""
    perceptron(block.z, weights.policy, block.hidden, block.policy)
    softmax_lanes(block.policy, block.row, block.powers_policy)


@borrowing
def value_block(weights: MLPWeights, axis: Axis, block: Block, out: Float64) -> None:
    """Fills `out` with values at z, environment units, of as many lanes as it has room for."""
    _scalar_block(block.z, weights.value, axis, block, out)


@borrowing
def reward_block(weights: MLPWeights, axis: Axis, block: Block, out: Float64) -> None:
    """Fills `out` with rewards of the step from x to z, environment units, of as many lanes as it has room for."""
    of_all = weights.reward.w1.shape[0] > block.z.shape[0]
    _scalar_block(block.step if of_all else block.z, weights.reward, axis, block, out)


@borrowing
def _scalar_block(read: Float32, head: Layers, axis: Axis, block: Block, out: Float64) -> None:
    perceptron(read, head, block.hidden, block.atoms)
    softmax_lanes(block.atoms, block.row, block.powers_atoms)
    mean_atoms(block.atoms, axis, block.row, out)


@kernel
def value_atoms_all(weights: MLPWeights, latents: Float32, atoms: Float32) -> None:
    """Fills probabilities `[B, atoms]` with the value head's distribution at latents `[B, L]`."""
    B = len(latents)
    block = new_block(weights, lanes_of(B))
    lanes = block.row.size
    for first in range(0, B, lanes):
        count = min(lanes, B - first)
        place_latents(block, latents, first, count)
        perceptron(block.z, weights.value, block.hidden, block.atoms)
        softmax_lanes(block.atoms, block.row, block.powers_atoms)
        transpose(block.atoms[:, :count], atoms[first : first + count])


@kernel
def represent_all(weights: MLPWeights, observations: Float32, latents: Float32) -> None:
    """Fills latents `[B, L]` with h_theta of observations `[B, size]`."""
    B = len(observations)
    block = new_block(weights, lanes_of(B))
    lanes = block.row.size
    for first in range(0, B, lanes):
        count = min(lanes, B - first)
        represent_block(weights, block, observations, first, count)
        transpose(block.z[:, :count], latents[first : first + count])


@kernel
def step_all(
    weights: MLPWeights, axis: Axis, latents: Float32, actions: Int64, following: Float32, reward: Float64
) -> None:
    """Fills next latents `[B, L]` and rewards `[B]` with g_theta of latents `[B, L]` and actions `[B]`."""
    B, L = latents.shape
    block = new_block(weights, lanes_of(B))
    lanes = block.row.size
    for first in range(0, B, lanes):
        count = min(lanes, B - first)
        transpose(latents[first : first + count], block.x[:L, :count])
        for i in range(count):
            place_action(block.x, L, i, actions[first + i])
        step_block(weights, block)
        transpose(block.z[:, :count], following[first : first + count])
        reward_block(weights, axis, block, reward[first : first + count])


@kernel
def roll_all(weights: MLPWeights, axis: Axis, latents: Float32, actions: Int64, rewards: Float64) -> None:
    """Fills rewards `[B, T]` by repeated g_theta from latents `[B, L]` along actions `[B, T]`."""
    B, T = actions.shape
    block = new_block(weights, lanes_of(B))
    L, lanes = block.z.shape
    r = np.empty(lanes)
    for first in range(0, B, lanes):
        count = min(lanes, B - first)
        place_latents(block, latents, first, count)
        for t in range(T):
            for j in range(L):
                block.x[j] = block.z[j]
            for i in range(count):
                place_action(block.x, L, i, actions[first + i, t])
            step_block(weights, block)
            reward_block(weights, axis, block, r[:count])
            for i in range(count):
                rewards[first + i, t] = r[i]


@kernel
def predict_all(weights: MLPWeights, axis: Axis, latents: Float32, prior: Float64, value: Float64) -> None:
    """Fills prior `[B, A]` and value `[B]` with f_theta of latents `[B, L]`."""
    B, A = prior.shape
    block = new_block(weights, lanes_of(B))
    lanes = block.row.size
    for first in range(0, B, lanes):
        count = min(lanes, B - first)
        place_latents(block, latents, first, count)
        policy_block(weights, block)
        for i in range(count):
            for a in range(A):
                prior[first + i, a] = block.policy[a, i]
        value_block(weights, axis, block, value[first : first + count])
