"""`mzprobe train`: trains one agent from a preset, and saves its checkpoints."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mzprobe.cli.options import (
    LAST_SEED,
    Allow,
    Device,
    Out,
    Precision,
    Set,
    allowed,
    check_device,
    device_options,
    learn_from,
    shipped_names,
)
from mzprobe.cli.resuming import taken_from_record
from mzprobe.names import check_name

if TYPE_CHECKING:
    from mzprobe.training.trainer import Progress, Trainer

_PRESETS = f"A shipped preset ({shipped_names('presets')})"
_REDRAWN = 10  # training steps between two updates of the bar


def train(
    named: Annotated[
        str | None,
        typer.Argument(metavar="PRESET", help=f"{_PRESETS}, or the path of a TOML file; cartpole by default."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=LAST_SEED, help="Seed of the agent.")] = 0,
    steps: Annotated[int | None, typer.Option(min=0, help="Training steps, instead of the preset's.")] = None,
    out: Out = Path("checkpoints"),
    name: Annotated[str | None, typer.Option(help="Name of the run; the preset's by default.")] = None,
    offline: Annotated[
        str | None, typer.Option(metavar="DATASET", help="Learn only from a Minari dataset, without playing.")
    ] = None,
    demonstrations: Annotated[
        str | None, typer.Option(metavar="DATASET", help="Begin with a Minari dataset, then play and learn online.")
    ] = None,
    overrides: Set = None,
    device: Device = "cpu",
    precision: Precision = "highest",
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Log curves into the agent's folder.")] = False,
    allow: Allow = None,
    any_version: Annotated[
        bool, typer.Option("--any-version", help="Resume a state that other package versions saved; bits may differ.")
    ] = False,
) -> None:
    """Train one MuZero agent and save checkpoints at fixed steps.

    Run the same command again to continue an interrupted run, to the same bits, or with more --steps to train a
    finished run further; settings it was begun with need not be repeated, but --steps must. A dataset is its folder or
    its Minari id; mzprobe collect makes one. Offline, targets come from searches at recorded states or, with --set
    reanalyse.fraction=0, from the recorded actions (behaviour cloning).
    """
    from mzprobe.config import load_preset

    preset = named or "cartpole"
    given = list(overrides or [])
    if steps is not None:
        given.append(f"training.steps={steps}")
    shown = learn_from(offline, demonstrations)
    config = load_preset(preset, [*shown, *given], allow=allow or ())
    run = Path(preset).stem if name is None else name
    check_name(run, "a run", "give a name without slashes, and no dot in front, with --name")
    check_device(device)
    # Mistyped arguments are reported before the imports below, which take seconds.
    from mzprobe.checkpoints import agent_folder
    from mzprobe.compute import Compute
    from mzprobe.console import console, errors
    from mzprobe.records.digests import portable
    from mzprobe.training.logging import tensorboard_logger
    from mzprobe.training.trainer import Trainer

    folder = agent_folder(out, run, seed)
    begun = taken_from_record(folder, config, preset=named, given=[*shown, *given], allow=allow or ())
    if begun:
        given += begun
        config = load_preset(preset, [*shown, *given], allow=allow or ())
    sets = [part for override in given for part in ("--set", override)]
    titled = [] if name is None else ["--name", name]
    told = [] if not shown else ["--offline", offline] if offline is not None else ["--demonstrations", demonstrations]
    words = [preset, "--seed", str(seed), *told, *titled, *device_options(device, precision), *sets, *allowed(allow)]
    command = shlex.join(["mzprobe", "train", *map(portable, words)])
    compute = Compute(device=device, precision=precision)
    trainer = Trainer(config, seed=seed, run=run, out=out, command=command, compute=compute, any_version=any_version)
    if trainer.feed is not None:
        errors.print(
            "dataset {path}: {episodes} episodes, {steps} steps, mean return {mean_return:.3g}".format(
                **trainer.feed.record()
            )
        )
    _train_with_bar(trainer, f"{run} seed {seed}", log=tensorboard_logger(trainer.folder) if tensorboard else None)
    progress = trainer.progress()
    if progress.step > config.training.steps:
        errors.print(f"the agent is already trained to step {progress.step}, further than {config.training.steps}")
    console.print(
        f"{trainer.folder}: {progress.step} training steps, {progress.environment_steps} environment steps, "
        f"{progress.note}"
    )


def _train_with_bar(trainer: "Trainer", title: str, *, log: "Callable[[Progress], None] | None") -> None:
    """Trains the agent with a progress bar; on Ctrl-C, finishes the training step and saves the state."""
    from mzprobe.console import compiling, progress_bars, stopping

    steps = trainer.config.training.steps
    with compiling(), progress_bars() as bars, stopping(lambda: setattr(trainer, "stop", True)):
        bar = bars.add_task(title, total=steps, note="")

        def show(progress: "Progress") -> None:
            if log:
                log(progress)
            if progress.step % _REDRAWN == 0 or progress.step == steps:
                bars.update(bar, completed=progress.step, note=progress.note)

        trainer.train(show)
