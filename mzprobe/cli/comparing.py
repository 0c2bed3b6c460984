"""`mzprobe compare`: figures of any runs or agents beside each other."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mzprobe.cli.options import Analyses

if TYPE_CHECKING:
    from mzprobe.figures.beside import Run


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(help="Two or more names of runs, paths of agents whose tables exist, or a study with variants."),
    ],
    analyses: Analyses = Path("analyses"),
    out: Annotated[Path, typer.Option("--out", help="Folder of all figures.")] = Path("figures"),
    name: Annotated[str | None, typer.Option(help="Folder for these figures; named after the runs by default.")] = None,
    step: Annotated[int | None, typer.Option(min=0, help="Training step; by default the last of each table.")] = None,
) -> None:
    """Draw any runs or agents together from their tables: one figure per question, and paired differences of returns.

    Each is shown at one training step of its table, the last or --step. Where episodes begin in the same states, the
    returns of each run minus those of the first are drawn too, start by start.
    """
    from mzprobe.cli.drawing import names_of_runs, say_drawn
    from mzprobe.errors import UsageError
    from mzprobe.figures.beside import draw_beside
    from mzprobe.names import check_name

    named = [one for given in runs for one in names_of_runs(given, analyses)]
    chosen = list(dict.fromkeys(run_of(given, analyses) for given in named))
    if len(chosen) < 2:
        raise UsageError("one run compares with no other: name two or more")
    labels = [run.label.replace(", seed ", "-seed-") for run in chosen]
    folder = name or (Path(runs[0]).stem if len(runs) == 1 else "-and-".join(labels))
    check_name(folder, "a folder of figures", "give a name without slashes, and no dot in front, with --name")
    say_drawn(draw_beside(chosen, analyses=analyses, folder=out / folder, step=step))


def run_of(given: str, analyses: Path) -> "Run":
    """Returns the run with a name, or the run of the agent at a path; for a single agent of mzprobe, only its seed.

    Raises:
        UsageError: if there is neither.
    """
    from mzprobe.errors import UsageError
    from mzprobe.figures.beside import Run
    from mzprobe.files import there

    if (analyses / given).is_dir() and Path(given).name == given:
        return Run(given)
    path = Path(given)
    if path.is_dir() and path.resolve().parent == analyses.resolve():  # the run's folder of tables
        return Run(path.resolve().name)
    if not there(path):
        raise UsageError(f"there is no run {given} under {analyses}, and no agent at that path: give one of either")
    from mzprobe.sources import find_source

    source = find_source(path)
    agents = source.agents(path)
    origin = source.origin(next(iter(source.checkpoints(agents[0]).values())))
    return Run(origin.run, origin.seed if len(agents) == 1 and source.name == "own" else None)
