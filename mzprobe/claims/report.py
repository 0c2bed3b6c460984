"""Reports the verdicts on claims as JSON, as Markdown and for a terminal."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from rich.table import Table as RichTable
from rich.text import Text

from mzprobe.claims.caveats import caveats
from mzprobe.claims.core import LEVEL, Cell, Finding, Verdict, shared_steps
from mzprobe.records.digests import SHORT, codes_of
from mzprobe.settings import OURS, plugged_questions
from mzprobe.significance import smallest_p
from mzprobe.stats import Interval
from mzprobe.tables import Table, commands_of

PAPER = "What Model Does MuZero Learn? (He et al., ECAI 2024)"
RULE = (
    "The agent is the unit: effects are means over agents, p is of a two-sided sign-flip test, and the 95 % "
    "interval holds all means that it does not reject; where a cell speaks against a claim about every cell, p is "
    "adjusted for the number of cells and the interval is of that cell alone. "
    f"A claim holds or fails at p <= {LEVEL}, by the sign of its effect; otherwise it is undecided. "
    "Nothing is adjusted for the number of claims. An agent agrees where its own effect is positive, of a claim about "
    "every cell in all of them. Effects are averaged over training steps, and over N where there are several; beside "
    "them stands the last of several steps alone."
)
CALM = (
    "Most of an error may come from ends that nobody could predict. Here a state is left out if any sequence that was "
    "scored from it ends the episode."
)
_ROUNDING = 1e-12
_NUMBERS = ("effect", "95 % interval", "p")
_STYLES = {"holds": "green", "fails": "red", "undecided": "yellow", "no data": "dim"}


def as_json(
    run: str, findings: Sequence[Finding], without: Sequence[Finding] = (), *, limits: Sequence[str] = ()
) -> str:
    """Returns one JSON object with the run and a list of findings with their cells; undefined numbers are null.

    Args:
        run: name of the run.
        findings: findings of all claims.
        without: findings of the same claims without states near the end of an episode.
        limits: sentences of `caveats`.
    """
    calm = {finding.claim.name: finding for finding in without if finding.verdict != "no data"}
    claims = [
        {
            "name": finding.claim.name,
            "section": finding.claim.section,
            "sentence": finding.claim.sentence,
            "verdict": finding.verdict,
            "effect": finding.claim.effect,
            **_numbers(finding.effect),
            "p": _null(finding.p),
            "agents": finding.agents,
            "agreeing": finding.agreeing,
            "last_step": _cell(finding.last) if finding.last else None,
            "without_ends": _calm(calm.get(finding.claim.name)),
            "cells": [_cell(cell) for cell in finding.cells],
        }
        for finding in findings
    ]
    page = {"run": run, "paper": PAPER, "level": LEVEL, "limits": list(limits), "claims": claims}
    return json.dumps(page, indent=2, ensure_ascii=False)


def as_markdown(
    run: str, findings: Sequence[Finding], tables: Mapping[str, Table], without: Sequence[Finding] = ()
) -> str:
    """Returns a page: how to read it, what made the tables, all claims, and each by its cells.

    Args:
        run: name of the run.
        findings: findings of all claims.
        tables: tables that they were judged on, by probe.
        without: findings of the same claims without states near the end of an episode.
    """
    lines = [f"# Claims of the paper, run {run}", "", f"{PAPER}. Made by `mzprobe claims {run}`.", "", RULE, ""]
    note = undecidable(findings)
    lines += [f"**{note}.**", ""] if note else []
    limits = caveats(tables)
    lines += [*_provenance(tables), "", *(f"{limit}.\n" for limit in limits), counted(findings), ""]
    lines += [_head("claim", "section", "verdict", *_NUMBERS, "at the last step", "agents that agree", "table")]
    for finding in findings:
        said = [finding.claim.sentence, finding.claim.section, f"**{finding.verdict}**"]
        numbers = [shown(finding.effect.estimate), shown_interval(finding.effect), shown(finding.p)]
        lines.append(_row(*said, *numbers, shown_last(finding), shown_agents(finding), finding.claim.probe))
    lines += _without_ends(without)
    for finding in findings:
        if finding.cells:
            lines += ["", f"## {finding.claim.name}", ""]
            lines += [f"{finding.claim.sentence} Effect: {finding.claim.effect}.{one_step(finding)}", ""]
            lines += [_head("", *_NUMBERS, "p, Holm", "agents"), *(_shown_cell(cell) for cell in finding.cells)]
    return "\n".join(lines) + "\n"


def _without_ends(findings: Sequence[Finding]) -> list[str]:
    """Returns the lines on claims about errors at states that are not near the end of an episode."""
    known = [finding for finding in findings if finding.verdict != "no data"]
    if not known:
        return []
    lines = ["", "## Without states from which an end is near", ""]
    lines += [CALM, "", _head("claim", "verdict", *_NUMBERS, "agents that agree")]
    for finding in known:
        numbers = [shown(finding.effect.estimate), shown_interval(finding.effect), shown(finding.p)]
        lines.append(_row(finding.claim.name, f"**{finding.verdict}**", *numbers, shown_agents(finding)))
    return lines


def one_step(finding: Finding) -> str:
    """Returns a sentence if all data are of a single training step, else an empty string."""
    steps = {re.sub(r",? *N = .*", "", cell.label) for cell in finding.cells}
    alone = len(steps) == 1 and next(iter(steps)).startswith("step ")
    return f" All of it is of one training step, {next(iter(steps))}." if alone else ""


def as_table(findings: Sequence[Finding], tables: Mapping[str, Table]) -> RichTable:
    """Returns verdict, section, sentence and numbers of each claim, for a terminal of any width.

    Args:
        findings: findings of all claims.
        tables: tables that they were judged on, by probe; they tell what is missing for a claim without data.
    """
    table = RichTable.grid(padding=(0, 2))
    for finding in findings:
        numbers = [f"effect {shown(finding.effect.estimate)} ({finding.claim.effect})"]
        if not math.isnan(finding.effect.low):
            numbers.append(f"95 % interval {shown_interval(finding.effect)}")
        numbers += [f"p {shown(finding.p)}", f"{shown_agents(finding)} agents agree"]
        if finding.last:
            numbers.append(f"at {finding.last.label} {shown_last(finding)}")
        said = f"{finding.claim.name}: {', '.join(numbers) if finding.agents else _missing(finding, tables)}"
        said += f".{one_step(finding)}" if one_step(finding) else ""
        text = Text.assemble(finding.claim.sentence, (f"\n{said}", "dim"))
        table.add_row(Text(finding.verdict, _STYLES[finding.verdict]), finding.claim.section, text)
    return table


def _missing(finding: Finding, tables: Mapping[str, Table]) -> str:
    """Returns why a claim has no data."""
    probe = finding.claim.probe
    if probe in tables:
        where = "" if shared_steps(tables[probe].frame).all() else " at training steps that all of its agents have"
        return f"the table of {probe} lacks what it compares{where}"
    commands = {asked.question: asked.command for asked in OURS} | {q.name: q.command for q in plugged_questions()}
    made = f", mzprobe {commands[probe]} makes it" if probe in commands else ""
    return f"there is no table of {probe}{made}"


def counted(findings: Sequence[Finding]) -> str:
    """Returns a sentence with the number of claims per verdict, for the paper's claims and the others."""
    of_paper = [finding.verdict for finding in findings if finding.claim.of_paper]
    others = [finding.verdict for finding in findings if not finding.claim.of_paper]
    return (
        f"Of {len(of_paper)} claims of the paper {_verdicts(of_paper)}; of {len(others)} beyond it {_verdicts(others)}."
    )


