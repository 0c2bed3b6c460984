"""Network calls of one fixed size, since how torch rounds a row depends on the batch, and tables must not."""

from collections.abc import Callable

import torch
from torch import Tensor

from mzprobe.compute import Compute
from mzprobe.networks.core import MuZeroNetwork

BATCH_SIZE = 256  # rows of a call whose bits must not depend on the other rows
_SEARCHED = 32  # rows of a call in a search on a CPU, where padding rows cost time; on a GPU, calls do


def usual_batch_size(network: MuZeroNetwork, compute: Compute) -> int:
    """Returns the rows of a call, which depend on the network and the device alone."""
    return _own_batch_size(network, compute) or BATCH_SIZE


def search_batch_size(network: MuZeroNetwork, compute: Compute) -> int:
    """Returns the rows of a call in a search: those of `compute`, else a number for the network and the device."""
    return compute.batch_size or _own_batch_size(network, compute) or (_SEARCHED if compute.on_cpu else BATCH_SIZE)


def _own_batch_size(network: MuZeroNetwork, compute: Compute) -> int | None:
    """Returns the batch size of a network whose rows cost a CPU more than its calls do, or None."""
    return getattr(network, "cpu_batch_size", None) if compute.on_cpu else None


def in_batches(
    function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor, batch_size: int | None = BATCH_SIZE
) -> list[Tensor]:
    """Calls a batched function on `batch_size` rows at a time; the last call is padded with its own first row.

    Args:
        function: tensors `[n, ...]` to a tuple of tensors `[n, ...]`.
        *inputs: tensors `[B, ...]`, B > 0.
        batch_size: rows of every call; None calls it once with all.

    Returns:
        The results, `[B, ...]` each.
    """
    B = len(inputs[0])
    if batch_size is None:
        return list(function(*inputs))
    parts = []
    for first in range(0, B, batch_size):
        chunk = [x[first : first + batch_size] for x in inputs]
        count = len(chunk[0])
        if count < batch_size:
            chunk = [torch.cat((x, x[:1].expand(batch_size - count, *x.shape[1:]))) for x in chunk]
        parts.append([y[:count] for y in function(*chunk)])
    return [torch.cat(columns) if len(columns) > 1 else columns[0] for columns in zip(*parts, strict=True)]
