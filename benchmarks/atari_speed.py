"""What does the protocol cost on top of the emulator? Breakout in both, at the same frame-skip, on one thread.

    python benchmarks/atari_speed.py [--repetitions 15]

A straight episode of random play, by turns. `bare` makes the same frames in a console of ALE and reads what
the protocol must know: lives, whether the game is over, the memory, or the maximum of the last two screens; where it
is observed, that is shrunk by the same function, and four are put together. A branch is a step from a state that the
emulator has left. Ratios are of medians.
"""

import argparse
import platform
from collections import deque
from collections.abc import Callable
from functools import partial

import _timing  # first: it holds libraries to one thread
import ale_py
import numpy as np

from mzprobe.envs.atari import AtariEnvironment, atari_environment
from mzprobe.envs.atari_emulator import Emulator, cartridge

TARGET, BRANCH = 1.15, 200
STEPS = 5 if _timing.SMALLEST else 100
SKIP = 4


def straight(env: AtariEnvironment, actions: list[list[int]], *, observed: bool) -> None:
    """A straight episode, as far as its actions go; lives are no ends."""
    states = env.reset([0])
    for action in actions:
        states, _ = env.step(states, action)
        if observed:
            env.observe(states)


def bare(env: AtariEnvironment, emulator: Emulator, actions: list[list[int]], *, observed: bool) -> None:
    """The same frames in a console of our own."""
    console, codes, eye, screens = emulator.console, cartridge("breakout").codes, env._eye, deque(maxlen=4)
    look = console.getScreenGrayscale if eye is not None and eye.shape[-1] == 1 else console.getScreenRGB
    emulator.restore(env.reset([0]).points[0].saved)
    for (action,) in actions:
        for _ in range(SKIP - 1):
            console.act(codes[action])
        before = None if eye is None else console.getScreen() if observed else look()
        console.act(codes[action])
        console.lives(), console.game_over()
        if eye is None:
            console.getRAM()
        elif observed:
            screens.append(eye.look(before, console.getScreen()))
            np.concatenate(screens, axis=-1)
        else:
            np.maximum(before, look())


def branches(env: AtariEnvironment, actions: list[list[int]]) -> None:
    """Steps from two states by turns, with one emulator."""
    here, there = env.reset([0]), env.step(env.reset([0]), [1])[0]
    for at in range(0, len(actions) - 1, 2):
        env.step(here, actions[at])
        env.step(there, actions[at + 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=15)
    repetitions = parser.parse_args().repetitions
    _timing.pin_to_one_core()
    actions = [[a] for a in np.random.default_rng(0).integers(4, size=STEPS).tolist()]
    print(f"{platform.machine()}, ale-py {ale_py.__version__}, frame-skip {SKIP}; medians of {repetitions} repetitions")
    for name, options in (
        ("ram", {"observation": "ram"}),
        ("screen, 96 x 96 RGB", {}),
        ("screen, 84 x 84 grey", {"colour": "grey", "size": 84}),
    ):
        env = atari_environment("breakout", emulators=1, end_of_life=False, opening=[], **options)
        emulator = Emulator(cartridge("breakout"), None)
        for observed in (False, True):
            functions: dict[str, Callable[[], object]] = {
                "bare": partial(bare, env, emulator, actions, observed=observed),
                "protocol": partial(straight, env, actions, observed=observed),
                "branch": partial(branches, env, actions),
            }
            seconds = _timing.interleaved(functions, repetitions=repetitions)
            step = {part: 1e6 * taken / STEPS for part, taken in seconds.items()}
            ratio, beyond = step["protocol"] / step["bare"], step["branch"] - step["protocol"]
            print(
                f"{name}, {'observed' if observed else 'stepped'}: bare {step['bare']:.0f} us a step, "
                f"protocol {step['protocol']:.0f}; ratio {ratio:.2f} (target <= {TARGET})"
                + ("" if observed else f"; a branch {beyond:.0f} us beyond the step (target < {BRANCH})")
            )


if __name__ == "__main__":
    main()
