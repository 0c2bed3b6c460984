"""Shapes that an environment draws of a state: what `draw(states)` gives, unless it gives images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A polygon, or a line where it has a width."""

    points: tuple[Point, ...]  # x to the right, y upwards
    colour: str  # "#rrggbb"
    width: float = 0.0  # of the line; 0 fills the polygon


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
    """A filled one."""
    return Shape(points=((left, bottom), (right, bottom), (right, top), (left, top)), colour=colour)


def disc(x: float, y: float, radius: float, colour: str) -> Shape:
    """A filled circle, as a polygon of 24 corners."""
    angles = np.arange(24) * (np.pi / 12)
    corners = zip(x + radius * np.cos(angles), y + radius * np.sin(angles), strict=True)
    return Shape(points=tuple((float(a), float(b)) for a, b in corners), colour=colour)


def turned(points: Sequence[Point], angle: float, at: Point) -> tuple[Point, ...]:
    """Points turned counter-clockwise by an angle, radians, and then moved."""
    cosine, sine = float(np.cos(angle)), float(np.sin(angle))
    return tuple((at[0] + cosine * x - sine * y, at[1] + sine * x + cosine * y) for x, y in points)
