"""The commands that ask checkpoints a question, one a probe."""

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mzprobe.cli.options import (
    AgentPath,
    BatchSize,
    Checkpoints,
    Device,
    DryRun,
    Out,
    Overwrite,
    Processes,
    Set,
    Step,
    check_device,
)
from mzprobe.errors import Interrupted

if TYPE_CHECKING:
    from rich.progress import Progress as ProgressBars
    from rich.progress import TaskID

    from mzprobe.probes.runner import ProbeRun

ANALYSES, CHECKPOINTS = Path("analyses"), Path("checkpoints")

States = Annotated[int | None, typer.Option(help="S, states for each agent and checkpoint.")]
Episodes = Annotated[int | None, typer.Option(help="E, episodes of each policy, from the same starts.")]
Simulations = Annotated[list[int] | None, typer.Option(help="N, simulations; may be given again for several.")]
Horizon = Annotated[int | None, typer.Option(help="Planning horizon of rollouts, steps counted from the root.")]


def add_commands(app: typer.Typer) -> None:
    """Adds the probes' commands."""
    here = "checkpoints/cartpole"
    app.command("eval-online", epilog=f"Example: mzprobe eval-online {here}")(eval_online)
    app.command("eval-horizon", epilog=f"Example: mzprobe eval-horizon {here}/seed-0 --out analyses")(eval_horizon)
    app.command("eval-sequences", epilog=f"Example: mzprobe eval-sequences {here} --states 50")(eval_sequences)
    app.command("cross-matrix", epilog=f"Example: mzprobe cross-matrix {here} --step 1000 --step 10000")(cross_matrix)
    app.command("eval-search", epilog=f"Example: mzprobe eval-search {here} --step 2000")(eval_search)
    app.command("eval-planning", epilog=f"Example: mzprobe eval-planning {here} --step 2000 --simulations 64")(
        eval_planning
    )


