"""Draws figures and judges claims from tables, and prints the outcome, for several commands."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from mzprobe.figures.output import Drawn
    from mzprobe.settings import StudyRun


def names_of_runs(given: str, analyses: Path) -> list[str]:
    """Returns the run that is named; for a study, its runs that have tables, or its first run if none has."""
    from mzprobe.console import errors

    names = [run.name for run in runs_of_study(given)]
    there = [name for name in names if (analyses / name).is_dir()]
    for name in names if there else []:
        if name not in there:
            errors.print(f"{name}: no tables under {analyses}, left out")
    return there or names[:1] or [given]


def runs_of_study(name: str | None, datasets: Path = Path("datasets")) -> "Sequence[StudyRun]":
    """Returns the runs of a study, if the name is that of a shipped one or the path of a TOML file; otherwise none.

    Args:
        name: name of a study or of something else; None if none is given.
        datasets: folder of all datasets.

    Raises:
        UsageError: if the study, a key or a value is wrong.
    """
    from mzprobe.settings import load_study, study_runs
    from mzprobe.toml import shipped

    if name is None or not (name.endswith(".toml") or name in shipped("presets/studies")):
        return ()
    return study_runs(name, load_study(name)[0], datasets=datasets)


def refuse_unknown_run(run: str, analyses: Path, *, of_study: bool) -> None:
    """Refuses a run that has no folder of tables, before any slow import.

    Args:
        run: name of the run.
        analyses: folder of all tables.
        of_study: whether the user named its study instead.

    Raises:
        UsageError: if it has none; names the nearest run, or the file of the study that may be meant.
    """
    from mzprobe._plugins import nearest
    from mzprobe.errors import UsageError
    from mzprobe.files import there
    from mzprobe.toml import lies_here

    if there(analyses / run):
        return
    if lies_here(run) and not of_study:
        raise UsageError(f"there are no tables of run {run} under {analyses}: for the study give {run}.toml")
    known = [folder.name for folder in analyses.iterdir()] if analyses.is_dir() else []
    remedy = nearest(run, known) or f": make one with mzprobe eval-online checkpoints/{run}, or give another --analyses"
    raise UsageError(f"there are no tables of run {run} under {analyses}{remedy}")


def run_or_newest(
    run: str | None, runs: "Sequence[StudyRun]", analyses: Path, checkpoints: Path, say: "Console"
) -> str:
    """Returns the name of the run that the user means.

    Args:
        run: name of the run, path of its checkpoints or of another agent, or a study; None for the newest run.
        runs: runs of the study, if `run` is one; the first is returned.
        analyses: folder of all tables.
        checkpoints: folder of all checkpoints.
        say: console for a note that names the newest run.

    Raises:
        UsageError: if there is no such run, or it has no tables.
    """
    from mzprobe.names import check_name

    if run is None:
        run, where = newest(analyses, checkpoints)
        say.print(f"run {run}, the newest under {where}")
    name = runs[0].name if runs else named(run, analyses)
    check_name(name, "a run", "give the name of one, or the folder of its checkpoints")
    refuse_unknown_run(name, analyses, of_study=bool(runs))
    return name


def newest(analyses: Path, checkpoints: Path) -> tuple[str, Path]:
    """Returns the run with the newest checkpoints or, if only others have tables, the newest tables; and their folder.

    Raises:
        UsageError: if there is no run.
    """
    from mzprobe.checkpoints import newest_run  # takes seconds to import
    from mzprobe.errors import UsageError

    asked = [folder for folder in analyses.glob("[!.]*") if folder.is_dir()]
    try:
        trained = newest_run(checkpoints).name
    except UsageError:
        if not asked:
            raise
    else:
        if not asked or (analyses / trained).is_dir():
            return trained, checkpoints
    return max(asked, key=lambda folder: folder.stat().st_mtime_ns).name, analyses


def named(run: str, analyses: Path) -> str:
    """Returns the run that a name or the path of an agent stands for; takes all that a probe takes."""
    path = Path(run)
    if path.name == run or not path.exists() or (analyses / path.name).is_dir():
        return path.name  # mzprobe's own checkpoints lie in a folder with the name of the run
    from mzprobe.cli.comparing import run_of

    return run_of(run, analyses).name


def draw(run: str, analyses: Path, out: Path) -> None:
    """Draws the figures of a run."""
    from mzprobe.figures import draw_run

    say_drawn(draw_run(run, analyses=analyses, figures=out))


def draw_variants(
    study: str, runs: "Sequence[StudyRun]", analyses: Path, out: Path, asked: set[str] | None = None
) -> None:
    """Draws the figures that compare the variants of a study, from the tables that are `asked` for, or from all."""
    from mzprobe.figures import draw_comparison
    from mzprobe.study.dataset import dataset_return

    by_variant, reference = {run.variant: run.name for run in runs}, dataset_return(analyses, Path(study).stem)
    say_drawn(draw_comparison(study, by_variant, analyses=analyses, figures=out, reference=reference, asked=asked))


def say_drawn(done: "Sequence[Drawn]") -> None:
    """Prints the outcome for each file, and for each figure without a table how to make that table.

    Raises:
        MzprobeError: at the end, if the tables of a figure were refused.
    """
    from mzprobe.console import console, errors
    from mzprobe.errors import MzprobeError

    for drawn in done:
        if drawn.status == "missing":
            errors.print(f"{drawn.what}: no table, make it with {drawn.remedy}")
        elif drawn.status != "refused":
            console.print(f"{drawn.what} {drawn.status}")
    refused = [f"{drawn.what} is not drawn: {drawn.remedy}" for drawn in done if drawn.status == "refused"]
    if refused:
        raise MzprobeError("; ".join(refused))


def judge(run: str, analyses: Path, out: Path, *, as_json: bool = False) -> None:
    """Judges the paper's claims for a run, writes the page claims.md and prints the findings."""
    from mzprobe.claims import judge_run, read_tables, report
    from mzprobe.claims.caveats import caveats
    from mzprobe.console import console, errors
    from mzprobe.files import replace_file
    from mzprobe.locks import folder_held

    tables = read_tables(run, analyses=analyses)
    findings, without = judge_run(tables), judge_run(tables, ends=False)
    path = out / run / "claims.md"
    page, limits = report.as_markdown(run, findings, tables, without), caveats(tables)
    with folder_held(path.parent):
        status = replace_file(path, page.encode(errors="backslashreplace"))
    if as_json:
        typer.echo(report.as_json(run, findings, without, limits=limits))
    else:
        console.print(report.as_table(findings, tables), soft_wrap=False)
        console.print(report.counted(findings))
    for note in (report.undecidable(findings), *(f"note: {limit}" for limit in limits)):
        if note:
            errors.print(note)
    errors.print(f"{path} {status}")
