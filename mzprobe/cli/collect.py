"""The command that records episodes as a dataset."""

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mzprobe.cli.options import Device, check_device
from mzprobe.errors import Interrupted


class Policy(StrEnum):
    """Who acts."""

    behaviour = "behaviour"
    prior = "prior"
    random = "random"


def collect(
    source: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT", help="A checkpoint's folder; with --policy random also a preset, such as cartpole."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the dataset, which must not exist.")],
    policy: Annotated[
        Policy, typer.Option(help="Act by search, by the policy network alone, or at random.")
    ] = Policy.behaviour,
    temperature: Annotated[
        float | None,
        typer.Option(help="T of the policy, 0 for its likeliest action; by default the checkpoint's, and 1 for prior."),
    ] = None,
    episodes: Annotated[int | None, typer.Option(min=1, help="Episodes to record; 100 by default.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Instead: record whole episodes until there are so many steps.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the starts and of the actions.")] = 0,
    device: Device = "cpu",
) -> None:
    """Record episodes of a checkpoint's agent as a dataset in Minari's format, to learn from.

    The same command records the same bytes. A folder named like expert-v0 can be loaded by Minari under that id.
    """
    from mzprobe.console import console, progress_bars, stopping
    from mzprobe.datasets.collect import check_request, collect, load_player

    check_device(device)
    if episodes is None and steps is None:
        episodes = 100
    check_request(out, episodes=episodes, steps=steps)
    player = load_player(source, policy.value, temperature=temperature, device=device)

    def interrupt() -> None:
        raise Interrupted(f"interrupted: {out} was not written, run the same command again")

    with progress_bars() as bars, stopping(interrupt, what="stopping"):
        bar = bars.add_task(f"collect {out.name}", total=episodes or steps, note="episodes" if episodes else "steps")
        collected = collect(
            player,
            out,
            episodes=episodes,
            steps=steps,
            seed=seed,
            command=shlex.join(["mzprobe", *sys.argv[1:]]),
            on_progress=lambda played, stepped: bars.update(bar, completed=played if episodes else stepped),
        )
    returns = collected.returns
    console.print(
        f"{collected.path}: {len(returns)} episodes, {collected.steps} steps, return {returns.mean():.2f} ± "
        f"{returns.std():.2f}, {returns.min():.2f} to {returns.max():.2f}"
    )
