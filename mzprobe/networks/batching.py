"""Network calls of one fixed size: how torch rounds a row depends on the batch, and tables must not."""

from collections.abc import Callable

import torch
from torch import Tensor

from mzprobe.compute import Compute
from mzprobe.networks.core import MuZeroNetwork

BATCH_SIZE = 256  # of every call that must repeat its bits whatever stands beside a row
_SEARCHED = 32  # in a search on a CPU, which pays for every row that is filled up; a GPU pays for every call


def usual_batch_size(network: MuZeroNetwork, compute: Compute) -> int:
    """Rows of a call: the same for a network and a device, whoever calls."""
    return _own_batch_size(network, compute) or BATCH_SIZE


def search_batch_size(network: MuZeroNetwork, compute: Compute) -> int:
    """The same for a search."""
    return compute.batch_size or _own_batch_size(network, compute) or (_SEARCHED if compute.on_cpu else BATCH_SIZE)


def _own_batch_size(network: MuZeroNetwork, compute: Compute) -> int | None:
    """What a network asks for, where its rows cost a CPU more than its calls do."""
    return getattr(network, "cpu_batch_size", None) if compute.on_cpu else None


def in_batches(
    function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor, batch_size: int | None = BATCH_SIZE
) -> list[Tensor]:
    """Calls a batched function on so many rows at a time, the last call filled up with copies of its first row.

    Args:
        function: tensors `[n, ...]` to a tuple of tensors `[n, ...]`.
        *inputs: tensors `[B, ...]`, B > 0.
        batch_size: of every call; None calls it once with all.

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
