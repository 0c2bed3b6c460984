"""Timing of a run, kept in a file of its own beside its checkpoints because it differs from run to run."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mzprobe.errors import MzprobeError
from mzprobe.files import canonical_json, read_bytes, write_file

PARTS = ("play", "reanalyse", "learn", "evaluate")
FILE = "timing.json"


class Clock:
    """Seconds spent in each part of training, wall-clock and processor time, continued when a run resumes.

    If the saved times are lost or corrupt, timing is dropped: a partial total would mislead. The file is written before
    the state to resume from, so it keeps the totals of the save before the last one too: a kill in between leaves the
    older state, and the work since then is done, and counted, again.
    """

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.core_seconds = dict.fromkeys(PARTS, 0.0)
        self.rows: list[dict[str, Any]] = []  # one per checkpoint
        self.saved: list[dict[str, Any]] = []  # totals of the last two saves, with their counts of steps
        self.known = True  # whether the times cover the run from its start

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Adds the time spent within the block to a part."""
        wall, cores = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - wall
            self.core_seconds[name] += time.process_time() - cores

    def mark(self, **counts: int) -> None:
        """Adds a row for a checkpoint: its counts and the times so far."""
        self.rows.append({**counts, **self._totals()})

    def write(self, agent: Path, **counts: int) -> None:
        """Writes the times at these counts of steps into an agent's folder; if they are not known, removes the file."""
        if not self.known:
            (agent / FILE).unlink(missing_ok=True)
            return
        others = [one for one in self.saved if not _is_of(one, counts)]
        self.saved = [*others[-1:], {**counts, **self._totals()}]
        *before, now = self.saved
        write_file(agent / FILE, canonical_json({"rows": self.rows, "before": before, "now": now}).encode())

    def read(self, agent: Path, **counts: int) -> None:
        """Continues from the times that were saved at the state with these counts of steps, and the rows up to it."""
        try:
            written = json.loads(read_bytes(agent / FILE, error=MzprobeError, remedy="it is made anew"))
            rows = [row for row in written["rows"] if row["training_step"] <= counts["training_step"]]
            # Older files lack `before` and the counts of `now`.
            (now, *_) = [one for one in (written["now"], *written.get("before", [])) if _is_of(one, counts)]
            seconds, cores = ({name: float(now[kind][name]) for name in PARTS} for kind in _KINDS)
        except (MzprobeError, ValueError, ArithmeticError, AttributeError, KeyError, TypeError, RecursionError):
            self.known = False
            return
        self.rows, self.seconds, self.core_seconds = rows, seconds, cores
        self.saved = [{**counts, **self._totals()}]

    def _totals(self) -> dict[str, Any]:
        return {"seconds": dict(self.seconds), "core_seconds": dict(self.core_seconds)}


def _is_of(saved: Mapping[str, Any], counts: Mapping[str, int]) -> bool:
    """Whether totals were saved at these counts of steps, as far as they say."""
    return all(saved.get(name, count) == count for name, count in counts.items())


_KINDS = ("seconds", "core_seconds")
