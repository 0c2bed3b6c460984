"""HTML report of one or more runs: their facts, the verdicts on claims and interactive figures, from tables alone."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mzprobe import __version__
from mzprobe.claims import all_claims, judge_run
from mzprobe.claims.caveats import caveats
from mzprobe.errors import UsageError
from mzprobe.figures import Drawn, Plan, all_plans, how_to_make
from mzprobe.figures.comparison import tables_alike
from mzprobe.files import replace_file
from mzprobe.locks import folder_held
from mzprobe.report.facts import facts_of
from mzprobe.report.numbers import claim_numbers, figure_numbers
from mzprobe.report.page import claim_rows, notes, render, require_extra
from mzprobe.report.states import STATES, kept_states
from mzprobe.tables import TIMING, Table, find_run

__all__ = ["FILE", "write_report"]

FILE = "report.html"
_AGAIN = "ask one of them again with --overwrite, or report each alone"


def write_report(
    runs: Sequence[str], *, analyses: Path, folder: Path, on_progress: Callable[[str], None] = lambda _: None
) -> Drawn:
    """Writes the page of one run, or of several side by side; the same tables produce the same bytes.

    Args:
        runs: names of the runs.
        analyses: folder of all tables.
        folder: folder of the page, where the runs' figures are.
        on_progress: called with a description of each step before it begins.

    Raises:
        UsageError: if a run has no table, tables of two runs were made in different ways, or the extra is missing.
        InUse: if another command is writing there for more than a minute.
    """
    require_extra()
    tables = _tables(runs, analyses, on_progress)
    path = folder / FILE
    with folder_held(folder):  # taken before the page is made, which takes long
        return Drawn(what=str(path), status=replace_file(path, _page(runs, tables, on_progress)))


def _tables(runs: Sequence[str], analyses: Path, on_progress: Callable[[str], None]) -> dict[str, dict[str, Table]]:
    """Reads the tables of all runs, by run and name; raises `UsageError` for a run without any."""
    names = [plan.probe for plan in all_plans()] + [claim.probe for claim in all_claims()]
    found: dict[str, dict[str, Table]] = {run: {} for run in runs}
    for name in dict.fromkeys(names):
        on_progress(f"reading {name}")
        for run, table in tables_alike(analyses, {run: run for run in runs}, name, remedy=_AGAIN).items():
            found[run][name] = table
    for run, tables in found.items():
        if not tables:
            raise UsageError(
                f"there are no tables of run {run} under {analyses}: make one with mzprobe eval-online "
                f"checkpoints/{run}"
            )
        further = {name: find_run(analyses, run, name) for name in (TIMING, STATES)}
        tables |= {name: table for name, table in further.items() if table is not None}
    return found


def _page(runs: Sequence[str], tables: Mapping[str, Mapping[str, Table]], on_progress: Callable[[str], None]) -> bytes:
    figures: list[dict[str, Any]] = []
    of_probe: dict[str, list[tuple[str, str]]] = {}
    for number, plan in enumerate(all_plans()):
        own = {run: tables[run][plan.probe] for run in runs if plan.probe in tables[run]}
        if own:
            on_progress(f"figure {plan.name}")
            figures.append(figure_numbers(plan, own, number=number))
            of_probe.setdefault(plan.probe, []).append((plan.name, figures[-1]["chart"]["heading"]))
    findings, without = {}, {}
    for run in runs:
        on_progress(f"claims of {run}")
        asked = {name: table for name, table in tables[run].items() if name != TIMING}
        findings[run], without[run] = judge_run(asked), judge_run(asked, ends=False)
    frames = {run: {name: table.frame for name, table in tables[run].items()} for run in runs}
    states = [kept_states(tables[run][STATES]) if STATES in tables[run] else None for run in runs]
    on_progress("writing")
    return render(
        command=shlex.join(["mzprobe", "report", *runs]),
        version=__version__,
        runs=[facts_of(run, tables[run]) for run in runs],
        claims=claim_rows(findings, without, of_probe),
        notes=[*notes(findings), *(f"{run}: {limit}." for run in runs for limit in caveats(tables[run]))],
        missing=_missing(runs, tables),
        numbers={"runs": list(runs), "figures": figures, "claims": claim_numbers(findings, frames), "states": states},
    )


def _missing(runs: Sequence[str], tables: Mapping[str, Mapping[str, Table]]) -> list[str]:
    """Returns the commands that would make the tables of figures that are missing and not optional."""

    def missed(plan: Plan, run: str) -> bool:
        return plan.probe not in tables[run] and not plan.optional

    plans = all_plans()
    return [how_to_make(plan, run, [*tables[run].values()]) for run in runs for plan in plans if missed(plan, run)]
