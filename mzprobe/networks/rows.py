"""Network calls of one fixed size: torch rounds a row otherwise in another batch size, tables must not."""

from collections.abc import Callable

import torch
from torch import Tensor

from mzprobe.compute import Compute
from mzprobe.networks.core import MuZeroNetwork

ROWS = 256  # of every call that must repeat its bits whatever stands beside a row
_SEARCHED = 32  # in a search on a CPU, which pays for every row that is filled up; a GPU pays for every call


def usual_rows(network: MuZeroNetwork, compute: Compute) -> int:
    """Rows of a call: the same for a network and a device, whoever calls."""
    return _own_rows(network, compute) or ROWS


def search_rows(network: MuZeroNetwork, compute: Compute) -> int:
    """The same for a search."""
    return compute.rows or _own_rows(network, compute) or (_SEARCHED if compute.on_cpu else ROWS)


def _own_rows(network: MuZeroNetwork, compute: Compute) -> int | None:
    """Those of a network whose rows cost a CPU more than its calls do, where it says so."""
    return getattr(network, "cpu_rows", None) if compute.on_cpu else None


def by_rows(function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor, rows: int | None = ROWS) -> list[Tensor]:
    """Calls a batched function on `rows` rows at a time, the last call filled up with copies of its first row.

    Args:
        function: tensors `[n, ...]` to a tuple of tensors `[n, ...]`.
        *inputs: tensors `[B, ...]`, B > 0.
        rows: of every call; None calls it once with all.

    Returns:
        The results, `[B, ...]` each.
    """
    B = len(inputs[0])
    if rows is None:
        return list(function(*inputs))
    parts = []
    for first in range(0, B, rows):
        chunk = [x[first : first + rows] for x in inputs]
        count = len(chunk[0])
        if count < rows:
            chunk = [torch.cat((x, x[:1].expand(rows - count, *x.shape[1:]))) for x in chunk]
        parts.append([y[:count] for y in function(*chunk)])
    return [torch.cat(columns) if len(columns) > 1 else columns[0] for columns in zip(*parts, strict=True)]
