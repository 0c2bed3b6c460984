"""MCTS as regularised policy optimisation (Grill et al. 2020): pi-bar, which the visits of PUCT approach.

    pi-bar = argmax_y  sum_a Q'(a) y(a) - lambda KL(P, y),    lambda = c(N) sqrt(N) / (A + N)

with N the visits of the root's actions, c(N) = c1 + log((N + c2 + 1) / c2), and Q' normalised as in PUCT, untried
actions included. The solution is lambda P(a) / (alpha - Q'(a)), with alpha such that it sums to 1.
"""

import numpy as np
from numpy.typing import NDArray

from mzprobe import libm
from mzprobe._kernel import kernel
from mzprobe.config import SearchConfig

Float64 = NDArray[np.float64]


def multiplier(visits: Float64, num_actions: Float64, config: SearchConfig) -> Float64:
    """Returns lambda of roots with `visits` `[B]` of `num_actions` `[B]` legal actions, `[B]`."""
    weight = config.c1 + libm.log((visits + config.c2 + 1) / config.c2)
    return np.asarray(weight * np.sqrt(visits) / (num_actions + visits))


@kernel
def regularised(prior: Float64, q: Float64, lambdas: Float64) -> Float64:
    """Returns pi-bar `[B, A]` for priors `[B, A]`, normalised Q `[B, A]` and lambda `[B]`.

    Alpha is bracketed by max Q + lambda P(argmax) and max Q + lambda. The bisection is on alpha - max Q, to avoid
    cancellation, and ends when no number lies between its bounds.
    """
    B, A = prior.shape
    found = np.empty((B, A))
    for b in range(B):
        top, mass = -np.inf, 0.0
        for a in range(A):
            if prior[b, a] > 0 and q[b, a] >= top:
                mass = max(mass, prior[b, a]) if q[b, a] == top else prior[b, a]
                top = q[b, a]
        low, high = lambdas[b] * mass, lambdas[b]
        while True:
            distance = low + (high - low) / 2
            if not low < distance < high:
                break
            total = 0.0
            for a in range(A):
                if prior[b, a] > 0:
                    total += lambdas[b] * prior[b, a] / (distance + (top - q[b, a]))
            if total > 1:
                low = distance
            else:
                high = distance
        total = 0.0
        for a in range(A):
            found[b, a] = lambdas[b] * prior[b, a] / (high + (top - q[b, a])) if prior[b, a] > 0 else 0.0
            total += found[b, a]
        for a in range(A):
            found[b, a] /= total
    return found
