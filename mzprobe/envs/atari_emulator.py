"""Stella as the Arcade Learning Environment runs it: one console that goes on, is saved, and is put back.

What is saved holds the whole machine but for the screen, which is stale after a restore until the next frame. Nothing
is drawn by chance on the way: sticky actions are off, and a console always begins from the same random seed.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mzprobe._plugins import nearest
from mzprobe.envs.atari_screens import Eye, Screen
from mzprobe.errors import UsageError

NOTHING = 0  # ALE's code of no action, in every game
_SEED = 0  # of the emulator, whose games would else begin by the clock


class Cartridge(NamedTuple):
    """A game, and what its console takes."""

    game: str
    path: Path
    codes: tuple[int, ...]  # ALE's number of each action, length A
    meanings: tuple[str, ...]  # length A
    version: str  # of ale-py


@cache
def cartridge(game: str) -> Cartridge:
    """Finds a game among the ROMs of ale-py.

    Raises:
        UsageError: if ale-py is not installed, or the game is not among them.
    """
    ale = ale_py()
    known = ale.roms.get_all_rom_ids()
    if game not in known:
        raise UsageError(
            f"ALE has no game '{game}'{nearest(game, known)}; names are like ms_pacman, and there are {len(known)}"
        )
    try:
        path = Path(ale.roms.get_rom_path(game))
    except OSError as reason:
        raise UsageError(
            f"the ROM of '{game}' is not at hand ({reason}): pip install --force-reinstall ale-py, which brings it, or "
            "set ALE_ROMS_DIR to its folder"
        ) from None
    actions = _console(path).getMinimalActionSet()
    meanings = tuple(action.name.lower().replace("noop", "nothing") for action in actions)
    return Cartridge(game, path, tuple(action.value for action in actions), meanings, ale.__version__)


def ale_py() -> Any:
    """The package.

    Raises:
        UsageError: if it is not installed.
    """
    try:
        import ale_py
        import ale_py.roms
    except ImportError:
        raise UsageError("Atari's games need the emulator ale-py: pip install 'mzprobe[atari]'") from None
    return ale_py


def _console(path: Path) -> Any:
    """A console with a game in it, at its start."""
    ale = ale_py()
    ale.ALEInterface.setLoggerMode(ale.LoggerMode.Error)  # it greets
    console = ale.ALEInterface()
    console.setInt("random_seed", _SEED)
    console.setFloat("repeat_action_probability", 0.0)
    console.setInt("frame_skip", 1)  # counted here
    console.setInt("max_num_frames_per_episode", 0)
    console.setBool("color_averaging", False)
    console.loadROM(path)
    return console


class Frames(NamedTuple):
    """What some frames brought."""

    reward: int  # of all, the game's score
    before: Screen | None  # the screen before the last one, where it was asked for
    last: Screen | None  # None where nobody looks


class Emulator:
    """A console and the state that it is at.

    Args:
        game: what is in it.
        eye: learns the colours of its screens; None where nobody looks at them.
    """

    def __init__(self, game: Cartridge, eye: Eye | None) -> None:
        self.console = _console(game.path)
        self.at: Any = None  # whatever its user says it is at
        self._eye = eye
        self._start = self.console.cloneState()
        self._first = self._screen()

    def begin(self) -> Frames:
        """Back to the start of the game, which has been on for a moment."""
        self.console.restoreState(self._start)
        return Frames(0, None, self._first)

    def run(self, codes: Sequence[int], *, pooled: bool = False) -> Frames:
        """Makes a frame a code, of which there is at least one; an ended game stays as it is.

        Args:
            codes: ALE's numbers of actions.
            pooled: whether to look at the last frame but one too, if there is one.
        """
        if self._eye is None:
            return Frames(self.score(codes), None, None)
        reward, before = self.score(codes[:-1]), None
        if pooled and len(codes) > 1:
            before = self._screen()
        reward += self.console.act(codes[-1])
        return Frames(reward, before, self._screen())

    def score(self, codes: Sequence[int]) -> int:
        """As `run`, of which nobody looks at anything."""
        act, reward = self.console.act, 0
        for code in codes:
            reward += act(code)
        return reward

    def save(self) -> Any:
        """Where it is, a value of ALE's that can be pickled."""
        return self.console.cloneState()

    def restore(self, saved: Any) -> None:
        """Goes back to where it was, or another like it."""
        self.console.restoreState(saved)

    @property
    def lives(self) -> int:
        """That are left."""
        lives: int = self.console.lives()
        return lives

    @property
    def over(self) -> bool:
        """Whether the game is."""
        over: bool = self.console.game_over()
        return over

    def memory(self) -> NDArray[np.uint8]:
        """The 128 bytes."""
        memory: NDArray[np.uint8] = self.console.getRAM()
        return memory

    def _screen(self) -> Screen | None:
        if self._eye is None:
            return None
        screen: Screen = self.console.getScreen()
        self._eye.learn(screen, self.console)
        return screen
