"""Clipping and AdamW in kernels, for the fused gradient: torch's rounding depends on the vector registers' width."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mzprobe._kernel import kernel

Float32 = NDArray[np.float32]

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # torch's defaults


class Step(NamedTuple):
    """Scalars of one step, in float32 like the arrays."""

    clip: np.float32  # factor of the gradient
    keep: np.float32  # 1 - learning rate * weight decay
    size: np.float32  # learning rate / (1 - beta1^t)
    correction: np.float32  # sqrt(1 - beta2^t)


class AdamW:
    """AdamW (Loshchilov and Hutter 2019, algorithm 2), equal to `torch.optim.AdamW` except for rounding.

    Args:
        weights: one contiguous array per parameter, of any shape; updated in place.
        gradients: arrays of the same shapes; read, never written.
        weight_decay: share of a weight that a learning rate of 1 would remove.
        clip: largest norm of the whole gradient.
    """

    def __init__(
        self, weights: list[NDArray[Any]], gradients: list[NDArray[Any]], *, weight_decay: float, clip: float
    ) -> None:
        self.weights = tuple(array.reshape(-1) for array in weights)
        self.gradients = tuple(array.reshape(-1) for array in gradients)
        self.shapes = [array.shape for array in weights]
        self.first = tuple(np.zeros_like(array) for array in self.weights)
        self.second = tuple(np.zeros_like(array) for array in self.weights)
        self.weight_decay = weight_decay
        self.clip = clip
        self.steps = 0

    def step(self, learning_rate: float) -> float:
        """Makes one update and returns the gradient's norm before clipping; if that is not finite, nothing changes."""
        norm = math.sqrt(_squares(self.gradients))
        if not math.isfinite(norm):
            return norm
        self.steps += 1
        numbers = Step(
            clip=np.float32(min(1.0, self.clip / (norm + 1e-6))),
            keep=np.float32(1 - learning_rate * self.weight_decay),
            size=np.float32(learning_rate / (1 - BETA1**self.steps)),
            correction=np.float32(math.sqrt(1 - BETA2**self.steps)),
        )
        _update(self.weights, self.gradients, self.first, self.second, numbers)
        return norm

    def state(self) -> dict[int, dict[str, NDArray[Any]]]:
        """Returns the moments of each parameter, under torch's names; empty before the first step."""
        if not self.steps:
            return {}
        return {
            index: {
                "step": np.array(self.steps, np.float32),
                "exp_avg": self.first[index].reshape(shape),
                "exp_avg_sq": self.second[index].reshape(shape),
            }
            for index, shape in enumerate(self.shapes)
        }

    def restore(self, state: dict[int, dict[str, NDArray[Any]]]) -> None:
        """Restores the result of `state`."""
        self.steps = int(state[0]["step"]) if state else 0
        for index, moments in state.items():
            self.first[index][:] = moments["exp_avg"].reshape(-1)
            self.second[index][:] = moments["exp_avg_sq"].reshape(-1)


@kernel
def _squares(gradients: tuple[Float32, ...]) -> float:
    total = 0.0
    for gradient in gradients:
        for i in range(gradient.size):
            total += np.float64(gradient[i]) * np.float64(gradient[i])
    return total


@kernel
def _update(
    weights: tuple[Float32, ...],
    gradients: tuple[Float32, ...],
    first: tuple[Float32, ...],
    second: tuple[Float32, ...],
    step: Step,
) -> None:
    beta1, beta2 = np.float32(BETA1), np.float32(BETA2)
    for p in range(len(weights)):
        w, gradient, m, v = weights[p], gradients[p], first[p], second[p]
        for i in range(w.size):
            g = gradient[i] * step.clip
            m[i] += (g - m[i]) * (np.float32(1) - beta1)
            v[i] = v[i] * beta2 + (np.float32(1) - beta2) * g * g
            w[i] = w[i] * step.keep - step.size * m[i] / (np.sqrt(v[i]) / step.correction + np.float32(EPSILON))
