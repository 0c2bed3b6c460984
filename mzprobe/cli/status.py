"""`mzprobe status`: the progress of a study or a run, also from another terminal."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mzprobe.cli.drawing import runs_of_study
from mzprobe.cli.options import Analyses, Checkpoints, Datasets, Under

if TYPE_CHECKING:
    from mzprobe.study.status import AgentStatus, StudyStatus

_SECONDS = 2.0  # time between two refreshes


def status(
    name: Annotated[
        str | None, typer.Argument(help="A study (shipped, or a TOML file) or a run; the newest run by default.")
    ] = None,
    checkpoints: Checkpoints = Path("checkpoints"),
    analyses: Analyses = Path("analyses"),
    datasets: Datasets = Path("datasets"),
    under: Under = None,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every 2 s until all is done, or Ctrl-C.")] = False,
) -> None:
    """Show how far a study or a run has come, and whether it runs: agents, returns, losses, time left, probes.

    It reads what is on disk and writes nothing, so that it can be called from anywhere, at any time. Training steps are
    those that are saved; a dot follows a probe that is running. The agent whose episodes a study records comes first,
    as its dataset.
    """
    if under is not None:
        checkpoints, analyses, datasets = (under / one for one in (checkpoints, analyses, datasets))
    runs = runs_of_study(name, datasets)
    # Mistyped arguments are reported before the imports below, which take seconds.
    from rich.live import Live
    from rich.text import Text

    from mzprobe.checkpoints import newest_run
    from mzprobe.console import console
    from mzprobe.settings import load_study
    from mzprobe.study.status import StudyStatus, status_of_run, status_of_study

    if name is None:
        name = newest_run(checkpoints).name
        runs = runs_of_study(name, datasets)
    places = {"checkpoints": checkpoints, "analyses": analyses}

    def look() -> StudyStatus:
        if runs:
            settings, config = load_study(name)
            return status_of_study(Path(name).stem, settings, runs, config=config, **places, datasets=datasets)
        return status_of_run(Path(name).name, **places)

    seen = look()
    if not watch:
        console.print("\n".join([headline(seen), *lines(seen, width=console.width if console.is_terminal else None)]))
        return
    try:
        with Live(console=console, auto_refresh=False) as live:
            while True:
                shown = "\n".join([headline(seen), *lines(seen, width=console.width)])
                live.update(Text(shown, no_wrap=True, overflow="ellipsis"), refresh=True)
                if seen.done:
                    return
                time.sleep(_SECONDS)
                seen = look()
    except KeyboardInterrupt:  # the usual way to stop watching
        return


def headline(seen: "StudyStatus") -> str:
    """Returns one line that sums up a study or a run."""
    from mzprobe.console import duration

    idle = "done" if seen.done else "stopped" if seen.begun else "not begun"
    standing = f"running ({seen.running})" if seen.running else idle
    dataset = f" dataset {seen.dataset.standing};" if seen.dataset else ""
    counts = [(what, sum(agent.standing == what for agent in seen.agents)) for what in _STANDINGS]
    said = ", ".join(f"{count} {what}" for what, count in counts if count)
    left = "" if seen.left is None else f"; training takes about {duration(seen.left)} more"
    return (
        f"{seen.name}: {standing};{dataset} {len(seen.agents)} agent{'s' if len(seen.agents) > 1 else ''}: {said}{left}"
    )


_STANDINGS = ("done", "trained", "probing", "training", "stopped", "waiting", "not begun", "other settings")


def lines(seen: "StudyStatus", *, width: int | None = None) -> list[str]:
    """Returns a line of headings and one line per agent; if they are too wide, its losses and probes follow below it.

    Args:
        seen: progress of the agents.
        width: width of the terminal in characters; None if there is none.
    """
    rows = [_COLUMNS, *(_cells(agent) for agent in seen.every)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    sided = [
        [cell.ljust(w) if left else cell.rjust(w) for cell, w, left in zip(row, widths, _LEFT, strict=True)]
        for row in rows
    ]
    whole = ["  ".join(row).rstrip() for row in sided]
    if width is None or max(map(len, whole)) <= width:
        return whole
    names = _COLUMNS[_WIDE:]
    short = ["  ".join(sided[0][:_WIDE]).rstrip()]
    for row, cells in zip(rows[1:], sided[1:], strict=True):
        short.append("  ".join(cells[:_WIDE]).rstrip())
        short += [f"    {name}: {cell}" for name, cell in zip(names, row[_WIDE:], strict=True) if cell != "-"]
    return short


_COLUMNS = ["agent", "is", "step", "steps/s", "return", "evaluated", "left", "losses", "checkpoints probed"]
_WIDE = _COLUMNS.index("losses")  # first of the columns whose width grows with losses and probes
_LEFT = [column in ("agent", "is", "losses", "checkpoints probed") for column in _COLUMNS]


def _cells(agent: "AgentStatus") -> list[str]:
    from mzprobe.console import duration
    from mzprobe.lines import in_digits

    def probed(done: int, wanted: int | None) -> str:
        return f"{done}" if wanted is None else f"{done}/{wanted}"

    losses = [(name, loss) for name, loss in agent.losses.items() if name.endswith("_loss")]
    return [
        agent.label,
        agent.standing,
        f"{agent.step:,}" if agent.steps is None else f"{agent.step:,}/{agent.steps:,}",
        in_digits(agent.rate),
        in_digits(agent.recent_return),
        in_digits(agent.evaluation),
        "-" if agent.left is None else duration(agent.left),
        " ".join(f"{name.removesuffix('_loss')} {loss:.2f}" for name, loss in losses) or "-",
        ", ".join(f"{t.probe} {probed(t.done, t.wanted)}{'.' if t.running else ''}" for t in agent.tables) or "-",
    ]
