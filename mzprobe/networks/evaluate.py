"""What a network says of observations: pi_theta and v at h_theta(o)."""

import numpy as np
import torch
from numpy.typing import NDArray

from mzprobe.networks.core import MuZeroNetwork
from mzprobe.networks.mlp import MLPNetwork
from mzprobe.networks.mlp_kernels import predict_observations
from mzprobe.networks.rows import ROWS, by_rows

Float64 = NDArray[np.float64]


class Evaluator:
    """Evaluates observations, each to the same bits in whatever batch it stands.

    Args:
        network: any `MuZeroNetwork`; an `MLPNetwork` on the CPU runs in one kernel.
        num_actions: A.
        device: where the network lives.
    """

    def __init__(self, network: MuZeroNetwork, *, num_actions: int, device: torch.device | str = "cpu") -> None:
        self.network = network
        self.num_actions = num_actions
        self.device = torch.device(device)
        fused = type(network) is MLPNetwork and self.device.type == "cpu"
        self._weights = network.weights() if fused and isinstance(network, MLPNetwork) else None

    def __call__(self, observations: NDArray[np.float32]) -> tuple[Float64, Float64]:
        """pi_theta(. | h_theta(o)), `[B, A]`, and v(h_theta(o)), `[B]`, environment units."""
        if self._weights is not None and isinstance(self.network, MLPNetwork):
            support = self.network.support
            flat = np.ascontiguousarray(observations, np.float32).reshape(len(observations), -1)
            prior, value = np.empty((len(flat), self.num_actions)), np.empty(len(flat))
            predict_observations(self._weights, support.axis, flat, prior, value)
            return prior, value
        return self._by_torch(torch.as_tensor(observations, dtype=torch.float32, device=self.device))

    @torch.inference_mode()
    def _by_torch(self, observations: torch.Tensor) -> tuple[Float64, Float64]:
        logits, value = by_rows(lambda o: self.network.predict(self.network.represent(o)), observations, rows=ROWS)
        joined = torch.cat((torch.softmax(logits, dim=1), value[:, None]), dim=1)
        numbers = joined.cpu().numpy().astype(np.float64)
        return numbers[:, :-1], numbers[:, -1]
