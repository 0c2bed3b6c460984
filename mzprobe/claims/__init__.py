"""The paper's claims as tests on tables: effect, interval, p and verdict. Never touches a model."""

from pathlib import Path

from mzprobe.claims.core import Claim, Finding, judge, without_ends
from mzprobe.claims.paper import CLAIMS
from mzprobe.errors import UsageError
from mzprobe.probes.question import resolved
from mzprobe.seeding import numpy_generator
from mzprobe.settings import plugged_questions
from mzprobe.tables import Table, find_run

__all__ = ["CLAIMS", "Claim", "Finding", "all_claims", "judge", "judge_run", "read_tables", "without_ends"]


def read_tables(run: str, *, analyses: Path) -> dict[str, Table]:
    """The tables of a run that claims are about, by probe.

    Raises:
        UsageError: if there is none, or agents were measured with other settings.
    """
    found = {name: find_run(analyses, run, name) for name in dict.fromkeys(claim.probe for claim in all_claims())}
    tables = {name: table for name, table in found.items() if table is not None}
    if not tables:
        raise UsageError(
            f"run {run} has no table under {analyses} that a claim is about: make one with mzprobe eval-horizon "
            f"checkpoints/{run}"
        )
    return tables


def judge_run(tables: dict[str, Table], *, ends: bool = True) -> list[Finding]:
    """Judges all claims, in the order of the paper. The same tables give the same findings.

    Args:
        tables: by probe.
        ends: whether states count from which an end of the episode is near; without them, claims about errors alone
            have data (see `without_ends`).
    """
    frames = {name: table.frame if ends else without_ends(table.frame) for name, table in tables.items()}
    return [
        judge(claim, frames.get(claim.probe), generator=numpy_generator(0, "claims", number))
        for number, claim in enumerate(all_claims())
    ]


def all_claims() -> tuple[Claim, ...]:
    """The paper's, our own, and those of installed packages' questions after them."""
    theirs = [resolved(question.claims) for question in plugged_questions()]
    return (*CLAIMS, *(claim for claims in theirs for claim in claims))
