"""Atari's games as the truth: saved consoles of the Arcade Learning Environment, with what was seen of them.

A state is a value: the whole machine, a few kilobytes, and the latest frames. The pool of live consoles only remembers
which state each of them is at, so that playing straight on restores nothing.
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
_OPENING = "fire"  # by default, where a game has it


class Point(NamedTuple):
    """One state."""

    saved: Any  # the console, ALE's own value
    seen: tuple[Any, ...]  # the latest frames, the newest last: a `Glimpse` each, or the bytes of the memory
    lives: int
    done: bool


@dataclass(frozen=True, eq=False)
class AtariStates:
    """A batch of states. They share what they have in common, and can be pickled."""

    points: tuple[Point, ...]

    def __len__(self) -> int:
        return len(self.points)

    def take(self, indices: ArrayLike) -> Self:
        """Selects, repeats or reorders: integer indices `[M]` give `M` states."""
        points = self.points
        return type(self)(tuple([points[row] for row in integers(indices, "indices").tolist()]))

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Joins batches in order."""
        return cls(tuple([point for part in parts for point in part.points]))

    @property
    def nbytes(self) -> int:
        """Of what they hold now, each part counted once."""
        points = {id(point): point for point in self.points}
        seen = {id(glimpse): glimpse for point in points.values() for glimpse in point.seen}
        console: int = len(self.points[0].saved.serialize()) if self.points else 0
        return len(points) * console + sum(int(glimpse.nbytes) for glimpse in seen.values())


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How a game is made an environment; as `atari_environment` says."""

    frame_skip: int
    pooled: bool
    stack: int
    clip_rewards: bool
    end_of_life: bool
    no_ops: int
    opening: tuple[str, ...]

    def said(self) -> str:
        """In a few words."""
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
    """A game, as `atari_environment` makes it.

    Args:
        spec: names, shapes and constants.
        game: what is played.
        rules: how.
        eye: what looks at screens; None where the memory is observed.
        emulators: most consoles that are alive at once.
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
        self._at: dict[int, Emulator] = {}  # by the id of the state that it is at
        self._starts: dict[int, Point] = {}  # by no-ops
        self._runs = tuple((code,) * rules.frame_skip for code in game.codes)  # by action
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
        """Frames, or memories, that an observation shows, the newest last."""
        return self._rules.stack

    def reset(self, seeds: ArrayLike) -> AtariStates:
        """Starts fresh episodes: seeds `[B]`, each a number of no-ops.

        Raises:
            ValueError: if the seeds are not a list of integers >= 0.
            UsageError: if the game is over before it begins.
        """
        no_ops = [self._drawn(seed) for seed in valid_seeds(seeds).tolist()]
        return AtariStates(tuple([self._start(number) for number in no_ops]))

    def step(self, states: AtariStates, actions: ArrayLike) -> tuple[AtariStates, Outcome]:
        """Applies actions `[B]`; a state that has ended stays as it is, with reward 0.

        Raises:
            ValueError: if there is not one action a state, or an action is out of range.
        """
        # In lists: emulation empties the processor's caches, after which a call of numpy takes microseconds.
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
        """Rewards along action sequences `[B, T]`, `[B, T]`: what as many calls of `step` give; nothing is saved.

        Raises:
            ValueError: if there is not one sequence a state, or an action is out of range.
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
        """The latest frames, the newest last, `[B, height, width, stack * channels]`, or `[B, stack * 128]`."""
        shown = np.empty((len(states), *self._spec.observation_shape), np.uint8)
        for b, point in enumerate(states.points):
            if self._eye is None:
                np.concatenate(point.seen, out=shown[b])
            else:
                for k, glimpse in enumerate(point.seen):
                    put_in(glimpse.pixels, k * self._eye.shape[-1], shown[b])
        return shown

    def terminal(self, states: AtariStates) -> Bool:
        """Whether each state is an end, bool `[B]`."""
        return np.array([point.done for point in states.points], np.bool_)

    def _chosen(self, actions: ArrayLike, batch: int) -> list[int]:
        """Actions that are valid, as `valid_actions` says."""
        if isinstance(actions, np.ndarray) and actions.dtype == np.int64 and actions.shape == (batch,):
            listed: list[int] = actions.tolist()
            if all(0 <= action < len(self._runs) for action in listed):
                return listed
        valid: list[int] = valid_actions(actions, batch=batch, num_actions=len(self._runs)).tolist()
        return valid

    # One state

    @cached_property
    def _reopening(self) -> tuple[int, ...]:
        """Frames after a lost life that is no end."""
        return (NOTHING,) * self._rules.frame_skip + self._opening if self._opening else ()

    def _drawn(self, seed: int) -> int:
        """No-ops at a start."""
        most = self._rules.no_ops
        return int(np.random.default_rng(seed).integers(1, most + 1)) if most else 0

    def _start(self, no_ops: int) -> Point:
        """The start after so many no-ops; it is made once."""
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
        """The state after a step from where an emulator is, and the score of it."""
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
        """An emulator at every state that is no end, one after the other; first where one is already.

        It is nowhere then, until `_stay` says where it is.
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
        """One that has not been taken, or a new one, or the one that was taken last."""
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
        emulator.at = point  # which keeps its id its own
        self._at[id(point)] = emulator


def _made_again(spec: EnvironmentSpec, game: str, rules: Rules, eye: Eye | None, emulators: int) -> AtariEnvironment:
    """In another process, on another machine."""
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
    """Makes an environment of a game of ale-py.

    Args:
        game: as ALE names its ROM, such as `breakout` or `ms_pacman`.
        gamma: discount of a step, in (0, 1].
        time_limit: steps after which whoever plays calls the episode truncated.
        observation: the screen, or the 128 bytes of memory.
        frame_skip: frames that a step makes, with the same action.
        pooled: whether a screen is the maximum of a step's last two frames; as a rule it is, with more than one a step.
        colour: of the screen.
        size: height and width of what is observed, at most 160; 0 leaves it 210 by 160.
        stack: frames that are observed, the newest last; 4 of the screen and 1 of the memory by default.
        clip_rewards: whether rewards are the sign of a step's score, which is then told beside.
        end_of_life: whether a lost life is an end.
        no_ops: most frames without an action at the start, of which there are 1 to that many, by the seed; 0 for none.
        opening: actions that open every life, a step each; by default `fire`, where a game has it. A life
            that is no episode of its own is opened in the step that lost the one before it, after a step of no action.
        emulators: most consoles that are alive at once, which is how many episodes are played on without restoring.

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
        raise ValueError("pooled takes the maximum of two frames of a step: it needs the screen, and a frame_skip of 2")
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
    """Actions that open a life."""
    if names is None:
        return (_OPENING,) if _OPENING in game.meanings else ()
    if isinstance(names, str) or any(name not in game.meanings for name in names):
        raise ValueError(f"opening must be a list of actions of {game.game}, which are {', '.join(game.meanings)}")
    return tuple(names)
