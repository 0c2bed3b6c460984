"""How an agent's numbers are made: where its network runs, how precisely, on how many threads, in how much memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

from mzprobe.threads import limited_threads

Precision = Literal["highest", "high", "medium"]

MEMORY = 1 << 28  # bytes held at a time, about, unless a caller says otherwise


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Of these `memory` changes no number."""

    device: str = "cpu"  # of the network
    precision: Precision = "highest"  # of products by torch in float32: below it a device may round their factors
    threads: int = 1  # of torch and of the BLAS of numpy
    memory: int = MEMORY  # bytes of states, latents and trees that are held at a time, about
    rows: int | None = None  # of a call of the network by torch in a search; None for those of the device

    @contextmanager
    def limited(self) -> Iterator[None]:
        """Holds torch and BLAS to `threads`, and torch to `precision`, while it is entered."""
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(self.precision)
        try:
            with limited_threads(self.threads):
                yield
        finally:
            torch.set_float32_matmul_precision(before)

    def record(self) -> dict[str, str]:
        """What a table says of it: numbers that were made otherwise do not belong with its own."""
        return {"device": self.device.partition(":")[0], "precision": self.precision}