def _verdicts(verdicts: Sequence[str]) -> str:
    holds, fails, undecided, nothing = map(verdicts.count, get_args(Verdict))
    said = [
        f"{holds} hold{'s' * (holds == 1)}",
        f"{fails} fail{'s' * (fails == 1)}",
        f"{undecided} {'is' if undecided == 1 else 'are'} undecided",
    ]
    return ", ".join([*said, f"{nothing} {'has' if nothing == 1 else 'have'} no data"] if nothing else said)


def undecidable(findings: Sequence[Finding]) -> str:
    """Returns a sentence if there are too few agents for any verdict, else an empty string."""
    most = max(finding.agents for finding in findings)
    if not most or smallest_p(most) <= LEVEL:
        return ""
    return (
        f"{most} agent{'s' if most > 1 else ''} cannot decide a claim: even where all agree, p is "
        f"{shown(min(smallest_p(most), 1.0))}; six agents are the fewest that can"
    )


def shown(number: float) -> str:
    """Returns a number with three digits, or a dash if it is undefined; what rounding leaves of 0 is shown as 0."""
    return "-" if math.isnan(number) else f"{number if abs(number) > _ROUNDING else 0:.3g}"


def shown_interval(interval: Interval) -> str:
    """Returns both ends, or a dash if there are none."""
    return "-" if math.isnan(interval.low) else f"{shown(interval.low)} to {shown(interval.high)}"


def shown_last(finding: Finding) -> str:
    """Returns the effect at the last training step alone, with its interval, or a dash."""
    if finding.last is None:
        return "-"
    interval = "" if math.isnan(finding.last.effect.low) else f" ({shown_interval(finding.last.effect)})"
    return shown(finding.last.effect.estimate) + interval


def shown_agents(finding: Finding) -> str:
    """Returns how many agents agree, of how many, or a dash."""
    return f"{finding.agreeing} of {finding.agents}" if finding.agents else "-"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _head(*names: str) -> str:
    return f"{_row(*names)}\n{'|---' * len(names)}|"


def _shown_cell(cell: Cell) -> str:
    numbers = [shown(cell.effect.estimate), shown_interval(cell.effect), shown(cell.p), shown(cell.adjusted)]
    return _row(cell.label, *numbers, str(cell.agents))


def _calm(finding: Finding | None) -> dict[str, Any] | None:
    if finding is None:
        return None
    p = {"p": _null(finding.p), "agents": finding.agents, "agreeing": finding.agreeing}
    return {"verdict": finding.verdict, **_numbers(finding.effect), **p}


def _cell(cell: Cell) -> dict[str, Any]:
    numbers = {"p": _null(cell.p), "p_holm": _null(cell.adjusted), "agents": cell.agents}
    return {"label": cell.label, **_numbers(cell.effect), **numbers}


def _numbers(interval: Interval) -> dict[str, float | None]:
    return {"estimate": _null(interval.estimate), "low": _null(interval.low), "high": _null(interval.high)}


def _null(number: float) -> float | None:
    return None if math.isnan(number) else number


def _provenance(tables: Mapping[str, Table]) -> list[str]:
    """Returns what made the tables: commands, seeds and versions."""
    lines = []
    for name, table in tables.items():
        records = table.record["agents"]
        commands = ", ".join(f"`{command}`" for command in commands_of(table))
        seeds = ", ".join(str(record["seed"]) for record in records)
        version = " ".join([records[0]["versions"]["mzprobe"], *(code[:SHORT] for code in codes_of(records))])
        lines.append(f"- {name}: {commands}; seeds {seeds}; mzprobe {version}")
    return lines
