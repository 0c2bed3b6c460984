"""States of simulators that cannot be copied: a seed and the actions since, brought back to life by replay.

A pool of live simulators remembers which state each of them is at. Stepping such a state moves its simulator on and
costs nothing else, so that linear play is as fast as the bare simulator. Any other state is replayed: from the start,
or from the longest beginning of its actions at which a simulator was saved, where simulators can be.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike

from mzprobe.envs.core import Bool, EnvironmentSpec, Float32, Float64, Int64, Outcome
from mzprobe.envs.validation import integers, kind_of, valid_actions, valid_seeds, valid_spec

MOST_ACTIONS = 256  # an action is kept as a byte


class Simulator(Protocol):
    """One episode at a time, that can only begin anew and go on; a number of actions is fixed by the environment."""

    def reset(self, seed: int) -> None:
        """Begins the episode of a seed, whatever was before."""
        ...

    def step(self, action: int) -> tuple[float, bool]:
        """One step: its reward, environment units, and whether it led to a terminal state."""
        ...

    def advance(self, action: int) -> None:
        """As `step`, for a step that is known already; nothing is looked at."""
        ...

    def observe(self) -> ArrayLike:
        """The observation where it is, `[*observation_shape]`; float32 holds it."""
        ...


@dataclass(frozen=True, eq=False)
class SimulatorStates:
    """A batch of states as their histories, with what was seen when each was reached; arrays become read-only."""

    seed: Int64  # [B], of the start
    actions: tuple[bytes, ...]  # B histories, a byte an action
    observation: Float32  # [B, *observation_shape]
    done: Bool  # [B], whether the state is terminal

    def __post_init__(self) -> None:
        for array in (self.seed, self.observation, self.done):
            array.setflags(write=False)

    def __len__(self) -> int:
        return len(self.actions)

    def take(self, indices: ArrayLike) -> Self:
        """Selects, repeats or reorders: integer indices `[M]` give `M` states."""
        rows = integers(indices, "indices")
        actions = tuple([self.actions[row] for row in rows.tolist()])
        return type(self)(self.seed[rows], actions, self.observation[rows], self.done[rows])

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Joins batches in order."""
        return cls(
            np.concatenate([part.seed for part in parts]),
            tuple([actions for part in parts for actions in part.actions]),
            np.concatenate([part.observation for part in parts]),
            np.concatenate([part.done for part in parts]),
        )


class _State(NamedTuple):
    """Where a simulator is."""

    seed: int
    actions: bytes


class SimulatorPool:
    """At most `size` live simulators; the one longest unused is the next to be sent elsewhere.

    Args:
        make: makes a simulator.
        size: most of them, at least 1.
    """

    def __init__(self, make: Callable[[], Simulator], *, size: int) -> None:
        if size < 1:
            raise ValueError(f"a pool needs at least 1 simulator, not {size}")
        self.make = make
        self.size = size
        self.replayed = 0  # steps made again, for whoever asks what branching costs
        self._live: OrderedDict[_State, Simulator] = OrderedDict()  # least recently used first
        self._idle: list[Simulator] = []

    def take(self, seed: int, actions: bytes) -> Simulator:
        """A simulator at a state, out of the pool until `put`."""
        state = _State(seed, actions)
        simulator = self._live.pop(state, None)
        if simulator is None:
            simulator = self._free()
            simulator.reset(seed)
            for action in actions:
                simulator.advance(action)
            self.replayed += len(actions)
        return simulator

    def put(self, simulator: Simulator, seed: int, actions: bytes) -> None:
        """Gives a simulator back, at a state."""
        twin = self._live.pop(_State(seed, actions), None)
        if twin is not None:
            self._idle.append(twin)
        self._live[_State(seed, actions)] = simulator

    def _free(self) -> Simulator:
        if self._idle:
            return self._idle.pop()
        if len(self._live) < self.size:
            return self.make()
        return self._live.popitem(last=False)[1]


