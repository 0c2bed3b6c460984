"""Renders the page of a report from its template, which escapes all text from tables."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, get_args

from mzprobe.claims.core import Finding, Verdict
from mzprobe.claims.report import (
    CALM,
    PAPER,
    RULE,
    counted,
    one_step,
    shown,
    shown_agents,
    shown_interval,
    shown_last,
    undecidable,
)
from mzprobe.errors import UsageError
from mzprobe.stats import Interval

VERDICTS = get_args(Verdict)
_JSON = {"sort_keys": True, "allow_nan": False, "separators": (",", ":")}


def require_extra() -> None:
    """Checks that the packages that render a page are installed.

    Raises:
        UsageError: if one is missing; names the extra to install.
    """
    try:
        import jinja2  # noqa: F401
        import plotly.offline  # noqa: F401
    except ImportError:
        raise UsageError("a report needs Plotly and Jinja: pip install 'mzprobe[report]'") from None


def render(
    *,
    command: str,
    version: str,
    runs: Sequence[Mapping[str, Any]],
    claims: Sequence[Mapping[str, Any]],
    notes: Sequence[str],
    missing: Sequence[str],
    numbers: Mapping[str, Any],
) -> bytes:
    """Renders one self-contained HTML file; the same arguments produce the same bytes.

    A click on a point of a chart dispatches an event (`mzprobe:point`) with its agent and step, which the section of
    states handles.

    Args:
        command: command that makes the page again.
        version: version of mzprobe.
        runs: result of `facts_of` for each run.
        claims: result of `claim_rows`.
        notes: sentences about all claims.
        missing: commands that would make further figures.
        numbers: numbers of figures and claims, for the charts.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=PackageLoader("mzprobe.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = _JSON
    parts = {name: files("mzprobe.report").joinpath("page", name).read_text("utf-8") for name in _PARTS}
    page = environment.get_template("page.html").render(
        command=command,
        version=version,
        runs=runs,
        claims=claims,
        notes=notes,
        missing=missing,
        verdicts=VERDICTS,
        sections=list(dict.fromkeys(row["section"] for row in claims)),
        numbers=numbers,
        paper=PAPER,
        rule=RULE,
        calm=CALM,
        style=_inert(parts["page.css"]),
        scripts=[_inert(parts[name]) for name in _SCRIPTS],
        library=_inert(get_plotlyjs()),
    )
    return page.encode(errors="backslashreplace")


_SCRIPTS = ("claims.js", "reading.js", "drawing.js", "states.js", "figures.js")
_PARTS = ("page.css", *_SCRIPTS)


def _inert(text: str) -> Any:
    """Marks our own or the library's code as safe to stand in the page; nothing in it can close its element."""
    from markupsafe import Markup

    return Markup(text.replace("</script", "<\\/script").replace("</style", "<\\/style"))


def claim_rows(
    findings: Mapping[str, Sequence[Finding]],
    without: Mapping[str, Sequence[Finding]],
    figures: Mapping[str, Sequence[tuple[str, str]]],
) -> list[dict[str, Any]]:
    """Returns one row per claim and run, with its cells, for the template.

    Args:
        findings: findings of all claims in order, by run.
        without: the same, without states near the end of an episode.
        figures: name and heading of the figures of each probe.
    """
    order = [(run, i) for i in range(len(next(iter(findings.values())))) for run in findings]
    return [_claim_row(run, i, findings[run][i], without[run][i], figures) for run, i in order]


def notes(findings: Mapping[str, Sequence[Finding]]) -> list[str]:
    """Returns a sentence per run: how many claims have which verdict, or that agents are too few for any."""
    few = {run: undecidable(of_run) for run, of_run in findings.items()}
    return [f"{run}: {note}." if note else f"{run}: {counted(findings[run])}" for run, note in few.items()]


def _claim_row(
    run: str, number: int, finding: Finding, calm: Finding, figures: Mapping[str, Sequence[tuple[str, str]]]
) -> dict[str, Any]:
    claim = finding.claim
    return {
        "run": run,
        "number": number,
        "name": claim.name,
        "section": claim.section,
        "sentence": claim.sentence,
        "verdict": finding.verdict,
        "effect_is": claim.effect,
        "every": claim.every,
        "probe": claim.probe,
        "figures": list(figures.get(claim.probe, ())),
        **_numbers(finding.effect, finding.p),
        "last": shown_last(finding),
        "agents": shown_agents(finding),
        "one_step": one_step(finding).strip(),
        "calm": None if calm.verdict == "no data" else {"verdict": calm.verdict, **_numbers(calm.effect, calm.p)},
        "cells": [
            {
                "label": cell.label,
                "agents": cell.agents,
                "adjusted": shown(cell.adjusted),
                **_numbers(cell.effect, cell.p),
            }
            for cell in finding.cells
        ],
    }


def _numbers(effect: Interval, p: float) -> dict[str, str]:
    exact = {"exact_effect": repr(float(effect.estimate)), "exact_p": repr(float(p))}
    return {"effect": shown(effect.estimate), "interval": shown_interval(effect), "p": shown(p), **exact}
