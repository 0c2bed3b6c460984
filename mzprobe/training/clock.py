"""Where the time of a run goes, kept beside its checkpoints: it is no result, and differs from run to run."""

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
    """Seconds of each part of training, on the wall and on the cores, counted on by an agent that goes on.

    Times that cannot be counted on, since what was written is gone or garbled, are kept no more: a part would mislead.
    """

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.core_seconds = dict.fromkeys(PARTS, 0.0)
        self.rows: list[dict[str, Any]] = []  # one a checkpoint
        self.known = True  # whether they are the times from the start

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Counts what happens within it."""
        wall, cores = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - wall
            self.core_seconds[name] += time.process_time() - cores

    def mark(self, **counts: int) -> None:
        """Adds the row of a checkpoint."""
        self.rows.append({**counts, **self._totals()})

    def write(self, agent: Path) -> None:
        """Writes all of it into an agent's folder, if it is known."""
        if not self.known:
            (agent / FILE).unlink(missing_ok=True)
            return
        write_file(agent / FILE, canonical_json({"rows": self.rows, "now": self._totals()}).encode())

    def read(self, agent: Path, step: int) -> None:
        """Goes on from what was written, as far as a training step."""
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
