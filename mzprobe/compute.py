"""How an agent's network runs: on which device, at which precision, with how many threads and how much memory."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from mzprobe.names import check_choice
from mzprobe.system.threads import limited_threads

Precision = Literal["highest", "high", "medium", "bfloat16"]

MEMORY = 1 << 28  # default of `Compute.memory`, bytes


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Settings of how a network runs.

    `memory` affects no result. The other fields apply to networks that torch runs; our own kernels have one precision
    and one order of operations.
    """

    device: str = "cpu"  # device of the network
    # Precision of float32 products. Below "highest" a device may round their factors, to TF32 for example. "bfloat16"
    # runs the network in that type as far as torch's autocast allows it; the weights stay float32.
    precision: Precision = "highest"
    threads: int = 1  # threads of torch and of numpy's BLAS
    memory: int = MEMORY  # approximate bytes of states, latents and trees held at a time
    batch_size: int | None = None  # rows of a call of torch in a search; None chooses by network and device
    channels_last: bool = False  # whether convolution weights have channels last, which suits tensor cores
    compiled: bool = False  # whether the network runs through torch.compile, which fuses kernels

    def __post_init__(self) -> None:
        """Validates the precision, since torch would silently use another one in place of an unknown one.

        Raises:
            UsageError: if there is no such precision; names the choices.
        """
        check_choice(self.precision, get_args(Precision), "precision")

    @property
    def on_cpu(self) -> bool:
        """Whether the network runs on the CPU, as our own kernels do."""
        return torch.device(self.device).type == "cpu"

    def autocast(self) -> AbstractContextManager[object]:
        """Returns the context in which a network is called: torch's autocast for bfloat16, otherwise a null context."""
        if self.precision != "bfloat16":
            return nullcontext()
        return torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16)

    @contextmanager
    def limited(self) -> Iterator[None]:
        """Limits torch and BLAS to `threads`, and torch's products and convolutions to `precision`, within the block.

        Convolutions on a GPU then return the same bits every time.
        """
        exact = self.precision in ("highest", "bfloat16")  # operations autocast leaves in float32 keep full precision
        cudnn = torch.backends.cudnn
        before, rounded, repeats = torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.deterministic
        torch.set_float32_matmul_precision("highest" if exact else self.precision)
        cudnn.allow_tf32 = not exact  # torch allows it by default
        cudnn.deterministic = True  # its faster gradients of convolutions add in no fixed order
        try:
            with limited_threads(self.threads):
                yield
        finally:
            torch.set_float32_matmul_precision(before)
            cudnn.allow_tf32, cudnn.deterministic = rounded, repeats

    def record(self) -> dict[str, str]:
        """Returns what a table records of these settings; results with another record must not share a table."""
        options = {"channels_last": self.channels_last, "compiled": self.compiled}
        return {
            "device": self.device.partition(":")[0],
            "precision": self.precision,
            **{name: "yes" for name, asked in options.items() if asked},
        }
