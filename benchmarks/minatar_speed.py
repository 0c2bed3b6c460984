"""How much faster is our MinAtar Breakout than the package? Both in the same run, on one thread, by turns.

    python benchmarks/minatar_speed.py [--repetitions 15]

Random play of boards that have not ended: ours 1,024 at a time from states on the way, the package's one after another.
`observe` also makes what a network sees after every step, as the package's `state` does. Ratios are of medians.
"""

import argparse
import platform
import time

import minatar
import numba
import numpy as np

from mzprobe.envs import concatenate
from mzprobe.envs.minatar import BreakoutStates, MinAtarBreakout

BATCH = 1024
TARGET = 100
OUR_STEPS = 400
THEIR_STEPS = 5_000


def ours(env: MinAtarBreakout, states: BreakoutStates, actions: np.ndarray, *, observed: bool) -> float:
    """Boards stepped a second, from the same states again and again, none of which has ended."""
    assert not states.done.any()
    start = time.perf_counter()
    for chosen in actions:
        following, _ = env.step(states, chosen)
        if observed:
            env.observe(following)
    return actions.size / (time.perf_counter() - start)


def on_the_way(env: MinAtarBreakout, rng: np.random.Generator) -> BreakoutStates:
    """Boards at random from random play, none of which has ended."""
    states, kept = env.reset(range(BATCH)), []
    for _ in range(20):
        states, outcome = env.step(states, rng.integers(3, size=len(states)))
        states = states.take(np.flatnonzero(~outcome.terminated))
        kept.append(states)
    every = concatenate(kept)
    return every.take(rng.choice(len(every), BATCH, replace=False))


def theirs(env: minatar.Environment, actions: list[int], *, observed: bool) -> float:
    """Steps a second, starts left out."""
    env.reset()
    starting, start = 0.0, time.perf_counter()
    for action in actions:
        _, ended = env.act(action)
        if observed:
            env.state()
        if ended:
            pause = time.perf_counter()
            env.reset()
            starting += time.perf_counter() - pause
    return len(actions) / (time.perf_counter() - start - starting)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=15)
    repetitions = parser.parse_args().repetitions
    rng = np.random.default_rng(0)
    env, reference = MinAtarBreakout(), minatar.Environment("breakout", sticky_action_prob=0.0)
    reference.seed(0)
    states = on_the_way(env, rng)
    actions, theirs_actions = rng.integers(3, size=(OUR_STEPS, BATCH)), rng.choice([0, 1, 3], THEIR_STEPS).tolist()
    print(f"{platform.machine()}, numpy {np.__version__}, numba {numba.__version__}, MinAtar 1.0.15; ", end="")
    print(f"medians of {repetitions} repetitions, one thread")
    for name, observed in (("step", False), ("observe", True)):
        ours(env, states, actions[:10], observed=observed)  # compiles
        rates = [
            (ours(env, states, actions, observed=observed), theirs(reference, theirs_actions, observed=observed))
            for _ in range(repetitions)
        ]
        mine, other = np.median(rates, axis=0)
        speeds = f"ours, B = {BATCH}: {mine:12,.0f} steps/s; MinAtar: {other:9,.0f} steps/s"
        print(f"MinAtar Breakout {name}: {speeds}; ratio {mine / other:.0f} (target >= {TARGET})")


if __name__ == "__main__":
    main()
