"""The paper's claims as tests on tables: effect, interval, p and verdict. No model is loaded."""

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
    """Reads the tables of a run that claims are about, by probe.

    Raises:
        UsageError: if there is none, or agents were measured with different settings.
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
    """Judges all claims, in the order of `all_claims`. The same tables give the same findings.

    Args:
        tables: tables by probe.
        ends: whether to include states near the end of an episode; without them, only claims about errors have data
            (see `without_ends`).
    """
    frames = {name: table.frame if ends else without_ends(table.frame) for name, table in tables.items()}
    return [
        judge(claim, frames.get(claim.probe), generator=numpy_generator(0, "claims", number))
        for number, claim in enumerate(all_claims())
    ]


def all_claims() -> tuple[Claim, ...]:
    """Returns the paper's claims and our own, then those of installed packages' questions."""
    theirs = [resolved(question.claims) for question in plugged_questions()]
    return (*CLAIMS, *(claim for claims in theirs for claim in claims))
