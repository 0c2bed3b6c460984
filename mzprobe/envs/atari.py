"""Atari games as environments: states are saved consoles of the Arcade Learning Environment and their latest frames.

A state is a value: the whole machine, a few kilobytes, and the latest frames. The pool of live consoles only remembers
which state each of them is at, so that linear play needs no restore.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mzprobe.envs.atari_emulator import NOTHING, Cartridge, Emulator, Frames, cartridge
from mzprobe.envs.atari_screens import Colour, Eye, Glimpse, put_in
from mzprobe.envs.core import Bool, EnvironmentSpec, Float64, Outcome
from mzprobe.envs.validation import integers, valid_actions, valid_seeds, valid_sequences, valid_spec
from mzprobe.errors import UsageError
from mzprobe.names import ATARI

RAM = 128  # bytes
SCREEN = 210, 160  # height and width
Observed = Literal["screen", "ram"]
_OPENING = "fire"  # default opening of a game that has this action


class Point(NamedTuple):
    """State of one game."""

    saved: Any  # saved console, a value of ALE
    seen: tuple[Any, ...]  # latest frames, the newest last: each a `Glimpse`, or the bytes of memory
    lives: int
    done: bool


@dataclass(frozen=True, eq=False)
class AtariStates:
    """Batch of states, which share the parts that they have in common and can be pickled."""

    points: tuple[Point, ...]

    def __len__(self) -> int:
        return len(self.points)

    def take(self, indices: ArrayLike) -> Self:
        """Selects, repeats or reorders states: integer indices `[M]` yield `M` states."""
        points = self.points
        return type(self)(tuple([points[row] for row in integers(indices, "indices").tolist()]))

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Joins batches in order."""
        return cls(tuple([point for part in parts for point in part.points]))

    @property
    def nbytes(self) -> int:
        """Bytes of what the states hold now, with shared parts counted once."""
        points = {id(point): point for point in self.points}
        seen = {id(glimpse): glimpse for point in points.values() for glimpse in point.seen}
        console: int = len(self.points[0].saved.serialize()) if self.points else 0
        return len(points) * console + sum(int(glimpse.nbytes) for glimpse in seen.values())


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Settings by which a game becomes an environment; see `atari_environment`."""

    frame_skip: int
    pooled: bool
    stack: int
    clip_rewards: bool
    end_of_life: bool
    no_ops: int
    opening: tuple[str, ...]

    def said(self) -> str:
        """Returns the settings in a few words."""
        parts = (
            f"{self.frame_skip} frames a step{', maximum of the last two' * self.pooled}",
            f"{self.stack} observed",
            "rewards clipped" if self.clip_rewards else "rewards as scored",
            "a lost life is an end" if self.end_of_life else "whole games",
            f"up to {self.no_ops} no-ops",
            *((f"lives opened by {', '.join(self.opening)}",) if self.opening else ()),
        )
        return ", ".join(parts)


class AtariEnvironment:
    """Environment of one game, as made by `atari_environment`.

    Args:
        spec: names, shapes and constants.
        game: game that is played.
        rules: settings by which it is an environment.
        eye: converter of screens; None if the memory is observed.
        emulators: largest number of consoles that are alive at once.
    """

    def __init__(
        self, spec: EnvironmentSpec, game: Cartridge, rules: Rules, eye: Eye | None, *, emulators: int
    ) -> None:
        self._spec = spec
        self._game = game
        self._rules = rules
        self._eye = eye
        self._clipped = rules.clip_rewards
        self._most = emulators
        self._emulators: list[Emulator] = []
        self._at: dict[int, Emulator] = {}  # emulators by the id of their state
        self._starts: dict[int, Point] = {}  # starts by number of no-ops
        self._runs = tuple((code,) * rules.frame_skip for code in game.codes)  # codes of a step by action
        named = dict(zip(game.meanings, self._runs, strict=True))
        self._opening = tuple([code for name in rules.opening for code in named[name]])

    def __reduce__(self) -> Any:
        return _made_again, (self._spec, self._game.game, self._rules, self._eye, self._most)

    @property
    def spec(self) -> EnvironmentSpec:
        """Names, shapes and constants."""
        return self._spec

    @property
    def stack(self) -> int:
        """Number of frames, or memories, that an observation stacks, the newest last."""
        return self._rules.stack

    def reset(self, seeds: ArrayLike) -> AtariStates:
        """Starts fresh episodes: each seed of `[B]` draws a number of no-ops.

        Raises:
            ValueError: if the seeds are not a list of integers >= 0.
            UsageError: if the game is over before it begins.
        """
        no_ops = [self._drawn(seed) for seed in valid_seeds(seeds).tolist()]
        return AtariStates(tuple([self._start(number) for number in no_ops]))

    def step(self, states: AtariStates, actions: ArrayLike) -> tuple[AtariStates, Outcome]:
        """Applies actions `[B]`; a state that has ended stays as it is, with reward 0.

        Raises:
            ValueError: if there is not one action per state, or an action is out of range.
        """
        # In lists, since emulation empties the processor's caches, after which a call of numpy takes microseconds.
        chosen, points = self._chosen(actions, len(states)), list(states.points)
        scores = [0.0] * len(points)
        for b, emulator in self._placed(states.points):
            points[b], scores[b] = self._stepped(emulator, points[b], self._runs[chosen[b]])
        done, score = np.array([point.done for point in points], np.bool_), np.array(scores, np.float64)
        if self._clipped:
            reward = np.array([(raw > 0.0) - (raw < 0.0) for raw in scores], np.float64)
            return AtariStates(tuple(points)), Outcome(reward, done, score)
        return AtariStates(tuple(points)), Outcome(score, done)

    def rewards_along(self, states: AtariStates, actions: ArrayLike) -> Float64:
        """Returns the rewards `[B, T]` along action sequences `[B, T]`, equal to `step`'s; saves nothing.

        Raises:
            ValueError: if there is not one sequence per state, or an action is out of range.
        """
        chosen = valid_sequences(actions, batch=len(states), num_actions=len(self._runs))
        rewards = np.zeros(chosen.shape)
        for b, emulator in self._placed(states.points) if chosen.shape[1] else ():
            lives = states.points[b].lives
            for t, action in enumerate(chosen[b].tolist()):
                rewards[b, t] = emulator.score(self._runs[action])
                lost = emulator.lives < lives
                if lost and not self._rules.end_of_life and not emulator.over:
                    rewards[b, t] += emulator.score(self._reopening)
                if emulator.over or (lost and self._rules.end_of_life):
                    break
                lives = emulator.lives
        return np.sign(rewards) if self._clipped else rewards

    def observe(self, states: AtariStates) -> NDArray[np.uint8]:
        """Returns the latest frames, the newest last, `[B, height, width, stack * channels]`, or `[B, stack * 128]`."""
        shown = np.empty((len(states), *self._spec.observation_shape), np.uint8)
        for b, point in enumerate(states.points):
            if self._eye is None:
                np.concatenate(point.seen, out=shown[b])
            else:
                for k, glimpse in enumerate(point.seen):
                    put_in(glimpse.pixels, k * self._eye.shape[-1], shown[b])
        return shown

    def terminal(self, states: AtariStates) -> Bool:
        """Whether each state is terminal, bool `[B]`."""
        return np.array([point.done for point in states.points], np.bool_)

    def _chosen(self, actions: ArrayLike, batch: int) -> list[int]:
        """Returns valid actions as a list; raises as `valid_actions` does."""
        if isinstance(actions, np.ndarray) and actions.dtype == np.int64 and actions.shape == (batch,):
            listed: list[int] = actions.tolist()
            if all(0 <= action < len(self._runs) for action in listed):
                return listed
        valid: list[int] = valid_actions(actions, batch=batch, num_actions=len(self._runs)).tolist()
        return valid

    # Steps of one state

    @cached_property
    def _reopening(self) -> tuple[int, ...]:
        """Codes of the frames that open the next life after a lost one that is no end."""
        return (NOTHING,) * self._rules.frame_skip + self._opening if self._opening else ()

    def _drawn(self, seed: int) -> int:
        """Draws the number of no-ops at a start."""
        most = self._rules.no_ops
        return int(np.random.default_rng(seed).integers(1, most + 1)) if most else 0

    def _start(self, no_ops: int) -> Point:
        """Returns the start after a number of no-ops, which is made once."""
        if no_ops not in self._starts:
            emulator = self._free((), most=1)
            frames, codes = emulator.begin(), (NOTHING,) * no_ops + self._opening
            if codes:
                frames = emulator.run(codes, pooled=self._rules.pooled)
            if emulator.over:
                raise UsageError(f"{self._spec.name} is over after {no_ops} no-ops: give it fewer by the option no_ops")
            seen = (self._seen(emulator, frames),) * self._rules.stack
            self._starts[no_ops] = Point(emulator.save(), seen, emulator.lives, False)
            self._stay(emulator, self._starts[no_ops])
        return self._starts[no_ops]

    def _stepped(self, emulator: Emulator, point: Point, codes: Sequence[int]) -> tuple[Point, float]:
        """Steps an emulator that is at `point`; returns the next state and the score of the step."""
        frames = emulator.run(codes, pooled=self._rules.pooled)
        score, lost = frames.reward, emulator.lives < point.lives
        done = emulator.over or (lost and self._rules.end_of_life)
        if lost and not done and self._reopening:
            frames = emulator.run(self._reopening, pooled=self._rules.pooled)
            score, done = score + frames.reward, emulator.over
        seen = (*point.seen[1:], self._seen(emulator, frames))
        following = Point(emulator.save(), seen, emulator.lives, done)
        self._stay(emulator, following)
        return following, score

    def _seen(self, emulator: Emulator, frames: Frames) -> Any:
        if self._eye is None:
            return emulator.memory()
        return Glimpse(self._eye, frames.before, frames.last)

    # Emulators

    def _placed(self, points: Sequence[Point]) -> Iterator[tuple[int, Emulator]]:
        """Yields every state that is not terminal, by index, with an emulator at it; first those that have one already.

        Until `_stay` is called, the emulator is assigned to no state.
        """
        at, found, away = self._at, [], []
        for b, point in enumerate(points):
            if not point.done:
                emulator = at.pop(id(point), None)
                if emulator is None:
                    away.append(b)
                else:
                    found.append(emulator)
                    yield b, emulator
        for b in away:
            emulator = self._free(found, most=len(points))
            emulator.restore(points[b].saved)
            found.append(emulator)
            yield b, emulator

    def _free(self, taken: Sequence[Emulator], *, most: int) -> Emulator:
        """Returns an emulator that is not among `taken`, or else a new one, or else the one that was taken last."""
        others = [emulator for emulator in self._emulators if emulator not in taken]
        if others:
            emulator = others[-1]
        elif len(self._emulators) < min(self._most, most):
            emulator = Emulator(self._game, self._eye)
            self._emulators.append(emulator)
        else:
            emulator = taken[-1]
        self._at.pop(id(emulator.at), None)
        return emulator

    def _stay(self, emulator: Emulator, point: Point) -> None:
        emulator.at = point  # keeps the id from being used again
        self._at[id(point)] = emulator


def _made_again(spec: EnvironmentSpec, game: str, rules: Rules, eye: Eye | None, emulators: int) -> AtariEnvironment:
    """Rebuilds an environment when it is unpickled."""
    return AtariEnvironment(spec, cartridge(game), rules, eye, emulators=emulators)


def atari_environment(
    game: str,
    *,
    gamma: float = 0.997,
    time_limit: int = 27_000,
    observation: Observed = "screen",
    frame_skip: int = 4,
    pooled: bool | None = None,
    colour: Colour = "rgb",
    size: int = 96,
    stack: int | None = None,
    clip_rewards: bool = True,
    end_of_life: bool = True,
    no_ops: int = 30,
    opening: Sequence[str] | None = None,
    emulators: int = 8,
) -> AtariEnvironment:
    """Makes the environment of a game of ale-py.

    Args:
        game: name of its ROM in ALE, such as `breakout` or `ms_pacman`.
        gamma: discount per step, in (0, 1].
        time_limit: steps after which the caller truncates an episode.
        observation: `screen`, or `ram`, the 128 bytes of memory.
        frame_skip: frames per step, all with the same action.
        pooled: whether a screen is the maximum of a step's last two frames; by default if a step has more than one.
        colour: colours of the screen, `grey` or `rgb`.
        size: height and width of the observation, at most 160; 0 keeps the 210 by 160 of the screen.
        stack: number of frames observed, the newest last; by default 4 of the screen or 1 of the memory.
        clip_rewards: whether rewards are the sign of a step's score, which `Outcome.score` then holds.
        end_of_life: whether a lost life is an end.
        no_ops: largest number of frames without an action at the start; the seed draws from 1 to that; 0 for none.
        opening: actions that open every life, for one step each; by default `fire`, if the game has it. A life that is
            no episode of its own is opened in the step that lost the previous one, after a step's frames of no action.
        emulators: largest number of consoles alive at once, and so of episodes that are continued without a restore.

    Raises:
        UsageError: if ale-py is not installed, or there is no such game.
        ValueError: if an option is out of range.
    """
    found = cartridge(game)
    screen = observation == "screen"
    if observation not in ("screen", "ram") or colour not in ("grey", "rgb"):
        raise ValueError(f"observation is screen or ram and colour grey or rgb, not {observation!r} and {colour!r}")
    stack = (4 if screen else 1) if stack is None else stack
    for name, number, least in (
        ("frame_skip", frame_skip, 1),
        ("stack", stack, 1),
        ("no_ops", no_ops, 0),
        ("emulators", emulators, 1),
    ):
        _refuse_less(name, number, least)
    pooled = screen and frame_skip > 1 if pooled is None else pooled
    if pooled and (not screen or frame_skip < 2):
        raise ValueError(
            "pooled takes the maximum of two frames of a step: it needs the screen, and a frame_skip of at least 2"
        )
    rules = Rules(
        frame_skip=frame_skip,
        pooled=pooled,
        stack=stack,
        clip_rewards=clip_rewards,
        end_of_life=end_of_life,
        no_ops=no_ops,
        opening=_opening(found, opening),
    )
    eye = _eye(colour, size) if screen else None
    shape: tuple[int, ...] = (RAM * stack,) if eye is None else (*eye.shape[:2], eye.shape[2] * stack)
    shown = "memory" if eye is None else f"screen in {colour}"
    spec = EnvironmentSpec(
        name=f"{ATARI}{game}",
        observation_shape=shape,
        observation_dtype="uint8",
        num_actions=len(found.codes),
        gamma=gamma,
        time_limit=time_limit,
        action_meanings=found.meanings,
        source=f"ale-py {found.version} {game} without sticky actions, {shown}, {rules.said()}",
    )
    return AtariEnvironment(valid_spec(spec), found, rules, eye, emulators=emulators)


def _refuse_less(name: str, number: object, least: int) -> None:
    if not isinstance(number, int) or number < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, not {number!r}")


def _eye(colour: Colour, size: int) -> Eye:
    if not isinstance(size, int) or not 0 <= size <= SCREEN[1]:
        raise ValueError(f"size must be a whole number from 1 to {SCREEN[1]}, or 0, not {size!r}")
    return Eye(colour, size=(size, size) if size else SCREEN, screen=SCREEN)


def _opening(game: Cartridge, names: Sequence[str] | None) -> tuple[str, ...]:
    """Returns the actions that open a life."""
    if names is None:
        return (_OPENING,) if _OPENING in game.meanings else ()
    if isinstance(names, str) or any(name not in game.meanings for name in names):
        raise ValueError(f"opening must be a list of actions of {game.game}, which are {', '.join(game.meanings)}")
    return tuple(names)
