"""The command line: parses, calls and prints. Slow imports wait until a command needs them."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mzprobe import __version__
from mzprobe.cli.checking import seal, verify
from mzprobe.cli.collect import collect
from mzprobe.cli.comparing import compare
from mzprobe.cli.configuring import config as show_config
from mzprobe.cli.drawing import draw, draw_variants, judge, run_or_newest, runs_of_study
from mzprobe.cli.inspecting import inspect
from mzprobe.cli.looking import look, sources, verify_source
from mzprobe.cli.options import Analyses, Checkpoints, Out
from mzprobe.cli.pack import pack
from mzprobe.cli.playing import play
from mzprobe.cli.probes import add_commands
from mzprobe.cli.reporting import report
from mzprobe.cli.saying import refuse_removed_folder, say
from mzprobe.cli.status import status
from mzprobe.cli.study import study
from mzprobe.cli.training import train
from mzprobe.errors import Interrupted, MzprobeError, UsageError, said_of_unexpected, warnings_to
from mzprobe.system.signals import exit_code, interrupting
from mzprobe.system.streams import flush_streams, open_streams

GUIDE = """
What has a MuZero model really learned, and does it help planning?

Train agents, save checkpoints at fixed steps, ask each checkpoint a question (a probe), and draw the answers:

\b
  mzprobe train cartpole --seed 0               train an agent (resumes if it was interrupted)
  mzprobe config cartpole                       every key of a preset, or of an agent: what it means, its value
  mzprobe eval-online checkpoints/cartpole      Figure 2: returns with and without search
  mzprobe eval-horizon checkpoints/cartpole     Figure 3: value prediction error by horizon
  mzprobe eval-sequences checkpoints/cartpole   Figure 4: the error of likely and unlikely action sequences
  mzprobe cross-matrix checkpoints/cartpole     Figure 5: the model of one step, the policy of another
  mzprobe eval-search-error checkpoints/cartpole Figure 6: where the search goes, and how wrong the model is there
  mzprobe eval-planning checkpoints/cartpole    Figure 7: planning in the learned and in the true model
  mzprobe eval-equivalence checkpoints/cartpole Beyond the paper: order-k value equivalence
  mzprobe eval-improvement checkpoints/cartpole Beyond the paper: does search act better than its prior?
  mzprobe eval-operators checkpoints/cartpole   Beyond the paper: which search rule acts and teaches best?
  mzprobe eval-targets checkpoints/cartpole     Beyond the paper: are stored value targets still true?
  mzprobe eval-inspect checkpoints/cartpole     Beyond the paper: single states, with their trees and sequences
  mzprobe figures cartpole                      draw the figures whose tables exist
  mzprobe compare cartpole mine                 any runs beside each other, one figure per question
  mzprobe claims cartpole                       do the paper's claims hold for this run?
  mzprobe report cartpole                       all of it on one page, to click through
  mzprobe verify checkpoints analyses           are all files still as they were written?

Record episodes of an agent, as a dataset to learn from:

\b
  mzprobe collect checkpoints/cartpole/seed-0/step-0020000 --out datasets/expert-v0

Agents of other code are probed in the same way. Find out whose a checkpoint is, and whether it plays as it should:

\b
  mzprobe look cartpole.checkpoint
  mzprobe sources
  mzprobe play cartpole.checkpoint              watch it play, beside what its model dreams
  mzprobe inspect cartpole.checkpoint           single states: what is searched, predicted and true there
  mzprobe verify-source toy.pth --source my_module:Toy   is your own adapter right?

Or run all of this at once, for a shipped study:

\b
  mzprobe study cartpole-quick
  mzprobe status cartpole-quick --watch         its progress, from another terminal

Outputs go to checkpoints/, analyses/ and figures/, one folder per run. Every command has --help with an example.
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
        from mzprobe.records.digests import SHORT, code

        typer.echo(f"mzprobe {__version__}, code {code()[:SHORT]}")
        raise typer.Exit


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Declares the global options; `main` reads --debug itself, since an error may occur before parsing is done."""


app.command(epilog="Example: mzprobe train cartpole --seed 0 --steps 20000 --out checkpoints")(train)
app.command(name="config", epilog="Example: mzprobe config cartpole > mine.toml")(show_config)
with warnings_to(lambda sentence: say(f"warning: {sentence}")):
    add_commands(app)
app.command(epilog="Example: mzprobe look checkpoints/cartpole/seed-0")(look)
app.command(epilog="Example: mzprobe inspect checkpoints/cartpole/seed-0 --step 2000 --state worst")(inspect)
app.command(epilog="Example: mzprobe play checkpoints/cartpole/seed-0 --step 2000 --out episode.gif")(play)
app.command(epilog="Example: mzprobe verify-source toy.pth --source my_module:Toy --numbers theirs.npz")(verify_source)
app.command(epilog="Example: mzprobe sources")(sources)
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

    For a study with variants (a shipped name, or the path of a TOML file), draw the figures that compare them.
    """
    from mzprobe.console import console

    runs = runs_of_study(run)
    if run is not None and len(runs) > 1:
        draw_variants(run, runs, analyses, out)
    else:
        draw(run_or_newest(run, runs, analyses, checkpoints, console), analyses, out)


app.command(epilog="Example: mzprobe compare cartpole muzero-general-cartpole --name two-codes")(compare)


@app.command(epilog="Example: mzprobe claims cartpole-ten")
def claims(
    run: Annotated[str | None, typer.Argument(help="Name of the run; the newest one by default.")] = None,
    analyses: Analyses = Path("analyses"),
    out: Out = Path("figures"),
    checkpoints: Checkpoints = Path("checkpoints"),
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON, with all cells.")] = False,
) -> None:
    """Judge the paper's claims for a run: each with its effect, interval, p and verdict, from the tables alone.

    A verdict is holds, fails, undecided or no data; the details, step by step, go to claims.md beside the figures.
    """
    from mzprobe.console import errors

    runs = runs_of_study(run)
    if len(runs) > 1:
        names = ", ".join(one.name for one in runs)
        raise UsageError(f"{run} compares runs, and claims are judged for one: give one of {names}")
    # The name of the newest run goes to stderr, since stdout may be piped.
    judge(run_or_newest(run, runs, analyses, checkpoints, errors), analyses, out, as_json=json)


app.command(epilog="Example: mzprobe report cartpole-ten")(report)
app.command(epilog="Example: mzprobe study cartpole-quick")(study)
app.command(epilog="Example: mzprobe status cartpole-quick --watch")(status)


def main() -> None:
    """Runs the command line; errors become one sentence and an exit code."""
    debug = "--debug" in sys.argv
    open_streams()
    try:
        refuse_removed_folder()
        with interrupting(), warnings_to(lambda sentence: say(f"warning: {sentence}")):
            given = [one for one in sys.argv[1:] if one != "--debug"]  # at any position
            code = app(given or ["--help"], standalone_mode=False)
        if code == Interrupted.exit_code:  # typer returns it for a KeyboardInterrupt inside a command
            raise KeyboardInterrupt
    except MzprobeError as error:
        if debug:
            raise
        say(f"error: {error}")
        code = exit_code() if isinstance(error, Interrupted) else error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        say("error: interrupted: run the same command again to resume")
        code = exit_code()
    except Exception as error:
        message = getattr(error, "format_message", None)
        if message is None:
            if debug:
                raise
            say(f"error: {said_of_unexpected(error)}")
            code = 1
        else:
            say(f"error: {message()} (see --help)")
            code = 2
    unread = not flush_streams()
    sys.exit(code or int(unread))
