"""The command line: parse, call, print. Heavy imports wait until a command needs them."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from mzprobe import __version__
from mzprobe.errors import Interrupted, MzprobeError, UsageError

if TYPE_CHECKING:
    from rich.progress import Progress as ProgressBars
    from rich.progress import TaskID

    from mzprobe.config import Config

GUIDE = """
What has a MuZero model really learned, and does it help planning?

Train agents, save checkpoints at fixed steps, ask each checkpoint a question (a probe), and draw the answers:

\b
  mzprobe train cartpole --seed 0             train an agent (resumes if it was interrupted)
  mzprobe eval-horizon checkpoints/cartpole   value prediction error by horizon
  mzprobe figures cartpole                    draw the figures whose tables exist

Or all of it, for a shipped study:

\b
  mzprobe study cartpole-quick

Outputs lie in checkpoints/, analyses/ and figures/, by run. Every command has --help with an example.
"""

app = typer.Typer(
    name="mzprobe",
    help=GUIDE,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

Out = Annotated[Path, typer.Option("--out", help="Folder of the output.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a configuration key; may be given again and again."),
]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:1.")]
Checkpoints = Annotated[Path, typer.Option("--checkpoints", help="Folder of all checkpoints.")]
Analyses = Annotated[Path, typer.Option("--analyses", help="Folder of all tables.")]
Figures = Annotated[Path, typer.Option("--figures", help="Folder of all figures.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a table that was made with other settings.")]


def _version(show: bool) -> None:
    if show:
        typer.echo(f"mzprobe {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Global options; `main` reads --debug itself, since an error may come before parsing is done."""


@app.command(epilog="Example: mzprobe train cartpole --seed 0 --steps 20000 --out checkpoints")
def train(
    preset: Annotated[str, typer.Argument(help="A shipped preset, or the path of a TOML file.")] = "cartpole",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the agent.")] = 0,
    steps: Annotated[int | None, typer.Option(min=0, help="Training steps, instead of the preset's.")] = None,
    out: Out = Path("checkpoints"),
    name: Annotated[str | None, typer.Option(help="Name of the run; the preset's by default.")] = None,
    overrides: Set = None,
    device: Device = "cpu",
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Log curves into the agent's folder.")] = False,
) -> None:
    """Train one MuZero agent and save checkpoints at fixed steps.

    The same command again goes on where an interrupted run stopped, to the same bits; with more --steps it takes a
    finished run further.
    """
    from mzprobe.config import load_preset
    from mzprobe.console import console, errors, progress_bars, stopping, training_note
    from mzprobe.training.logging import tensorboard_logger
    from mzprobe.training.trainer import Progress, Trainer

    _check_device(device)
    given = list(overrides or [])
    if steps is not None:
        given.append(f"training.steps={steps}")
    config = load_preset(preset, given)
    run = name or Path(preset).stem
    sets = [part for override in given for part in ("--set", override)]
    named = [] if name is None else ["--name", name]
    placed = [] if device == "cpu" else ["--device", device]
    command = shlex.join(["mzprobe", "train", preset, "--seed", str(seed), *named, *placed, *sets])
    trainer = Trainer(config, seed=seed, run=run, out=out, command=command, device=device)
    log = tensorboard_logger(trainer.folder) if tensorboard else None
    with progress_bars() as bars, stopping(lambda: setattr(trainer, "stop", True)):
        bar = bars.add_task(f"{run} seed {seed}", total=config.training.steps, note="")

        def show(progress: Progress) -> None:
            if log:
                log(progress)
            if progress.step % 10 == 0:
                bars.update(bar, completed=progress.step, note=training_note(progress))

        trainer.train(show)
    progress = trainer.progress()
    if progress.step > config.training.steps:
        errors.print(f"the agent is already trained to step {progress.step}, further than {config.training.steps}")
    console.print(
        f"{trainer.folder}: {progress.step} training steps, {progress.environment_steps} environment steps, "
        f"{training_note(progress)}"
    )


@app.command("eval-horizon", epilog="Example: mzprobe eval-horizon checkpoints/cartpole/seed-0 --out analyses")
def eval_horizon(
    path: Annotated[
        Path | None, typer.Argument(help="An agent's folder, or a run's; the newest run by default.")
    ] = None,
    out: Out = Path("analyses"),
    step: Annotated[list[int] | None, typer.Option(help="Only this training step; may be given again.")] = None,
    states: Annotated[int | None, typer.Option(help="S, states for each agent and checkpoint.")] = None,
    horizon: Annotated[int | None, typer.Option(help="Largest h; the unroll length of training by default.")] = None,
    overrides: Set = None,
    checkpoints: Checkpoints = Path("checkpoints"),
    device: Device = "cpu",
    overwrite: Overwrite = False,
) -> None:
    """Figure 3: how wrong are values under the agent's own behaviour policy, by horizon?

    Truth and model are scored on the same action sequences. A table holds one row a state and horizon; an interrupted
    command goes on with the checkpoints that are missing.
    """
    from mzprobe.config import HorizonConfig, with_overrides
    from mzprobe.probes.runner import HORIZON

    given = list(overrides or [])
    given += [] if states is None else [f"states={states}"]
    given += [] if horizon is None else [f"horizon={horizon}"]
    config = with_overrides(HorizonConfig(), given)
    _probe(HORIZON, config, path, checkpoints, out, step or [], device, overwrite)


