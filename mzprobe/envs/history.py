"""Wrapper that adds the past to observations: the latest observations, and the action before each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from mzprobe.envs.core import Bool, Environment, EnvironmentSpec, Float32, Int64, Outcome, is_masked
from mzprobe.envs.validation import integers


@dataclass(frozen=True, eq=False)
class HistoryStates:
    """Batch of states with their latest observations and actions; the array becomes read-only."""

    states: Any  # B states of the environment
    seen: Float32  # [B, length, observation + 1], the newest first

    def __post_init__(self) -> None:
        self.seen.setflags(write=False)

    def __len__(self) -> int:
        return len(self.seen)

    def take(self, indices: ArrayLike) -> Self:
        """Selects, repeats or reorders states: integer indices `[M]` yield `M` states."""
        rows = integers(indices, "indices")
        return type(self)(self.states.take(rows), self.seen[rows])

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Joins batches in order."""
        states = type(parts[0].states).concatenate([part.states for part in parts])
        return cls(states, np.concatenate([part.seen for part in parts]))


class HistoryEnvironment:
    """Environment that shows the latest observations of another one, flattened, each with the action that led to it.

    An action a is written as (a + 1) / A, as in MuZero's planes of Atari's actions (appendix E). At the start, the
    first observation fills all places, with action 0. The past is part of the state.

    Args:
        environment: any environment whose observations are float32 and have one axis.
        length: number of observations shown.

    Raises:
        ValueError: if observations have another number of axes or dtype, or `length` is below 1.
    """

    def __init__(self, environment: Environment, length: int) -> None:
        spec = environment.spec
        if len(spec.observation_shape) != 1 or length < 1:
            raise ValueError(
                f"a history takes at least 1 observation of one axis, not {length} of shape {spec.observation_shape}"
            )
        if spec.observation_dtype != "float32":
            raise ValueError(f"a history takes observations of float32, not of {spec.observation_dtype}")
        self.environment = environment
        self.length = length
        self._spec = replace(
            spec,
            observation_shape=(length * (spec.observation_shape[0] + 1),),
            source=f"{spec.source}; the latest {length} observations, each with the action before it",
        )
        # Optional attributes of an environment.
        own: Any = environment
        if hasattr(own, "side_by_side"):
            self.side_by_side = own.side_by_side
        if is_masked(own):
            self.legal = partial(_of_inner, own.legal)
        if hasattr(own, "rewards_along"):
            self.rewards_along = partial(_of_inner, own.rewards_along)
        if hasattr(own, "draw"):
            self.draw = partial(_of_inner, own.draw)

    @property
    def spec(self) -> EnvironmentSpec:
        """Specification of the wrapped environment, with the longer observation."""
        return self._spec

    def reset(self, seeds: ArrayLike) -> HistoryStates:
        """Starts new episodes; see `Environment.reset`."""
        states = self.environment.reset(seeds)
        entry = self._entry(states, np.zeros(len(states), np.int64))
        return HistoryStates(states, np.repeat(entry, self.length, axis=1))

    def step(self, states: HistoryStates, actions: ArrayLike) -> tuple[HistoryStates, Outcome]:
        """Applies actions `[B]`; see `Environment.step`. The past of a terminal state stays as it is."""
        ended = self.environment.terminal(states.states)
        following, outcome = self.environment.step(states.states, actions)
        entry = self._entry(following, np.asarray(actions, np.int64))
        moved = np.concatenate([entry, states.seen[:, :-1]], axis=1)
        return HistoryStates(following, np.where(ended[:, None, None], states.seen, moved)), outcome

    def observe(self, states: HistoryStates) -> Float32:
        """Returns the latest observations and actions, `[B, length * (observation + 1)]`."""
        return states.seen.reshape(len(states), -1).copy()

    def terminal(self, states: HistoryStates) -> Bool:
        """Whether each state is terminal, bool `[B]`."""
        return self.environment.terminal(states.states)

    def _entry(self, states: Any, actions: Int64) -> Float32:
        written = ((actions + 1) / self._spec.num_actions).astype(np.float32)
        seen = np.concatenate([self.environment.observe(states), written[:, None]], axis=1)
        return np.asarray(seen[:, None, :], np.float32)


def _of_inner(function: Callable[..., Any], states: HistoryStates, *arguments: Any) -> Any:
    return function(states.states, *arguments)
