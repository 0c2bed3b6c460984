"""`mzprobe play`: an episode of an agent, in the terminal, or as a GIF or MP4."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mzprobe.cli.looking import Checkpoint, opened_agent, source_of
from mzprobe.cli.options import Allow, Device, Given, SourceName, Step

if TYPE_CHECKING:
    from mzprobe.watching import Watched


def play(
    path: Checkpoint,
    out: Annotated[Path | None, typer.Option("--out", help="File to write, .gif or .mp4; else the terminal.")] = None,
    step: Step = None,
    episode: Annotated[int, typer.Option(min=0, help="Number of the episode; the same number has the same start.")] = 0,
    policy: Annotated[Literal["search", "prior"], typer.Option(help="Act by the search, or the policy network.")] = (
        "search"
    ),
    temperature: Annotated[float | None, typer.Option(min=0, help="Temperature T; by default the agent's own.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Largest number of steps to play.")] = None,
    horizon: Annotated[int, typer.Option(min=1, help="Steps that the model dreams ahead.")] = 10,
    every: Annotated[int, typer.Option(min=1, help="Steps from one frame to the next.")] = 2,
    fps: Annotated[float, typer.Option(min=1, max=50, help="Frames per second.")] = 20,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file that lies at --out.")] = False,
    source: SourceName = None,
    agent: Given = None,
    device: Device = "cpu",
    allow: Allow = None,
) -> None:
    """Watch an agent play an episode, beside what its search visits and what its model dreams.

    The dream is the model unrolled along the actions that were taken next: k predicted rewards and the value after
    them, beside what really came. In a file, every frame shows it; the terminal shows the state, the visits and the
    values.
    """
    from mzprobe.console import console, errors, progress_bars
    from mzprobe.watching import check_video, frames_of, watch, write_video

    if out is not None:
        check_video(out, overwrite=overwrite)
    opened = opened_agent(path, step, source_of(path, source, agent, allow), device, allow)
    limit = min(steps or opened.environment.spec.time_limit, opened.environment.spec.time_limit)
    with progress_bars() as bars:
        bar = bars.add_task("plays", total=limit, note="steps")
        watched = watch(
            opened,
            episode=episode,
            actor=policy,
            temperature=temperature,
            horizon=horizon,
            steps=steps,
            on_step=lambda done: bars.update(bar, completed=done + 1),
        )
        played = len(watched.actions)
        bars.update(bar, total=played, completed=played)
        if out is not None:
            bar = bars.add_task("draws", total=-(-played // every) + 1, note="frames")
            name = f"{opened.origin.run}, training step {opened.origin.training_step}"
            frames = bars.track(frames_of(watched, every=every, title=name), task_id=bar)
            write_video(out, frames, fps=fps)
    if out is None:
        _show(watched, every=every, fps=fps)
    ended = "to its end" if watched.terminated else "cut"
    errors.print(f"{played} steps, {ended}; return {watched.rewards.sum():.5g}")
    if out is not None:
        console.print(f"{out}")


def _show(watched: "Watched", *, every: int, fps: float) -> None:
    """Shows every `every`-th step in the terminal; if the output is not a terminal, prints one line for each."""
    from rich.live import Live

    from mzprobe.console import console

    shown = range(0, len(watched.actions), every)
    if not console.is_terminal:
        for t in shown:
            console.print(_line(watched, t))
        return
    with Live(console=console, auto_refresh=False) as live:
        for t in shown:
            live.update(_screen(watched, t), refresh=True)
            time.sleep(1 / fps)


def _screen(watched: "Watched", t: int) -> Any:
    from rich.console import Group
    from rich.text import Text

    from mzprobe.cli.sketches import blocks

    parts = [Text(_line(watched, t))]
    if watched.pictures is not None:
        parts.append(blocks(watched.pictures[t]))
    return Group(*parts)


def _line(watched: "Watched", t: int) -> str:
    """Describes a step in one line."""
    spec, action = watched.spec, watched.actions[t]
    said = ", ".join(
        f"{name} {acting:.2f} (prior {prior:.2f})"
        for name, acting, prior in zip(spec.action_meanings, watched.acting[t], watched.prior[t], strict=True)
    )
    reward, dreamt = watched.rewards[t], watched.dreamt_rewards[t, 0]
    values = f"value {watched.value[t]:.4g}, search {watched.search_value[t]:.4g}"
    return f"step {t}: {spec.action_meanings[action]}, reward {reward:.4g} (dreamt {dreamt:.4g}), {values}; {said}"
