"""Style and shared parts of all figures, and rendering that produces the same bytes from the same table."""

import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import style, ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from mzprobe.errors import UsageError

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

WIDTH = 7.0  # inches; width of a figure with several panels, that of a page's text
PANEL_TITLE = 9  # points
_THOUSAND = 1000
_SPAN = 5.0  # ratio of the largest to the smallest error above which their axis is logarithmic
_DEEPEST = 1e-5  # bottom of a logarithmic axis relative to the largest error; smaller ones are rounding

# The colour-blind can tell these apart; every line also has its own marker or dashes, for print without colour.
BLUE, ORANGE, GREEN = sns.color_palette("colorblind", 3)
GREY = "0.35"  # secondary lines
SAMPLED, GREEDY = "0.55", "0.1"  # the policy prior without search
_MARKERS = "os^Dv*PX"
_DASHES: tuple[Any, ...] = ("--", ":", "-.", (0, (9, 2)), (0, (1, 4)))


@contextmanager
def figure_style() -> Iterator[None]:
    """Applies seaborn's style `ticks` with our sizes within the block, regardless of any `matplotlibrc`."""
    with style.context("default"), sns.axes_style("ticks"), mpl.rc_context(STYLE):
        yield


def rendered(figure: Figure, suffix: str) -> bytes:
    """Returns the figure as `png` or `svg` bytes, without metadata such as dates."""
    buffer = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if suffix == "svg" else {"Software": None}
    with figure_style():
        figure.savefig(buffer, format=suffix, metadata=metadata)
    return in_few_colours(buffer.getvalue()) if suffix == "png" else buffer.getvalue()


def in_few_colours(png: bytes) -> bytes:
    """Reduces a PNG to a palette of 256 colours, which looks the same and takes a third of the bytes."""
    buffer = io.BytesIO()
    method = Image.Quantize.MAXCOVERAGE  # a median cut spends the palette on text, and colour bars become banded
    with Image.open(io.BytesIO(png)) as image:
        palette = image.convert("RGB").quantize(256, method=method, kmeans=1, dither=Image.Dither.NONE)
        palette.save(buffer, format="PNG", optimize=True, dpi=image.info["dpi"])
    return buffer.getvalue()


def of_steps(aggregate: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Decorates an aggregate so that it refuses rows without a known training step, which no figure can place.

    The decorated aggregate raises `UsageError` if there are any, as for an agent in memory without a given step.
    """

    @wraps(aggregate)
    def refusing(frame: pd.DataFrame) -> pd.DataFrame:
        if "training_step" in frame and frame["training_step"].isna().any():
            raise UsageError(
                "rows of no known training step are in no figure: make the agent with "
                "origin=mzprobe.Origin(training_step=N), or draw them yourself"
            )
        return aggregate(frame)

    return refusing


def agents_as_text(own: "pd.Series[float]") -> str:
    """Joins every agent's own number to a text for a CSV, separated by spaces."""
    return " ".join(map(str, own.tolist()))


def agents_of_text(text: object) -> list[float]:
    """Parses the result of `agents_as_text`."""
    return [float(number) for number in str(text).split()]


def thousands(step: float, _position: int | None = None) -> str:
    """Formats a number of training steps for ticks and titles: 0, 0.5K, 20K."""
    return f"{step / 1000:g}K" if step else "0"


def agents_in_words(cells: pd.DataFrame) -> str:
    """Describes the number of agents of an aggregate: `30 agents`, or `28 to 30 agents` where cells differ."""
    fewest, most = int(cells["agents"].min()), int(cells["agents"].max())
    count = str(most) if fewest == most else f"{fewest} to {most}"
    return f"{count} agent{'s' if most > 1 else ''}"


def means_in_words(cells: pd.DataFrame) -> str:
    """Describes what is drawn: `30 agents, mean ± standard error`; for a single agent only `1 agent`."""
    return agents_in_words(cells) + (", mean ± standard error" if cells["agents"].max() > 1 else "")


def draw_mean(axes: Axes, cells: pd.DataFrame, x: str, *, colour: Any, label: str, **line: Any) -> None:
    """Draws the means of an aggregate over column `x`, with a band of one standard error; no-op without cells."""
    if cells.empty:
        return
    at, y, error = (cells[name].to_numpy(dtype=float) for name in (x, "mean", "standard_error"))
    axes.plot(at, y, color=colour, label=label, **({"linewidth": 1.2, "markersize": 2.5} | line))
    axes.fill_between(at, y - error, y + error, color=colour, alpha=0.2, linewidth=0)


def draw_level(axes: Axes, cells: pd.DataFrame, *, colour: Any, dashes: Any, label: str) -> None:
    """Draws a horizontal line at the mean of a cell, if there is one, with a band of one standard error."""
    for mean, error in zip(cells["mean"], cells["standard_error"], strict=True):
        axes.axhline(mean, color=colour, linestyle=dashes, linewidth=1.2, label=label)
        if not np.isnan(error):
            axes.axhspan(mean - error, mean + error, color=colour, alpha=0.15, linewidth=0)


def legend_below(figure: Figure, labels: Iterable[str], *, title: str, columns: int) -> None:
    """Adds one legend below all panels, where it hides no line, with the labels that any panel has, in this order."""
    known: dict[str, Any] = {}
    for axes in figure.axes:
        lines, names = axes.get_legend_handles_labels()
        known |= dict(zip(names, lines, strict=True))
    handles = [known[label] for label in labels if label in known]
    figure.legend(handles=handles, title=title, loc="outside lower center", ncols=columns, frameon=False)


def start_at_zero(axes: Axes, cells: pd.DataFrame) -> None:
    """Starts the y axis at 0 unless a mean lies below, with a margin above the highest point of all shared axes."""
    if cells["mean"].min() >= 0:
        kin = axes.get_shared_y_axes().get_siblings(axes)
        highest = max((one.dataLim.ymax for one in kin if np.isfinite(one.dataLim.ymax)), default=0.0)
        axes.set_ylim(0, max(axes.get_ylim()[1], 1.05 * highest))


def error_axes(panels: Sequence[Axes], cells: pd.DataFrame) -> None:
    """Sets one y axis for errors in all panels; it is logarithmic where they span a wide range.

    Late errors can then be read beside early ones. A band that reaches 0 is cut at the axis, and so is a line below
    `_DEEPEST` of the largest error. A linear axis starts at 0; it is also used if any mean is 0.

    Args:
        panels: panels that show the same quantity.
        cells: all cells that are drawn in them.
    """
    means = cells["mean"].dropna()
    logarithmic = bool(len(means) and means.min() > 0 and means.max() > _SPAN * means.min())
    for axes in panels:
        axes.grid(axis="y")
        if not logarithmic:
            top = max(one.get_ylim()[1] for one in panels)
            axes.set_ylim(0, top)
            continue
        axes.set_yscale("log")
        bottom = max(means.min() / 1.5, _DEEPEST * means.max())
        axes.set_ylim(bottom, 1.2 * (cells["mean"] + cells["standard_error"].fillna(0)).max())
        within = (1.0,) if means.max() > 1e4 * bottom else (1.0, 2.0, 5.0)
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=within))
        axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_locator(ticker.NullLocator())


