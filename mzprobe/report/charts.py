"""Records that describe an interactive chart to the page: its axes, its lines and its choices."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pandas as pd

from mzprobe.figures.style import BLUE, GREEDY, GREEN, GREY, ORANGE, SAMPLED

_COLOURS = {
    BLUE: "blue",
    ORANGE: "orange",
    GREEN: "green",
    GREY: "grey",
    "0.7": "pale",
    SAMPLED: "grey",
    GREEDY: "grey",
}
_SYMBOLS = {"o": "circle", "s": "square", "^": "triangle-up", "v": "triangle-down", "D": "diamond"}
_DASHES = {"-": "solid", "--": "dash", ":": "dot", "-.": "dashdot"}


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a chart: the rows of the aggregate that it draws, and its look."""

    label: str
    where: Mapping[str, Any]
    colour: str = "blue"
    dash: str = "solid"
    symbol: str = "circle"
    level: bool = False  # whether it is a horizontal line at a single number


@dataclass(frozen=True, kw_only=True)
class Part:
    """One drawing of a chart; a chart may have several to choose from."""

    title: str
    ylabel: str
    x: str
    xlabel: str
    where: Mapping[str, Any] = field(default_factory=dict)  # entries that its rows have, by column
    same: tuple[str, ...] = ()  # columns that must have equal entries in a row
    lines: tuple[Line, ...] = ()
    by: str = ""  # column with one line per entry, where `lines` are not given
    named: str = "{}"  # label of such a line
    last_only: bool = False  # whether only the last of these lines is shown at first
    leave_untrained: bool = False  # whether the untrained model (step 0) is hidden at first, if there is another
    choose: tuple[str, ...] = ()  # columns of which the reader chooses one entry, at first the last
    xlog: bool = False
    ylog: bool = False
    matrix: str = ""  # for a matrix instead of lines: column that colours the cells; its rows are the entries of `by`

    def drawn(self, cells: pd.DataFrame) -> "pd.Series[bool]":
        """Returns which rows of the aggregate the part may draw."""
        kept = pd.Series(False, index=cells.index)
        for where in [line.where for line in self.lines] or [{}]:
            kept |= _rows(cells, {**self.where, **where}, self.same)
        return kept


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Interactive figure of a plan."""

    heading: str
    says: str  # description for the reader
    parts: tuple[Part, ...]

    def record(self) -> dict[str, Any]:
        """Returns the chart as nested dicts for the page."""
        return asdict(self)

    def drawn(self, cells: pd.DataFrame) -> "pd.Series[bool]":
        """Returns which rows of the aggregate any part may draw; the page needs agents' own numbers for these alone."""
        kept = pd.Series(False, index=cells.index)
        for part in self.parts:
            kept |= part.drawn(cells)
        return kept

    def without_empty(self, aggregates: Iterable[pd.DataFrame]) -> "Chart":
        """Returns the chart without the parts for which no aggregate has a row."""
        found = list(aggregates)
        return replace(self, parts=tuple(part for part in self.parts if any(part.drawn(one).any() for one in found)))


def _rows(cells: pd.DataFrame, where: Mapping[str, Any], same: Sequence[str]) -> "pd.Series[bool]":
    kept = pd.Series(True, index=cells.index)
    for column, entry in where.items():
        kept &= (cells[column] == entry).fillna(False) if column in cells else False
    for other in same[1:]:
        kept &= cells[same[0]] == cells[other]
    return kept


def look(line: Mapping[str, Any], where: Mapping[str, Any], *, level: bool = False) -> Line:
    """Returns a line with the look of a printed figure's line.

    Args:
        line: label and look, as for `draw_mean` or `draw_level`.
        where: entries of the line's rows, by column.
        level: whether it is a horizontal line.
    """
    dash = line.get("linestyle", line.get("dashes", "-"))
    said = _DASHES[dash] if isinstance(dash, str) else ",".join(f"{1.5 * length:g}px" for length in dash[1])
    symbol = _SYMBOLS[line.get("marker", "o")] + ("-open" if line.get("markerfacecolor") == "none" else "")
    colour = _COLOURS[line["colour"]]
    return Line(label=line["label"], where=where, colour=colour, dash=said, symbol=symbol, level=level)


def looks(lines: Mapping[Any, Mapping[str, Any]], *columns: str) -> tuple[Line, ...]:
    """Returns the lines of a figure, whose keys are the entries of their rows in `columns`."""
    keyed = [(key if isinstance(key, tuple) else (key,), line) for key, line in lines.items()]
    return tuple(look(line, dict(zip(columns, key, strict=True))) for key, line in keyed)


def also(line: Line, **entries: Any) -> Line:
    """Returns a line restricted to rows that also have these entries."""
    return replace(line, where={**line.where, **entries})
