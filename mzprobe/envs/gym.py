"""Any deterministic Gymnasium environment with discrete actions as the truth, by its id: `gym:MountainCar-v0`."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.spaces.utils import flatdim, flatten
from numpy.typing import NDArray

from mzprobe.envs.core import EnvironmentSpec
from mzprobe.envs.simulators import MOST_ACTIONS, SimulatorEnvironment
from mzprobe.errors import UsageError

PREFIX = "gym:"  # of names that are Gymnasium's

_WALKS, _STEPS = 4, 64  # of the check at the start


class GymSimulator:
    """One unwrapped Gymnasium environment; observations that are no `Box` are flattened (one-hot, if discrete).

    Args:
        id: as `gymnasium.make` takes it.
        options: keyword arguments of the environment.
    """

    def __init__(self, id: str, options: dict[str, Any]) -> None:
        made: Any = gymnasium.make(id, disable_env_checker=True, **options)
        self.env: Any = made.unwrapped
        self.time_limit: int | None = made.spec.max_episode_steps
        self._space = self.env.observation_space
        self._first_action = int(getattr(self.env.action_space, "start", 0))
        self._seen: NDArray[Any] = np.zeros(0)

    def reset(self, seed: int) -> None:
        """The start of a seed."""
        self._see(self.env.reset(seed=seed)[0])

    def step(self, action: int) -> tuple[float, bool]:
        """One step; truncation is left to whoever plays."""
        seen, reward, terminated, _, _ = self.env.step(self._first_action + action)
        self._see(seen)
        return float(reward), bool(terminated)

    def advance(self, action: int) -> None:
        """One step that is known already."""
        self.step(action)

    def observe(self) -> NDArray[Any]:
        """The last observation."""
        return self._seen

    def save(self) -> None:
        """Gymnasium has no such thing for all environments."""

    def restore(self, saved: Any) -> bool:  # noqa: ARG002
        """Never needed."""
        return False

    def _see(self, seen: Any) -> None:
        self._seen = np.array(seen if isinstance(self._space, Box) else flatten(self._space, seen))


def gym_environment(
    id: str, *, gamma: float = 0.997, time_limit: int | None = None, simulators: int = 512, **options: Any
) -> SimulatorEnvironment:
    """Wraps a Gymnasium environment; its states are seeds and actions, brought back by replay.

    Args:
        id: as `gymnasium.make` takes it.
        gamma: discount, in (0, 1].
        time_limit: steps after which whoever plays calls the episode truncated; the id's own by default.
        simulators: most copies that are alive at once.
        **options: keyword arguments of the environment.

    Raises:
        UsageError: if it cannot be made, its actions are not discrete or too many, its observations cannot be
            flattened, it has no time limit, or the same start and actions do not lead to the same.
        ValueError: if a number is out of range.
    """
    make = partial(GymSimulator, id, options)
    try:
        first = make()
    except Exception as reason:  # an environment may raise anything
        raise UsageError(f"Gymnasium cannot make {id}: {reason or type(reason).__name__}") from reason
    actions, seen = first.env.action_space, first.env.observation_space
    if not isinstance(actions, Discrete):
        raise UsageError(f"{PREFIX}{id} has actions {actions}, and only Discrete ones can be searched")
    if actions.n > MOST_ACTIONS:
        raise UsageError(f"{PREFIX}{id} has {actions.n} actions, and {MOST_ACTIONS} are the most that are kept")
    try:
        shape = tuple(seen.shape) if isinstance(seen, Box) else (flatdim(seen),)
    except (NotImplementedError, ValueError):
        raise UsageError(f"{PREFIX}{id} has observations {seen}, which Gymnasium cannot flatten") from None
    limit = first.time_limit if time_limit is None else time_limit
    if limit is None:
        raise UsageError(f"{PREFIX}{id} has no time limit of its own: give the option time_limit")
    refuse_chance(id, first, make(), int(actions.n))
    spec = EnvironmentSpec(
        name=f"{PREFIX}{id}",
        observation_shape=shape,
        num_actions=int(actions.n),
        gamma=gamma,
        time_limit=limit,
        action_meanings=tuple(f"action {a}" for a in range(int(actions.n))),
        source=f"Gymnasium {gymnasium.__version__} {id}",
    )
    return SimulatorEnvironment(spec, make, simulators=simulators)


def refuse_chance(id: str, used: GymSimulator, fresh: GymSimulator, num_actions: int) -> None:
    """Compares random walks: in one copy, then by turns in it and in another one whose chance was replaced.

    Raises:
        UsageError: at the first difference; one that so few steps do not show is not found.
    """
    for seed in range(_WALKS):
        actions = np.random.default_rng(seed).integers(num_actions, size=_STEPS).tolist()
        alone = list(_walk(used, seed, actions))
        turns = zip(_walk(used, seed, actions), _walk(fresh, seed, actions, chance=seed + 1), strict=True)
        for t, (one, (again, other)) in enumerate(zip(alone, turns, strict=True)):
            if not one == again == other:
                raise UsageError(
                    f"{PREFIX}{id} is not deterministic: with seed {seed} and the same actions, step {t} differs; "
                    "switch its randomness off by environment.options if it has such an option"
                )


def _walk(simulator: GymSimulator, seed: int, actions: list[int], *, chance: int | None = None) -> Iterator[Any]:
    """What is seen on the way, as bytes, one step a turn; after an end nothing."""
    simulator.reset(seed)
    if chance is not None:
        simulator.env.np_random = np.random.default_rng(chance)
    yield simulator.observe().tobytes()
    terminated = False
    for action in actions:
        if terminated:
            yield None
        else:
            reward, terminated = simulator.step(action)
            yield simulator.observe().tobytes(), reward, terminated
