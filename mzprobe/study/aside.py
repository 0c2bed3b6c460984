"""Puts an agent, a dataset or a table aside to free its path, since nothing that took hours to make is removed."""

from itertools import count
from pathlib import Path

from mzprobe.files import said_of
from mzprobe.locks import held


def put_aside(folder: Path) -> Path:
    """Renames an agent's folder, a dataset's or a table, so that its path is free; returns the new path.

    Raises:
        InUse: if another command is writing there.
        MzprobeError: if it cannot be renamed.
    """
    with held(folder), said_of(folder):
        aside = next(path for n in count(1) if not (path := place_aside(folder, n)).exists())
        folder.rename(aside)
    return aside


def place_aside(folder: Path, number: int) -> Path:
    """Returns the path for the first, second, ... thing that is put aside from a path."""
    return folder.with_name(f"{folder.name}.before-{number}")
