"""Vector drawings of states, which `draw(states)` of an environment returns unless it returns images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Filled polygon, or a line if it has a width."""

    points: tuple[Point, ...]  # x to the right, y upwards
    colour: str  # "#rrggbb"
    width: float = 0.0  # of the line; 0 for a filled polygon


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Shapes in a window, later ones above earlier ones."""

    left: float
    right: float
    bottom: float
    top: float
    shapes: tuple[Shape, ...]


Picture = Drawing | Pixels  # an image is [H, W, 3]


def rectangle(left: float, bottom: float, right: float, top: float, colour: str) -> Shape:
    """Returns a filled rectangle."""
    return Shape(points=((left, bottom), (right, bottom), (right, top), (left, top)), colour=colour)


def disc(x: float, y: float, radius: float, colour: str) -> Shape:
    """Returns a filled circle, as a polygon of 24 corners."""
    angles = np.arange(24) * (np.pi / 12)
    corners = zip(x + radius * np.cos(angles), y + radius * np.sin(angles), strict=True)
    return Shape(points=tuple((float(a), float(b)) for a, b in corners), colour=colour)


def turned(points: Sequence[Point], angle: float, at: Point) -> tuple[Point, ...]:
    """Rotates points about the origin, counter-clockwise by an angle in radians, and then moves them by `at`."""
    cosine, sine = float(np.cos(angle)), float(np.sin(angle))
    return tuple((at[0] + cosine * x - sine * y, at[1] + sine * x + cosine * y) for x, y in points)
