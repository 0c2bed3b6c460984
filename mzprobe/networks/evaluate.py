"""Evaluation of observations by a network: pi_theta and v at h_theta(o)."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mzprobe.compute import Compute
from mzprobe.networks.core import MuZeroNetwork
from mzprobe.networks.engine import engine_for

Float64 = NDArray[np.float64]


class Evaluator:
    """Evaluates observations; each result has the same bits in any batch.

    Args:
        network: any `MuZeroNetwork`, run by the engine that `engine_for` returns.
        num_actions: A.
        compute: how the network runs.
    """

    def __init__(self, network: MuZeroNetwork, *, num_actions: int, compute: Compute | None = None) -> None:
        self.network = network
        self.num_actions = num_actions
        self._engine = engine_for(network, compute)
        self.support = self._engine.support

    def __call__(self, observations: NDArray[Any]) -> tuple[Float64, Float64]:
        """Returns pi_theta(. | h_theta(o)), `[B, A]`, and v(h_theta(o)), `[B]`, in environment units."""
        prior, value = self._engine.predict(self._engine.represent(observations))
        joined = torch.cat((prior, value[:, None]), dim=1)  # one transfer from the device for both
        numbers = joined.cpu().numpy().astype(np.float64)
        return numbers[:, :-1], numbers[:, -1]
