"""What becomes of tables: figures and findings, and what the command line says of either."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from mzprobe.figures.output import Drawn
    from mzprobe.settings import StudyRun


def run_or_newest(run: str | None, checkpoints: Path, say: "Console") -> str:
    """The name of a run, given itself or as the folder of its checkpoints, which is what probes take; or the newest."""
    from mzprobe.checkpoints import newest_run
    from mzprobe.names import check_name

    if run is None:
        run = newest_run(checkpoints).name
        say.print(f"run {run}, the newest under {checkpoints}")
    name = Path(run).name
    check_name(name, "a run", "give the name of one, or the folder of its checkpoints")
    return name


def draw(run: str, analyses: Path, out: Path) -> None:
    """Draws the figures of a run."""
    from mzprobe.figures import draw_run

    say_drawn(draw_run(run, analyses=analyses, figures=out))


def draw_variants(study: str, runs: "Sequence[StudyRun]", analyses: Path, out: Path) -> None:
    """Draws the figures that compare the variants of a study."""
    from mzprobe.figures import draw_comparison
    from mzprobe.study.dataset import dataset_return

    by_variant, reference = {run.variant: run.name for run in runs}, dataset_return(analyses, Path(study).stem)
    say_drawn(draw_comparison(study, by_variant, analyses=analyses, figures=out, reference=reference))


def say_drawn(done: "Sequence[Drawn]") -> None:
    """Says of each file whether it is new, and of each figure without a table how to make that."""
    from mzprobe.console import console, errors

    for drawn in done:
        if drawn.status == "missing":
            errors.print(f"{drawn.what}: no table, make it with {drawn.remedy}")
        else:
            console.print(f"{drawn.what} {drawn.status}")


def judge(run: str, analyses: Path, out: Path, *, as_json: bool = False) -> None:
    """Judges the paper's claims for a run."""
    from mzprobe.claims import judge_run, read_tables, report
    from mzprobe.console import console, errors
    from mzprobe.files import replace_file
    from mzprobe.locks import folder_held

    tables = read_tables(run, analyses=analyses)
    findings, without = judge_run(tables), judge_run(tables, ends=False)
    path = out / run / "claims.md"
    page = report.as_markdown(run, findings, tables, without)
    with folder_held(path.parent):
        status = replace_file(path, page.encode(errors="backslashreplace"))
    if as_json:
        typer.echo(report.as_json(run, findings, without))
    else:
        console.print(report.as_table(findings), soft_wrap=False)
    note = report.undecidable(findings)
    if note:
        errors.print(note)
    errors.print(f"{path} {status}")
