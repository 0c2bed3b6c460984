"""Stored tables of the figures' tests, and what a drawing really shows."""

from pathlib import Path

import pandas as pd
import pytest
from matplotlib.collections import PolyCollection

GOLDEN = Path(__file__).parent.parent / "golden"


def golden(probe):
    """The table of a probe, its numbers written by hand."""
    return pd.read_csv(GOLDEN / f"{probe}.csv")


def numbers(cells, *by):
    """Mean, standard error and agents of an aggregate, by what makes a cell."""
    return {
        tuple(row[name] for name in by): (row["mean"], row["standard_error"], row["agents"])
        for row in cells.to_dict("records")
    }


def points(line):
    """What a line connects, as {x: y}."""
    return dict(zip(line.get_xdata().tolist(), line.get_ydata().tolist(), strict=True))


def band(axes, index):
    """The lower and upper end of a band of the axes at every x."""
    collections = [one for one in axes.collections if isinstance(one, PolyCollection)]
    vertices = collections[index].get_paths()[0].vertices
    return {
        x: pytest.approx((min(ys), max(ys)))
        for x in set(vertices[:, 0].tolist())
        for ys in [vertices[vertices[:, 0] == x, 1].tolist()]
    }


def legend_of(figure):
    """The texts of the figure's one legend, which has a title."""
    (legend,) = figure.legends
    assert legend.get_title().get_text()
    return [text.get_text() for text in legend.get_texts()]


def looks(axes):
    """How the lines of the axes are told apart: colour, dashes and marker by label."""
    return {line.get_label(): (line.get_color(), line.get_linestyle(), line.get_marker()) for line in axes.lines}
