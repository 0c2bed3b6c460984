"""Writes the files of a figure, and reports what became of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
from matplotlib.figure import Figure

from mzprobe.figures.style import rendered
from mzprobe.files import replace_file
from mzprobe.tables import Table

_TITLES = {
    "cartpole": "CartPole",
    "lunarlander": "Lunar Lander",
    "minatar-breakout": "MinAtar Breakout",
    "atari:breakout": "ALE Breakout",
}


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Outcome of writing one file, or of a figure that has no table or whose tables are refused."""

    what: str
    status: Literal["written", "unchanged", "replaced", "missing", "refused"]
    remedy: str = ""  # command that makes a missing table, or what is wrong with refused tables


def write_figure(figure: Figure, cells: pd.DataFrame, *, made: str, folder: Path, name: str) -> list[Drawn]:
    """Writes a figure as PNG and SVG and its numbers as CSV; returns the outcome for each file.

    Args:
        figure: figure to write.
        cells: numbers of the figure.
        made: comment lines of the CSV that state what made the numbers.
        folder: folder of the figures.
        name: name of the files, without suffix.
    """
    files = {suffix: rendered(figure, suffix) for suffix in ("png", "svg")}
    files["csv"] = csv_text(cells, made=made).encode(errors="backslashreplace")
    done = []
    for suffix, data in files.items():
        path = folder / f"{name}.{suffix}"
        done.append(Drawn(what=str(path), status=replace_file(path, data)))
    return done


def csv_text(cells: pd.DataFrame, *, made: str) -> str:
    """Returns the CSV beside a figure: comment lines that state what made its numbers, then the numbers."""
    return made + cells.to_csv(index=False, lineterminator="\n")


def title_of(table: Table) -> str:
    """Returns the name of the environment that a run's tables are from, or several names with slashes between."""
    name = "/".join(sorted({record["environment"]["name"] for record in table.record["agents"]}))
    return _TITLES.get(name, name)
