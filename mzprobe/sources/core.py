"""Protocol of a source of agents: it finds agents at a path, states the provenance of each, and loads them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from mzprobe.agents import Agent, Origin
from mzprobe.compute import Compute

GIVEN = "given"  # source of a fact about an agent that the user gave
NAMING = ("run", "seed")  # facts that name an agent's tables, and say nothing of the agent itself


class Source(Protocol):
    """A kind of checkpoint that agents are read from. Only `load` builds a network."""

    @property
    def name(self) -> str:
        """Name in tables and for `--source`."""
        ...

    def recognises(self, path: Path) -> bool:
        """Whether there are agents of this source at a path; runs no code of theirs, and raises nothing."""
        ...

    def agents(self, path: Path) -> list[Path]:
        """Returns the agents at a path, a single one or all of a run.

        Raises:
            UsageError: if there is none.
        """
        ...

    def checkpoints(self, agent: Path) -> dict[int, Path]:
        """Returns an agent's checkpoints by training step, in order; empty if there are none."""
        ...

    def origin(self, checkpoint: Path) -> Origin:
        """Returns the provenance of the agent of a checkpoint.

        Raises:
            MzprobeError: if the checkpoint cannot be read.
        """
        ...

    def load(self, checkpoint: Path, *, compute: Compute, allow: Sequence[str] = ()) -> Agent:
        """Loads the agent of a checkpoint.

        Args:
            checkpoint: path of the checkpoint.
            compute: device, precision, threads and memory of its computations; a source may choose the threads itself.
            allow: modules whose code the checkpoint may name.

        Raises:
            MzprobeError: if the checkpoint cannot be read, or names code that is not allowed.
        """
        ...
