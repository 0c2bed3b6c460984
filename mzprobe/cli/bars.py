"""Progress display of a running study: one bar for the study and per running task, and one line per ended task."""

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Self

from rich.progress import MofNCompleteColumn, Progress, ProgressColumn, TaskID
from rich.progress import Task as Bar
from rich.text import Text

from mzprobe.console import duration, errors, progress_bars
from mzprobe.execution.core import Report, State, Task


class TaskBars:
    """Progress bars of the tasks of a study.

    Args:
        seconds: approximate duration of each task, by name.
        in_all: planned seconds from start to end.
        clock: returns the time in seconds, from any origin.
    """

    def __init__(
        self, seconds: Mapping[str, float], *, in_all: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        first, *others, times = progress_bars().columns
        others = [_Counted() if isinstance(column, MofNCompleteColumn) else column for column in others]
        self.bars = Progress(first, *others, _Left(times), console=errors)
        self._seconds, self._in_all, self._clock, self._begun = dict(seconds), in_all, clock, clock()
        self._ended: dict[str, State] = {}
        self._running: dict[str, TaskID] = {}
        self._from: dict[str, float] = {}  # time when each task began
        self._shares: dict[str, float] = {}  # share done of each running task
        self._notes: dict[str, str] = {}  # last note of each task
        self._all = self.bars.add_task("study", total=1.0, note="", counted="", left=in_all)

    def __enter__(self) -> Self:
        self._refresh()
        self.bars.__enter__()
        return self

    def __exit__(self, *reason: Any) -> None:
        self.bars.__exit__(*reason)

    def change(self, task: Task, state: State, said: str) -> None:
        """Shows that a task has begun or ended; see `Executor.run`."""
        name = task.name
        if state in ("begun", "again"):
            self.end(name)
            self._from[name] = self._clock()
            self._running[name] = self.bars.add_task(name, total=None, note="")
        else:
            self._ended[name] = state
            self.end(name)
            note = said or self._notes.get(name, "")
            line = f"{name} {state}{f': {note}' if note else ''} ({duration(self._clock() - self._from[name])})"
            self.bars.console.print(line)
        if state == "again":
            self.bars.console.print(f"{name}: {said}")
        self._refresh()

    def end(self, name: str) -> None:
        """Removes the bar of a task, if it has one."""
        self._shares.pop(name, None)
        if name in self._running:
            self.bars.remove_task(self._running.pop(name))

    def show(self, report: Report) -> None:
        """Shows the progress that a running task reports."""
        name = f"{report.label} {report.phase}"
        if name not in self._running:  # the phase is not in the task's name, or kernels are compiled
            name = next((one for one in self._running if one == report.label or one.startswith(f"{report.label} ")), "")
        if not name:
            return
        note = self._notes[name] = report.note
        if report.total:
            self._shares[name] = report.done / report.total
        described = name if name.endswith(report.phase) else f"{name}: {report.phase}"
        note = note or ("checkpoints" if report.total else "")
        bar = self._running[name]
        self.bars.update(bar, description=described, completed=report.done, total=report.total, note=note)
        self._refresh()

    def _refresh(self) -> None:
        """Updates the bar of the study: the share done, and the time left at the pace so far, at first as planned."""
        known = self._seconds.get
        done = sum(known(name, 0.0) for name in self._ended)
        done += sum(share * known(name, 0.0) for name, share in self._shares.items())
        share = done / (sum(self._seconds.values()) or 1.0)
        gone = self._clock() - self._begun
        pace = gone * (1 - share) / share if share > 0.02 else max(0.0, self._in_all - gone)
        failed = sum(state == "failed" for state in self._ended.values())
        self.bars.update(
            self._all,
            completed=share,
            counted=f"{len(self._ended)}/{max(len(self._seconds), len(self._ended))} tasks",
            note=f"{failed} failed" if failed else "",
            left=pace if share < 1 else None,
        )


class _Counted(MofNCompleteColumn):
    """Column of completed and total counts; a bar can replace it with the text of its field `counted`."""

    def render(self, task: Bar) -> Text:
        """Renders a text such as `3/12`."""
        counted = task.fields.get("counted")
        return super().render(task) if counted is None else Text(counted, style="progress.download")


class _Left(ProgressColumn):
    """Column of elapsed and remaining time; a bar can state the remaining seconds in its field `left`.

    Args:
        otherwise: column that renders bars without that field.
    """

    max_refresh = 0.5

    def __init__(self, otherwise: Any) -> None:
        super().__init__()
        self._otherwise = otherwise

    def render(self, task: Bar) -> Any:
        """Renders a text such as `0:01:02, 0:03:20 left`."""
        left = task.fields.get("left")
        if left is None or task.elapsed is None:
            return self._otherwise.render(task)
        gone, more = (timedelta(seconds=int(seconds)) for seconds in (task.elapsed, left))
        return Text(f"{gone}, {more} left")
