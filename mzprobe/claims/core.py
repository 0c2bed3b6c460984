"""A claim as a test on tables: effects of agents, an interval, p, and a verdict."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mzprobe.significance import holm, sign_flip, sign_flip_interval, sign_flip_least, worst_sign_flip
from mzprobe.stats import Interval
from mzprobe.tables import near_an_end

Verdict = Literal["holds", "fails", "undecided", "no data"]
LEVEL = 0.05  # level of significance, two-sided


class MissingError(Exception):
    """Raised if a table lacks something that a claim compares."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement of a paper, and how its effect is measured. A positive effect supports it.

    A claim can be about the one of several rivals that speaks most against it. Its measure then returns one row per
    cell, agent and rival, with a column `rival`.
    """

    name: str
    section: str  # section of the paper
    sentence: str  # statement that is tested
    effect: str  # description of the effect in words, with its unit
    probe: str  # name of the probe whose table it needs
    measure: Callable[[pd.DataFrame], pd.DataFrame]  # table -> cell (text), seed, effect; one row per cell and agent
    every: bool = False  # whether it is about every cell, or else about an agent's mean over its cells

    @property
    def of_paper(self) -> bool:
        """Whether the paper makes the claim; otherwise its section is `beyond`, or it comes from a plug-in."""
        return self.section == "abstract" or self.section[:1].isdigit()


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Result for one part of a claim, such as one training step, over agents."""

    label: str
    effect: Interval  # mean over agents
    p: float  # two-sided
    adjusted: float  # p by Holm's method, over the cells of the claim
    agents: int


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The outcome of judging a claim."""

    claim: Claim
    verdict: Verdict
    effect: Interval  # mean over agents; for a claim about every cell, that of the cell that decides
    p: float  # two-sided
    agents: int
    agreeing: int  # agents whose own effect is positive; for a claim about every cell, in all of them
    cells: tuple[Cell, ...]
    last: Cell | None = None  # last training step alone, averaged over N; None unless there are several


def judge(claim: Claim, frame: pd.DataFrame | None, *, generator: np.random.Generator) -> Finding:
    """Judges a claim on the table of its probe, at the training steps that all agents of the table have.

    The agent is the unit. Its effects are averaged over the cells, and the mean over agents is tested against 0 by
    flipping signs. The claim holds or fails where p <= 0.05, by the sign of the mean, and is undecided otherwise.

    A claim about the rival that speaks most against it, in each cell the one with the smallest mean effect, is tested
    by the smallest means of sets of agents (`sign_flip_least`). It can hold or be undecided, but not fail.

    A claim about every cell holds where the effect of each cell is positive at p <= 0.05; since all must be, p is not
    adjusted. It fails where the cell that speaks most against it is negative at p <= 0.05, by flipping agents in all
    cells at once. Cells that not all agents have are left out.

    Args:
        claim: claim to judge.
        frame: table of all agents, or None.
        generator: source of the signs that are sampled where there are more than 15 agents.
    """
    effects = _measured(claim, frame)
    if effects.empty:
        nothing = Interval(np.nan, np.nan, np.nan)
        return Finding(claim=claim, verdict="no data", effect=nothing, p=np.nan, agents=0, agreeing=0, cells=())
    cells = _cells(effects, generator)
    if claim.every:
        effect, p = _of_every_cell(effects, cells, generator)
        own = effects.groupby("seed")["effect"].min()
    else:
        own = _chosen(effects).groupby("seed")["effect"].mean()
        effect, p = _tested(effects, generator)
    return Finding(
        claim=claim,
        verdict="undecided" if "rival" in effects and effect.estimate < 0 else _verdict(effect.estimate, p),
        effect=effect,
        p=p,
        agents=len(own),
        agreeing=int((own > 0).sum()),
        cells=cells,
        last=_last(effects, cells, generator),
    )


def without_ends(frame: pd.DataFrame) -> pd.DataFrame | None:
    """Returns a table of errors without states near the end of an episode; None if it does not say which are."""
    return frame[~near_an_end(frame)] if "end_within" in frame else None


def shared_steps(frame: pd.DataFrame) -> "pd.Series[bool]":
    """Returns which rows of a table are of a training step that all of its agents have."""
    agents = frame.groupby("training_step", dropna=False)["seed"].transform("nunique")
    shared: pd.Series[bool] = agents == frame["seed"].nunique()
    return shared


def measured(claim: Claim, frame: pd.DataFrame | None) -> pd.DataFrame:
    """Returns the effects that a claim is judged by, one row per cell and agent: `cell`, `seed`, `effect`.

    Without data there are no rows.
    """
    return _chosen(_measured(claim, frame))


def _measured(claim: Claim, frame: pd.DataFrame | None) -> pd.DataFrame:
    """Returns the effects that a claim is judged by, with all rivals where there are any."""
    nothing = pd.DataFrame({"cell": [], "seed": [], "effect": []})
    if frame is None:
        return nothing
    try:
        effects = claim.measure(frame[shared_steps(frame)]).dropna(subset=["effect"])
    except MissingError:
        return nothing
    if not claim.every and "rival" not in effects:
        return effects
    whole = [name for name in ("cell", "rival") if name in effects]
    return effects[effects.groupby(whole)["seed"].transform("size") == effects["seed"].nunique()]


def _chosen(effects: pd.DataFrame) -> pd.DataFrame:
    """Keeps, of several rivals, the one with the smallest mean effect over agents in each cell."""
    if "rival" not in effects or effects.empty:
        return effects
    means = effects.groupby(["cell", "rival"])["effect"].mean()
    best = means.loc[means.groupby("cell").idxmin()].index
    rows = pd.MultiIndex.from_frame(effects[["cell", "rival"]]).isin(best)
    return effects.loc[rows, ["cell", "seed", "effect"]]


def _cells(effects: pd.DataFrame, generator: np.random.Generator) -> tuple[Cell, ...]:
    """Tests every cell by itself, in order of appearance."""
    groups = [(str(label), own) for label, own in effects.groupby("cell", sort=False)]
    tested = [_tested(own, generator) for _, own in groups]
    every = holm([p for _, p in tested])
    return tuple(
        Cell(label=label, effect=effect, p=p, adjusted=float(adjusted), agents=own["seed"].nunique())
        for (label, own), (effect, p), adjusted in zip(groups, tested, every, strict=True)
    )


def _last(effects: pd.DataFrame, cells: tuple[Cell, ...], generator: np.random.Generator) -> Cell | None:
    """Tests the last training step alone, averaged over its cells; None if there is only one, or a cell names none."""
    steps = effects["cell"].str.extract(r"^(step [\d,]*\d)")[0]
    if steps.isna().any() or len(steps.unique()) < 2:
        return None
    label = str(steps.iloc[-1])
    for cell in cells:
        if cell.label == label:
            return cell
    own = effects[steps == label]
    effect, p = _tested(own, generator)
    return Cell(label=label, effect=effect, p=p, adjusted=p, agents=own["seed"].nunique())


def _tested(effects: pd.DataFrame, generator: np.random.Generator) -> tuple[Interval, float]:
    """Returns the mean over agents with its interval, and p; an agent's number is the mean over its cells.

    Interval and p use the same patterns of signs, so that neither contradicts the other.
    """
    seed = int(generator.integers(2**63))
    if "rival" in effects:
        cells = effects.groupby("cell", sort=False)
        rows = [own.pivot_table(index="seed", columns="rival", values="effect").to_numpy() for _, own in cells]
        return sign_flip_least(rows, generator=np.random.default_rng(seed))
    numbers: ArrayLike = effects.groupby("seed")["effect"].mean()
    p = sign_flip(numbers, generator=np.random.default_rng(seed))
    return sign_flip_interval(numbers, generator=np.random.default_rng(seed)), p


def _of_every_cell(
    effects: pd.DataFrame, cells: tuple[Cell, ...], generator: np.random.Generator
) -> tuple[Interval, float]:
    """Returns effect and p of the cell that decides.

    That is the cell most against the claim if its effect is negative, else the one with the largest p.
    """
    matrix = effects.pivot_table(index="seed", columns="cell", values="effect")
    worst, p = worst_sign_flip(matrix, generator=generator)
    label = matrix.columns[worst]
    against = next(cell for cell in cells if cell.label == label)
    if against.effect.estimate < 0:
        return against.effect, p
    deciding = max(cells, key=lambda cell: cell.p)
    return deciding.effect, deciding.p


def _verdict(effect: float, p: float) -> Verdict:
    if p > LEVEL or effect == 0:
        return "undecided"
    return "holds" if effect > 0 else "fails"
