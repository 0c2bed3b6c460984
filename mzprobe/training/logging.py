"""TensorBoard curves, on request."""

from collections.abc import Callable
from pathlib import Path

from mzprobe.errors import UsageError
from mzprobe.training.trainer import Progress

_EVERY = 50  # training steps between points of a curve


def tensorboard_logger(folder: Path) -> Callable[[Progress], None]:
    """Returns a function that writes losses and returns into `folder/tensorboard`, by training step.

    The folder is created at the function's first call, so that a command that is refused leaves nothing behind.

    Raises:
        UsageError: if TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UsageError("--tensorboard needs TensorBoard: pip install 'mzprobe[tensorboard]'") from None
    writer, last = None, -1

    def log(progress: Progress) -> None:
        nonlocal writer, last
        if progress.step == last or (progress.step % _EVERY and progress.step != progress.steps):
            return
        last = progress.step
        writer = writer or SummaryWriter(str(folder / "tensorboard"))
        numbers = {f"loss/{name}": value for name, value in progress.losses.items()}
        numbers["environment_steps"] = progress.environment_steps
        if progress.reanalysed is not None:
            numbers["targets/reanalysed_fraction"] = progress.reanalysed
        if progress.recent_return is not None:
            numbers["return/self_play"] = progress.recent_return
        if progress.evaluation is not None:
            numbers["return/evaluation"] = progress.evaluation
        for name, value in numbers.items():
            writer.add_scalar(name, value, progress.step)
        writer.flush()

    return log
