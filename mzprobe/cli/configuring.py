"""`mzprobe config`: every key of a configuration, with its value and its meaning."""

from pathlib import Path
from typing import Annotated

import typer

from mzprobe.cli.options import Allow, Set, shipped_names


def config(
    named: Annotated[
        str,
        typer.Argument(
            metavar="PRESET",
            help=f"A shipped preset ({shipped_names('presets')}), the path of a TOML file, or the folder of an agent "
            "or a checkpoint, for what it was trained with.",
        ),
    ] = "cartpole",
    overrides: Set = None,
    allow: Allow = None,
) -> None:
    """Print every configuration key of a preset or an agent as a TOML file: what it means, and its value.

    Saved as a file whose name ends in .toml, it is a preset of your own: mzprobe train mine.toml.
    """
    from mzprobe.config import load_preset, with_overrides
    from mzprobe.config.writing import as_toml

    if Path(named).is_dir():
        from mzprobe.checkpoints import STEP_NAME, find_agents, read_checkpoint, steps_of

        path = Path(named).resolve()
        checkpoint = path if STEP_NAME.fullmatch(path.name) else steps_of(find_agents(Path(named))[0])[-1]
        shown = with_overrides(read_checkpoint(checkpoint).config, overrides or ())
    else:
        shown = load_preset(named, overrides or (), allow=allow or ())
    typer.echo(as_toml(shown), nl=False)
