"""Planning in the true Lunar Lander on one core, and where its time goes: Box2D, replay, Python.

    python benchmarks/lunarlander_search.py

A search at every tenth step of an episode that a simple pilot lands, as the planning probe does it: uniform prior,
random rollouts to a horizon of 128 steps, N = 32; once with worlds that are put back by memory, once with replays
alone. Target: simulators being brought back take less than 40 % of the time.
"""

from _timing import SMALLEST, pin_to_one_core  # isort: skip - sets the threads before numpy loads

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from mzprobe.config import SearchConfig
from mzprobe.envs import LunarLander
from mzprobe.envs.lunarlander import LanderSimulator
from mzprobe.envs.simulators import SimulatorPool
from mzprobe.search import search
from mzprobe.search.models import TrueModel
from mzprobe.search.rollouts import Rollout

HORIZON, N, EVERY, EPISODES = (16, 4, 100, 1) if SMALLEST else (128, 32, 10, 2)
SPENT: dict[str, float] = defaultdict(float)


def timed(function: Callable[..., Any], part: str) -> Callable[..., Any]:
    """The function, with its time kept under a name."""

    def run(*arguments: Any) -> Any:
        start = time.perf_counter()
        result = function(*arguments)
        SPENT[part] += time.perf_counter() - start
        return result

    return run


class TimedWorld:
    """Box2D's world, with the time of its steps."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.Step = timed(world.Step, "Box2D")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.world, name)


class TimedLander(LanderSimulator):
    """A simulator whose world tells its time."""

    def reset(self, seed: int) -> None:
        """As its base."""
        super().reset(seed)
        self._world = TimedWorld(self._world)


def pilot(observation: np.ndarray) -> int:
    """Falls the slower the lower it is, leans towards the pad, and cuts the engines on the ground."""
    x, y, x_dot, y_dot, angle, spin, left, right = observation.tolist()
    if left or right:
        return 2 if y_dot < -0.1 and not (left and right) else 0
    if y_dot < -0.08 - 0.3 * max(y, 0):
        return 2
    lean = 0.3 * x + 0.7 * x_dot - angle - 0.8 * spin
    return 1 if lean > 0.04 else 3 if lean < -0.04 else 0


def measure(*, snapshots: bool) -> None:
    """Prints the searches of a few episodes."""
    environment = LunarLander(snapshots=snapshots)
    environment.pool.make = lambda: TimedLander(snapshots=snapshots)
    model = TrueModel(environment, prior="uniform", leaf=Rollout(horizon=HORIZON))
    config = SearchConfig(simulations=N)
    search(model, environment.reset([0]), config=config)  # compiles
    seconds, searches, depth, replayed = 0.0, 0, 0, 0
    spent = dict.fromkeys(SPENT, 0.0)  # within searches
    for seed in range(EPISODES):
        states, t = environment.reset([seed]), 0
        while not environment.terminal(states)[0] and t < environment.spec.time_limit:
            if t % EVERY == 0:
                before, steps, begun = dict(SPENT), environment.pool.replayed, time.perf_counter()
                search(model, states, config=config)
                seconds += time.perf_counter() - begun
                spent = {part: total + SPENT[part] - before[part] for part, total in spent.items()}
                replayed += environment.pool.replayed - steps
                searches, depth = searches + 1, depth + t
            states, _ = environment.step(states, [pilot(environment.observe(states)[0])])
            t += 1
    how = "put back by memory" if snapshots else "replayed"
    print(
        f"{how}: {searches * N / seconds:.0f} simulations/s in {searches} searches, roots at step "
        f"{depth / searches:.0f} on average, {replayed / searches / N:.1f} steps made again a simulation; "
        f"bringing simulators back {spent['bring back'] / seconds:.0%}, Box2D in all {spent['Box2D'] / seconds:.0%}"
    )


def main() -> None:
    pin_to_one_core()
    SimulatorPool.take = timed(SimulatorPool.take, "bring back")  # type: ignore[method-assign]
    for snapshots in (True, False):
        measure(snapshots=snapshots)


if __name__ == "__main__":
    main()
