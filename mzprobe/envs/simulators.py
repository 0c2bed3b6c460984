"""States of simulators that cannot be copied: a seed and the actions since, brought back to life by replay.

A pool of live simulators remembers which state each of them is at. Stepping such a state moves its simulator on and
costs nothing else, so that linear play is as fast as the bare simulator. Any other state is replayed: from the start,
or from the longest beginning of its actions at which a simulator was saved, where simulators can be.
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
SAVED = 16  # states that a simulator can be put back to
NEAR = 32  # steps; farther from a saved state, another simulator is sent there to stay
WORTH_SAVING = 8  # steps that were made again


class Simulator(Protocol):
    """Plays one episode at a time and can only begin anew and go on; the environment fixes the number of actions."""

    def reset(self, seed: int) -> None:
        """Begins the episode of a seed, whatever was before."""
        ...

    def step(self, action: int) -> tuple[float, bool]:
        """One step: its reward, environment units, and whether it led to a terminal state."""
        ...

    def advance(self, action: int) -> None:
        """As `step`, for a step whose outcome is known already and is not looked at."""
        ...

    def observe(self) -> ArrayLike:
        """The observation of the current state, `[*observation_shape]`; the specification's dtype can hold it."""
        ...

    def save(self) -> Any:
        """What `restore` takes to come back here within this episode; None if that is not possible."""
        ...

    def restore(self, saved: Any) -> bool:
        """Goes back; False if that is no longer possible, with nothing done that a reset would not undo."""
        ...


@dataclass(frozen=True, eq=False)
class SimulatorStates:
    """A batch of states as their histories, with what was seen when each was reached; arrays become read-only."""

    seed: Int64  # [B], of the start
    actions: tuple[bytes, ...]  # B histories, a byte an action
    observation: NDArray[Any]  # [B, *observation_shape]
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


