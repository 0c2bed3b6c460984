"""Runs probes from the command line: the options that all probes share, and the `ProbeRun` made from them."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mzprobe.cli.options import (
    Acting,
    AgentPath,
    Allow,
    Checkpoints,
    Device,
    DryRun,
    Given,
    Memory,
    Out,
    Overwrite,
    Precision,
    Processes,
    Setting,
    SourceName,
    Step,
    check_device,
)
from mzprobe.errors import Interrupted, UsageError
from mzprobe.files import NO_AGENT, refuse_absent, there
from mzprobe.settings import ProbeConfig

if TYPE_CHECKING:
    from mzprobe.compute import Compute
    from mzprobe.console import PhaseBars
    from mzprobe.probes.runner import ProbeRun
    from mzprobe.sources.core import Source

_LEAST = 1 << 10  # smallest --memory, in bytes; less means that a unit was forgotten
_FIRST = ("path", "out", "step")  # shared options that --help lists before a probe's own; the others come last


@dataclass(frozen=True, kw_only=True)
class ProbeOptions:
    """Options that all probes share."""

    path: AgentPath = None
    out: Out = Path("analyses")
    step: Step = None
    acting: Acting = None
    overrides: Setting = None
    checkpoints: Checkpoints = Path("checkpoints")
    device: Device = "cpu"
    precision: Precision = "highest"
    processes: Processes = 1
    memory: Memory = None
    overwrite: Overwrite = False
    source: SourceName = None
    agent: Given = None
    allow: Allow = None
    dry_run: DryRun = False

    def answer(self, question: type[ProbeConfig], settings: dict[str, Any]) -> None:
        """Runs a probe on all agents at the path, with the given settings, and prints the paths of the tables."""
        config = self._config(question, settings)
        path = self._given_path()
        size = self._memory()
        check_device(self.device)
        # Mistyped arguments are reported before the imports below, which take seconds.
        from mzprobe.checkpoints import newest_run
        from mzprobe.compute import MEMORY, Compute
        from mzprobe.console import compiling, console
        from mzprobe.locks import tidy

        if path is None:
            path = newest_run(self.checkpoints)
            console.print(f"run {path.name}, the newest under {self.checkpoints}")
        compute = Compute(device=self.device, precision=self.precision, memory=size or MEMORY)
        runs = self._runs(path, config, compute)
        _refuse_copies(runs)
        with compiling():
            is_needed = _print_plan(runs, self.processes)
            if self.dry_run:
                return
            if is_needed:
                _run_all(runs, self.processes)
        for run in runs:
            tidy(run.path())
            console.print(f"{run.path()}")

    def _config(self, question: type[ProbeConfig], settings: dict[str, Any]) -> ProbeConfig:
        """Returns the question's settings: its defaults, changed by --set, then --acting, then its own options."""
        from mzprobe.config import validated, with_overrides

        acting = [f"acting.{override}" for override in self.acting or []]
        values = with_overrides(
            with_overrides(question(), self.overrides or []), acting, option="--acting"
        ).model_dump()
        given = {key: value for key, value in settings.items() if value not in (None, [])}
        return validated(question, values | given, question.command)

    def _given_path(self) -> Path | None:
        """Returns the given path, if any; the name of a run stands for its folder of checkpoints."""
        path = self.path
        if path is None or self.source is not None:
            return path
        of_run = self.checkpoints / path
        path = of_run if not there(path) and there(of_run) else path
        refuse_absent(path, remedy=NO_AGENT)
        return path

    def _memory(self) -> int | None:
        """Returns --memory in bytes; None if it is not given.

        Raises:
            UsageError: if it is no size, or too small.
        """
        from mzprobe.system.memory import size_of

        size = None if self.memory is None else size_of(self.memory)
        if size is not None and size < _LEAST:
            raise UsageError(f"--memory {self.memory} is less than 1 KiB: give one such as --memory 512MiB")
        return size

    def _runs(self, path: Path, config: ProbeConfig, compute: "Compute") -> "list[ProbeRun]":
        """Returns the `ProbeRun` of each agent at a path; for other code, prints the origin of the agents."""
        from mzprobe.probes.registry import PROBES
        from mzprobe.probes.runner import ProbeRun
        from mzprobe.sources import find_source
        from mzprobe.sources.own import Own

        source = find_source(path, source=self.source, given=self.agent or (), allow=self.allow or ())
        steps = tuple(self.step or ())
        if isinstance(source, Own) and source.is_checkpoint(path):
            path, steps = _of_checkpoint(path, steps)
        agents = source.agents(path)
        if source.name != "own":
            _introduce(source, agents)
        return [
            ProbeRun(
                probe=PROBES[config.question],
                agent=agent,
                config=config,
                analyses=self.out,
                steps=steps,
                source=source,
                compute=compute,
                overwrite=self.overwrite,
                allow=tuple(self.allow or ()),
                workers=max(1, self.processes // len(agents)),
            )
            for agent in agents
        ]


def _of_checkpoint(path: Path, steps: tuple[int, ...]) -> tuple[Path, tuple[int, ...]]:
    """Returns the agent of a single checkpoint, and its training step.

    Raises:
        UsageError: if other steps are given too.
    """
    from mzprobe.checkpoints import step_of

    own = (step_of(path),)
    if steps not in ((), own):
        raise UsageError(f"{path} is one checkpoint: leave --step out, or give the folder of its agent")
    return path.parent, own


def _refuse_copies(runs: "Sequence[ProbeRun]") -> None:
    """Refuses agents whose records name the same table: one is a copy, whatever its folder is called.

    Raises:
        UsageError: if there are such agents; names two.
    """
    first: dict[Path, Path] = {}
    for run in runs:
        known = first.setdefault(run.path(), run.agent)
        if known != run.agent:
            raise UsageError(
                f"{known} and {run.agent} are the same agent by their records (table {run.path()}): put the copy "
                "elsewhere, or ask about one of them"
            )


def _introduce(source: "Source", agents: Sequence[Path]) -> None:
    """Prints what the tables of another code's agents will record: their origin, what is assumed, and what differs.

    What is the same of several checkpoints is said once, below all of them.
    """
    from mzprobe.console import errors
    from mzprobe.sources.looking import assumed

    checkpoints: dict[tuple[str, ...], list[str]] = {}  # by what is said below them
    for checkpoint in (one for agent in agents for one in source.checkpoints(agent).values()):
        origin = source.origin(checkpoint)
        environment = origin.environment
        checkpoints.setdefault(tuple(assumed(origin)), []).append(
            f"{checkpoint}: {source.name}, training step {origin.training_step}, asked in {environment['name']} "
            f"(gamma {environment['gamma']:g}, {environment['time_limit']} steps)"
        )
    for below, lines in checkpoints.items():
        for line in (*lines, *(f"  {one}" for one in below)):
            errors.print(line)


def command_of(question: type[ProbeConfig], its: list[inspect.Parameter]) -> Callable[..., None]:
    """Returns the command of a question, for Typer, which reads the options from its signature.

    Args:
        question: class of its settings, whose docstring is the help of the command.
        its: options of this question alone, each a field of the settings.
    """
    shared = inspect.signature(ProbeOptions).parameters.values()

    def command(**given: Any) -> None:
        settings = {option.name: given.pop(option.name) for option in its}
        ProbeOptions(**given).answer(question, settings)

    first = [option for option in shared if option.name in _FIRST]
    parameters = [*first, *its, *(option for option in shared if option.name not in _FIRST)]
    command.__doc__ = question.__doc__
    command.__annotations__ = {option.name: option.annotation for option in parameters}
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


def _print_plan(runs: "Sequence[ProbeRun]", processes: int) -> bool:
    """Prints what there is to do and how long it takes; returns whether there is anything to do."""
    from mzprobe.console import duration, errors
    from mzprobe.probes.cost import Cost, seconds
    from mzprobe.probes.runner import lost_steps, remaining_cost

    costs = [remaining_cost(run) for run in runs]
    count, total = sum(n for n, _ in costs), sum((cost for _, cost in costs), Cost())
    name = runs[0].probe.name
    if count == 0:
        errors.print(f"{name}: the tables hold all of it already")
        return False
    agent = runs[0].load([*runs[0].checkpoints().values()][-1])
    busy = sum(n > 0 for n, _ in costs)
    needed = seconds(total, agent, trees=runs[0].probe.side_by_side(runs[0].config))
    workers = runs[0].workers if runs[0].probe.shared else 1
    about = duration(needed * ceil(busy / processes) / busy / workers)
    what = f"{count} checkpoint{'s' if count > 1 else ''} of {busy} agent{'s' if busy > 1 else ''}"
    errors.print(f"{name}: {what}, at most {total}; about {about}")
    lost = sorted({step for run in runs for step in lost_steps(run)})
    if lost:
        errors.print(
            f"warning: the tables replaced hold training steps {', '.join(map(str, lost))} too, which go with them"
        )
    return True


def _run_all(runs: "Sequence[ProbeRun]", processes: int) -> None:
    """Runs a probe on agents with a bar for each: one after the other in this process, or in parallel processes."""
    from mzprobe.console import PhaseBars, progress_bars, stopping
    from mzprobe.execution.core import Report
    from mzprobe.execution.local import Local
    from mzprobe.locks import all_held
    from mzprobe.probes.runner import run_probe
    from mzprobe.study.tasks import ProbeTask

    def interrupt() -> None:
        raise Interrupted("stopped: the checkpoints that are done are kept, run the same command again to resume")

    # All locks are taken first, so that of two commands one does everything and the other nothing.
    with all_held([run.path() for run in runs]), progress_bars() as bars:
        runs = [replace(run, locked=True) for run in runs]
        labels = [f"{run.agent.parent.name} {run.agent.name}" for run in runs]
        phases = PhaseBars(bars, labels)
        if processes == 1:
            for run, label in zip(runs, labels, strict=True):
                run_probe(run, on_progress=_shower(phases, label, run.probe.name))
            return
        tasks = [ProbeTask(run_of=run, name=label) for run, label in zip(runs, labels, strict=True)]
        of_task = {task.label: label for task, label in zip(tasks, labels, strict=True)}

        def show(report: Report) -> None:
            note = "checkpoints" if report.total else ""
            phases.show(of_task[report.label], report.phase, done=report.done, total=report.total, note=note)

        with stopping(interrupt):
            Local(processes=processes).run(tasks, on_report=show)


def _shower(phases: "PhaseBars", label: str, name: str) -> Callable[[float, int], None]:
    return lambda done, total: phases.show(label, name, done=done, total=total, note="checkpoints")
