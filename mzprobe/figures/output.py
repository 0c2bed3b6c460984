"""How a figure's files get to disk, and what is said of them."""

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
    """What became of one file, or of one figure that has no table or whose tables are refused."""

    what: str
    status: Literal["written", "unchanged", "replaced", "missing", "refused"]
    remedy: str = ""  # the command that makes a missing table, or what is wrong with those that are there


def write_figure(figure: Figure, cells: pd.DataFrame, *, made: str, folder: Path, name: str) -> list[Drawn]:
    """Writes a figure as PNG, SVG and the CSV of its numbers; says of each file whether it is new.

    Args:
        figure: what is drawn.
        cells: its numbers.
        made: comment lines of the CSV, what made the numbers.
        folder: of the figures.
        name: of the files.
    """
    files = {suffix: rendered(figure, suffix) for suffix in ("png", "svg")}
    files["csv"] = csv_text(cells, made=made).encode(errors="backslashreplace")
    done = []
    for suffix, data in files.items():
        path = folder / f"{name}.{suffix}"
        done.append(Drawn(what=str(path), status=replace_file(path, data)))
    return done


def csv_text(cells: pd.DataFrame, *, made: str) -> str:
    """The CSV beside a figure: comment lines of what made its numbers, then the numbers."""
    return made + cells.to_csv(index=False, lineterminator="\n")


def title_of(table: Table) -> str:
    """The environments that a run's tables are of."""
    name = "/".join(sorted({record["environment"]["name"] for record in table.record["agents"]}))
    return _TITLES.get(name, name)
