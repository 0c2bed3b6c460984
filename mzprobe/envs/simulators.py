"""Environments of simulators that cannot be copied: a state is a seed and the actions since, reached again by replay.

A pool of live simulators remembers which state each of them is at. To step such a state costs no more than a step of
its simulator, so that linear play is as fast as the bare simulator. Any other state is replayed: from the start, or
from the longest prefix of its actions at which a simulator was saved, if simulators can be saved.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mzprobe.envs.core import Bool, EnvironmentSpec, Float64, Int64, Outcome
from mzprobe.envs.validation import integers, valid_actions, valid_seeds, valid_sequences, valid_spec
from mzprobe.errors import UsageError

MOST_ACTIONS = 256  # an action is kept as a byte
_BYTES = [bytes((action,)) for action in range(MOST_ACTIONS)]
SAVED = 16  # largest number of saved states per simulator
NEAR = 32  # largest distance from a saved state, in steps; farther states are replayed from the start
WORTH_SAVING = 8  # least number of replayed steps after which a state is saved


class Simulator(Protocol):
    """Simulator that plays one episode at a time, which it can only restart or continue; actions count from 0."""

    def reset(self, seed: int) -> None:
        """Begins the episode of a seed, whatever happened before."""
        ...

    def step(self, action: int) -> tuple[float, bool]:
        """Takes a step; returns its reward, in environment units, and whether it led to a terminal state."""
        ...

    def advance(self, action: int) -> None:
        """Takes a step like `step`, of which the outcome is already known and not needed."""
        ...

    def observe(self) -> ArrayLike:
        """Returns the current observation, `[*observation_shape]`; the specification's dtype must hold its numbers."""
        ...

    def save(self) -> Any:
        """Returns what `restore` needs to return to this state within this episode; None if that is not possible."""
        ...

    def restore(self, saved: Any) -> bool:
        """Returns whether it went back to a saved state; if not, a `reset` must undo whatever it changed."""
        ...


@dataclass(frozen=True, eq=False)
class SimulatorStates:
    """Batch of states kept as histories, with the observation made when each was reached; arrays become read-only."""

    seed: Int64  # [B], seed of the start
    actions: tuple[bytes, ...]  # B histories, one byte per action
    observation: NDArray[Any]  # [B, *observation_shape]
    done: Bool  # [B], whether the state is terminal

    def __post_init__(self) -> None:
        for array in (self.seed, self.observation, self.done):
            array.setflags(write=False)

    def __len__(self) -> int:
        return len(self.actions)

    def take(self, indices: ArrayLike) -> Self:
        """Selects, repeats or reorders states: integer indices `[M]` yield `M` states."""
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


