"""Puts an agent or a dataset aside for another one of its name: nothing that took hours to make is removed."""

from itertools import count
from pathlib import Path

from mzprobe.files import said_of
from mzprobe.locks import held


def put_aside(folder: Path) -> Path:
    """Gives the folder of an agent or a dataset another name, under which it is no other's any more; gives that.

    Raises:
        InUse: if another command makes what is there.
        MzprobeError: if it cannot be renamed.
    """
    with held(folder), said_of(folder):
        aside = next(path for n in count(1) if not (path := place_aside(folder, n)).exists())
        folder.rename(aside)
    return aside


def place_aside(folder: Path, number: int) -> Path:
    """Where what lay there goes, the first, second and so on."""
    return folder.with_name(f"{folder.name}.before-{number}")
