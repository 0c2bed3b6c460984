"""Converts observations to the float32 input of networks.

Entries of type `uint8` are divided by 255, those of type `bool` become 0 and 1. All conversions go through this module,
so that a network gets the same input in training, in a search and from a probe.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_MOST = 255


def as_floats(observations: Any) -> NDArray[np.float32]:
    """Converts observations `[B, *shape]` to a contiguous float32 array."""
    # Kernels are compiled for writable arrays, and again for others.
    floats: NDArray[np.float32] = np.require(observations, np.float32, ["C", "W"])
    return floats / np.float32(_MOST) if np.asarray(observations).dtype == np.uint8 else floats


def as_tensor(observations: Any, *, device: torch.device | str = "cpu") -> Tensor:
    """Converts observations to a float32 tensor on a device.

    They are moved to the device in their own type, and converted there.

    Args:
        observations: `[B, *shape]`, an array or a tensor.
        device: device of the network.
    """
    if isinstance(observations, np.ndarray) and not observations.flags.writeable:
        observations = observations.copy()  # torch warns of arrays that it could write to and must not
    given = torch.as_tensor(observations, device=device)
    return given.float() / _MOST if given.dtype == torch.uint8 else given.float()
