"""The environment protocol: a deterministic MDP whose states are immutable values.

A state can be kept, branched from and returned to, since `step` never changes the states that it is given. Terminal
states are absorbing. The time limit is not part of the MDP: the code that plays an episode counts its steps and treats
an end by the limit as truncation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from types import MemberDescriptorType, ModuleType
from typing import Any, Literal, NamedTuple, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mzprobe.errors import UsageError

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]
ObservationType = Literal["float32", "uint8", "bool"]


@dataclass(frozen=True, kw_only=True)
class EnvironmentSpec:
    """Description of an environment that an agent needs before it acts."""

    name: str
    observation_shape: tuple[int, ...]
    num_actions: int  # A
    gamma: float  # discount, in (0, 1]
    time_limit: int  # steps after which an episode is truncated
    action_meanings: tuple[str, ...] = ()  # names of the actions, length A; by default their numbers
    source: str = ""  # reference implementation of the dynamics, with its version
    observation_dtype: ObservationType = "float32"  # uint8: images, which networks see divided by 255; bool: 0 and 1

    def __post_init__(self) -> None:
        for name in ("num_actions", "gamma", "time_limit"):
            self._set(name, _plain(getattr(self, name)))
        if isinstance(self.observation_shape, Sequence):
            self._set("observation_shape", tuple(map(_plain, self.observation_shape)))
        if not self.action_meanings and isinstance(self.num_actions, Integral):
            self._set("action_meanings", tuple(map(str, range(self.num_actions))))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)


def _plain(number: Any) -> Any:
    """Returns a number of numpy, such as `Discrete.n`, as Python's own, which records can hold."""
    return number.item() if isinstance(number, np.generic) else number


class Outcome(NamedTuple):
    """Result of one step of a batch of states."""

    reward: Float64  # [B], environment units
    terminated: Bool  # [B], whether the *next* state is terminal
    score: Float64 | None = None  # [B], points in the game, where rewards are clipped


