"""How every figure looks, and how it is written so that the same table gives the same bytes."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.figure import Figure

STYLE: Any = {
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "legend.title_fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.linewidth": 0.5,
    "grid.color": "0.9",
    "svg.hashsalt": "mzprobe",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Seaborn's ticks with our sizes, for the time of one figure."""
    with sns.axes_style("ticks"), mpl.rc_context(STYLE):
        yield


def rendered(figure: Figure, suffix: str) -> bytes:
    """The figure as `png` or `svg` bytes, without dates or names of the machine."""
    buffer = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if suffix == "svg" else {"Software": None}
    with figure_style():
        figure.savefig(buffer, format=suffix, metadata=metadata)
    return buffer.getvalue()
