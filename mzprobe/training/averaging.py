"""Averaged weights: a moving average of the trained weights, for self-play, reanalyse and checkpoints."""

import copy
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mzprobe._kernel import kernel
from mzprobe.networks import TrainableNetwork

Float32 = NDArray[np.float32]


class WeightAverage:
    """Network whose weights are an exponential moving average of another network's weights.

    Args:
        network: network that is trained.
        decay: largest share of its old value that an average keeps at a training step.
    """

    def __init__(self, network: TrainableNetwork, *, decay: float) -> None:
        self.decay = decay
        self.network = copy.deepcopy(network)
        found = zip(self.network.state_dict().values(), network.state_dict().values(), strict=True)
        pairs = {average.data_ptr(): (average, latest) for average, latest in found if average.numel()}
        self._pairs = list(pairs.values())  # weights that two layers share are updated once
        self._arrays: tuple[tuple[Float32, ...], tuple[Float32, ...]] | None = None
        if self._pairs and all(map(_plain, chain.from_iterable(self._pairs))):
            views = (tuple(tensor.numpy().reshape(-1) for tensor in pair) for pair in self._pairs)
            averaged, latest = zip(*views, strict=True)
            self._arrays = averaged, latest

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Moves by 1 - min(decay, (1 + t) / (10 + t)) towards the weights after training step t = `step` >= 1."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        if self._arrays is not None:  # a kernel, as torch's rounding depends on vector registers
            _move(*self._arrays, np.float32(share))
            return
        for average, latest in self._pairs:
            if average.is_floating_point():
                average.lerp_(latest, share)
            else:
                average.copy_(latest)

    def state(self) -> dict[str, NDArray[Any]]:
        """Returns the averaged weights, as arrays."""
        return self.network.weight_arrays()

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Restores the result of `state`."""
        self.network.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})


def _plain(tensor: torch.Tensor) -> bool:
    """Whether a kernel can write a tensor in place."""
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32 and tensor.is_contiguous()


@kernel
def _move(averaged: tuple[Float32, ...], latest: tuple[Float32, ...], share: np.float32) -> None:
    for p in range(len(averaged)):
        average, weights = averaged[p], latest[p]
        for i in range(average.size):
            average[i] += share * (weights[i] - average[i])
