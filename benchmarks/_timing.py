"""Timing that can be trusted on a shared machine: interleaved repetitions, medians, ratios."""

import os
import statistics
import time
from collections.abc import Callable

# One thread for every BLAS and for XLA; read when those libraries load, so this module comes first.
for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


# Runs every benchmark to its end in little time, so that a test can show that it does; its numbers mean nothing.
SMALLEST = os.environ.get("MZPROBE_BENCHMARKS") == "smallest"


def pin_to_one_core() -> None:
    """Keeps this process on one core, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def interleaved(functions: dict[str, Callable[[], object]], *, repetitions: int) -> dict[str, float]:
    """Median seconds of each function; all take turns, so that a slow moment hits all alike.

    A turn is as many calls as take about 20 ms: short calls are timed warm.
    """
    repetitions = 1 if SMALLEST else repetitions
    calls: dict[str, int] = {}
    for name, function in functions.items():
        function()
        calls[name] = 1 if SMALLEST else max(1, round(0.02 / max(_seconds(function, 1), 1e-7)))
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repetitions):
        for name, function in functions.items():
            seconds[name].append(_seconds(function, calls[name]))
    return {name: statistics.median(times) for name, times in seconds.items()}


def _seconds(function: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls
