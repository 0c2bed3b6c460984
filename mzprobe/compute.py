"""How an agent's numbers are made: where its network runs, on how many threads, and how much is held at a time."""

from contextlib import AbstractContextManager
from dataclasses import dataclass

from mzprobe.threads import limited_threads

MEMORY = 1 << 28  # bytes held at a time, about, unless a caller says otherwise


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Of these `memory` changes no number."""

    device: str = "cpu"  # of the network
    threads: int = 1  # of torch and of the BLAS of numpy
    memory: int = MEMORY  # bytes of states, latents and trees that are held at a time, about
    rows: int | None = None  # of a call of the network by torch in a search; None for those of the device

    def limited(self) -> AbstractContextManager[None]:
        """Holds torch and BLAS to `threads` while it is entered."""
        return limited_threads(self.threads)
