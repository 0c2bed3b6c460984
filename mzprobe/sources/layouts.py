"""How the checkpoints of a code base lie on disk: what looks like one, and how its tree is read."""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from mzprobe.errors import CheckpointError
from mzprobe.files import read_bytes, sha256
from mzprobe.sources.archives import is_archive, read_archive

_HEAD = 64  # bytes that tell an archive


class Layout(Protocol):
    """Finds checkpoints and reads each into the tree that an adapter knows."""

    def found(self, path: Path) -> list[Path]:
        """What looks like checkpoints at a path: it, or what lies in it; reads little, raises nothing."""
        ...

    def read(self, checkpoint: Path) -> Any:
        """Its tree.

        Raises:
            CheckpointError: if it cannot be read.
        """
        ...

    def digest(self, checkpoint: Path) -> str:
        """SHA-256 of what it holds.

        Raises:
            CheckpointError: if it cannot be read.
        """
        ...

    def agent_of(self, checkpoint: Path, step: int | None) -> str:
        """A name for its agent, the same for all of the agent's checkpoints."""
        ...


class Archives:
    """Files by `torch.save`, alone or several in a folder."""

    def found(self, path: Path) -> list[Path]:
        """As in the protocol."""
        if path.is_file():
            return [path] if _begins_as_archive(path) else []
        return [file for file in sorted(path.iterdir()) if _begins_as_archive(file)] if path.is_dir() else []

    def read(self, checkpoint: Path) -> Any:
        """As in the protocol."""
        return read_archive(checkpoint)

    def digest(self, checkpoint: Path) -> str:
        """As in the protocol."""
        return sha256(read_bytes(checkpoint, error=CheckpointError, remedy="give the file of a checkpoint"))

    def agent_of(self, checkpoint: Path, step: int | None) -> str:
        """As in the protocol: the file's name without its training step, or else that of the folder."""
        stem = Path(checkpoint.name.removesuffix(".tar")).stem  # of NAME.pth.tar as well
        of_agent = re.sub(rf"[^A-Za-z0-9]*([a-z]*_?steps?[_-]?)?(?<!\d){step}$", "", stem)
        return of_agent or checkpoint.absolute().parent.name


def _begins_as_archive(file: Path) -> bool:
    if not file.is_file():  # whoever opens a pipe waits for its writer
        return False
    with suppress(OSError), file.open("rb") as opened:
        return is_archive(opened.read(_HEAD))
    return False


ARCHIVES = Archives()
