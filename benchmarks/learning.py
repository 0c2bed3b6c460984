"""Does the preset learn, and does it keep what it learned? All seeds, nothing left out.

    python benchmarks/learning.py --seeds 0-9 --steps 20000
    python benchmarks/learning.py --seeds 0-4 --steps 50000

Trains the agents side by side (resuming what is there), then plays 100 episodes with the behaviour policy (search at
the checkpoint's temperature, no root noise) at every checkpoint, and prints a table, also written as CSV.
"""

import argparse
import multiprocessing
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pandas as pd

from mzprobe.behaviour import draw_episode_numbers, play_episodes
from mzprobe.checkpoints import read_checkpoint, step_of, steps_of
from mzprobe.seeding import numpy_generator
from mzprobe.sources.own import load_agent
from mzprobe.system.threads import limited_threads


def train(preset: str, seed: int, steps: int, out: Path) -> None:
    command = [sys.executable, "-m", "mzprobe", "train", preset, "--seed", str(seed), "--steps", str(steps)]
    subprocess.run([*command, "--out", str(out)], check=True, stderr=subprocess.DEVNULL)


def evaluate(checkpoint: Path, episodes: int) -> dict[str, float]:
    agent = load_agent(read_checkpoint(checkpoint))
    generator = numpy_generator(agent.origin.seed, "probe", 2024)
    seeds, uniforms = draw_episode_numbers(generator, episodes, agent.environment.spec.time_limit)
    with limited_threads(1):
        returns = play_episodes(agent.environment, agent.policy, seeds=seeds, uniforms=uniforms).returns
    return {
        "seed": agent.origin.seed,
        "training_step": agent.origin.training_step,
        "environment_steps": agent.origin.environment_steps,
        "temperature": agent.policy.temperature,
        "episodes": episodes,
        "mean_return": returns.mean(),
        "min_return": returns.min(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="cartpole")
    parser.add_argument("--seeds", default="0-9", help="first-last")
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--first", type=int, default=20000, help="first checkpoint that is evaluated")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("runs/learning"))
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    first, last = map(int, options.seeds.split("-"))
    seeds = range(first, last + 1)
    with ThreadPoolExecutor(options.processes) as pool:
        list(pool.map(lambda seed: train(options.preset, seed, options.steps, options.out), seeds))
    folders = [options.out / options.preset / f"seed-{seed}" for seed in seeds]
    checkpoints = [
        checkpoint
        for folder in folders
        for checkpoint in steps_of(folder)
        if options.first <= step_of(checkpoint) <= options.steps
    ]
    with ProcessPoolExecutor(options.processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        table = pd.DataFrame(pool.map(partial(evaluate, episodes=options.episodes), checkpoints))
    for seed, rows in table.groupby("seed"):
        print(f"seed {seed}:", " ".join(f"{value:.1f}" for value in rows["mean_return"]))
    path = options.out / f"learning-{options.seeds}-{options.steps}.csv"
    table.to_csv(path, index=False)
    at_first = table[table["training_step"] == options.first]["mean_return"]
    print(f"step {options.first}: {(at_first >= 475).sum()} of {len(at_first)} seeds at 475 or more")
    later = table[table["training_step"] > options.first].groupby("seed")["mean_return"].min()
    if len(later):
        print(f"later: {(later >= 400).sum()} of {len(later)} seeds never under 400; lowest means {later.tolist()}")
    print(path)


if __name__ == "__main__":
    main()