class States(Protocol):
    """Immutable batch of states; how they are stored is up to the environment."""

    def __len__(self) -> int:
        """Returns the number of states, B."""
        ...

    def take(self, indices: ArrayLike) -> Self:
        """Selects, repeats or reorders states: integer indices `[M]` yield a batch of `M` states."""
        ...

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Joins batches in order."""
        ...


class Environment(Protocol):
    """Deterministic MDP over batches of states; `check_env` tests whether an implementation keeps all of its rules.

    An environment in which some actions are illegal also has a method `legal(states)` that returns bool `[B, A]`. The
    result of an illegal action is never used, but `step` must not raise for it. Further optional attributes are
    `rewards_along`, `side_by_side`, `stack` and `draw`.
    """

    @property
    def spec(self) -> EnvironmentSpec:
        """Names, shapes and constants."""
        ...

    def reset(self, seeds: ArrayLike) -> Any:
        """Starts new episodes from integer seeds `[B]`; a seed yields the same start on every machine."""
        ...

    def step(self, states: Any, actions: ArrayLike) -> tuple[Any, Outcome]:
        """Applies integer actions `[B]`; returns new states and leaves the given ones unchanged."""
        ...

    def observe(self, states: Any) -> NDArray[Any]:
        """Returns observations `[B, *observation_shape]` of the dtype given in `spec`."""
        ...

    def terminal(self, states: Any) -> Bool:
        """Whether each state is terminal, bool `[B]`."""
        ...


AnyStates = TypeVar("AnyStates", bound=States)


def concatenate(parts: Sequence[AnyStates]) -> AnyStates:
    """Joins batches of states of one environment in order.

    Raises:
        ValueError: if there is nothing to join.
    """
    if not parts:
        raise ValueError("concatenate needs at least one batch of states")
    return parts[0] if len(parts) == 1 else type(parts[0]).concatenate(parts)


def bytes_of(states: Any) -> int:
    """Returns the bytes that a batch of states takes: its `nbytes`, or else those of the arrays and bytes in it.

    What it holds twice counts once.
    """
    total, todo = 0, [states]
    counted: dict[int, Any] = {}  # by id; keeps the objects alive, so that no id is reused
    while todo:
        thing = todo.pop()
        if id(thing) in counted or isinstance(thing, type | ModuleType):  # the state owns neither
            continue
        counted[id(thing)] = thing
        own = len(thing) if isinstance(thing, bytes) else getattr(thing, "nbytes", None)
        if own is None:
            todo += _held_by(thing)
        else:
            total += int(own)
    return total


def _held_by(thing: Any) -> list[Any]:
    """Returns the items of a tuple, list or dict, and the attributes of any object, in its slots too."""
    items = thing.values() if isinstance(thing, dict) else thing if isinstance(thing, tuple | list) else ()
    held = [*items, *getattr(thing, "__dict__", {}).values()]
    for kind in type(thing).__mro__:
        if "__slots__" in vars(kind):
            slots = (name for name, one in vars(kind).items() if isinstance(one, MemberDescriptorType))
            held += [getattr(thing, name) for name in slots if hasattr(thing, name)]
    return held


def replayed(
    environment: Environment,
    seeds: Int64,
    actions: Int64,
    lengths: Int64,
    *,
    on_way: Callable[[Int64, Any], None] | None = None,
) -> Any:
    """Returns the states that sequences of actions lead to from the starts of seeds.

    Args:
        environment: the environment to step.
        seeds: seeds of the starts, `[B]`.
        actions: action sequences, `[B, T]`; none reaches an end before its last action.
        lengths: number of actions taken of each sequence, `[B]`, T at most.
        on_way: called before each action with the indices of the states that are stepped, and these states.

    Returns:
        B states.
    """
    states, B = environment.reset(seeds), len(seeds)
    for t in range(int(lengths.max(initial=0))):
        going = np.flatnonzero(t < lengths)
        if on_way is not None:
            on_way(going, states.take(going))
        moved, _ = environment.step(states.take(going), actions[going, t])
        order = np.arange(B)
        order[going] = B + np.arange(len(going))
        states = concatenate([states, moved]).take(order)
    return states


def is_masked(environment: Environment) -> bool:
    """Whether an environment has a method `legal`; without it, all actions are legal in every state."""
    return hasattr(environment, "legal")


def legal_actions(environment: Environment, states: Any) -> Bool | None:
    """Returns which actions are legal in B states, bool `[B, A]`, or None if the environment has no method `legal`.

    Without the method, all actions are legal. With it, at least one action is legal in every state that is not
    terminal.
    """
    own = getattr(environment, "legal", None)
    return None if own is None else np.asarray(own(states), dtype=np.bool_)


def rewards_along(environment: Environment, states: Any, actions: Int64) -> Float64:
    """Returns the real rewards along action sequences: B states, actions `[B, T]` -> `[B, T]`, 0 after an end.

    Calls the method `rewards_along(states, actions)` of the environment if it has one, and steps it otherwise.

    Raises:
        UsageError: if a reward is not finite.
    """
    own = getattr(environment, "rewards_along", None)
    if own is not None:
        rewards = np.asarray(own(states, actions), dtype=np.float64)
        _refuse_not_finite(environment, rewards)
        return rewards
    rewards = np.zeros(actions.shape)
    for t in range(actions.shape[1]):
        states, outcome = step_of(environment, states, actions[:, t])
        rewards[:, t] = outcome.reward
    return rewards


def step_of(environment: Environment, states: Any, actions: ArrayLike) -> tuple[Any, Outcome]:
    """Steps an environment whose rewards are to be counted.

    Raises:
        UsageError: if a reward is not finite, which would otherwise be left out of means over episodes.
    """
    following, outcome = environment.step(states, actions)
    _refuse_not_finite(environment, outcome.reward)
    return following, outcome


def _refuse_not_finite(environment: Environment, rewards: Float64) -> None:
    if not np.isfinite(rewards).all():
        raise UsageError(
            f"environment {environment.spec.name} gave a reward that is not finite "
            f"({rewards[~np.isfinite(rewards)][0]}): mend it, and try it with mzprobe.check_env"
        )


def side_by_side(environment: Environment, batch: int) -> int:
    """Returns how many episodes of a batch are played side by side at most.

    An environment that cannot keep any number of episodes live states its limit in an attribute `side_by_side`.
    """
    most: int | None = getattr(environment, "side_by_side", None)
    return min(batch, most or batch)


def stack_of(environment: Environment) -> int:
    """Returns the number of frames that an observation stacks on its last axis, with the newest last.

    A start repeats its first frame. An environment states the number in an attribute `stack`; without that attribute,
    an observation is one frame.
    """
    return int(getattr(environment, "stack", 1))
