"""What states look like, as SVG and as pixels."""

from base64 import b64decode
from io import BytesIO
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from mzprobe.cli.sketches import sketch
from mzprobe.envs import CartPole, MinAtarBreakout, make, random_mdp
from mzprobe.envs.cartpole import CartPoleStates
from mzprobe.envs.history import HistoryEnvironment
from mzprobe.envs.shapes import Drawing, rectangle
from mzprobe.pictures import pictures_of, pixels_of, png_address, svg_of

SVG = "{http://www.w3.org/2000/svg}"


def dark(pixels):
    """Columns and rows of what is not white."""
    rows, columns = np.nonzero(pixels.sum(axis=2) < 3 * 250)
    return columns, rows


def test_a_rectangle_stands_where_it_is_told():
    drawing = Drawing(left=-1, right=1, bottom=0, top=1, shapes=(rectangle(0, 0, 0.5, 0.25, "#000000"),))
    columns, rows = dark(pixels_of(drawing, width=200))
    assert (columns.min(), columns.max()) == (100, 150)
    assert (rows.min(), rows.max()) == (75, 99)
    root = ElementTree.fromstring(svg_of(drawing))
    (polygon,) = root.iter(f"{SVG}polygon")
    assert polygon.get("points") == "1,1 1.5,1 1.5,0.75 1,0.75"
    assert root.get("viewBox") == "0 0 2 1"


def test_a_label_is_text_whatever_is_in_it():
    drawing = Drawing(left=0, right=1, bottom=0, top=1, shapes=())
    root = ElementTree.fromstring(svg_of(drawing, label='<script>"&'))
    assert root.get("aria-label") == '<script>"&'


def test_a_cart_and_its_pole_stand_where_they_are():
    position = np.array([[0, 0, 0, 0], [1.2, 0, 0, 0], [0, 0, 0.2, 0]], np.float64)
    upright, right, leaning = pictures_of(CartPole(), CartPoleStates(position, np.zeros(3, np.bool_)))
    assert max(x for shape in right.shapes for x, _ in shape.points if shape.width == 0.07) == pytest.approx(1.2)
    tips = [drawing.shapes[-2].points[1] for drawing in (upright, leaning)]
    assert tips[0] == pytest.approx((0, 1.3))
    assert tips[1] == pytest.approx((np.sin(0.2), 0.3 + np.cos(0.2)))


def test_a_board_is_a_pixel_a_place():
    env = MinAtarBreakout()
    (board,) = pictures_of(env, env.reset([0]))
    seen = env.observe(env.reset([0]))[0]
    assert board.shape == (10, 10, 3)
    assert ((board != 255).any(axis=2) == seen.any(axis=2)).all()
    (element,) = ElementTree.fromstring(svg_of(board)).iter(f"{SVG}image")
    address = element.get("href")
    assert address == png_address(board)
    with Image.open(BytesIO(b64decode(address.partition(",")[2]))) as image:
        assert (np.asarray(image) == board).all()
    assert pixels_of(board, width=40).shape == (40, 40, 3)
    assert (pixels_of(board, width=40)[::4, ::4] == board).all()


def test_a_history_draws_what_it_is_a_history_of():
    env = HistoryEnvironment(CartPole(), 2)
    states = env.reset([1, 2])
    assert pictures_of(env, states) == pictures_of(CartPole(), CartPole().reset([1, 2]))


def test_a_lander_is_drawn_from_what_it_observes():
    env = make("lunarlander")
    (drawing,) = pictures_of(env, env.reset([0]))
    x, y = np.mean(drawing.shapes[-1].points, axis=0)
    assert (x, y) == pytest.approx(env.observe(env.reset([0]))[0, :2] * (10, 20 / 3), abs=0.2)


def test_numbers_alone_have_no_picture():
    env = random_mdp(0)
    assert pictures_of(env, env.reset([0])) is None


def test_observations_that_are_images_are_pictures():
    class Grey:
        spec = CartPole().spec.__class__(
            name="grey",
            observation_shape=(3, 5, 1),
            observation_dtype="uint8",
            num_actions=1,
            gamma=0.9,
            time_limit=1,
            action_meanings=("x",),
            source="here",
        )

        def observe(self, states):
            return np.full((len(states), 3, 5, 1), 7, np.uint8)

    (image,) = pictures_of(Grey(), [0])
    assert image.shape == (3, 5, 3)
    assert (image == 7).all()


def test_a_sketch_has_a_dot_where_the_picture_is_not_as_its_background():
    picture = np.full((8, 8, 3), 200, np.uint8)
    picture[0, 0] = picture[7, 7] = picture[1, 1] = 0
    # Two pixels across and four down are a character; its dots are 1 to 3 and 7 down the left, 4 to 6 and 8 the right.
    assert sketch(picture, columns=4) == "\u2811\n\u2800\u2800\u2800\u2880"
