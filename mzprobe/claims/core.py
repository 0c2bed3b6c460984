"""A claim as a test on tables: effects of agents, an interval, p, and a verdict."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from mzprobe.stats import Interval, holm, mean_interval, sign_flip, smallest_p

Verdict = Literal["holds", "fails", "undecided", "no data"]
LEVEL = 0.05  # of significance, two-sided


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a paper says, and how its effect is measured. A positive effect speaks for it."""

    name: str
    section: str  # of the paper
    sentence: str  # what is claimed
    effect: str  # in words, with its unit
    probe: str  # whose table it needs
    measure: Callable[[pd.DataFrame], pd.DataFrame]  # table -> cell (text), seed, effect; one row a cell and agent
    every: bool = False  # it is about every cell, else about an agent's mean over its cells


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A part of a claim, such as one training step, over agents."""

    label: str
    effect: Interval  # mean over agents
    p: float  # two-sided
    adjusted: float  # by Holm, over the cells of the claim
    agents: int


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What became of a claim."""

    claim: Claim
    verdict: Verdict
    effect: Interval  # mean over agents; of a claim about every cell, that of its smallest cell
    p: float  # two-sided
    agents: int
    agreeing: int  # agents whose own effect is positive; of a claim about every cell, in all of them
    cells: tuple[Cell, ...]

    @property
    def decidable(self) -> bool:
        """Whether this many agents can reach a verdict at all."""
        return self.agents > 0 and smallest_p(self.agents) <= LEVEL


def judge(claim: Claim, frame: pd.DataFrame | None, *, generator: np.random.Generator) -> Finding:
    """Judges a claim on the table of its probe.

    The agent is the unit. Its effects are averaged over the cells, and the mean over agents is tested against 0 by
    flipping signs: the claim holds or fails where p <= 0.05, by the sign of the mean, and is undecided otherwise. A
    claim about every cell holds where each cell's effect is positive at p <= 0.05 (all must be, so that nothing is
    adjusted), and fails where one is negative at p <= 0.05 after Holm's adjustment over the cells.

    Args:
        claim: what to judge.
        frame: table of all agents, or None.
        generator: samples signs where there are more than 15 agents.
    """
    effects = _measured(claim, frame)
    if effects.empty:
        nothing = Interval(np.nan, np.nan, np.nan)
        return Finding(claim=claim, verdict="no data", effect=nothing, p=np.nan, agents=0, agreeing=0, cells=())
    cells = _cells(effects, generator)
    if claim.every:
        return _of_every_cell(claim, effects, cells)
    own = effects.groupby("seed")["effect"].mean()
    p, effect = sign_flip(own, generator=generator), mean_interval(own)
    return Finding(
        claim=claim,
        verdict=_verdict(effect.estimate, p),
        effect=effect,
        p=p,
        agents=len(own),
        agreeing=int((own > 0).sum()),
        cells=cells,
    )


def _measured(claim: Claim, frame: pd.DataFrame | None) -> pd.DataFrame:
    """The effects that there are."""
    nothing = pd.DataFrame({"cell": [], "seed": [], "effect": []})
    if frame is None:
        return nothing
    try:
        return claim.measure(frame).dropna(subset=["effect"])
    except LookupError:  # the table has nothing of one of the things compared
        return nothing


def _cells(effects: pd.DataFrame, generator: np.random.Generator) -> tuple[Cell, ...]:
    """Every cell by itself, in order of appearance."""
    groups = [(str(label), own["effect"].to_numpy()) for label, own in effects.groupby("cell", sort=False)]
    ps = [sign_flip(numbers, generator=generator) for _, numbers in groups]
    return tuple(
        Cell(label=label, effect=mean_interval(numbers), p=p, adjusted=float(adjusted), agents=len(numbers))
        for (label, numbers), p, adjusted in zip(groups, ps, holm(ps), strict=True)
    )


def _of_every_cell(claim: Claim, effects: pd.DataFrame, cells: Sequence[Cell]) -> Finding:
    smallest = min(cells, key=lambda cell: cell.effect.estimate)
    against = [cell.adjusted for cell in cells if cell.effect.estimate < 0]
    # All cells must speak for the claim: the one that does so least decides. One against it is enough.
    p = min(against) if against else max(cell.p for cell in cells)
    own = effects.groupby("seed")["effect"].min()
    return Finding(
        claim=claim,
        verdict=_verdict(smallest.effect.estimate, p),
        effect=smallest.effect,
        p=p,
        agents=smallest.agents,
        agreeing=int((own > 0).sum()),
        cells=tuple(cells),
    )


def _verdict(effect: float, p: float) -> Verdict:
    if p > LEVEL or effect == 0:
        return "undecided"
    return "holds" if effect > 0 else "fails"
