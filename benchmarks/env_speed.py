"""How much faster is batched CartPole than Gymnasium's? Both in the same run, on one thread, by turns.

    python benchmarks/env_speed.py [--repetitions 15]

`step` times steps of running episodes only. `play` also starts ended episodes anew: ours in a batch, each
from a seed of its own, Gymnasium's by `reset`. Actions are random; ratios are those of the medians.
"""

import argparse
import platform
import time

import gymnasium
import numba
import numpy as np

from mzprobe.envs import CartPole, concatenate

BATCH = 1024
TARGET = 30
OUR_STEPS = 400  # batched steps a repetition
THEIR_STEPS = 5_000
SHORTEST = 7  # steps after which no episode has ended yet: the fastest fall takes more


def our_step(env: CartPole, actions: np.ndarray) -> float:
    """Steps a second of the whole batch, from fresh starts that no one falls from."""
    fresh, spent = env.reset(range(BATCH)), 0.0
    for first in range(0, len(actions) - SHORTEST + 1, SHORTEST):
        states = fresh
        start = time.perf_counter()
        for chosen in actions[first : first + SHORTEST]:
            states, _ = env.step(states, chosen)
        spent += time.perf_counter() - start
        assert not env.terminal(states).any()
    return len(actions) // SHORTEST * SHORTEST * BATCH / spent


def our_play(env: CartPole, actions: np.ndarray) -> float:
    """Steps a second of the whole batch, ended episodes replaced."""
    states, seed, everyone = env.reset(range(BATCH)), BATCH, np.arange(BATCH)
    start = time.perf_counter()
    for chosen in actions:
        states, outcome = env.step(states, chosen)
        ended = np.flatnonzero(outcome.terminated)
        if len(ended):
            rows = everyone.copy()
            rows[ended] = BATCH + np.arange(len(ended))
            states = concatenate([states, env.reset(np.arange(seed, seed + len(ended)))]).take(rows)
            seed += len(ended)
    return actions.size / (time.perf_counter() - start)


def their_rates(env: gymnasium.Env, actions: list[int]) -> tuple[float, float]:
    """Steps a second of one environment as `gymnasium.make` gives it: without and with its resets."""
    env.reset(seed=0)
    resetting = 0.0
    start = time.perf_counter()
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            pause = time.perf_counter()
            env.reset()
            resetting += time.perf_counter() - pause
    spent = time.perf_counter() - start
    return len(actions) / (spent - resetting), len(actions) / spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=15)
    repetitions = parser.parse_args().repetitions
    rng = np.random.default_rng(0)
    our_actions = rng.integers(2, size=(OUR_STEPS, BATCH))
    their_actions = rng.integers(2, size=THEIR_STEPS).tolist()
    env, reference = CartPole(), gymnasium.make("CartPole-v1")
    our_play(env, our_actions[:20])  # compiles
    their_rates(reference, their_actions[:100])

    ours: dict[str, list[float]] = {"step": [], "play": []}
    theirs: dict[str, list[float]] = {"step": [], "play": []}
    for _ in range(repetitions):
        ours["step"].append(our_step(env, our_actions))
        ours["play"].append(our_play(env, our_actions))
        for name, rate in zip(theirs, their_rates(reference, their_actions), strict=True):
            theirs[name].append(rate)

    versions = f"gymnasium {gymnasium.__version__}, numpy {np.__version__}, numba {numba.__version__}"
    print(f"{platform.machine()}, {versions}; medians of {repetitions} repetitions, one thread")
    for name in ours:
        mine, other = float(np.median(ours[name])), float(np.median(theirs[name]))
        speeds = f"ours, B = {BATCH}: {mine:12,.0f} steps/s; gymnasium.make: {other:9,.0f} steps/s"
        goal = f" (target >= {TARGET})" if name == "step" else ""
        print(f"{name}: {speeds}; ratio {mine / other:.0f}{goal}")


if __name__ == "__main__":
    main()
