"""The command line: parse, call, print. Heavy imports wait until a command needs them."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mzprobe import __version__
from mzprobe.cli.checking import seal, verify
from mzprobe.cli.collect import collect
from mzprobe.cli.options import (
    Allow,
    Analyses,
    Checkpoints,
    Datasets,
    Device,
    DryRun,
    Figures,
    Out,
    Set,
    check_device,
    learn_from,
)
from mzprobe.cli.pack import pack
from mzprobe.cli.probes import add_commands
from mzprobe.cli.saying import flush_streams, open_streams, refuse_removed_folder, say
from mzprobe.errors import Interrupted, MzprobeError, warnings_to
from mzprobe.names import check_name

if TYPE_CHECKING:
    from mzprobe.figures.output import Drawn
    from mzprobe.settings import StudyConfig, StudyRun

GUIDE = """
What has a MuZero model really learned, and does it help planning?

Train agents, save checkpoints at fixed steps, ask each checkpoint a question (a probe), and draw the answers:

\b
  mzprobe train cartpole --seed 0               train an agent (resumes if it was interrupted)
  mzprobe eval-online checkpoints/cartpole      Figure 2: returns with and without search
  mzprobe eval-horizon checkpoints/cartpole     Figure 3: value prediction error by horizon
  mzprobe eval-sequences checkpoints/cartpole   Figure 4: the same, of likely and unlikely action sequences
  mzprobe cross-matrix checkpoints/cartpole     Figure 5: the model of one step, the policy of another
  mzprobe eval-search checkpoints/cartpole      Figure 6: where the search goes, and how wrong the model is there
  mzprobe eval-planning checkpoints/cartpole    Figure 7: planning in the learned and in the true model
  mzprobe eval-equivalence checkpoints/cartpole Beyond the paper: order-k value equivalence
  mzprobe eval-improvement checkpoints/cartpole Beyond the paper: does search act better than its prior?
  mzprobe eval-targets checkpoints/cartpole     Beyond the paper: are stored value targets true by now?
  mzprobe figures cartpole                      draw the figures whose tables exist
  mzprobe claims cartpole                       do the paper's claims hold for them?
  mzprobe verify checkpoints analyses           is all of it as it was written?

Record episodes of an agent, as a dataset to learn from:

\b
  mzprobe collect checkpoints/cartpole/seed-0/step-0020000 --out datasets/expert-v0

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
    offline: Annotated[
        str | None, typer.Option(metavar="DATASET", help="Learn from a Minari dataset alone; no step is played.")
    ] = None,
    demonstrations: Annotated[
        str | None, typer.Option(metavar="DATASET", help="Begin with a Minari dataset and go on online.")
    ] = None,
    overrides: Set = None,
    device: Device = "cpu",
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Log curves into the agent's folder.")] = False,
    allow: Allow = None,
    any_version: Annotated[
        bool, typer.Option("--any-version", help="Go on where other versions of packages stopped; bits may differ.")
    ] = False,
) -> None:
    """Train one MuZero agent and save checkpoints at fixed steps.

    The same command again goes on where an interrupted run stopped, to the same bits; with more --steps it takes a
    finished run further. A dataset is its folder or its Minari id; mzprobe collect makes one. Offline, targets come
    from searches at recorded states; with --set reanalyse.fraction=0, from the recorded actions: behaviour cloning.
    """
    from mzprobe.config import load_preset
    from mzprobe.console import console, errors, progress_bars, stopping, training_note
    from mzprobe.training.logging import tensorboard_logger
    from mzprobe.training.trainer import Progress, Trainer

    check_device(device)
    given = list(overrides or [])
    if steps is not None:
        given.append(f"training.steps={steps}")
    shown = learn_from(offline, demonstrations)
    config = load_preset(preset, [*shown, *given], allow=allow or ())
    run = Path(preset).stem if name is None else name
    check_name(run, "a run", "give a name without slashes, and no dot in front, with --name")
    sets = [part for override in given for part in ("--set", override)]
    named = [] if name is None else ["--name", name]
    placed = [] if device == "cpu" else ["--device", device]
    told = [] if not shown else ["--offline", offline] if offline else ["--demonstrations", demonstrations]
    allowed = [part for module in allow or () for part in ("--allow", module)]
    command = shlex.join(["mzprobe", "train", preset, "--seed", str(seed), *told, *named, *placed, *sets, *allowed])
    trainer = Trainer(config, seed=seed, run=run, out=out, command=command, device=device, any_version=any_version)
    log = tensorboard_logger(trainer.folder) if tensorboard else None
    if trainer.feed is not None:
        errors.print(
            "dataset {path}: {episodes} episodes, {steps} steps, mean return {mean_return:.1f}".format(
                **trainer.feed.record()
            )
        )
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