class SimulatorEnvironment:
    """The truth as simulators tell it, one state after the other.

    Args:
        spec: names, shapes and constants; at most 256 actions.
        make: makes a simulator; picklable, for worker processes.
        simulators: most of them that are alive at once.

    Raises:
        ValueError: if the specification is inconsistent, or a number is out of range.
    """

    def __init__(self, spec: EnvironmentSpec, make: Callable[[], Simulator], *, simulators: int) -> None:
        if spec.num_actions > MOST_ACTIONS:
            raise ValueError(f"there may be {MOST_ACTIONS} actions at most, not {spec.num_actions}")
        self._spec = valid_spec(spec)
        self.pool = SimulatorPool(make, size=simulators)

    def __getstate__(self) -> dict[str, Any]:
        return {"spec": self._spec, "make": self.pool.make, "simulators": self.pool.size}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._spec = state["spec"]
        self.pool = SimulatorPool(state["make"], size=state["simulators"])

    @property
    def spec(self) -> EnvironmentSpec:
        """Names, shapes and constants."""
        return self._spec

    def reset(self, seeds: ArrayLike) -> SimulatorStates:
        """Starts fresh episodes: seeds `[B]`, each the same start as `reset(seed=...)` of the simulator.

        Raises:
            ValueError: if the seeds are not a list of integers >= 0.
        """
        numbers = valid_seeds(seeds)
        observations = np.empty((len(numbers), *self._spec.observation_shape), np.float32)
        for b, seed in enumerate(numbers.tolist()):
            simulator = self.pool.take(seed, b"")
            observations[b] = simulator.observe()
            self.pool.put(simulator, seed, b"")
        return SimulatorStates(numbers.copy(), (b"",) * len(numbers), observations, np.zeros(len(numbers), np.bool_))

    def step(self, states: SimulatorStates, actions: ArrayLike) -> tuple[SimulatorStates, Outcome]:
        """Applies actions `[B]`; a terminal state stays as it is, with reward 0.

        Raises:
            ValueError: if there is not one action a state, or an action is out of range.
        """
        chosen = valid_actions(actions, batch=len(states), num_actions=self._spec.num_actions)
        observations, done = states.observation.copy(), states.done.copy()
        histories, rewards = list(states.actions), np.zeros(len(states))
        for b, (seed, action) in enumerate(zip(states.seed.tolist(), chosen.tolist(), strict=True)):
            if done[b]:
                continue
            simulator = self.pool.take(seed, histories[b])
            rewards[b], done[b] = simulator.step(action)
            observations[b] = simulator.observe()
            histories[b] += bytes((action,))
            self.pool.put(simulator, seed, histories[b])
        following = SimulatorStates(states.seed, tuple(histories), observations, done)
        return following, Outcome(reward=rewards, terminated=done)

    def rewards_along(self, states: SimulatorStates, actions: ArrayLike) -> Float64:
        """Rewards along action sequences `[B, T]`, `[B, T]`: what as many calls of `step` give, in one.

        Raises:
            ValueError: if there is not one sequence a state, or an action is out of range.
        """
        table = np.asarray(actions)
        if table.ndim != 2 or len(table) != len(states):
            raise ValueError(f"{len(states)} states need one action sequence each, not {kind_of(table)}")
        chosen = valid_actions(table.ravel(), batch=table.size, num_actions=self._spec.num_actions)
        B, T = table.shape
        rewards = np.zeros((B, T))
        for b in np.flatnonzero(~states.done).tolist() if T else ():
            seed, history = int(states.seed[b]), states.actions[b]
            simulator = self.pool.take(seed, history)
            sequence = chosen[b * T : (b + 1) * T].tolist()
            for t, action in enumerate(sequence):
                rewards[b, t], ended = simulator.step(action)
                if ended:
                    break
            self.pool.put(simulator, seed, history + bytes(sequence[: t + 1]))
        return rewards

    def observe(self, states: SimulatorStates) -> Float32:
        """What was observed when the states were reached, `[B, *observation_shape]`."""
        return states.observation

    def terminal(self, states: SimulatorStates) -> Bool:
        """Whether each state is terminal, bool `[B]`."""
        return states.done
