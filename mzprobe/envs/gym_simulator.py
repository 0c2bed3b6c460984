"""A Gymnasium environment as a simulator that checks its results and turns its exceptions into `UsageError`s."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete
from gymnasium.wrappers import OrderEnforcing
from numpy.typing import NDArray

from mzprobe.envs.observations import Reader
from mzprobe.errors import UsageError
from mzprobe.names import GYM


class _Limit(int):
    """Time limit in steps; its type tells the limit that `gymnasium.make` adds from those of the id's own wrappers."""


class GymSimulator:
    """Gymnasium environment as made by `gymnasium.make`, without its time limit and its `OrderEnforcing` wrapper.

    The caller keeps the time limit. The id's own wrappers stay. An episode ends where the environment returns
    terminated or truncated.

    Args:
        id: id of the environment, as for `gymnasium.make`.
        options: keyword arguments of the environment.
        limit: steps of the time limit that is registered with the id; None if there is none.
        without: number of outermost wrappers that are left off.

    Raises:
        UsageError: if it cannot be made, or its observations cannot be flattened.
    """

    def __init__(self, id: str, options: dict[str, Any], limit: int | None = None, *, without: int = 0) -> None:
        self.name = f"{GYM}{id}"
        made = made_by_gymnasium(id, options if limit is None else options | {"max_episode_steps": _Limit(limit)})
        self.env: Any
        self.inside: Any  # the layer whose steps the time limit of `gymnasium.make` counts
        self.env, self.inside = _without_time_limit(made)
        for _ in range(without):
            self.env = self.env.env
        try:
            self._reader = Reader(self.env.observation_space)
        except ValueError as reason:
            raise UsageError(f"{self.name} has {reason}") from None
        self.shape, self.dtype = self._reader.shape, self._reader.dtype
        self.info: Any = {}  # info of the last reset or step
        actions = self.env.action_space
        self._first_action = int(actions.start) if isinstance(actions, Discrete) else 0  # other spaces are refused
        self.seed, self.steps = 0, 0  # position in the episode
        self._seen: NDArray[Any] = np.zeros(0)

    def reset(self, seed: int) -> None:
        """Begins the episode of a seed.

        Raises:
            UsageError: if the environment raises, does not return an observation and info, or the observation does not
                fit its space.
        """
        self.seed, self.steps = seed, 0
        try:
            result = self.env.reset(seed=seed)
        except Exception as reason:  # an environment may raise anything
            raise UsageError(f"{self.name} raised {_said(reason)} when it was reset with seed {seed}") from reason
        if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], Mapping):
            gave = _given(result)
            raise UsageError(
                f"{self.name} gave {gave} when it was reset with seed {seed}: reset must return an observation and info"
            )
        seen, self.info = result
        self._see(seen)

    def step(self, action: int) -> tuple[float, bool]:
        """Takes a step; returns its reward, and whether the environment ended the episode, terminated or truncated.

        Raises:
            UsageError: if the environment raises, or returns something that is not a valid step.
        """
        self.steps += 1
        try:
            result = self.env.step(self._first_action + action)
        except Exception as reason:
            raise UsageError(
                f"{self.name} raised {_said(reason)} on action {action} at step {self.steps} after seed {self.seed}: "
                "every action must be possible until the end, as legal-action masks are not supported yet"
            ) from reason
        try:
            if not isinstance(result, tuple):
                raise ValueError
            seen, reward, terminated, truncated, self.info = result
        except ValueError:
            raise UsageError(
                f"{self.name} gave {_given(result)} {self._where()}: "
                "step must return observation, reward, terminated, truncated and info"
            ) from None
        self._see(seen)
        try:
            number, ended = float(reward), bool(terminated or truncated)
        except (TypeError, ValueError):
            gave = f"reward {_given(reward)}, terminated {_given(terminated)}, truncated {_given(truncated)}"
            raise UsageError(f"{self.name} gave {gave} {self._where()}: one number and two truth values") from None
        if number - number != 0:  # the quickest way to find what is not finite
            raise UsageError(f"{self.name} gave the reward {number} {self._where()}: rewards must be finite")
        return number, ended

    def advance(self, action: int) -> None:
        """Takes a step whose outcome is already known."""
        self.step(action)

    def observe(self) -> NDArray[Any]:
        """Returns the last observation."""
        return self._seen

    def save(self) -> None:
        """Returns None, since Gymnasium cannot save all environments."""

    def restore(self, saved: Any) -> bool:  # noqa: ARG002
        """Returns False, since nothing is ever saved."""
        return False

    def _see(self, seen: Any) -> None:
        reader = self._reader
        try:
            if reader.usual is None:
                self._seen = reader.read(seen)
                return
            self._seen = array = np.array(seen)
            if array.dtype is not reader.usual or array.shape != self.shape:
                self._seen = reader.read(seen)
        except Exception as reason:
            raise UsageError(f"{self.name} observed {reason}, {self._where()}") from reason

    def _where(self) -> str:
        return f"at step {self.steps} after seed {self.seed}"


def made_by_gymnasium(id: str, options: dict[str, Any]) -> Any:
    """Calls `gymnasium.make` without its environment checker, and returns the result.

    Raises:
        UsageError: if `gymnasium.make` raises anything.
    """
    try:
        return gymnasium.make(id, disable_env_checker=True, **options)
    except Exception as reason:  # an environment may raise anything
        said = " ".join(str(reason).split()) or type(reason).__name__
        named = "" if ":" in id else f"; one of your own is named with the module that registers it, {GYM}MODULE:{id}"
        raise UsageError(f"Gymnasium cannot make {id}: {said}{named}") from reason


def _without_time_limit(made: Any) -> tuple[Any, Any]:
    """Removes the time limit and the `OrderEnforcing` wrappers that `gymnasium.make` adds.

    The id's own wrappers stay, outside and inside. Those that read the time limit have done so before.

    Returns:
        The environment without them, and the layer that the time limit wrapped.
    """
    layers = list(layers_of(made))
    specs = [layer.spec for layer in layers]  # read before any layer is removed, since each layer asks the one below
    own = [i for i, spec in enumerate(specs) if spec is not None and isinstance(spec.max_episode_steps, _Limit)]
    out = {i for i, layer in enumerate(layers) if type(layer) is OrderEnforcing}
    if own:
        out.add(own[-1])  # the innermost that knows the limit is the one that sets it
    left = [i for i in range(len(layers)) if i not in out]
    for above, below in pairwise(left):
        if below != above + 1:
            layers[above].env = layers[below]
    inside = min((i for i in left if not own or i > own[-1]), default=left[-1])
    return layers[left[0]], layers[inside]


def layers_of(env: Any) -> Iterator[Any]:
    """Yields an environment and the environments that it wraps, from the outside in."""
    while isinstance(env, gymnasium.Wrapper):
        yield env
        env = env.env
    yield env


def _said(reason: Exception) -> str:
    """Returns an exception as one line of text."""
    text = " ".join(str(reason).split())
    return f"{type(reason).__name__} ({text})" if text else type(reason).__name__


def _given(result: Any) -> str:
    """Describes a wrong result in a few words."""
    return f"a tuple of {len(result)}" if isinstance(result, tuple) else f"a {type(result).__name__}"
