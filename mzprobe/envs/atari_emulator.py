"""Consoles of the Arcade Learning Environment, which can be run, saved and restored.

A saved state holds the whole machine except the screen, which is stale after a restore until the next frame. Nothing is
random: sticky actions are off, and a console always begins with the same random seed.
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
_SEED = 0  # random seed of the emulator, which would otherwise depend on the clock


class Cartridge(NamedTuple):
    """Game of ALE, with its ROM and its actions."""

    game: str
    path: Path
    codes: tuple[int, ...]  # ALE's number of each action, length A
    meanings: tuple[str, ...]  # length A
    version: str  # version of ale-py


@cache
def cartridge(game: str) -> Cartridge:
    """Finds a game among the ROMs of ale-py.

    Raises:
        UsageError: if ale-py is not installed, or has no such game or not its ROM.
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
    """Imports `ale_py` and returns the package.

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
    """Returns a new console at the start of a game."""
    ale = ale_py()
    ale.ALEInterface.setLoggerMode(ale.LoggerMode.Error)  # else it prints a banner
    console = ale.ALEInterface()
    console.setInt("random_seed", _SEED)
    console.setFloat("repeat_action_probability", 0.0)
    console.setInt("frame_skip", 1)  # frames are counted here
    console.setInt("max_num_frames_per_episode", 0)
    console.setBool("color_averaging", False)
    console.loadROM(path)
    return console


class Frames(NamedTuple):
    """Result of running some frames."""

    reward: int  # sum of the game's score over the frames
    before: Screen | None  # last screen but one; None unless asked for
    last: Screen | None  # last screen; None without an `Eye`


class Emulator:
    """A console and the state that it is at.

    Args:
        game: game to load.
        eye: learns the colours of the screens; None if they are not observed.
    """

    def __init__(self, game: Cartridge, eye: Eye | None) -> None:
        self.console = _console(game.path)
        self.at: Any = None  # state that it is at, set by the user of this class
        self._eye = eye
        self._start = self.console.cloneState()
        self._first = self._screen()

    def begin(self) -> Frames:
        """Goes back to the start of the game, a moment after the console was switched on."""
        self.console.restoreState(self._start)
        return Frames(0, None, self._first)

    def run(self, codes: Sequence[int], *, pooled: bool = False) -> Frames:
        """Makes one frame per code; an ended game stays as it is.

        Args:
            codes: ALE's numbers of actions, at least one.
            pooled: whether to return the screen of the last frame but one too, if there is one.
        """
        if self._eye is None:
            return Frames(self.score(codes), None, None)
        reward, before = self.score(codes[:-1]), None
        if pooled and len(codes) > 1:
            before = self._screen()
        reward += self.console.act(codes[-1])
        return Frames(reward, before, self._screen())

    def score(self, codes: Sequence[int]) -> int:
        """Makes one frame per code like `run`, but returns only the score."""
        act, reward = self.console.act, 0
        for code in codes:
            reward += act(code)
        return reward

    def save(self) -> Any:
        """Returns the state of the console, a value of ALE that can be pickled."""
        return self.console.cloneState()

    def restore(self, saved: Any) -> None:
        """Puts the console back to a saved state, its own or that of another one with the same game."""
        self.console.restoreState(saved)

    @property
    def lives(self) -> int:
        """Lives left."""
        lives: int = self.console.lives()
        return lives

    @property
    def over(self) -> bool:
        """Whether the game is over."""
        over: bool = self.console.game_over()
        return over

    def memory(self) -> NDArray[np.uint8]:
        """Returns the 128 bytes of memory."""
        memory: NDArray[np.uint8] = self.console.getRAM()
        return memory

    def _screen(self) -> Screen | None:
        if self._eye is None:
            return None
        screen: Screen = self.console.getScreen()
        self._eye.learn(screen, self.console)
        return screen
