"""What reanalyse costs: the search time of a fraction of 0.8 against that of 0, and the memory of a whole run of each.

    python benchmarks/reanalyse_speed.py

A fraction of 0.8 makes five times the searches. Both agents take turns at playing, from the same weights after
1,500 training steps, so that a slow moment hits both; only time inside the search counts. The target is 5.5 times,
and no more memory.
"""

from _timing import SMALLEST, pin_to_one_core  # isort: skip - sets the threads before numpy loads

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import mzprobe.training.reanalyse
import mzprobe.training.selfplay
from mzprobe.config import load_preset
from mzprobe.search.mcts import search
from mzprobe.training.trainer import Trainer

FRACTIONS = (0.0, 0.8)
TURNS, STEPS = 2 if SMALLEST else 31, 20  # turns of each agent, and play steps a turn
TRAINED = 20 if SMALLEST else 1500  # training steps before anything is timed


class TimedSearch:
    """The search, with the seconds and the roots of its calls."""

    def __init__(self) -> None:
        self.seconds, self.roots = 0.0, 0

    def __call__(self, model: Any, roots: Any, **options: Any) -> Any:
        """Searches."""
        start = time.perf_counter()
        result = search(model, roots, **options)
        self.seconds += time.perf_counter() - start
        self.roots += len(roots)
        return result


def search_seconds() -> dict[float, tuple[float, float]]:
    """Median seconds inside the search, and roots, of a turn of each fraction."""
    timed = TimedSearch()
    mzprobe.training.selfplay.search = mzprobe.training.reanalyse.search = timed
    seconds: dict[float, list[float]] = {fraction: [] for fraction in FRACTIONS}
    roots: dict[float, list[int]] = {fraction: [] for fraction in FRACTIONS}
    with tempfile.TemporaryDirectory() as folder:
        trainers = {}
        for fraction in FRACTIONS:
            keys = {"reanalyse.fraction": fraction, "training.steps": TRAINED, "training.evaluation_episodes": 0}
            config = load_preset("cartpole", [f"{key}={value}" for key, value in keys.items()])
            trainers[fraction] = Trainer(config, seed=0, run=f"f{fraction}", out=Path(folder), command="benchmark")
            trainers[fraction].train()
        weights = trainers[FRACTIONS[-1]].network.state_dict()
        for trainer in trainers.values():
            trainer.network.load_state_dict(weights)
        for _ in range(TURNS):
            for fraction, trainer in trainers.items():
                timed.seconds, timed.roots = 0.0, 0
                for _ in range(STEPS):
                    trainer.experience.play_step(TRAINED)
                seconds[fraction].append(timed.seconds)
                roots[fraction].append(timed.roots)
    return {f: (statistics.median(seconds[f]), statistics.mean(roots[f])) for f in FRACTIONS}


_RUN = """
import resource, sys
from mzprobe import cli
try:
    cli.main()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, file=sys.stdout)
"""


def peak_memory(fraction: float) -> float:
    """Peak resident MiB of `mzprobe train cartpole` at a fraction."""
    with tempfile.TemporaryDirectory() as folder:
        keys = ["--set", f"reanalyse.fraction={fraction}", "--steps", str(TRAINED), "--out", folder]
        command = [sys.executable, "-c", _RUN, "train", "cartpole", *keys]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    pin_to_one_core()
    torch.set_num_threads(1)
    found = search_seconds()
    for fraction, (seconds, roots) in found.items():
        print(
            f"fraction {fraction}: {roots:.0f} searches a turn, {seconds * 1e3:.1f} ms, "
            f"{seconds / roots * 1e6:.1f} us each"
        )
    (none, _), (most, _) = found[FRACTIONS[0]], found[FRACTIONS[1]]
    print(f"search time: {most / none:.2f} times (target 5.5)")
    memory = {fraction: peak_memory(fraction) for fraction in FRACTIONS}
    print("peak memory: " + ", ".join(f"fraction {fraction} {mib:.0f} MiB" for fraction, mib in memory.items()))


if __name__ == "__main__":
    main()
