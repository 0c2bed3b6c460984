"""How much faster are our environments than Gymnasium's? Both in the same run, on one thread, by turns.

    python benchmarks/env_speed.py [--repetitions 15]

Of CartPole, `step` times steps of running episodes only. `play` also starts ended episodes anew: ours in a batch, each
from a seed of its own, Gymnasium's by `reset`. Of Lunar Lander, a step of the bare simulator, of Gymnasium's (engine
dispersion drawn), and of 16 episodes side by side in our environment, none replayed; then starts, and what it costs to
come back to a state. Actions are random; ratios are those of the medians.
"""

import argparse
import platform
import time

import gymnasium
import numba
import numpy as np

from mzprobe.envs import CartPole, LunarLander, concatenate
from mzprobe.envs.lunarlander import LanderSimulator

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


LANDERS = 16  # episodes side by side
FLIGHT = 50  # steps after which no lander has come down yet
DEPTH = 100  # of the state that is branched from
LANDER_TARGET = 1.2


def lander_steps(lander: LanderSimulator, actions: np.ndarray) -> float:
    """Seconds a step of the bare simulator, over the same flights as those side by side."""
    spent = 0.0
    for seed, chosen in enumerate(actions.T.tolist()):
        lander.reset(seed)
        start = time.perf_counter()
        for action in chosen:
            assert not lander.step(action)[1]
        spent += time.perf_counter() - start
    return spent / actions.size


def lander_play(env: LunarLander, actions: np.ndarray) -> float:
    """Seconds a step of those flights side by side."""
    states, before = env.reset(range(LANDERS)), env.pool.replayed
    start = time.perf_counter()
    for chosen in actions:
        states, _ = env.step(states, chosen)
    spent = time.perf_counter() - start
    assert not env.terminal(states).any()
    assert env.pool.replayed == before
    return spent / actions.size


def gymnasium_steps(reference: gymnasium.Env, actions: np.ndarray) -> float:
    """Seconds a step of Gymnasium's unwrapped lander."""
    spent = 0.0
    for seed, chosen in enumerate(actions.T.tolist()):
        reference.reset(seed=seed)
        start = time.perf_counter()
        for action in chosen:
            reference.step(action)
        spent += time.perf_counter() - start
    return spent / actions.size


def lander_starts(lander: LanderSimulator) -> float:
    """Seconds a start."""
    start = time.perf_counter()
    for seed in range(LANDERS):
        lander.reset(seed)
    return (time.perf_counter() - start) / LANDERS


def lander_branch(env: LunarLander, *, replayed: int) -> float:
    """Seconds of one step from a state at a depth, whose simulator has moved on, and that was branched from before."""
    states = env.reset([2])
    for t in range(DEPTH):  # hovers: from this start it has not come down by then
        states, _ = env.step(states, [2 if t % 2 else 0])
    assert not env.terminal(states).any()
    for action in (0, 1):
        env.step(states, [action])
    before = env.pool.replayed
    start = time.perf_counter()
    env.step(states, [3])
    spent = time.perf_counter() - start
    assert env.pool.replayed == before + replayed
    return spent


def lander_times(repetitions: int) -> None:
    """Prints what Lunar Lander costs."""
    lander, env, replaying = LanderSimulator(), LunarLander(), LunarLander(snapshots=False)
    reference = gymnasium.make("LunarLander-v3").unwrapped
    actions = np.random.default_rng(0).integers(4, size=(FLIGHT, LANDERS))
    measured: dict[str, list[float]] = {"bare": [], "Gymnasium": [], "play": [], "reset": []}
    measured |= {"replayed": [], "put back": []}
    for _ in range(repetitions):
        measured["bare"].append(lander_steps(lander, actions))
        measured["Gymnasium"].append(gymnasium_steps(reference, actions))
        measured["play"].append(lander_play(env, actions))
        measured["reset"].append(lander_starts(lander))
        measured["replayed"].append(lander_branch(replaying, replayed=DEPTH))
        measured["put back"].append(lander_branch(env, replayed=0))
    us = {name: 1e6 * float(np.median(seconds)) for name, seconds in measured.items()}
    print(f"lander step: bare {us['bare']:.1f} us; Gymnasium's {us['Gymnasium']:.1f} us; ratio ", end="")
    print(f"{us['Gymnasium'] / us['bare']:.2f}")
    print(f"lander play, B = {LANDERS}: {us['play']:.1f} us a step; ratio to the bare step ", end="")
    print(f"{us['play'] / us['bare']:.2f} (target <= {LANDER_TARGET})")
    branch = f"replayed {us['replayed'] / 1e3:.2f} ms, put back {us['put back'] / 1e3:.2f} ms"
    print(f"lander reset: {us['reset']:.0f} us; a branch at depth {DEPTH}: {branch}")


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
        print(f"CartPole {name}: {speeds}; ratio {mine / other:.0f}{goal}")
    lander_times(repetitions)


if __name__ == "__main__":
    main()
