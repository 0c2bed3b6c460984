"""Layouts of checkpoints on disk: what looks like a checkpoint, and how its tree is read."""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from mzprobe.errors import CheckpointError
from mzprobe.files import read_bytes, sha256
from mzprobe.sources.archives import is_archive, read_archive

_HEAD = 64  # bytes that are enough to recognise an archive


class Layout(Protocol):
    """Finds checkpoints, and reads each into the tree that an adapter understands."""

    def found(self, path: Path) -> list[Path]:
        """Returns what looks like a checkpoint, the path itself or what lies in it; reads little, raises nothing."""
        ...

    def read(self, checkpoint: Path) -> Any:
        """Returns the tree of a checkpoint.

        Raises:
            CheckpointError: if it cannot be read.
        """
        ...

    def digest(self, checkpoint: Path) -> str:
        """Returns the SHA-256 of what a checkpoint holds.

        Raises:
            CheckpointError: if it cannot be read.
        """
        ...

    def agent_of(self, checkpoint: Path, step: int | None) -> str:
        """Returns a name for the checkpoint's agent, the same for all of the agent's checkpoints."""
        ...


class Archives:
    """Files written by `torch.save`, a single one or several in a folder."""

    def found(self, path: Path) -> list[Path]:
        """See `Layout.found`."""
        if path.is_file():
            return [path] if _begins_as_archive(path) else []
        with suppress(OSError):  # a folder that may not be listed holds none
            return [file for file in sorted(path.iterdir()) if _begins_as_archive(file)]
        return []

    def read(self, checkpoint: Path) -> Any:
        """See `Layout.read`."""
        return read_archive(checkpoint)

    def digest(self, checkpoint: Path) -> str:
        """See `Layout.digest`."""
        return sha256(read_bytes(checkpoint, error=CheckpointError, remedy="give the file of a checkpoint"))

    def agent_of(self, checkpoint: Path, step: int | None) -> str:
        """See `Layout.agent_of`; the file's name without its training step, or the folder's name if nothing is left."""
        stem = Path(checkpoint.name.removesuffix(".tar")).stem  # for NAME.pth.tar as well
        of_agent = re.sub(rf"[^A-Za-z0-9]*([a-z]*_?steps?[_-]?)?(?<!\d){step}$", "", stem)
        return of_agent or checkpoint.absolute().parent.name


def _begins_as_archive(file: Path) -> bool:
    if not file.is_file():  # opening a pipe would wait for its writer
        return False
    with suppress(OSError), file.open("rb") as opened:
        return is_archive(opened.read(_HEAD))
    return False


ARCHIVES = Archives()
