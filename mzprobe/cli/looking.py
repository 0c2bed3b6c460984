"""`mzprobe look` and `mzprobe sources`: whose agent is this, and does it play as it should?"""

from pathlib import Path
from typing import Annotated

import typer

from mzprobe.cli.options import Allow, Device, Given, SourceName, Step, check_device


def look(
    path: Annotated[Path, typer.Argument(help="A checkpoint of any known code, or an agent's folder.")],
    step: Step = None,
    source: SourceName = None,
    agent: Given = None,
    episodes: Annotated[int, typer.Option(min=2, help="Episodes that it plays, and chance from the same starts.")] = 20,
    device: Device = "cpu",
    allow: Allow = None,
) -> None:
    """Say whose agent a checkpoint is, what is known of it, and whether it plays better than chance.

    Its search plays whole episodes, always the most visited action, and random play from the same starts. An agent that
    plays like chance was read wrongly, or is asked in another environment than its own: exit 1.
    """
    from mzprobe.compute import Compute
    from mzprobe.console import console, errors
    from mzprobe.errors import MzprobeError, UsageError
    from mzprobe.sources import open_agent
    from mzprobe.sources.looking import described, support_said
    from mzprobe.sources.returns import returns_of

    check_device(device)
    if step is not None and len(step) > 1:
        raise UsageError("look at one training step at a time: give --step once")
    opened = open_agent(
        path,
        step=step[0] if step else None,
        source=source,
        given=agent or (),
        compute=Compute(device=device),
        allow=allow or (),
    )
    for line in described(opened):
        console.print(line)
    errors.print(f"{episodes} episodes of its search, and of chance")
    returns = returns_of(opened, episodes=episodes)
    mean, chance = returns.agent.mean(), returns.chance.mean()
    low, high = returns.agent.min(), returns.agent.max()
    console.print(f"returns: {mean:.4g} (from {low:.4g} to {high:.4g}), chance {chance:.4g}")
    if opened.origin.returned is not None:
        console.print(f"returns said: {opened.origin.returned:.4g}, {opened.origin.returned_where}")
    console.print(support_said(opened))
    if returns.plays_like_chance:
        raise MzprobeError(
            f"{path} plays like chance ({mean:.4g} against {chance:.4g}): it is read wrongly, or its environment is "
            "another"
        )


def sources() -> None:
    """List the code whose checkpoints can be read, and against what each was verified."""
    from mzprobe.console import console
    from mzprobe.sources import sources as known
    from mzprobe.sources.foreign import FileSource

    for name, one in known().items():
        if isinstance(one, FileSource):
            console.print(f"{name}: checkpoints of {one.adapter.of}, compared with {one.adapter.verified}")
        else:
            console.print(f"{name}: {(type(one).__doc__ or '').splitlines()[0].rstrip('.')}")
