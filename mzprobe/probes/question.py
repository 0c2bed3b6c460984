"""A question that is asked of agents: one record from its settings to its columns and its cost."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mzprobe.agents import Agent
from mzprobe.probes.cost import TREES, Cost
from mzprobe.settings import ProbeConfig


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked, of how many checkpoints at once, and what that costs."""

    name: str  # of its tables
    command: str  # that asks it
    config: type[ProbeConfig]  # its settings
    units: dict[str, str]  # of its columns
    measure: Callable[..., pd.DataFrame]  # (agent, config, *, on_progress), or (agent, config, others, ...) for pairs
    cost: Callable[[Agent, Any, int], Cost]  # (agent, config, others of a pair): of one checkpoint
    pair: str = ""  # column of the other checkpoints that one is asked about, if it is
    steps: tuple[int, ...] = ()  # training steps that are looked at unless told; none means all
    shared: bool = False  # whether processes can share its episodes
    file: str = ""  # that a checkpoint must hold; those without it are left out, unless asked for
    without: str = ""  # what is said of one without it
    masks: bool = False  # whether it leaves out what is illegal, where an environment says what is
    trees: Callable[[Any], int] | None = None  # by settings: searches side by side, for an estimate of its time
    kind: Callable[[Any], str] | None = None  # by settings: what distinguishes tables, at the end of their name

    def side_by_side(self, config: ProbeConfig) -> int:
        """Searches that it runs side by side, for an estimate of its time."""
        return TREES if self.trees is None else self.trees(config)

    def table(self, config: ProbeConfig) -> str:
        """Name of the tables for some settings."""
        kind = "" if self.kind is None else self.kind(config)
        return f"{self.name}-{kind}" if kind else self.name