def panel_rows(
    count: int, *, xlabel: str, columns: int = 3, height: float = 1.9, sharex: bool = True, sharey: bool = True
) -> tuple[Figure, list[Axes]]:
    """Creates a figure of `count` panels, in even rows of at most `columns`; returns it and its panels.

    Args:
        count: number of panels.
        xlabel: label below the lowest panel of each column.
        columns: largest number of panels in a row.
        height: height of a row in inches.
        sharex: whether panels share the x axis.
        sharey: whether panels share the y axis.
    """
    rows = math.ceil(count / columns)
    columns = math.ceil(count / rows)
    figure = Figure(figsize=(WIDTH, height * rows + 1.1), layout="constrained")
    grid = list(figure.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False).flat)
    for unused in grid[count:]:
        unused.remove()
    for panel in grid[count - columns : count]:  # panels with none below
        panel.tick_params(labelbottom=True)
        panel.set_xlabel(xlabel)
    return figure, grid[:count]


def label_rows(figure: Figure, panels: Sequence[Axes], label: str) -> None:
    """Labels the y axes of all panels once: beside the only row, or beside all rows."""
    if panels[0].get_gridspec().nrows == 1:  # type: ignore[union-attr]
        panels[0].set_ylabel(label)
    else:
        figure.supylabel(label, fontsize=9)


class StepFormatter(ticker.Formatter):
    """Formatter of training steps: in thousands, unless the axis ends below 1000."""

    def __call__(self, x: float, _position: int | None = None) -> str:
        """Returns the text of a tick."""
        assert self.axis is not None
        return f"{x:g}" if max(self.axis.get_view_interval()) < _THOUSAND else thousands(x)


def simulations_axis(axes: Axes, simulations: NDArray[np.int64]) -> None:
    """Sets a log2 x axis with a tick at every N; at most five of them are numbered, always including the largest."""
    numbers = np.unique(simulations)
    axes.set_xscale("log", base=2)
    axes.set_xticks(np.sort(numbers[:: -max(1, math.ceil(len(numbers) / 5))]))
    axes.set_xticks(numbers, minor=True)
    axes.xaxis.set_major_formatter(ticker.FormatStrFormatter("%d"))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())


def variant_looks(variants: Iterable[str], *, kin: bool = True) -> dict[str, dict[str, Any]]:
    """Returns the look of each of a study's variants, as arguments of `draw_mean`: a colour and a marker, in order.

    With `kin`, a variant named like another one plus a suffix (`0.5-fewer` beside `0.5`) has the colour and marker of
    the other, with its own dashes. If there are more variants than colours, those with the same first word share a
    colour. Lines that are drawn earlier are broader, so that they remain visible behind later ones.
    """
    names = list(variants)
    shorter = {name: [one for one in names if kin and name.startswith(f"{one}-")] for name in names}
    roots = {name: min(found, key=len, default=name) for name, found in shorter.items()}
    own = [name for name in names if roots[name] == name]
    palette = sns.color_palette("colorblind")
    kinds = own if len(own) <= len(palette) else list(dict.fromkeys(name.split("-")[0] for name in own))
    looks: dict[str, dict[str, Any]] = {}
    for place, (name, root) in enumerate(roots.items()):
        behind = (len(names) - 1 - place) / max(1, len(names) - 1)
        i, alike = own.index(root), [one for one in names if roots[one] == root != one]
        looks[name] = {
            "label": name,
            "colour": palette[kinds.index(root if kinds is own else root.split("-")[0]) % len(palette)],
            "marker": _MARKERS[i % len(_MARKERS)],
            "linestyle": "-" if name == root else _DASHES[alike.index(name) % len(_DASHES)],
            "markersize": 3 + 1.5 * behind,
            "linewidth": 1.2 + 0.8 * behind,
        }
    return looks
