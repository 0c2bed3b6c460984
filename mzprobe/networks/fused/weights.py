"""Weights of an `MLPNetwork` as its kernels take them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mzprobe.networks.support import Support

Array = NDArray[np.float32]


class Layers(NamedTuple):
    """Parameters of one perceptron, float32, as `x @ w + b` takes them."""

    w1: Array  # [inputs, H]
    b1: Array  # [H]
    w2: Array  # [H, outputs]
    b2: Array  # [outputs]


class MLPWeights(NamedTuple):
    """All parameters of an `MLPNetwork`."""

    representation: Layers
    dynamics: Layers
    reward: Layers
    policy: Layers
    value: Layers


class FusedWeights(NamedTuple):
    """Weights and support of a network for the fused paths, which read these arrays, or train them, in place."""

    weights: MLPWeights
    support: Support
