"""Studies: which agents and probes, in what order; agents side by side in processes of their own."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mzprobe.checkpoints import agent_folder, seed_of
from mzprobe.config import RunConfig
from mzprobe.errors import Interrupted
from mzprobe.probes.registry import PROBES
from mzprobe.probes.runner import ProbeRun, run_probe
from mzprobe.settings import StudyConfig, StudyRun
from mzprobe.study.dataset import DatasetTask
from mzprobe.study.plan import refuse_missing_steps
from mzprobe.study.processes import Report, run_tasks
from mzprobe.study.timing import write_timing
from mzprobe.study.training import SECONDS, train_agent
from mzprobe.training.trainer import Trainer
from mzprobe.trust import modules_of


@dataclass(frozen=True, kw_only=True)
class ProbeTask:
    """One probe of an agent."""

    run_of: ProbeRun

    @property
    def label(self) -> str:
        """The agent's seed."""
        return f"seed {seed_of(self.run_of.path().with_suffix(''))}"

    def run(self, report: Callable[[Report], None], must_stop: Callable[[], bool]) -> None:
        """Measures what its table does not hold yet."""
        _probe(self.run_of, self.label, report, must_stop)


@dataclass(frozen=True, kw_only=True)
class AgentTask:
    """An agent of a study: train it, then probe its checkpoints."""

    run_name: str
    seed: int
    config: RunConfig
    study: StudyConfig
    checkpoints: Path
    analyses: Path
    command: str
    variant: str = ""
    workers: int = 1  # processes that share the episodes of a probe, where it can have that
    allow: tuple[str, ...] = ()  # modules whose code the configuration may name

    @property
    def label(self) -> str:
        """The agent's seed, behind its variant if it has one."""
        return agent_label(self.variant, self.seed)

    def run(self, report: Callable[[Report], None], must_stop: Callable[[], bool]) -> None:
        """Does what is not done yet."""
        trainer = Trainer(self.config, seed=self.seed, run=self.run_name, out=self.checkpoints, command=self.command)
        train_agent(trainer, self.label, report, must_stop)
        write_timing(trainer.folder, self.analyses, command=self.command)
        for probe in self.probes():
            _probe(probe, self.label, report, must_stop)

    def probes(self) -> list[ProbeRun]:
        """The probes of the study, on this agent."""
        return [
            ProbeRun(
                probe=PROBES[name],
                agent=agent_folder(self.checkpoints, self.run_name, self.seed),
                config=config,
                analyses=self.analyses,
                steps=steps,
                workers=self.workers,
                allow=self.allow,
            )
            for name, (config, steps) in self.study.probes().items()
        ]


def run_study(
    study: StudyConfig,
    runs: Sequence[StudyRun],
    *,
    dataset: DatasetTask | None = None,
    checkpoints: Path,
    analyses: Path,
    command: str,
    processes: int | None = None,
    on_report: Callable[[Report], None] = lambda _: None,
) -> None:
    """Makes the dataset, then trains and probes every agent, as far as that is not done yet.

    Agents come seed by seed, so that an interrupted study has all variants of the first ones.

    Args:
        study: seeds and probes.
        runs: one a variant, or one.
        dataset: what makes the recorded episodes that runs learn from, if the study does.
        checkpoints: folder of all checkpoints.
        analyses: folder of all tables.
        command: that a reader can type to make all of it.
        processes: agents at a time; by default as many as there are cores. Where there are at least twice as
            many as agents, planning shares its episodes out.
        on_report: told of progress.

    Raises:
        Interrupted: on Ctrl-C, SIGTERM or SIGHUP; every agent has saved its state.
        UsageError: before anything is done, if a probe looks at a step that will have no checkpoint.
        MzprobeError: the first failure of an agent; the others are finished.
    """
    for run in runs:
        refuse_missing_steps(study, run.config)
    agents = len(study.seeds) * len(runs)
    tasks = [
        AgentTask(
            run_name=run.name,
            variant=run.variant,
            seed=seed,
            config=run.config,
            workers=max(1, (processes or os.cpu_count() or 1) // agents),
            study=study,
            checkpoints=checkpoints,
            analyses=analyses,
            command=command,
            allow=modules_of(run.config),
        )
        for seed in study.seeds
        for run in runs
    ]
    if dataset:
        run_tasks([dataset], processes=1, on_report=on_report)
    run_tasks(tasks, processes=processes, on_report=on_report)


def agent_label(variant: str, seed: int) -> str:
    """How an agent of a study is called where progress and failures are said."""
    return f"{variant} seed {seed}" if variant else f"seed {seed}"


def _probe(run: ProbeRun, label: str, report: Callable[[Report], None], must_stop: Callable[[], bool]) -> None:
    reported, whole = 0.0, -1

    def probed(done: float, total: int) -> None:
        nonlocal reported, whole
        # Hundreds of reports a second would keep the parent from what its cores are for.
        if done >= whole + 1 or time.monotonic() >= reported + SECONDS:
            reported, whole = time.monotonic(), int(done)
            report(Report(label=label, phase=run.probe.name, done=done, total=total))
        if must_stop():
            raise Interrupted("stopped inside a probe: the checkpoints that are done are kept")

    run_probe(run, on_progress=probed)
