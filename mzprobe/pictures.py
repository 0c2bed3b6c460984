"""Pictures of states as SVG or pixels: shapes that an environment draws, or observations that are images."""

import base64
from io import BytesIO
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
from PIL import Image, ImageDraw

from mzprobe.envs.core import Environment
from mzprobe.envs.shapes import Drawing, Picture, Pixels, Point, Shape

_PAPER = "#ffffff"
_FINER = 4  # factor by which shapes are drawn larger and then reduced, for smooth edges
_SMALL = 32  # pixels; a smaller image is taken for a board, whose cells should stay sharp squares


def pictures_of(environment: Environment, states: Any) -> list[Picture] | None:
    """Returns pictures of B states: from the environment's own `draw(states)`, or observations that are images.

    Returns None if the environment has neither.
    """
    own = getattr(environment, "draw", None)
    if own is not None:
        return list(own(states))
    spec = environment.spec
    if spec.observation_dtype != "uint8" or len(spec.observation_shape) != 3 or spec.observation_shape[2] not in (1, 3):
        return None
    seen = np.asarray(environment.observe(states), np.uint8)
    return list(np.broadcast_to(seen, (*seen.shape[:3], 3)))


def svg_of(picture: Picture, *, label: str = "") -> str:
    """Returns one picture as an SVG element without a fixed size.

    Args:
        picture: shapes, or an image.
        label: description for screen readers.
    """
    if isinstance(picture, Drawing):
        width, height = picture.right - picture.left, picture.top - picture.bottom
        inside = f'<rect width="{width:g}" height="{height:g}" fill="{_PAPER}"/>'
        inside += "".join(_shape_as_svg(shape, picture) for shape in picture.shapes)
    else:
        height, width = picture.shape[:2]
        crisp = ' style="image-rendering:pixelated"' if max(width, height) < _SMALL else ""
        inside = f'<image width="{width}" height="{height}"{crisp} href="{png_address(picture)}"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img"'
    return f"{head} aria-label={quoteattr(label)}>{inside}</svg>"


def pixels_of(picture: Picture, *, width: int) -> Pixels:
    """Returns one picture as an image `[H, width, 3]` of the same proportions.

    Args:
        picture: shapes, or an image.
        width: pixels.
    """
    if not isinstance(picture, Drawing):
        height = max(1, round(width * picture.shape[0] / picture.shape[1]))
        how = Image.Resampling.NEAREST if max(picture.shape[:2]) < _SMALL else Image.Resampling.BILINEAR
        return np.asarray(Image.fromarray(picture).resize((width, height), how), np.uint8)
    scale = _FINER * width / (picture.right - picture.left)
    height = max(1, round(width * (picture.top - picture.bottom) / (picture.right - picture.left)))
    image = Image.new("RGB", (_FINER * width, _FINER * height), _PAPER)
    pen = ImageDraw.Draw(image)
    for shape in picture.shapes:
        points = [(scale * x, scale * y) for x, y in _downwards(shape, picture)]
        if shape.width:
            pen.line(points, fill=shape.colour, width=max(1, round(scale * shape.width)), joint="curve")
        else:
            pen.polygon(points, fill=shape.colour)
    return np.asarray(image.resize((width, height), Image.Resampling.BOX), np.uint8)


def png_address(pixels: Pixels) -> str:
    """Returns an image `[H, W, 3]` as a data URL of a PNG."""
    written = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(written, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode()


def _downwards(shape: Shape, drawing: Drawing) -> list[Point]:
    """Returns a shape's points relative to the upper left corner, with y downwards, as in images and SVG."""
    return [(x - drawing.left, drawing.top - y) for x, y in shape.points]


def _shape_as_svg(shape: Shape, drawing: Drawing) -> str:
    points = " ".join(f"{x:.4g},{y:.4g}" for x, y in _downwards(shape, drawing))
    if shape.width:
        round_ends = 'stroke-linecap="round" stroke-linejoin="round"'
        return (
            f'<polyline points="{points}" fill="none" stroke="{shape.colour}" stroke-width="{shape.width:g}" '
            f"{round_ends}/>"
        )
    return f'<polygon points="{points}" fill="{shape.colour}"/>'
