"""Planning in the true Lunar Lander on one core, and where its time goes: Box2D, replay, Python.

    python benchmarks/lunarlander_search.py

A search at every tenth step of an episode that a simple pilot lands, as the planning probe does it: uniform prior,
random rollouts to a horizon of 128 steps, N = 32; once with worlds that are put back by memory, once with replays
alone. Target: simulators being brought back take less than 40 % of the time.
"""

from _timing import pin_to_one_core  # isort: skip - sets the threads before numpy loads

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

HORIZON, N, EVERY, EPISODES = 128, 32, 10, 2
SPENT: dict[str, float] = defaultdict(float)
COUNT: dict[str, int] = defaultdict(int)


def timed(function: Callable[..., Any], part: str) -> Callable[..., Any]:
    """The function, with its time kept under a name."""

    def run(*arguments: Any) -> Any:
        start = time.perf_counter()
        result = function(*arguments)
        SPENT[part] += time.perf_counter() - start
        COUNT[part] += 1
        return result

    return run


class TimedWorld:
    """Box2D's world, with the time of its steps."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.Step = timed(world.Step, "Box2D")


class TimedLander(LanderSimulator):
    """A simulator whose world tells its time."""

    def reset(self, seed: int) -> None:
        """As its base."""
        super().reset(seed)
        self._stepped = TimedWorld(self._world)

    def advance(self, action: int) -> None:
        """As its base."""
        world, self._world = self._world, self._stepped
        try:
            super().advance(action)
        finally:
            self._world = world

    def step(self, action: int) -> tuple[float, bool]:
        """As its base."""
        world, self._world = self._world, self._stepped
        try:
            return super().step(action)
        finally:
            self._world = world


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
    SPENT.clear()
    COUNT.clear()
    model = TrueModel(environment, prior="uniform", leaf=Rollout(horizon=HORIZON))
    config = SearchConfig(simulations=N)
    seconds, searches, depth, replayed = 0.0, 0, 0, 0
    before = 0.0  # spent on Box2D outside of searches
    for seed in range(EPISODES):
        states, t = environment.reset([seed]), 0
        while not environment.terminal(states)[0] and t < 1000:
            if t % EVERY == 0:
                first, steps, begun = SPENT["Box2D"], environment.pool.replayed, time.perf_counter()
                search(model, states, config=config)
                seconds += time.perf_counter() - begun
                before += SPENT["Box2D"] - first
                replayed += environment.pool.replayed - steps
                searches, depth = searches + 1, depth + t
            states, _ = environment.step(states, [pilot(environment.observe(states)[0])])
            t += 1
    brought_back = SPENT["bring back"]
    how = "put back by memory" if snapshots else "replayed"
    print(
        f"{how}: {searches * N / seconds:.0f} simulations/s in {searches} searches, roots at step "
        f"{depth / searches:.0f} on average, {replayed / searches / N:.1f} steps made again a simulation; "
        f"bringing simulators back {brought_back / seconds:.0%}, Box2D in all {before / seconds:.0%}"
    )


def main() -> None:
    pin_to_one_core()
    SimulatorPool.take = timed(SimulatorPool.take, "bring back")  # type: ignore[method-assign]
    for snapshots in (True, False):
        measure(snapshots=snapshots)


if __name__ == "__main__":
    main()