class Live:
    """Simulator of the pool, with its position and the states of its episode that it can be put back to."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.seed = -1
        self.actions: bytes | None = None  # actions since the start; None while it is taken or idle
        self.sent = False  # whether it reached its state by a restore or replay, not by a step
        self.saved: dict[bytes, Any] = {}  # saved states by actions since the start
        self.uses: dict[bytes, int] = {}  # how often each was restored

    def begin(self, seed: int) -> None:
        """Resets the simulator to a start, and drops its saved states."""
        self.seed = seed
        self.saved.clear()
        self.uses.clear()
        self.simulator.reset(seed)

    def remember(self, actions: bytes) -> None:
        """Saves the current state, `actions` after the start, if the simulator can.

        The least used saved state makes room, so that the many states of a tree do not push out its root.
        """
        saved = self.simulator.save()
        if saved is None:
            return
        if len(self.saved) >= SAVED:
            self._forget(min(self.uses, key=self.uses.__getitem__))
        self.saved[actions], self.uses[actions] = saved, 0

    def nearest(self, actions: bytes) -> bytes | None:
        """Returns the longest prefix of some actions that is saved and at most `NEAR` steps away, or None."""
        near = [b for b in self.saved if len(actions) - len(b) <= NEAR and actions.startswith(b)]
        return max(near, key=len, default=None)

    def put_back(self, actions: bytes) -> bool:
        """Restores the state saved after `actions`, and returns whether that was still possible."""
        if self.simulator.restore(self.saved[actions]):
            self.uses[actions] += 1
            return True
        self._forget(actions)
        return False

    def _forget(self, actions: bytes) -> None:
        del self.saved[actions], self.uses[actions]

    def replay(self, actions: bytes, first: int) -> None:
        """Makes `actions` from index `first` on, as those before were made; saves the state if these are many."""
        for action in actions[first:]:
            self.simulator.advance(action)
        if len(actions) - first >= WORTH_SAVING:
            self.remember(actions)


class SimulatorPool:
    """Pool of at most `size` live simulators; the least recently used one is sent elsewhere first.

    Args:
        make: makes a simulator.
        size: largest number of simulators, at least 1.

    Raises:
        ValueError: if `size` is not a whole number of at least 1.
    """

    def __init__(self, make: Callable[[], Simulator], *, size: int) -> None:
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"simulators must be a whole number of at least 1, not {size!r}")
        self.make = make
        self.size = size
        self.replayed = 0  # number of replayed steps: the cost of branching
        self._at: OrderedDict[tuple[int, bytes], Live] = OrderedDict()  # least recently used first
        self._idle: list[Live] = []
        self._of_seed: dict[int, list[Live]] = {}
        self._out: Live | None = None  # taken and not put back yet; if it never is, its step failed

    def take(self, seed: int, actions: bytes) -> Live:
        """Returns a simulator at a state, taken out of the pool until `put`; only one may be out at a time."""
        if self._out is not None:
            self._leave_seed(self._out)
        self._out = live = self._at.pop((seed, actions), None)
        sent = live is None
        if live is None:
            live = self._restored(seed, actions) or self._begun(seed, actions)
        live.sent, live.actions = sent, None
        return live

    def put(self, live: Live, actions: bytes, *, ended: bool = False) -> None:
        """Returns a simulator to the pool, `actions` after its start; one at the end of an episode is reused first."""
        twin = self._at.pop((live.seed, actions), None)
        if twin is not None:
            twin.actions = None
            self._idle.append(twin)
        live.actions, self._out = actions, None
        self._at[live.seed, actions] = live
        if ended:
            self._at.move_to_end((live.seed, actions), last=False)

    def _restored(self, seed: int, actions: bytes) -> Live | None:
        """Returns a simulator of the same episode, restored to a saved state nearby and replayed, or None."""
        found = [(live, live.nearest(actions)) for live in self._of_seed.get(seed, ())]
        live, start = max(found, key=lambda pair: -1 if pair[1] is None else len(pair[1]), default=(None, None))
        if live is None or start is None:
            return None
        if live.actions is None:
            self._idle.remove(live)
        else:
            del self._at[seed, live.actions]
        live.actions, self._out = None, live
        if not live.put_back(start):  # its state is unknown now
            self._idle.append(live)
            self._out = None
            return None
        live.replay(actions, len(start))
        self.replayed += len(actions) - len(start)
        return live

    def _begun(self, seed: int, actions: bytes) -> Live:
        """Returns a free simulator, replayed from the start."""
        self._out = live = self._free()
        again = seed in self._of_seed
        self._leave_seed(live)
        live.begin(seed)
        if again:  # a new seed is probably played without branches
            live.remember(b"")
        self._of_seed.setdefault(seed, []).append(live)
        live.replay(actions, 0)
        self.replayed += len(actions)
        return live

    def _leave_seed(self, live: Live) -> None:
        own = self._of_seed.get(live.seed, [])
        if live in own:
            own.remove(live)
            if not own:
                del self._of_seed[live.seed]

    def _free(self) -> Live:
        if self._idle:
            return self._idle.pop()
        if len(self._at) < self.size:
            return Live(self.make())
        return self._at.popitem(last=False)[1]


def not_finite(name: str, observation: ArrayLike, *, seed: int, steps: int) -> UsageError:
    """Returns the error for an observation that holds a number that is not finite in float32."""
    with np.errstate(over="ignore"):
        numbers = np.asarray(observation, np.float32)
    wrong = numbers[~np.isfinite(numbers)][0]
    return UsageError(
        f"{name} observed {wrong} at step {steps} after seed {seed}: observations must be finite, and within float32"
    )


class SimulatorEnvironment:
    """Environment whose dynamics come from simulators, which step one state at a time.

    A state that a simulator is sent back to must show the observation made when it was first reached, in any process.

    Args:
        spec: names, shapes and constants; at most 256 actions.
        make: makes a simulator; must be picklable for worker processes.
        simulators: largest number of simulators that are alive at once.

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

    @property
    def side_by_side(self) -> int:
        """Largest number of episodes that can be continued side by side without a replay."""
        return self.pool.size

    def reset(self, seeds: ArrayLike) -> SimulatorStates:
        """Starts new episodes: seeds `[B]`, each the same start as `reset(seed)` of the simulator.

        Raises:
            ValueError: if the seeds are not a list of integers >= 0.
            UsageError: if an observation is not finite, or not of the shape that the specification says.
        """
        numbers = valid_seeds(seeds)
        observations = np.empty((len(numbers), *self._spec.observation_shape), self._spec.observation_dtype)
        for b, seed in enumerate(numbers.tolist()):
            live = self.pool.take(seed, b"")
            seen = live.simulator.observe()
            if np.shape(seen) != observations.shape[1:]:  # it would be broadcast
                raise UsageError(
                    f"{self._spec.name} observed shape {list(np.shape(seen))} after seed {seed}: "
                    f"its specification says {list(observations.shape[1:])}"
                )
            observations[b] = seen
            self.pool.put(live, b"")
        if not isfinite(np.vdot(observations, observations)):  # quickest test; if the sum overflows, each is tested
            self._refuse_not_finite(observations, numbers, [b""] * len(numbers))
        return SimulatorStates(numbers.copy(), (b"",) * len(numbers), observations, np.zeros(len(numbers), np.bool_))

    def step(self, states: SimulatorStates, actions: ArrayLike) -> tuple[SimulatorStates, Outcome]:
        """Applies actions `[B]`; a terminal state stays as it is, with reward 0.

        Raises:
            ValueError: if there is not one action per state, or an action is out of range.
            UsageError: if an observation is not finite, or differs when a simulator is sent back to its state.
        """
        chosen = valid_actions(actions, batch=len(states), num_actions=self._spec.num_actions)
        observations, done = states.observation.copy(), states.done.copy()
        histories, rewards, pool = list(states.actions), np.zeros(len(states)), self.pool
        rows = zip(states.seed.tolist(), chosen.tolist(), done.tolist(), strict=True)
        for b, (seed, action, over) in enumerate(rows):
            if over:
                continue
            live = pool.take(seed, histories[b])
            if live.sent:
                self._confirm(live, states, b)
            rewards[b], done[b] = _, ended = live.simulator.step(action)
            observations[b] = live.simulator.observe()
            histories[b] += _BYTES[action]
            pool.put(live, histories[b], ended=ended)
        if not isfinite(np.vdot(observations, observations)):  # quickest test; if the sum overflows, each is tested
            self._refuse_not_finite(observations, states.seed, histories)
        following = SimulatorStates(states.seed, tuple(histories), observations, done)
        return following, Outcome(reward=rewards, terminated=done)

    def rewards_along(self, states: SimulatorStates, actions: ArrayLike) -> Float64:
        """Returns the rewards `[B, T]` along action sequences `[B, T]`, equal to those of T calls of `step`.

        Raises:
            ValueError: if there is not one sequence per state, or an action is out of range.
            UsageError: if the observation of a state differs when a simulator is sent back to it.
        """
        chosen = valid_sequences(actions, batch=len(states), num_actions=self._spec.num_actions)
        B, T = chosen.shape
        rewards = np.zeros((B, T))
        for b in np.flatnonzero(~states.done).tolist() if T else ():
            history = states.actions[b]
            live = self.pool.take(int(states.seed[b]), history)
            if live.sent:
                self._confirm(live, states, b)
            sequence = chosen[b].tolist()
            for t, action in enumerate(sequence):
                rewards[b, t], ended = live.simulator.step(action)
                if ended:
                    break
            self.pool.put(live, history + bytes(sequence[: t + 1]), ended=ended)
        return rewards

    def observe(self, states: SimulatorStates) -> NDArray[Any]:
        """Returns what was observed when the states were reached, `[B, *observation_shape]`."""
        return states.observation.copy()  # writable, as torch expects

    def terminal(self, states: SimulatorStates) -> Bool:
        """Whether each state is terminal, bool `[B]`."""
        return states.done

    def _confirm(self, live: Live, states: SimulatorStates, b: int) -> None:
        """Refuses a simulator that, sent back to a state, observes something else there.

        A dependence on the process, on other copies or on chance shows here at the latest.
        """
        seen = np.asarray(live.simulator.observe(), states.observation.dtype)
        if seen.tobytes() != states.observation[b].tobytes():
            steps, seed = len(states.actions[b]), states.seed[b]
            raise UsageError(
                f"{self._spec.name} is not deterministic: seed {seed} and the same {steps} actions led to another "
                "observation than before; mzprobe.check_env tells more"
            )

    def _refuse_not_finite(self, observations: NDArray[Any], seeds: Int64, histories: Sequence[bytes]) -> None:
        finite = np.isfinite(observations).reshape(len(observations), -1).all(axis=1)
        if finite.all():
            return
        b = int(finite.argmin())
        raise not_finite(self._spec.name, observations[b], seed=int(seeds[b]), steps=len(histories[b]))
