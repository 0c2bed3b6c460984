"""Output of the command line: progress of agents, and signals that stop work without losing results."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from signal import Signals
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from mzprobe.system.signals import heard
from mzprobe.system.streams import mute_streams

# Names and paths are shown as they are, whatever brackets and colons are in them.
console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
COMPILING = "compiling kernels for this kind of work, once on this machine: up to half a minute"
errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


class _Times(ProgressColumn):
    """Column of the elapsed time and, once it can be estimated, the remaining time, labelled to tell them apart."""

    max_refresh = 0.5  # s; an estimate that changes more often cannot be read

    def render(self, task: Task) -> Text:
        """Renders a text such as `0:01:02, 0:03:20 left`; empty before the work has begun."""
        gone, left = task.finished_time if task.finished else task.elapsed, task.time_remaining
        if gone is None:
            return Text("")
        more = "" if left is None or task.finished else f", {timedelta(seconds=int(left))} left"
        return Text(f"{timedelta(seconds=int(gone))}{more}")


def progress_bars() -> Progress:
    """Returns bars with steps done, a note, and elapsed and remaining time; on stderr, so that output can be piped."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        _Times(),
        console=errors,
    )


class PhaseBars:
    """Progress bars of several tasks that go through phases; the clock starts again with each phase.

    Args:
        bars: display that the bars are added to.
        labels: one per task; tasks are shown as waiting at first.
    """

    def __init__(self, bars: Progress, labels: Sequence[str]) -> None:
        self._bars = bars
        self._tasks = {label: bars.add_task(f"{label} waiting", total=None, start=False, note="") for label in labels}
        self._phases: dict[str, str] = {}

    def show(self, label: str, phase: str, *, done: float, total: int | None, note: str = "") -> None:
        """Shows how far a task is in its phase."""
        task = self._tasks[label]
        if self._phases.get(label) != phase:  # a finished phase has stopped the clock
            self._phases[label] = phase
            self._bars.reset(task, total=total, description=f"{label} {phase}", note=note)
        self._bars.update(task, completed=done, total=total, note=note)


def compiling() -> AbstractContextManager[None]:
    """Prints a note within the block when the first kernel has to be compiled, since the display stands still then."""
    from mzprobe._kernel import compiling_told

    return compiling_told(lambda: errors.print(f"note: {COMPILING}"))


def duration(seconds: float) -> str:
    """Formats a duration in seconds, minutes or hours, such as `5 min`."""
    if seconds < 60:
        return f"{max(round(seconds), 1)} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


@contextmanager
def stopping(stop: Callable[[], Any], *, what: str = "finishing the step and saving") -> Iterator[None]:
    """Within the block, Ctrl-C, SIGTERM and SIGHUP print `what` and call `stop`; a second signal interrupts at once."""

    def act(number: Signals) -> None:
        try:
            errors.print(f"{number.name} received: {what}")
        except OSError:  # the terminal is gone or the disk full; saving matters more than the message
            mute_streams()
        stop()

    with heard(act):
        yield
