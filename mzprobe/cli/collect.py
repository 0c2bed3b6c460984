"""`mzprobe collect`: episodes of an agent, recorded as a dataset."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mzprobe.cli.options import LAST_SEED, Allow, Device, check_device
from mzprobe.config import MOST
from mzprobe.errors import Interrupted
from mzprobe.settings import PolicyName


def collect(
    source: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT", help="A checkpoint's folder; with --policy random also a preset, such as cartpole."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the dataset; it may hold nothing else.")],
    policy: Annotated[
        PolicyName, typer.Option(help="Act by search, by the policy network alone, or at random.")
    ] = "behaviour",
    temperature: Annotated[
        float | None,
        typer.Option(help="T of the policy, 0 for its likeliest action; by default the checkpoint's, and 1 for prior."),
    ] = None,
    episodes: Annotated[int | None, typer.Option(min=1, max=MOST, help="Episodes to record; 100 by default.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, max=MOST, help="Instead: record whole episodes until they have so many steps.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=LAST_SEED, help="Seed of the starts and of the actions.")] = 0,
    device: Device = "cpu",
    allow: Allow = None,
) -> None:
    """Record episodes of a checkpoint's agent as a dataset in Minari's format, to learn from.

    The same command always records the same bytes; run again, it finds them and records nothing. Minari can load a
    folder that is named like expert-v0 under that id.
    """
    from mzprobe.console import compiling, console, progress_bars, stopping
    from mzprobe.datasets.collect import check_request, collect, collected_before, load_player
    from mzprobe.records.digests import portable

    check_device(device)
    if episodes is None and steps is None:
        episodes = 100
    command = shlex.join(["mzprobe", *map(portable, sys.argv[1:])])
    check_request(out, episodes=episodes, steps=steps, command=command)
    player = load_player(source, policy, temperature=temperature, device=device, allow=allow or ())

    def interrupt() -> None:
        became = "was written" if out.exists() else "was not written, run the same command again"
        raise Interrupted(f"interrupted: {out} {became}")

    asked: dict[str, Any] = {"episodes": episodes, "steps": steps, "seed": seed, "command": command}
    collected = collected_before(player, out, **asked)
    if collected is None:
        with compiling(), progress_bars() as bars, stopping(interrupt, what="stopping"):
            of = "episodes" if episodes else "steps"
            bar = bars.add_task(f"collect {out.name}", total=episodes or steps, note=of)
            collected = collect(
                player,
                out,
                **asked,
                on_progress=lambda played, stepped: bars.update(bar, completed=played if episodes else stepped),
            )
    returns, there = collected.returns, " is there already" if collected.before else ""
    console.print(
        f"{collected.path}{there}: {len(returns)} episodes, {collected.steps} steps, return {returns.mean():.2f} ± "
        f"{returns.std():.2f}, {returns.min():.2f} to {returns.max():.2f}"
    )