@app.command(epilog="Example: mzprobe figures cartpole")
def figures(
    run: Annotated[str | None, typer.Argument(help="Name of the run; the newest one by default.")] = None,
    analyses: Analyses = Path("analyses"),
    out: Out = Path("figures"),
    checkpoints: Checkpoints = Path("checkpoints"),
) -> None:
    """Draw every figure whose table exists, as PNG, SVG and the CSV of its numbers; say which are missing."""
    from mzprobe.checkpoints import newest_run
    from mzprobe.console import console

    if run is None:
        run = newest_run(checkpoints).name
        console.print(f"run {run}, the newest under {checkpoints}")
    _draw(run, analyses, out)


@app.command(epilog="Example: mzprobe study cartpole-quick")
def study(
    name: Annotated[str, typer.Argument(help="A shipped study, or the path of a TOML file.")] = "cartpole-quick",
    checkpoints: Checkpoints = Path("checkpoints"),
    analyses: Analyses = Path("analyses"),
    out: Figures = Path("figures"),
    processes: Annotated[int | None, typer.Option(min=1, help="Agents at a time; one a core by default.")] = None,
) -> None:
    """Train several agents side by side, probe their checkpoints and draw the figures.

    What is done already is not done again: run it again after an interruption, or after removing a table or an agent.
    """
    from mzprobe.config import load_study
    from mzprobe.console import progress_bars, stopping, training_note
    from mzprobe.study import Report, run_study

    settings, config = load_study(name)
    run = Path(name).stem

    def interrupt() -> None:
        raise Interrupted("stopped")

    with progress_bars() as bars:
        tasks = {seed: bars.add_task(f"seed {seed} waiting", total=None, note="") for seed in settings.seeds}

        def show(report: Report) -> None:
            note = training_note(report.training) if report.training else "checkpoints"
            text = f"seed {report.seed} {report.phase}"
            bars.update(tasks[report.seed], description=text, completed=report.done, total=report.total, note=note)

        with stopping(interrupt):
            run_study(
                run,
                settings,
                config,
                checkpoints=checkpoints,
                analyses=analyses,
                command=shlex.join(["mzprobe", "study", name]),
                processes=processes,
                on_report=show,
            )
    _draw(run, analyses, out)


def main() -> None:
    """Runs the command line; errors become one sentence and an exit code."""
    debug = "--debug" in sys.argv
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        if code == Interrupted.exit_code:  # what typer makes of a KeyboardInterrupt inside a command
            raise KeyboardInterrupt
    except MzprobeError as error:
        if debug:
            raise
        _say(str(error))
        code = error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        _say("interrupted: run the same command again to resume")
        code = Interrupted.exit_code
    except Exception as error:
        message = getattr(error, "format_message", None)
        if message is None:
            if debug:
                raise
            _say(f"an unexpected {type(error).__name__} ({error}): run with --debug and report the traceback")
            code = 1
        else:
            _say(f"{message()} (see --help)")
            code = 2
    sys.stdout.flush()
    sys.exit(code or 0)


def _probe(
    probe: Any,
    config: "Config",
    path: Path | None,
    checkpoints: Path,
    out: Path,
    steps: list[int],
    device: str,
    overwrite: bool,
) -> None:
    """Runs a probe over one agent or all of a run, with a bar for each."""
    from mzprobe.checkpoints import find_agents, newest_run
    from mzprobe.console import console, progress_bars
    from mzprobe.probes.runner import run_probe

    _check_device(device)
    if path is None:
        path = newest_run(checkpoints)
        console.print(f"run {path.name}, the newest under {checkpoints}")
    command = shlex.join(["mzprobe", *sys.argv[1:]])
    tables = []
    with progress_bars() as bars:
        for agent in find_agents(path):
            bar = bars.add_task(f"{agent.parent.name} {agent.name} {probe.name}", total=None, note="checkpoints")
            tables.append(
                run_probe(
                    probe,
                    agent,
                    config,
                    analyses=out,
                    command=command,
                    steps=steps,
                    device=device,
                    overwrite=overwrite,
                    on_checkpoint=_updater(bars, bar),
                )
            )
    for table in tables:
        console.print(f"{table}")


def _updater(bars: "ProgressBars", bar: "TaskID") -> Callable[[int, int], None]:
    return lambda done, total: bars.update(bar, completed=done, total=total)


def _draw(run: str, analyses: Path, out: Path) -> None:
    from mzprobe.console import console, errors
    from mzprobe.figures import draw_run

    for drawn in draw_run(run, analyses=analyses, figures=out):
        if drawn.status == "missing":
            errors.print(f"{drawn.what}: no table, make it with {drawn.remedy}")
        else:
            console.print(f"{drawn.what} {drawn.status}")


def _check_device(device: str) -> None:
    import torch

    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise UsageError(f"there is no device {device}: use cpu, cuda or cuda:1") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise UsageError("this machine has no usable CUDA device: use --device cpu")


def _say(sentence: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {sentence}", markup=False)
