"""Pictures of states for a terminal: in colours, or as dots if it has none."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from mzprobe.envs.shapes import Picture

COLUMNS = 64
_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])  # bits of braille dots, by row and column
_FAR = 60  # sum of RGB differences from the background, at most 765, above which a pixel is a dot


def in_terminal(picture: "Picture", console: "Console") -> "Text | str":
    """Returns a picture for a console: as `blocks` if it is a terminal with colours, otherwise as `sketch`."""
    return blocks(picture) if console.is_terminal and console.color_system else sketch(picture)


def blocks(picture: "Picture") -> "Text":
    """Returns a picture in half blocks: each character shows two pixels, one above the other."""
    from rich.text import Text

    from mzprobe.pictures import pixels_of

    pixels = pixels_of(picture, width=COLUMNS)
    if len(pixels) % 2:
        pixels = pixels[:-1]
    text = Text()
    for upper, lower in zip(pixels[::2].tolist(), pixels[1::2].tolist(), strict=True):
        for (r, g, b), (red, green, blue) in zip(upper, lower, strict=True):
            text.append("\u2580", style=f"rgb({r},{g},{b}) on rgb({red},{green},{blue})")
        text.append("\n")
    return text


def sketch(picture: "Picture", *, columns: int = COLUMNS) -> str:
    """Returns a picture in braille characters, at most `columns` per line, with dots where it is not background."""
    from mzprobe.pictures import pixels_of

    pixels = pixels_of(picture, width=2 * columns).astype(np.int64)
    colours, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    seen = np.abs(pixels - colours[counts.argmax()]).sum(axis=2) > _FAR
    rows = -(-len(seen) // 4)
    dots: Any = np.zeros((4 * rows, 2 * columns), bool)
    dots[: len(seen)] = seen
    codes = (dots.reshape(rows, 4, columns, 2) * _DOTS[None, :, None, :]).sum(axis=(1, 3))
    lines = ["".join(chr(0x2800 + code) for code in line).rstrip("\u2800") for line in codes.tolist()]
    return "\n".join(lines).strip("\n")
