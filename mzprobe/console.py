"""What the command line shows: the progress of agents, and signals that stop work without losing any."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from signal import Signals
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from mzprobe.signals import heard
from mzprobe.training.trainer import Progress as TrainingProgress

# Names and paths are shown as they are, whatever brackets and colons are in them.
console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


def progress_bars() -> Progress:
    """Bars with steps done, a note, and the time gone and left; on stderr, so that output can be piped."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=errors,
    )


def training_note(progress: TrainingProgress) -> str:
    """Returns so far, in a few words; the losses of an agent that plays nothing."""

    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.0f}"

    if progress.recent_return is None and progress.losses:
        losses = {name: loss for name, loss in progress.losses.items() if name.endswith("_loss")}
        return ", ".join(f"{name.replace('_', ' ')} {loss:.2f}" for name, loss in losses.items())
    return f"return {shown(progress.recent_return)}, evaluated {shown(progress.evaluation)}"


def spelled(seconds: float) -> str:
    """A duration in words."""
    if seconds < 60:
        return f"{max(round(seconds), 1)} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


@contextmanager
def stopping(stop: Callable[[], Any], *, what: str = "finishing the step and saving") -> Iterator[None]:
    """Within it, Ctrl-C, SIGTERM and SIGHUP say `what` and call `stop` once; a second one interrupts at once."""

    def act(number: Signals) -> None:
        errors.print(f"{number.name} received: {what}")
        stop()

    with heard(act):
        yield
