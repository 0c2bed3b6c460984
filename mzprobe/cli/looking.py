"""`mzprobe look`, `verify-source` and `sources`: what wrote a checkpoint, and whether it is read correctly."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mzprobe.cli.options import Allow, Device, Given, SourceName, Step, check_device
from mzprobe.files import NO_AGENT, refuse_absent

if TYPE_CHECKING:
    from mzprobe.agents import Agent
    from mzprobe.sources.core import Source

Checkpoint = Annotated[Path, typer.Argument(help="A checkpoint of any known code, or an agent's folder.")]
Played = Annotated[int, typer.Option(min=2, help="Episodes of the agent, and of random play from the same starts.")]


def look(
    path: Checkpoint,
    step: Step = None,
    source: SourceName = None,
    agent: Given = None,
    episodes: Played = 20,
    device: Device = "cpu",
    allow: Allow = None,
) -> None:
    """Say whose agent a checkpoint is, what is known about it, and whether it plays better than chance.

    The agent's search, always taking the most visited action, and random play both play whole episodes from the same
    starts. An agent that plays like chance was read wrongly, or is probed in another environment than its own: exit 1.
    """
    refuse_absent(path, remedy=NO_AGENT)
    from mzprobe.console import compiling, console, errors
    from mzprobe.errors import MzprobeError
    from mzprobe.sources.looking import described, support_said
    from mzprobe.sources.returns import returns_of

    opened = opened_agent(path, step, source_of(path, source, agent, allow), device, allow)
    for line in described(opened):
        console.print(line)
    errors.print(f"{episodes} episodes of its search, and of chance")
    with compiling():
        returns = returns_of(opened, episodes=episodes)
    mean, chance = returns.agent.mean(), returns.chance.mean()
    for line in returns.said():
        console.print(line)
    if opened.origin.returned is not None:
        console.print(f"returns said: {opened.origin.returned:.4g}, {opened.origin.returned_where}")
    for line in support_said(opened, returns.episodes):
        console.print(line)
    if returns.too_few:
        errors.print(f"{episodes} episodes are too few to tell it from chance: give more with --episodes")
    if returns.plays_like_chance:
        raise MzprobeError(
            f"{path} plays like chance ({mean:.4g} against {chance:.4g}): it is read wrongly, or its environment is "
            "another"
        )


def verify_source(
    path: Checkpoint,
    step: Step = None,
    source: SourceName = None,
    agent: Given = None,
    numbers: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Arrays (.npz) from the original code: observations, actions, value, .."),
    ] = None,
    episodes: Played = 20,
    device: Device = "cpu",
    allow: Allow = None,
) -> None:
    """Test an adapter on a checkpoint: is it recognised, is its network whole, are its numbers right, does it play?

    Numbers are compared if the original code has written some: observations and actions, and whichever of latents,
    following (latents), reward, policy (logits) and value are known; docs/adapters.md shows how to write them. Exits
    with 1 if anything fails.
    """
    from mzprobe.console import console, errors
    from mzprobe.errors import MzprobeError
    from mzprobe.sources.returns import returns_of
    from mzprobe.sources.verifying import Finding, compared, played, read_numbers, recognised

    found = source_of(path, source, agent, allow)
    failed = 0

    def say(finding: Finding) -> None:
        nonlocal failed
        failed += not finding.kept
        console.print(f"{'ok' if finding.kept else 'FAILED'}: {finding.said}")

    say(recognised(path, found))
    opened = opened_agent(path, step, found, device, allow)  # also tests that shapes fit and rows are independent
    say(Finding(True, f"its network fits {opened.environment.spec.name}, and no row depends on another"))
    if numbers is None:
        errors.print("no numbers of the original's own code to compare with: give them with --numbers")
    else:
        for finding in compared(opened, read_numbers(numbers, opened)):
            say(finding)
    errors.print(f"{episodes} episodes of its search, and of chance")
    plays = played(returns_of(opened, episodes=episodes))
    say(plays)
    if failed:
        why = "" if plays.kept else "; what plays like chance may be untrained, wrongly read, or of another environment"
        raise MzprobeError(f"{failed} of these failed: the adapter {found.name} does not read {path} as it should{why}")


def source_of(path: Path, source: str | None, agent: list[str] | None, allow: list[str] | None) -> "Source":
    """Returns the source of a checkpoint from the options of a command; see `find_source`."""
    from mzprobe.sources import find_source

    return find_source(path, source=source, given=agent or (), allow=allow or ())


def opened_agent(path: Path, step: list[int] | None, source: "Source", device: str, allow: list[str] | None) -> "Agent":
    """Loads an agent at one training step.

    Raises:
        UsageError: if several steps are given, or there is no such device.
    """
    from mzprobe.compute import Compute
    from mzprobe.errors import UsageError
    from mzprobe.sources import open_agent

    check_device(device)
    if step is not None and len(step) > 1:
        raise UsageError("look at one training step at a time: give --step once")
    one = step[0] if step else None
    return open_agent(path, step=one, source=source, compute=Compute(device=device), allow=allow or ())


def sources() -> None:
    """List the code bases whose checkpoints can be read, and what each was verified against."""
    from mzprobe.console import console
    from mzprobe.sources import sources as known
    from mzprobe.sources.foreign import FileSource

    for name, one in known().items():
        if isinstance(one, FileSource):
            console.print(f"{name}: checkpoints of {one.adapter.of}, compared with {one.adapter.verified}")
        else:
            console.print(f"{name}: {(type(one).__doc__ or '').splitlines()[0].rstrip('.')}")
