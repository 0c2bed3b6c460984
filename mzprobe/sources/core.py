"""The protocol of a source of agents: it finds agents at a path, says where each is from, and loads them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from mzprobe.agents import Agent, Origin
from mzprobe.compute import Compute

GIVEN = "given"  # where a fact about an agent is from that its user said
NAMING = ("run", "seed")  # facts that name an agent's tables, and are no part of what it is


class Source(Protocol):
    """A kind of checkpoint that agents are read from. All methods but `load` do without a network."""

    @property
    def name(self) -> str:
        """What it is called in tables and by `--source`."""
        ...

    def recognises(self, path: Path) -> bool:
        """Whether there are agents of this source at a path; runs nothing, raises nothing."""
        ...

    def agents(self, path: Path) -> list[Path]:
        """The agents at a path, one of them or all of a run.

        Raises:
            UsageError: if there is none.
        """
        ...

    def checkpoints(self, agent: Path) -> dict[int, Path]:
        """An agent's checkpoints by training step, in order; empty where there are none."""
        ...

    def origin(self, checkpoint: Path) -> Origin:
        """Where the agent of a checkpoint is from.

        Raises:
            MzprobeError: if the checkpoint cannot be read.
        """
        ...

    def load(self, checkpoint: Path, *, compute: Compute, allow: Sequence[str] = ()) -> Agent:
        """The agent of a checkpoint.

        Args:
            checkpoint: its place.
            compute: how its numbers are made; a source that knows better decides on the threads.
            allow: modules whose code the checkpoint may name.

        Raises:
            MzprobeError: if the checkpoint cannot be read, or names code that is not allowed.
        """
        ...