add_commands(app)
app.command(epilog="Example: mzprobe pack cartpole --out shipped")(pack)
app.command(epilog="Example: mzprobe verify checkpoints analyses")(verify)
app.command(epilog="Example: mzprobe seal analyses/cartpole --dry-run")(seal)
app.command(epilog="Example: mzprobe collect checkpoints/cartpole/seed-0/step-0020000 --out datasets/expert-v0")(
    collect
)


@app.command(epilog="Example: mzprobe figures cartpole")
def figures(
    run: Annotated[str | None, typer.Argument(help="Name of the run, or a study; the newest run by default.")] = None,
    analyses: Analyses = Path("analyses"),
    out: Out = Path("figures"),
    checkpoints: Checkpoints = Path("checkpoints"),
) -> None:
    """Draw every figure whose table exists, as PNG, SVG and the CSV of its numbers; say which are missing.

    Of a study with variants (a shipped name, or the path of a TOML file) those that compare them.
    """
    from mzprobe.config import shipped
    from mzprobe.console import console
    from mzprobe.settings import load_study, study_runs

    if run is not None and (run.endswith(".toml") or run in shipped("presets/studies")):
        settings, _ = load_study(run)
        if settings.variants:
            _compare(run, study_runs(run, settings), analyses, out)
            return
        run = Path(run).stem
    _draw(_run_or_newest(run, checkpoints, console), analyses, out)


@app.command(epilog="Example: mzprobe claims cartpole-quick")
def claims(
    run: Annotated[str | None, typer.Argument(help="Name of the run; the newest one by default.")] = None,
    analyses: Analyses = Path("analyses"),
    out: Out = Path("figures"),
    checkpoints: Checkpoints = Path("checkpoints"),
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON, with all cells.")] = False,
) -> None:
    """Do the paper's claims hold for this run? Each as effect, interval, p and verdict, from the tables alone.

    A verdict is holds, fails, undecided or no data; all of it, step by step, goes to claims.md beside the figures.
    """
    from mzprobe.console import errors

    # stdout is for what may be piped.
    _judge(_run_or_newest(run, checkpoints, errors), analyses, out, as_json=json)


@app.command(epilog="Example: mzprobe study cartpole-quick")
def study(
    name: Annotated[str, typer.Argument(help="A shipped study, or the path of a TOML file.")] = "cartpole-quick",
    checkpoints: Checkpoints = Path("checkpoints"),
    analyses: Analyses = Path("analyses"),
    out: Figures = Path("figures"),
    datasets: Datasets = Path("datasets"),
    processes: Annotated[int | None, typer.Option(min=1, help="Agents at a time; one a core by default.")] = None,
    allow: Allow = None,
    dry_run: DryRun = False,
) -> None:
    """Train several agents side by side, probe their checkpoints, draw the figures and judge the paper's claims.

    A study with variants compares their agents instead. What is done already is not done again: run it again after an
    interruption, or after removing a table or an agent.
    """
    from mzprobe.claims import CLAIMS
    from mzprobe.console import progress_bars, stopping, training_note
    from mzprobe.locks import held
    from mzprobe.settings import load_study, study_runs
    from mzprobe.study import agent_label, run_study
    from mzprobe.study.dataset import DatasetTask
    from mzprobe.study.processes import Report
    from mzprobe.trust import refuse_code

    settings, config = load_study(name)
    runs = study_runs(name, settings, datasets=datasets)
    for one in runs:
        refuse_code(one.config.model_dump(), allow=allow or (), source=name)
    allowed = [part for module in allow or () for part in ("--allow", module)]
    run, command = Path(name).stem, shlex.join(["mzprobe", "study", name, *allowed])
    _announce_study(settings, runs)
    if dry_run:
        return
    dataset = None
    if settings.dataset:
        dataset = DatasetTask(
            study=run,
            settings=settings.dataset,
            config=config,
            datasets=datasets,
            checkpoints=checkpoints,
            analyses=analyses,
            command=command,
        )

    def interrupt() -> None:
        raise Interrupted("stopped")

    with progress_bars() as bars:
        labels = [agent_label(run.variant, seed) for seed in settings.seeds for run in runs]
        if dataset:
            labels.insert(0, dataset.label)
        tasks = {label: bars.add_task(f"{label} waiting", total=None, note="") for label in labels}

        def show(report: Report) -> None:
            note = training_note(report.training) if report.training else "checkpoints"
            text = f"{report.label} {report.phase}"
            bars.update(tasks[report.label], description=text, completed=report.done, total=report.total, note=note)

        with stopping(interrupt), held(checkpoints / run):
            run_study(
                settings,
                runs,
                dataset=dataset,
                checkpoints=checkpoints,
                analyses=analyses,
                command=command,
                processes=processes,
                on_report=show,
            )
    if settings.variants:
        _compare(name, runs, analyses, out)
        return
    _draw(run, analyses, out)
    if not {claim.probe for claim in CLAIMS}.isdisjoint(settings.probes()):
        _judge(run, analyses, out)


