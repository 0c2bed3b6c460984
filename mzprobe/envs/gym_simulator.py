"""One Gymnasium environment as a simulator: what it shows is compared with its spaces, what it raises is a sentence."""

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
    """A number of steps that tells the time limit that `gymnasium.make` adds from those of the id's own wrappers."""


class GymSimulator:
    """What `gymnasium.make` gives, but for its time limit, which whoever plays keeps, and its check of the order.

    The id's own wrappers stay. An end is where the environment says terminated or truncated.

    Args:
        id: as `gymnasium.make` takes it.
        options: keyword arguments of the environment.
        limit: steps of the time limit that is registered with the id, if one is.
        without: how many of the outermost wrappers are left off.

    Raises:
        UsageError: if it cannot be made, or its observations cannot be flattened.
    """

    def __init__(self, id: str, options: dict[str, Any], limit: int | None = None, *, without: int = 0) -> None:
        self.name = f"{GYM}{id}"
        made = made_by_gymnasium(id, options if limit is None else options | {"max_episode_steps": _Limit(limit)})
        self.env: Any
        self.inside: Any  # what the time limit of `gymnasium.make` counts the steps of
        self.env, self.inside = _without_time_limit(made)
        for _ in range(without):
            self.env = self.env.env
        try:
            self._reader = Reader(self.env.observation_space)
        except ValueError as reason:
            raise UsageError(f"{self.name} has {reason}") from None
        self.shape, self.dtype = self._reader.shape, self._reader.dtype
        self.info: Any = {}  # of the last reset or step
        actions = self.env.action_space
        self._first_action = int(actions.start) if isinstance(actions, Discrete) else 0  # others are refused
        self.seed, self.steps = 0, 0  # where it is
        self._seen: NDArray[Any] = np.zeros(0)

    def reset(self, seed: int) -> None:
        """The start of a seed."""
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
        """One step: its reward, and whether the environment ended the episode, terminated or truncated.

        Raises:
            UsageError: if the environment raises, or gives what is no step.
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
    """What `gymnasium.make` gives, without its check of the environment.

    Raises:
        UsageError: if it raises anything.
    """
    try:
        return gymnasium.make(id, disable_env_checker=True, **options)
    except Exception as reason:  # an environment may raise anything
        said = " ".join(str(reason).split()) or type(reason).__name__
        named = "" if ":" in id else f"; one of your own is named with the module that registers it, {GYM}MODULE:{id}"
        raise UsageError(f"Gymnasium cannot make {id}: {said}{named}") from reason


def _without_time_limit(made: Any) -> tuple[Any, Any]:
    """The environment without the two wrappers that `gymnasium.make` adds by itself, and what they wrapped.

    The id's own wrappers stay above and below; they have read the limit already, if they do at all.
    """
    layers = list(layers_of(made))
    specs = [layer.spec for layer in layers]  # asked for before anything is taken out, as each asks the one below
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
    """An environment and what it wraps, from the outside in."""
    while isinstance(env, gymnasium.Wrapper):
        yield env
        env = env.env
    yield env


def _said(reason: Exception) -> str:
    """An exception in one line."""
    text = " ".join(str(reason).split())
    return f"{type(reason).__name__} ({text})" if text else type(reason).__name__


def _given(result: Any) -> str:
    """What was given instead, in a few words."""
    return f"a tuple of {len(result)}" if isinstance(result, tuple) else f"a {type(result).__name__}"
