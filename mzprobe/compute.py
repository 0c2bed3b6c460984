"""How an agent's numbers are made: where its network runs, how precisely, on how many threads, in how much memory."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from mzprobe.names import check_choice
from mzprobe.threads import limited_threads

Precision = Literal["highest", "high", "medium", "bfloat16"]

MEMORY = 1 << 28  # bytes held at a time, about, unless a caller says otherwise


@dataclass(frozen=True, kw_only=True)
class Compute:
    """How a network runs. `memory` affects no result.

    The other fields apply to what torch runs; our own kernels have one precision and one order of operations.
    """

    device: str = "cpu"  # of the network
    precision: Precision = "highest"  # of products in float32: below it a device may round their factors, to TF32 say;
    # bfloat16 runs a network in that, as far as torch's autocast deems it safe, and its weights stay float32
    threads: int = 1  # of torch and of the BLAS of numpy
    memory: int = MEMORY  # bytes of states, latents and trees that are held at a time, about
    batch_size: int | None = None  # of a call of the network by torch in a search; None for those of network and device
    channels_last: bool = False  # whether convolution weights have channels last, as tensor cores want
    compiled: bool = False  # whether torch.compile makes one kernel of what it can

    def __post_init__(self) -> None:
        """Refuses a precision that there is not, which torch would take for another.

        Raises:
            UsageError: naming those there are.
        """
        check_choice(self.precision, get_args(Precision), "precision")

    @property
    def on_cpu(self) -> bool:
        """Whether the network runs where our own kernels do."""
        return torch.device(self.device).type == "cpu"

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which a network is called, in training or not."""
        if self.precision != "bfloat16":
            return nullcontext()
        return torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16)

    @contextmanager
    def limited(self) -> Iterator[None]:
        """Holds torch and BLAS to `threads`, and torch's products and convolutions to `precision`, while entered.

        Convolutions on a GPU then give the same bits every time.
        """
        exact = self.precision in ("highest", "bfloat16")  # what bfloat16 leaves in float32 is to stay it
        cudnn = torch.backends.cudnn
        before, rounded, repeats = torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.deterministic
        torch.set_float32_matmul_precision("highest" if exact else self.precision)
        cudnn.allow_tf32 = not exact  # which torch allows unless it is told not to
        cudnn.deterministic = True  # of gradients of convolutions it has quicker ones that add in any order
        try:
            with limited_threads(self.threads):
                yield
        finally:
            torch.set_float32_matmul_precision(before)
            cudnn.allow_tf32, cudnn.deterministic = rounded, repeats

    def record(self) -> dict[str, str]:
        """What a table records of it: numbers that were made otherwise do not belong in the same table."""
        options = {"channels_last": self.channels_last, "compiled": self.compiled}
        return {
            "device": self.device.partition(":")[0],
            "precision": self.precision,
            **{name: "yes" for name, asked in options.items() if asked},
        }
