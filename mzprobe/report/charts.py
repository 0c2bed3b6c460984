"""A live chart as records that the page reads: its axes, its lines and its choices."""

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
    """A line: the rows of the aggregate that it is of, and its look."""

    label: str
    where: Mapping[str, Any]
    colour: str = "blue"
    dash: str = "solid"
    symbol: str = "circle"
    level: bool = False  # a horizontal line at the one number there is


@dataclass(frozen=True, kw_only=True)
class Part:
    """One drawing of a figure; a figure may have several to choose from."""

    title: str
    ylabel: str
    x: str
    xlabel: str
    where: Mapping[str, Any] = field(default_factory=dict)  # entries that rows have
    same: tuple[str, ...] = ()  # columns that have one entry
    lines: tuple[Line, ...] = ()
    by: str = ""  # column with a line for each of its entries, where lines are not given
    named: str = "{}"  # what such a line is called
    last_only: bool = False  # whether only the last of these lines is shown at first
    leave_untrained: bool = False  # whether the untrained model (step 0) is left out at first, where there is another
    choose: tuple[str, ...] = ()  # columns of which one entry is looked at, the last one at first
    xlog: bool = False
    ylog: bool = False
    matrix: str = ""  # column of colours in cells, `by` the rows, where it is no drawing of lines

    def drawn(self, cells: pd.DataFrame) -> "pd.Series[bool]":
        """Which rows of the aggregate it may draw."""
        kept = pd.Series(False, index=cells.index)
        for where in [line.where for line in self.lines] or [{}]:
            kept |= _rows(cells, {**self.where, **where}, self.same)
        return kept


@dataclass(frozen=True, kw_only=True)
class Chart:
    """The live figure of a plan."""

    heading: str
    says: str  # how to read it
    parts: tuple[Part, ...]

    def record(self) -> dict[str, Any]:
        """For the page."""
        return asdict(self)

    def drawn(self, cells: pd.DataFrame) -> "pd.Series[bool]":
        """Which rows of the aggregate any part may draw: agents' own numbers of the others are not needed."""
        kept = pd.Series(False, index=cells.index)
        for part in self.parts:
            kept |= part.drawn(cells)
        return kept

    def without_empty(self, aggregates: Iterable[pd.DataFrame]) -> "Chart":
        """The chart without the parts that no aggregate has a row of."""
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
    """A line that looks as in the figure of the paper's kind."""
    dash = line.get("linestyle", line.get("dashes", "-"))
    said = _DASHES[dash] if isinstance(dash, str) else ",".join(f"{1.5 * length:g}px" for length in dash[1])
    symbol = _SYMBOLS[line.get("marker", "o")] + ("-open" if line.get("markerfacecolor") == "none" else "")
    colour = _COLOURS[line["colour"]]
    return Line(label=line["label"], where=where, colour=colour, dash=said, symbol=symbol, level=level)


def looks(lines: Mapping[Any, Mapping[str, Any]], *columns: str) -> tuple[Line, ...]:
    """Lines of a figure by their keys: the entries of these columns."""
    keyed = [(key if isinstance(key, tuple) else (key,), line) for key, line in lines.items()]
    return tuple(look(line, dict(zip(columns, key, strict=True))) for key, line in keyed)


def also(line: Line, **entries: Any) -> Line:
    """A line of the rows that have these entries too."""
    return replace(line, where={**line.where, **entries})
