"""Network calls of one fixed size: torch rounds a row otherwise in another batch size, tables must not."""

from collections.abc import Callable

import torch
from torch import Tensor

ROWS = 256  # of every call that must repeat its bits whatever stands beside a row


def search_rows(device: torch.device | str) -> int:
    """The same for a search: a CPU pays for every row that is filled up, a GPU for every call."""
    return ROWS if torch.device(device).type == "cuda" else 32


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