class Live:
    """A simulator of the pool, where it is, and the states of its episode that it can be put back to."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.seed = -1
        self.actions: bytes | None = None  # since the start; None while it is out, or idle
        self.sent = False  # whether it was sent to where it is, not stepped there
        self.saved: dict[bytes, Any] = {}  # by actions since the start
        self.uses: dict[bytes, int] = {}  # how often each was gone back to

    def begin(self, seed: int) -> None:
        """Resets to a start."""
        self.seed = seed
        self.saved.clear()
        self.uses.clear()
        self.simulator.reset(seed)

    def remember(self, actions: bytes) -> None:
        """Saves the state where it is, `actions` after the start, if it can be.

        What was least used makes room, so that the many states of a tree do not push out its root.
        """
        saved = self.simulator.save()
        if saved is None:
            return
        if len(self.saved) >= SAVED:
            self._forget(min(self.uses, key=self.uses.__getitem__))
        self.saved[actions], self.uses[actions] = saved, 0

    def nearest(self, actions: bytes) -> bytes | None:
        """The longest beginning of some actions that is saved and not too far away."""
        near = [b for b in self.saved if len(actions) - len(b) <= NEAR and actions.startswith(b)]
        return max(near, key=len, default=None)

    def put_back(self, actions: bytes) -> bool:
        """Back to a saved state, if that is still possible."""
        if self.simulator.restore(self.saved[actions]):
            self.uses[actions] += 1
            return True
        self._forget(actions)
        return False

    def _forget(self, actions: bytes) -> None:
        del self.saved[actions], self.uses[actions]

    def replay(self, actions: bytes, first: int) -> None:
        """Goes on to where `actions` lead, of which it has made the first ones."""
        for action in actions[first:]:
            self.simulator.advance(action)
        if len(actions) - first >= WORTH_SAVING:
            self.remember(actions)


class SimulatorPool:
    """At most `size` live simulators; the one longest unused is the next to be sent elsewhere.

    Args:
        make: makes a simulator.
        size: most of them, at least 1.
    """

    def __init__(self, make: Callable[[], Simulator], *, size: int) -> None:
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"simulators must be a whole number of at least 1, not {size!r}")
        self.make = make
        self.size = size
        self.replayed = 0  # steps made again, for whoever asks what branching costs
        self._at: OrderedDict[tuple[int, bytes], Live] = OrderedDict()  # least recently used first
        self._idle: list[Live] = []
        self._of_seed: dict[int, list[Live]] = {}
        self._out: Live | None = None  # taken and not put back yet; if it never is, it has failed on the way

    def take(self, seed: int, actions: bytes) -> Live:
        """A simulator at a state, out of the pool until `put`; one at a time."""
        if self._out is not None:
            self._leave_seed(self._out)
        self._out = live = self._at.pop((seed, actions), None)
        sent = live is None
        if live is None:
            live = self._restored(seed, actions) or self._begun(seed, actions)
        live.sent, live.actions = sent, None
        return live

    def put(self, live: Live, actions: bytes, *, ended: bool = False) -> None:
        """Gives a simulator back, so many actions after its start; no one goes on from an end, so it is the next."""
        twin = self._at.pop((live.seed, actions), None)
        if twin is not None:
            twin.actions = None
            self._idle.append(twin)
        live.actions, self._out = actions, None
        self._at[live.seed, actions] = live
        if ended:
            self._at.move_to_end((live.seed, actions), last=False)

    def _restored(self, seed: int, actions: bytes) -> Live | None:
        """One of the same episode, put back to a saved state near by and replayed from there."""
        found = [(live, live.nearest(actions)) for live in self._of_seed.get(seed, ())]
        live, start = max(found, key=lambda pair: -1 if pair[1] is None else len(pair[1]), default=(None, None))
        if live is None or start is None:
            return None
        if live.actions is None:
            self._idle.remove(live)
        else:
            del self._at[seed, live.actions]
        live.actions, self._out = None, live
        if not live.put_back(start):  # it may be anywhere now
            self._idle.append(live)
            self._out = None
            return None
        live.replay(actions, len(start))
        self.replayed += len(actions) - len(start)
        return live

    def _begun(self, seed: int, actions: bytes) -> Live:
        """Any other, replayed from the start."""
        self._out = live = self._free()
        again = seed in self._of_seed
        self._leave_seed(live)
        live.begin(seed)
        if again:  # else it may well be played straight on
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
    """What is said where an observation holds a number that is not finite, in float32."""
    with np.errstate(over="ignore"):
        numbers = np.asarray(observation, np.float32)
    wrong = numbers[~np.isfinite(numbers)][0]
    return UsageError(
        f"{name} observed {wrong} at step {steps} after seed {seed}: observations must be finite, and within float32"
    )


class SimulatorEnvironment:
    """An environment whose truth comes from simulators, which step one state after the other.

    A state that a simulator is sent back to must look as it did when it was first reached, in whichever process.

    Args:
        spec: names, shapes and constants; at most 256 actions.
        make: makes a simulator; picklable, for worker processes.
        simulators: largest number of them that are alive at once.

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
        """Largest number of episodes that can be played on without a replay."""
        return self.pool.size

    def reset(self, seeds: ArrayLike) -> SimulatorStates:
        """Starts fresh episodes: seeds `[B]`, each the same start as `reset(seed=...)` of the simulator.

        Raises:
            ValueError: if the seeds are not a list of integers >= 0.
            UsageError: if an observation is not finite, or not of the shape that the specification says.
        """
        numbers = valid_seeds(seeds)
        observations = np.empty((len(numbers), *self._spec.observation_shape), self._spec.observation_dtype)
        for b, seed in enumerate(numbers.tolist()):
            live = self.pool.take(seed, b"")
            seen = live.simulator.observe()
            if np.shape(seen) != observations.shape[1:]:  # it would be repeated to fit
                raise UsageError(
                    f"{self._spec.name} observed shape {list(np.shape(seen))} after seed {seed}: "
                    f"its specification says {list(observations.shape[1:])}"
                )
            observations[b] = seen
            self.pool.put(live, b"")
        if not isfinite(np.vdot(observations, observations)):  # the quickest way; too large a sum is looked at again
            self._refuse_not_finite(observations, numbers, [b""] * len(numbers))
        return SimulatorStates(numbers.copy(), (b"",) * len(numbers), observations, np.zeros(len(numbers), np.bool_))

    def step(self, states: SimulatorStates, actions: ArrayLike) -> tuple[SimulatorStates, Outcome]:
        """Applies actions `[B]`; a terminal state stays as it is, with reward 0.

        Raises:
            ValueError: if there is not one action a state, or an action is out of range.
            UsageError: if an observation is not finite, or a state looks otherwise when a simulator is sent there.
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
        if not isfinite(np.vdot(observations, observations)):  # the quickest way; too large a sum is looked at again
            self._refuse_not_finite(observations, states.seed, histories)
        following = SimulatorStates(states.seed, tuple(histories), observations, done)
        return following, Outcome(reward=rewards, terminated=done)

    def rewards_along(self, states: SimulatorStates, actions: ArrayLike) -> Float64:
        """Rewards along action sequences `[B, T]`, `[B, T]`: what as many calls of `step` give, in one.

        Raises:
            ValueError: if there is not one sequence a state, or an action is out of range.
            UsageError: if a state looks otherwise when a simulator is sent there.
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
        """What was observed when the states were reached, `[B, *observation_shape]`."""
        return states.observation.copy()  # writable, as torch likes it

    def terminal(self, states: SimulatorStates) -> Bool:
        """Whether each state is terminal, bool `[B]`."""
        return states.done

    def _confirm(self, live: Live, states: SimulatorStates, b: int) -> None:
        """What depends on the process, on other copies or on chance shows here at the latest."""
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
