"""The environment protocol: a deterministic MDP whose states are values.

Keep a state, branch from it, come back to it. `step` is functional and never changes the states that it was given;
a terminal state is absorbing; the time limit is no part of the MDP (who plays episodes counts steps and calls the
end truncated).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal, NamedTuple, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]
ObservationType = Literal["float32", "uint8", "bool"]


@dataclass(frozen=True, kw_only=True)
class EnvironmentSpec:
    """What an agent must know about an environment before it acts in it."""

    name: str
    observation_shape: tuple[int, ...]
    num_actions: int  # A
    gamma: float  # discount, in (0, 1]
    time_limit: int  # steps after which an episode is truncated
    action_meanings: tuple[str, ...] = ()  # length A; by default their numbers
    source: str = ""  # what the dynamics equal, with its version
    observation_dtype: ObservationType = "float32"  # images: uint8, of which networks see shares of 255; bool: 0 and 1

    def __post_init__(self) -> None:
        if not self.action_meanings and isinstance(self.num_actions, Integral):
            object.__setattr__(self, "action_meanings", tuple(map(str, range(self.num_actions))))


class Outcome(NamedTuple):
    """What one step gives for a batch of states."""

    reward: Float64  # [B], environment units
    terminated: Bool  # [B], whether the *next* state is terminal
    score: Float64 | None = None  # [B], the game's own points, where rewards are clipped


class States(Protocol):
    """A batch of states, immutable; how states are kept is up to the environment."""

    def __len__(self) -> int:
        """Number of states, B."""
        ...

    def take(self, indices: ArrayLike) -> Self:
        """Selects, repeats or reorders: integer indices `[M]` give a batch of `M` states."""
        ...

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Joins batches in order."""
        ...


class Environment(Protocol):
    """A deterministic MDP over batches of states. `check_env` tests an implementation for all of this.

    An environment that does not allow every action everywhere also has a method `legal(states)`, bool `[B, A]`. What
    an illegal action does is never used, but it must not raise. Further attributes that one may have: `rewards_along`,
    `side_by_side`, `stack` and `draw`.
    """

    @property
    def spec(self) -> EnvironmentSpec:
        """Names, shapes and constants."""
        ...

    def reset(self, seeds: ArrayLike) -> Any:
        """Starts fresh episodes: integer seeds `[B]`; the same seed is the same start on every machine."""
        ...

    def step(self, states: Any, actions: ArrayLike) -> tuple[Any, Outcome]:
        """Applies integer actions `[B]`; gives new states and leaves the given ones as they were."""
        ...

    def observe(self, states: Any) -> NDArray[Any]:
        """Observations `[B, *observation_shape]`, of the dtype that the spec says."""
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
    """Bytes that a batch of states takes: its `nbytes` where it has them, else those of the arrays and bytes in it."""
    own = getattr(states, "nbytes", None)
    if own is not None:
        return int(own)
    if isinstance(states, bytes):
        return len(states)
    if isinstance(states, tuple | list):
        return sum(map(bytes_of, states))
    return sum(map(bytes_of, vars(states).values())) if hasattr(states, "__dict__") else 0


def replayed(
    environment: Environment,
    seeds: Int64,
    actions: Int64,
    lengths: Int64,
    *,
    on_way: Callable[[Int64, Any], None] | None = None,
) -> Any:
    """The states that actions lead to from starts, without their ends in between.

    Args:
        environment: where.
        seeds: `[B]`, of the starts.
        actions: `[B, T]`.
        lengths: `[B]`, how many actions are taken, T at most.
        on_way: called before each action with the indices of the states that are moved, and these states.

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
    """Whether an environment says which actions are legal; one that does not say so allows all actions everywhere."""
    return hasattr(environment, "legal")


def legal_actions(environment: Environment, states: Any) -> Bool | None:
    """Which actions are legal in B states, bool `[B, A]`; None where all are.

    An environment without a method `legal(states)` allows all actions. One with it allows at least one in every state
    that is not terminal.
    """
    own = getattr(environment, "legal", None)
    return None if own is None else np.asarray(own(states), dtype=np.bool_)


def rewards_along(environment: Environment, states: Any, actions: Int64) -> Float64:
    """Real rewards along action sequences: B states, actions `[B, T]` -> `[B, T]`, 0 after an end.

    An environment with a method `rewards_along(states, actions)` does it at once; others are stepped.
    """
    own = getattr(environment, "rewards_along", None)
    if own is not None:
        return np.asarray(own(states, actions), dtype=np.float64)
    rewards = np.zeros(actions.shape)
    for t in range(actions.shape[1]):
        states, outcome = environment.step(states, actions[:, t])
        rewards[:, t] = outcome.reward
    return rewards


def side_by_side(environment: Environment, batch: int) -> int:
    """Episodes, of a batch, that are played side by side at most.

    An environment that cannot keep any number going says how many by an attribute `side_by_side`.
    """
    most: int | None = getattr(environment, "side_by_side", None)
    return min(batch, most or batch)


def stack_of(environment: Environment) -> int:
    """Frames that an observation shows side by side on its last axis, the newest last, the first repeated at a start.

    An environment says so by an attribute `stack`; without that attribute, an observation is one frame.
    """
    return int(getattr(environment, "stack", 1))