def main() -> None:
    """Runs the command line; errors become one sentence and an exit code."""
    debug = "--debug" in sys.argv
    open_streams()
    try:
        refuse_removed_folder()
        with warnings_to(lambda sentence: say(f"warning: {sentence}")):
            code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        if code == Interrupted.exit_code:  # what typer makes of a KeyboardInterrupt inside a command
            raise KeyboardInterrupt
    except MzprobeError as error:
        if debug:
            raise
        say(f"error: {error}")
        code = error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        say("error: interrupted: run the same command again to resume")
        code = Interrupted.exit_code
    except Exception as error:
        message = getattr(error, "format_message", None)
        if message is None:
            if debug:
                raise
            say(f"error: an unexpected {type(error).__name__} ({error}): run with --debug and report the traceback")
            code = 1
        else:
            say(f"error: {message()} (see --help)")
            code = 2
    unread = not flush_streams()
    sys.exit(code or int(unread))


def _announce_study(study: "StudyConfig", runs: "Sequence[StudyRun]") -> None:
    """Says what a study does that begins with nothing."""
    from mzprobe.console import errors, spelled
    from mzprobe.study.plan import planned, training_planned

    probes = list(planned(study, runs))
    if study.dataset:
        errors.print(
            f"dataset: {study.dataset.episodes:,} episodes of an agent of {study.dataset.step:,} training steps"
        )
    errors.print(f"train: {training_planned(study, runs)}")
    for name, count, cost, seconds in probes:
        errors.print(f"{name}: {count} checkpoints, at most {cost}; about {spelled(seconds)} on one core")


def _run_or_newest(run: str | None, checkpoints: Path, say: Console) -> str:
    from mzprobe.checkpoints import newest_run

    if run is None:
        run = newest_run(checkpoints).name
        say.print(f"run {run}, the newest under {checkpoints}")
    return Path(run).name  # the probes take the folder of its checkpoints


def _draw(run: str, analyses: Path, out: Path) -> None:
    from mzprobe.figures import draw_run

    _say_drawn(draw_run(run, analyses=analyses, figures=out))


def _compare(study: str, runs: "Sequence[StudyRun]", analyses: Path, out: Path) -> None:
    """Draws the figures that compare the variants of a study."""
    from mzprobe.figures import draw_comparison
    from mzprobe.study.dataset import dataset_return

    by_variant, reference = {run.variant: run.name for run in runs}, dataset_return(analyses, Path(study).stem)
    _say_drawn(draw_comparison(study, by_variant, analyses=analyses, figures=out, reference=reference))


def _say_drawn(done: "Sequence[Drawn]") -> None:
    """Says of each file whether it is new, and of each figure without a table how to make that."""
    from mzprobe.console import console, errors

    for drawn in done:
        if drawn.status == "missing":
            errors.print(f"{drawn.what}: no table, make it with {drawn.remedy}")
        else:
            console.print(f"{drawn.what} {drawn.status}")


def _judge(run: str, analyses: Path, out: Path, *, as_json: bool = False) -> None:
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
