"""`mzprobe report`: one page about a run, or several side by side."""

from pathlib import Path
from typing import Annotated

import typer

from mzprobe.cli.options import Analyses, Checkpoints


def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(help="Names of runs or studies, side by side if several; the newest run by default."),
    ] = None,
    analyses: Analyses = Path("analyses"),
    out: Annotated[Path, typer.Option("--out", help="Folder of all figures.")] = Path("figures"),
    checkpoints: Checkpoints = Path("checkpoints"),
    name: Annotated[str | None, typer.Option(help="Folder for the page; named after the runs by default.")] = None,
) -> None:
    """Write one page that opens in any browser: facts of a run, its claims by agent, and every figure, interactive.

    The page is report.html beside the figures: one file that holds all it needs, to send or to open without a network.
    """
    from mzprobe.cli.drawing import names_of_runs, run_or_newest, say_drawn
    from mzprobe.console import errors
    from mzprobe.names import check_name
    from mzprobe.report import write_report

    given: list[str | None] = []
    for run in runs or ():  # the runs of a study are shown side by side, if they have tables
        given += names_of_runs(run, analyses)
    chosen = list(dict.fromkeys(run_or_newest(run, (), analyses, checkpoints, errors) for run in given or [None]))
    alone = Path(runs[0]).stem if runs and len(runs) == 1 and len(chosen) > 1 else None
    folder = name or alone or "-and-".join(chosen)
    check_name(folder, "a folder of figures", "give a name without slashes, and no dot in front, with --name")
    with errors.status("") as status:
        drawn = write_report(chosen, analyses=analyses, folder=out / folder, on_progress=status.update)
    say_drawn([drawn])