def eval_online(
    path: AgentPath = None,
    out: Out = ANALYSES,
    step: Step = None,
    episodes: Episodes = None,
    overrides: Set = None,
    checkpoints: Checkpoints = CHECKPOINTS,
    device: Device = "cpu",
    processes: Processes = 1,
    batch_size: BatchSize = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Figure 2: what does acting by search bring, and what the policy network alone?

    One row an episode. An interrupted command goes on with the checkpoints that are missing.
    """
    ask = Question(
        name="online",
        path=path,
        out=out,
        step=step,
        overrides=overrides,
        checkpoints=checkpoints,
        device=device,
        processes=processes,
        batch_size=batch_size,
        overwrite=overwrite,
        dry_run=dry_run,
    )
    ask.answer(episodes=episodes)


def eval_horizon(
    path: AgentPath = None,
    out: Out = ANALYSES,
    step: Step = None,
    states: States = None,
    horizon: Annotated[int | None, typer.Option(help="Largest h; the unroll length of training by default.")] = None,
    overrides: Set = None,
    checkpoints: Checkpoints = CHECKPOINTS,
    device: Device = "cpu",
    processes: Processes = 1,
    batch_size: BatchSize = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Figure 3: how wrong are values under the agent's own behaviour policy, by horizon?

    Truth and model are scored on the same action sequences. A table holds one row a state and horizon; an interrupted
    command goes on with the checkpoints that are missing.
    """
    ask = Question(
        name="horizon",
        path=path,
        out=out,
        step=step,
        overrides=overrides,
        checkpoints=checkpoints,
        device=device,
        processes=processes,
        batch_size=batch_size,
        overwrite=overwrite,
        dry_run=dry_run,
    )
    ask.answer(states=states, horizon=horizon)


def eval_sequences(
    path: AgentPath = None,
    out: Out = ANALYSES,
    step: Step = None,
    states: States = None,
    length: Annotated[int | None, typer.Option(help="h, length of the sequences; all A^h are scored.")] = None,
    overrides: Set = None,
    checkpoints: Checkpoints = CHECKPOINTS,
    device: Device = "cpu",
    processes: Processes = 1,
    batch_size: BatchSize = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Figure 4: is the model more wrong about action sequences that the behaviour policy would hardly take?

    One row a state and sequence, ranked by probability within the state.
    """
    ask = Question(
        name="sequences",
        path=path,
        out=out,
        step=step,
        overrides=overrides,
        checkpoints=checkpoints,
        device=device,
        processes=processes,
        batch_size=batch_size,
        overwrite=overwrite,
        dry_run=dry_run,
    )
    ask.answer(states=states, length=length)


def cross_matrix(
    path: AgentPath = None,
    out: Out = ANALYSES,
    step: Step = None,
    states: States = None,
    horizon: Annotated[int | None, typer.Option(help="h; the unroll length of training by default.")] = None,
    overrides: Set = None,
    checkpoints: Checkpoints = CHECKPOINTS,
    device: Device = "cpu",
    processes: Processes = 1,
    batch_size: BatchSize = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Figure 5: can the model of one training step evaluate the behaviour policy of another?

    Every checkpoint's model and states (rows) with every checkpoint's policy (columns). A step that is added later
    adds its row and its column.
    """
    ask = Question(
        name="cross",
        path=path,
        out=out,
        step=step,
        overrides=overrides,
        checkpoints=checkpoints,
        device=device,
        processes=processes,
        batch_size=batch_size,
        overwrite=overwrite,
        dry_run=dry_run,
    )
    ask.answer(states=states, horizon=horizon)


def eval_search(
    path: AgentPath = None,
    out: Out = ANALYSES,
    step: Annotated[
        list[int] | None, typer.Option(help="Training step; may be given again. As the paper's, 2000 by default.")
    ] = None,
    states: States = None,
    simulations: Simulations = None,
    horizon: Horizon = None,
    overrides: Set = None,
    checkpoints: Checkpoints = CHECKPOINTS,
    device: Device = "cpu",
    processes: Processes = 1,
    batch_size: BatchSize = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Figure 6: does the policy prior keep the search where the model is right?

    Errors of the trajectories that a search simulates, and how far the policy network is from where its visits go,
    with the policy prior and with a uniform one.
    """
    ask = Question(
        name="search",
        path=path,
        out=out,
        step=step,
        overrides=overrides,
        checkpoints=checkpoints,
        device=device,
        processes=processes,
        batch_size=batch_size,
        overwrite=overwrite,
        dry_run=dry_run,
    )
    ask.answer(states=states, simulations=simulations or None, horizon=horizon)


def eval_planning(
    path: AgentPath = None,
    out: Out = ANALYSES,
    step: Step = None,
    episodes: Episodes = None,
    simulations: Simulations = None,
    horizon: Horizon = None,
    leaf: Annotated[str | None, typer.Option(help="rollout, or value: the network's, in a table of its own.")] = None,
    overrides: Set = None,
    checkpoints: Checkpoints = CHECKPOINTS,
    device: Device = "cpu",
    processes: Processes = 1,
    batch_size: BatchSize = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Figure 7: does the learned model help planning, and how far from the true one?

    Returns of acting by search in the {learned, true} model with the {policy, uniform} prior, for every N, and of
    the policy prior alone. All cells start from the same states.
    """
    ask = Question(
        name="planning",
        path=path,
        out=out,
        step=step,
        overrides=overrides,
        checkpoints=checkpoints,
        device=device,
        processes=processes,
        batch_size=batch_size,
        overwrite=overwrite,
        dry_run=dry_run,
    )
    ask.answer(episodes=episodes, simulations=simulations or None, horizon=horizon, leaf=leaf)


@dataclass(frozen=True, kw_only=True)
class Question:
    """A probe's name and the options that all probes share."""

    name: str
    path: Path | None
    out: Path
    step: list[int] | None
    overrides: list[str] | None
    checkpoints: Path
    device: str
    processes: int
    batch_size: int | None
    overwrite: bool
    dry_run: bool

    def answer(self, **settings: Any) -> None:
        """Asks all agents at the path, with settings where they are not None; prints the tables' paths."""
        from mzprobe.checkpoints import find_agents, newest_run
        from mzprobe.config import validated, with_overrides
        from mzprobe.console import console
        from mzprobe.probes.prefixes import BATCH_SIZE
        from mzprobe.probes.registry import PROBES
        from mzprobe.probes.runner import ProbeRun

        check_device(self.device)
        probe, path = PROBES[self.name], self.path
        values = with_overrides(probe.config(), self.overrides or []).model_dump()
        given = {key: value for key, value in settings.items() if value is not None}
        config = validated(probe.config, values | given, probe.command)
        if path is None:
            path = newest_run(self.checkpoints)
            console.print(f"run {path.name}, the newest under {self.checkpoints}")
        runs = [
            ProbeRun(
                probe=probe,
                agent=agent,
                config=config,
                analyses=self.out,
                command=_recorded(sys.argv[1:], [] if self.path else [str(path)]),
                steps=tuple(self.step or ()),
                device=self.device,
                batch_size=self.batch_size or BATCH_SIZE,
                overwrite=self.overwrite,
            )
            for agent in find_agents(path)
        ]
        if _announced(runs, self.processes) and not self.dry_run:
            _run_all(runs, self.processes)
        for run in [] if self.dry_run else runs:
            console.print(f"{run.path()}")


def _recorded(arguments: Sequence[str], further: Sequence[str]) -> str:
    """The command as a table keeps it: with the path that was found, without options that change no byte."""
    kept, skip = ["mzprobe"], False
    for argument in arguments:
        option = argument.partition("=")[0] in ("--batch-size", "--processes")
        if not option and not skip:
            kept.append(argument)
        skip = option and "=" not in argument
    return shlex.join([*kept, *further])


def _announced(runs: "Sequence[ProbeRun]", processes: int) -> bool:
    """Says what there is to do; whether there is anything."""
    from mzprobe.console import errors, spelled
    from mzprobe.probes.cost import Cost, seconds
    from mzprobe.probes.runner import remaining_cost

    costs = [remaining_cost(run) for run in runs]
    count, total = sum(n for n, _ in costs), sum((cost for _, cost in costs), Cost())
    name = runs[0].probe.name
    if count == 0:
        errors.print(f"{name}: the tables hold all of it already")
        return False
    agent = runs[0].load(runs[0].checkpoints()[-1])
    busy = sum(n > 0 for n, _ in costs)
    needed = seconds(total, agent, trees=runs[0].probe.trees(runs[0].config))
    duration = spelled(needed * ceil(busy / processes) / busy)
    what = f"{count} checkpoint{'s' if count > 1 else ''} of {busy} agent{'s' if busy > 1 else ''}"
    errors.print(f"{name}: {what}, at most {total}; about {duration}")
    return True


def _run_all(runs: "Sequence[ProbeRun]", processes: int) -> None:
    """Runs a probe over agents, with a bar for each: in this process one after the other, or side by side."""
    from mzprobe.console import progress_bars, stopping
    from mzprobe.probes.runner import run_probe
    from mzprobe.study import ProbeTask
    from mzprobe.study.processes import Report, run_tasks

    def interrupt() -> None:
        raise Interrupted("stopped: the checkpoints that are done are kept, run the same command again to resume")

    with progress_bars() as bars:
        labels = [f"{run.agent.parent.name} {run.agent.name} {run.probe.name}" for run in runs]
        added = [bars.add_task(label, total=None, note="checkpoints") for label in labels]
        if processes == 1:
            for run, bar in zip(runs, added, strict=True):
                run_probe(run, on_progress=_updater(bars, bar))
            return
        tasks = [ProbeTask(run_of=run) for run in runs]
        of_seed = {task.seed: bar for task, bar in zip(tasks, added, strict=True)}

        def show(report: Report) -> None:
            bars.update(of_seed[report.seed], completed=report.done, total=report.total)

        with stopping(interrupt):
            run_tasks(tasks, processes=processes, on_report=show)


def _updater(bars: "ProgressBars", bar: "TaskID") -> Callable[[float, int], None]:
    return lambda done, total: bars.update(bar, completed=done, total=total)
