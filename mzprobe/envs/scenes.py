"""Drawings of the states of the environments in this package."""

import numpy as np
from numpy.typing import NDArray

from mzprobe.envs.shapes import Drawing, Pixels, Shape, disc, rectangle, turned

_GROUND, _DARK, _BLUE, _ORANGE, _GREEN, _GREY = "#5f6368", "#202124", "#0072b2", "#d55e00", "#009e73", "#c4c7cc"
_WHEEL = 0.09  # m


def cartpole_drawing(x: float, theta: float, *, track: float, pole: float) -> Drawing:
    """Draws a cart on its track, and the pole on it.

    Args:
        x: position of the cart, m.
        theta: angle of the pole from upright, rad, positive to the right.
        track: length of the track on either side of the middle, m.
        pole: length of the pole, m.
    """
    shapes = [Shape(points=((-track, 0.0), (track, 0.0)), colour=_GREY, width=0.02)]
    shapes += [rectangle(end - 0.02, -0.1, end + 0.02, 0.1, _ORANGE) for end in (-track, track)]
    shapes.append(rectangle(x - 0.25, _WHEEL, x + 0.25, 0.3, _DARK))
    shapes += [disc(x + side, _WHEEL, _WHEEL, _GROUND) for side in (-0.15, 0.15)]
    axle = (x, 0.3)
    tip = (x + pole * float(np.sin(theta)), 0.3 + pole * float(np.cos(theta)))
    shapes += [Shape(points=(axle, tip), colour=_BLUE, width=0.07), disc(*axle, 0.05, _ORANGE)]
    return Drawing(left=-track - 0.6, right=track + 0.6, bottom=-0.3, top=1.6, shapes=tuple(shapes))


def lander_drawing(
    x: float, y: float, angle: float, *, left: bool, right: bool, half_width: float, half_height: float
) -> Drawing:
    """Draws a lander above its pad; the ground elsewhere is not observed and not drawn.

    Args:
        x: position of the lander from the middle of the view, m.
        y: height above where the lander stands on the pad, m.
        angle: angle of the lander, counter-clockwise, rad.
        left: whether the left leg touches the ground.
        right: whether the right leg touches the ground.
        half_width: half the width of the view, m.
        half_height: half the height of the view, m.
    """
    at = (x, y)
    hull = ((-0.45, 0.55), (-0.57, 0.0), (-0.57, -0.3), (0.57, -0.3), (0.57, 0.0), (0.45, 0.55))
    pad, down = 2.0, -0.6  # m: half the pad's width; the height of its ground, one leg below the lander
    shapes = [rectangle(-pad, down - 0.3, pad, down, _GREY)]
    for flag in (-pad, pad):
        shapes.append(Shape(points=((flag, down), (flag, down + 1.6)), colour=_GROUND, width=0.06))
        shapes.append(Shape(points=((flag, down + 1.6), (flag + 0.8, down + 1.3), (flag, down + 1.0)), colour=_ORANGE))
    for side, touches in ((-1, left), (1, right)):
        leg = turned(((0.45 * side, -0.25), (0.75 * side, -0.6)), angle, at)
        shapes.append(Shape(points=leg, colour=_GREEN if touches else _GROUND, width=0.14))
    shapes.append(Shape(points=turned(hull, angle, at), colour=_BLUE))
    return Drawing(left=-half_width, right=half_width, bottom=-1.2, top=1.6 * half_height, shapes=tuple(shapes))


def board_pixels(seen: NDArray[np.bool_]) -> list[Pixels]:
    """Draws boards `[B, H, W, channels]`: one pixel per cell, one colour per channel, earlier channels on top."""
    palette = np.array([[0, 114, 178], [213, 94, 0], [240, 190, 150], [0, 158, 115]], np.uint8)
    boards = np.full((*seen.shape[:3], 3), 255, np.uint8)
    for channel in reversed(range(min(seen.shape[3], len(palette)))):
        boards[seen[..., channel]] = palette[channel]
    return list(boards)
