"""Atari screens as observations: the maximum of two frames, in grey or in colours, shrunk by area interpolation.

A screen is kept as indices of colours until its pixels are asked for. All arithmetic is in integers, so that every
processor computes the same bits.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mzprobe._kernel import kernel
from mzprobe.envs.core import Bool

Colour = Literal["grey", "rgb"]
Screen = NDArray[np.uint8]  # [H, W], indices of colours
Pixels = NDArray[np.uint8]  # [height, width, channels]
_WORD = 8  # bytes compared at a time


@kernel
def _new_colours(words: NDArray[np.uint64], old: NDArray[np.uint64], known: Bool) -> bool:
    """Whether a screen has a colour that is not known, assuming that all colours of the screen `old` are."""
    found = False
    for i in range(words.size):
        if words[i] != old[i]:
            left = words[i]
            for _ in range(_WORD):
                found |= not known[np.int64(left & np.uint64(255))]
                left >>= np.uint64(8)
    return found


@kernel
def _shrunk(before: Screen, last: Screen, palette: Pixels, rows: NDArray[Any], columns: NDArray[Any]) -> Pixels:
    """Computes the maximum of two screens `[H, W]` of indices, as pixels `[height, width, channels]`.

    A pixel is the mean of the part of the screen that it covers. `rows` `[2, height, taps]` and `columns`
    `[2, width, taps]` hold the rows and columns that each pixel covers, and their weights, which add up to H and to W
    (see `covered`).
    """
    (H, W), channels = last.shape, palette.shape[1]
    height, width, total = rows.shape[1], columns.shape[1], np.uint32(H * W)
    across = np.empty((H, width), np.uint32)
    pixels = np.empty((height, width, channels), np.uint8)
    line = np.empty(W, np.uint32)
    for c in range(channels):
        for y in range(H):
            for x in range(W):
                line[x] = max(palette[before[y, x], c], palette[last[y, x], c])
            for j in range(width):
                across[y, j] = 0
                for tap in range(columns.shape[2]):
                    across[y, j] += columns[1, j, tap] * line[columns[0, j, tap]]
        for i in range(height):
            line_of = np.full(width, total // np.uint32(2), np.uint32)  # rounds to nearest
            for tap in range(rows.shape[2]):
                weight = rows[1, i, tap]
                for j in range(width):
                    line_of[j] += weight * across[rows[0, i, tap], j]
            for j in range(width):
                pixels[i, j, c] = line_of[j] // total
    return pixels


@kernel
def put_in(frame: Pixels, first: int, shown: Pixels) -> None:
    """Writes a frame into `shown` `[height, width, all channels]`, from channel `first` on."""
    for i in range(frame.shape[0]):
        for j in range(frame.shape[1]):
            for c in range(frame.shape[2]):
                shown[i, j, first + c] = frame[i, j, c]


def covered(size: int, length: int) -> NDArray[np.uint32]:
    """Computes which of `length` places each of `size` equal parts covers, and by how many times 1 / `size` of a place.

    Returns:
        `[2, size, taps]`: places, and weights, which add up to `length` for each part; unused taps weigh 0.
    """
    overlaps = np.zeros((size, length), np.int64)
    for part in range(size):
        for place in range(part * length // size, -(-(part + 1) * length // size)):
            low, high = max(part * length, place * size), min((part + 1) * length, (place + 1) * size)
            overlaps[part, place] = high - low
    taps = int((overlaps > 0).sum(axis=1).max())
    places = np.argsort(overlaps == 0, axis=1, kind="stable")[:, :taps]
    return np.stack([places, np.take_along_axis(overlaps, places, axis=1)]).astype(np.uint32)


class Eye:
    """Converter of screens to pixels, which knows the colours that it has been shown.

    Args:
        colour: `grey`, one channel of ALE's grey, or `rgb`, three channels.
        size: height and width of the pixels.
        screen: height and width of the screens.
    """

    def __init__(self, colour: Colour, *, size: tuple[int, int], screen: tuple[int, int]) -> None:
        self.shape = (*size, 1 if colour == "grey" else 3)
        self._palette = np.zeros((256, self.shape[-1]), np.uint8)
        self._known = np.zeros(256, np.bool_)
        self._rows, self._columns = (covered(small, large) for small, large in zip(size, screen, strict=True))
        self._learnt: NDArray[np.uint64] | None = None  # a screen whose colours are known

    def learn(self, screen: Screen, console: Any) -> None:
        """Learns the new colours, if any, of the screen that a console shows."""
        words = screen.reshape(-1).view(np.uint64)
        if self._learnt is None or _new_colours(words, self._learnt, self._known):
            seen = console.getScreenGrayscale() if self.shape[-1] == 1 else console.getScreenRGB()
            self._palette[screen.reshape(-1)] = seen.reshape(screen.size, -1)
            self._known[np.unique(screen)] = True
        self._learnt = words

    def look(self, before: Screen | None, last: Screen) -> Pixels:
        """Returns the maximum of two screens in every channel, shrunk; the last one alone if `before` is None."""
        return _shrunk(last if before is None else before, last, self._palette, self._rows, self._columns)


class Glimpse:
    """Frame that a state shows; its pixels are made when they are first asked for."""

    __slots__ = ("_eye", "_pixels", "_screens")

    def __init__(self, eye: Eye | None, before: Screen | None, last: Screen | None) -> None:
        self._eye = eye
        self._screens: tuple[Screen | None, Screen | None] = (before, last)
        self._pixels: Pixels | None = None

    @property
    def pixels(self) -> Pixels:
        """Pixels `[height, width, channels]`."""
        if self._pixels is None:
            before, last = self._screens
            assert self._eye is not None
            assert last is not None
            self._pixels = self._eye.look(before, last)
            self._eye, self._screens = None, (None, None)
        return self._pixels

    @property
    def nbytes(self) -> int:
        """Bytes of what it holds now."""
        return sum(part.nbytes for part in (self._pixels, *self._screens) if part is not None)

    def __getstate__(self) -> Pixels:
        return self.pixels

    def __setstate__(self, pixels: Pixels) -> None:
        self._eye, self._pixels, self._screens = None, pixels, (None, None)
