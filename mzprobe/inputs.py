"""What networks receive: observations in float32, however an environment shows them and a buffer keeps them.

The entries of `uint8` are shares of 255, those of `bool` are 0 and 1. Nobody else makes tensors of observations, so
that a network is asked the same in training, in a search and by a probe.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_MOST = 255


def as_floats(observations: Any) -> NDArray[np.float32]:
    """Observations `[B, *shape]`, contiguous."""
    floats = np.ascontiguousarray(observations, np.float32)
    return floats / np.float32(_MOST) if np.asarray(observations).dtype == np.uint8 else floats


def as_tensor(observations: Any, *, device: torch.device | str = "cpu") -> Tensor:
    """The same on a device, to which they are moved as they are kept.

    Args:
        observations: an array or a tensor.
        device: of the network.
    """
    given = torch.as_tensor(observations, device=device)
    return given.float() / _MOST if given.dtype == torch.uint8 else given.float()
