"""Timing of a run, kept in a file of its own beside its checkpoints because it differs from run to run."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mzprobe.errors import MzprobeError
from mzprobe.files import canonical_json, read_bytes, write_file

PARTS = ("play", "reanalyse", "learn", "evaluate")
FILE = "timing.json"


class Clock:
    """Seconds spent in each part of training, wall-clock and processor time, continued when a run resumes.

    If the saved times are lost or corrupt, timing is dropped: a partial total would mislead.
    """

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.core_seconds = dict.fromkeys(PARTS, 0.0)
        self.rows: list[dict[str, Any]] = []  # one per checkpoint
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

    def write(self, agent: Path) -> None:
        """Writes the times into an agent's folder; if they are not known, removes the file instead."""
        if not self.known:
            (agent / FILE).unlink(missing_ok=True)
            return
        write_file(agent / FILE, canonical_json({"rows": self.rows, "now": self._totals()}).encode())

    def read(self, agent: Path, step: int) -> None:
        """Continues from the saved times, with the rows up to training step `step`."""
        try:
            written = json.loads(read_bytes(agent / FILE, error=MzprobeError, remedy="it is made anew"))
            rows = [row for row in written["rows"] if row["training_step"] <= step]
            seconds, cores = ({name: float(written["now"][kind][name]) for name in PARTS} for kind in _KINDS)
        except (MzprobeError, ValueError, ArithmeticError, KeyError, TypeError, RecursionError):
            self.known = False
            return
        self.rows, self.seconds, self.core_seconds = rows, seconds, cores

    def _totals(self) -> dict[str, Any]:
        return {"seconds": dict(self.seconds), "core_seconds": dict(self.core_seconds)}


_KINDS = ("seconds", "core_seconds")
