"""Wall-clock from typing `mzprobe train cartpole` to a mean of 475 over 20 evaluation episodes, everything counted.

    python benchmarks/time_to_return.py --seeds 0-4

Each run is a fresh process in a fresh folder; the clock stops when a checkpoint with such an evaluation is on disk.
`--cold` also empties numba's cache first, as on a new installation. Also prints the peak resident memory.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def seconds_to(target: float, seed: int, *, cold: bool) -> tuple[float | None, int, float]:
    """Seconds (None if it never got there), the training step of the evaluation, peak resident MiB."""
    with tempfile.TemporaryDirectory() as folder:
        environment = dict(os.environ)
        if cold:
            environment["NUMBA_CACHE_DIR"] = f"{folder}/numba"
        command = [sys.executable, "-m", "mzprobe", "train", "cartpole", "--seed", str(seed), "--out", folder]
        start = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        reached, step, peak = None, 0, 0.0
        agent = Path(folder) / "cartpole" / f"seed-{seed}"
        while reached is None and process.poll() is None:
            time.sleep(0.05)
            peak = max(peak, peak_memory(process.pid))
            for record in sorted(agent.glob("step-*/checkpoint.json")):
                for evaluation in json.loads(record.read_text("utf-8"))["metrics"]["evaluations"]:
                    if reached is None and evaluation["mean_return"] >= target:
                        reached, step = time.perf_counter() - start, int(evaluation["step"])
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait()
    return reached, step, peak


def peak_memory(pid: int) -> float:
    """Peak resident MiB of a process, where the system tells."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0-4", help="first-last")
    parser.add_argument("--target", type=float, default=475)
    parser.add_argument("--cold", action="store_true")
    options = parser.parse_args()
    first, last = map(int, options.seeds.split("-"))
    for seed in range(first, last + 1):
        seconds, step, peak = seconds_to(options.target, seed, cold=options.cold)
        reached = "never" if seconds is None else f"{seconds:.1f} s (training step {step})"
        print(f"seed {seed}: {options.target:g} after {reached}; peak memory {peak:.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
