"""The arithmetic of `MLPNetwork` in numba, for batches too small to be worth a torch call.

Matrix products go to BLAS. Callers pass a multiple of four rows: with that, a row's result does not depend on how
many rows stand beside it (tested), so that no answer of the fused search depends on a batch size.
"""

import numpy as np
from numpy.typing import NDArray

from mzprobe._kernel import fast_kernel, kernel
from mzprobe.networks.core import MINMAX_EPSILON
from mzprobe.networks.mlp import Layers, MLPWeights
from mzprobe.networks.support import EPSILON, Axis

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

BLOCK = 32  # rows that share one matrix product; a multiple of four

_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440e-4)
_SMALLEST = np.float32(-87.0)


@fast_kernel
def perceptron(x: Float32, layers: Layers, hidden: Float32, out: Float32) -> None:
    """Out = relu(x @ w1 + b1) @ w2 + b2; `hidden` is left holding the activations."""
    np.dot(x, layers.w1, hidden)
    for i in range(hidden.shape[0]):
        for j in range(hidden.shape[1]):
            hidden[i, j] = max(hidden[i, j] + layers.b1[j], np.float32(0))
    np.dot(hidden, layers.w2, out)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] += layers.b2[j]


@fast_kernel
def minmax_rows(x: Float32, scale: Float32) -> None:
    """Scales each row to [0, 1] in place; `scale[i]` is left holding 1 / (max - min + eps)."""
    for i in range(x.shape[0]):
        low = x[i, 0]
        high = x[i, 0]
        for j in range(1, x.shape[1]):
            low = min(low, x[i, j])
            high = max(high, x[i, j])
        # In float64: fast float32 arithmetic adds the epsilon to the minimum first, where it is lost.
        scale[i] = np.float32(1.0 / (np.float64(high) - np.float64(low) + MINMAX_EPSILON))
        for j in range(x.shape[1]):
            x[i, j] = (x[i, j] - low) * scale[i]


@fast_kernel
def exponentials(x: Float32, powers: NDArray[np.int32]) -> None:
    """X = exp(x) in place for x <= 0, to a relative 5e-7; vectorises, unlike a libm call.

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


@fast_kernel
def softmax_rows(x: Float32, powers: NDArray[np.int32]) -> None:
    """Turns each row of logits into probabilities in place; `powers` has as many entries as x."""
    for i in range(x.shape[0]):
        high = x[i, 0]
        for j in range(1, x.shape[1]):
            high = max(high, x[i, j])
        for j in range(x.shape[1]):
            x[i, j] -= high
    exponentials(x.reshape(x.size), powers)
    for i in range(x.shape[0]):
        total = np.float32(0)
        for j in range(x.shape[1]):
            total += x[i, j]
        inverse = np.float32(1) / total
        for j in range(x.shape[1]):
            x[i, j] *= inverse


@fast_kernel
def mean_atom(probabilities: Float32, i: int, axis: Axis) -> float:
    """h^-1 of the mean of row i, in environment units (`Support.scalar`)."""
    place = np.float32(0)
    for j in range(probabilities.shape[1]):
        place += probabilities[i, j] * np.float32(j)
    mean = axis.minimum + axis.spacing * place
    size = abs(mean)
    linear = 1 + 2 * EPSILON
    q = 2 * size / (linear + np.sqrt(linear * linear + 4 * EPSILON * size))
    return float(np.sign(mean) * (q * q + 2 * q) / axis.reward_scale)


@kernel
def rows_of(batch: int, widest: int) -> int:
    """Rows of a matrix product for a batch: `BLOCK`, or fewer where that changes no bit.

    Args:
        batch: rows that there are.
        widest: longest sum of the product; BLAS adds a long one up in an order that depends on the rows.
    """
    return BLOCK if widest > 256 else min(BLOCK, (batch + 3) // 4 * 4)


@kernel
def predict_observations(
    weights: MLPWeights, axis: Axis, observations: Float32, prior: Float64, value: Float64
) -> None:
    """pi_theta and v at h_theta(o): observations `[B, size]`; prior `[B, A]` and value `[B]` are filled in place."""
    B, A = prior.shape
    L = weights.policy.w1.shape[0]
    H = weights.policy.w1.shape[1]
    rows = rows_of(B, max(L + A, H, observations.shape[1]))
    seen = np.zeros((rows, observations.shape[1]), np.float32)
    hidden = np.zeros((rows, H), np.float32)
    z = np.zeros((rows, L), np.float32)
    scale = np.zeros(rows, np.float32)
    policy = np.zeros((rows, A), np.float32)
    atoms = np.zeros((rows, weights.value.w2.shape[1]), np.float32)
    powers_policy = np.zeros(policy.size, np.int32)
    powers_atoms = np.zeros(atoms.size, np.int32)
    for first in range(0, B, rows):
        count = min(rows, B - first)
        seen[:count] = observations[first : first + count]
        perceptron(seen, weights.representation, hidden, z)
        minmax_rows(z, scale)
        perceptron(z, weights.policy, hidden, policy)
        softmax_rows(policy, powers_policy)
        perceptron(z, weights.value, hidden, atoms)
        softmax_rows(atoms, powers_atoms)
        for i in range(count):
            value[first + i] = mean_atom(atoms, i, axis)
            for a in range(A):
                prior[first + i, a] = policy[i, a]
