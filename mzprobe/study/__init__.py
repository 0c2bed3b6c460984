"""Studies: which agents and probes, in what order; agents side by side in processes of their own."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mzprobe.checkpoints import agent_folder, seed_of
from mzprobe.config import RunConfig
from mzprobe.errors import Interrupted
from mzprobe.probes.registry import PROBES
from mzprobe.probes.runner import ProbeRun, run_probe
from mzprobe.settings import StudyConfig
from mzprobe.study.plan import refuse_missing_steps
from mzprobe.study.processes import Report, run_tasks
from mzprobe.training.trainer import Progress, Trainer


@dataclass(frozen=True, kw_only=True)
class ProbeTask:
    """One probe of an agent."""

    run_of: ProbeRun

    @property
    def seed(self) -> int:
        """Of the agent."""
        return seed_of(self.run_of.path().with_suffix(""))

    def run(self, report: Callable[[Report], None], must_stop: Callable[[], bool]) -> None:
        """Measures what its table does not hold yet."""
        _probe(self.run_of, self.seed, report, must_stop)


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

    def run(self, report: Callable[[Report], None], must_stop: Callable[[], bool]) -> None:
        """Does what is not done yet."""
        trainer = Trainer(self.config, seed=self.seed, run=self.run_name, out=self.checkpoints, command=self.command)
        reported = 0.0

        def trained(progress: Progress) -> None:
            nonlocal reported
            if time.monotonic() < reported + 0.2 and progress.step < progress.steps:
                return
            reported = time.monotonic()
            trainer.stop = must_stop()
            steps = {"done": progress.step, "total": progress.steps}
            report(Report(seed=self.seed, phase="train", **steps, training=progress))

        trainer.train(trained)
        for probe in self.probes():
            _probe(probe, self.seed, report, must_stop)

    def probes(self) -> list[ProbeRun]:
        """The probes of the study, on this agent."""
        return [
            ProbeRun(
                probe=PROBES[name],
                agent=agent_folder(self.checkpoints, self.run_name, self.seed),
                config=config,
                analyses=self.analyses,
                command=self.command,
                steps=steps,
            )
            for name, (config, steps) in self.study.probes().items()
        ]


def run_study(
    name: str,
    study: StudyConfig,
    config: RunConfig,
    *,
    checkpoints: Path,
    analyses: Path,
    command: str,
    processes: int | None = None,
    on_report: Callable[[Report], None] = lambda _: None,
) -> None:
    """Trains and probes every agent that is not done yet.

    Args:
        name: of the run.
        study: agents and probes.
        config: of the run.
        checkpoints: folder of all checkpoints.
        analyses: folder of all tables.
        command: that a reader can type to make all of it.
        processes: agents at a time; by default as many as there are cores.
        on_report: told of progress.

    Raises:
        Interrupted: on Ctrl-C or SIGTERM; every agent has saved its state.
        UsageError: before anything is done, if a probe looks at a step that will have no checkpoint.
        MzprobeError: the first failure of an agent; the others are finished.
    """
    refuse_missing_steps(study, config)
    tasks = [
        AgentTask(
            run_name=name,
            seed=seed,
            config=config,
            study=study,
            checkpoints=checkpoints,
            analyses=analyses,
            command=command,
        )
        for seed in study.seeds
    ]
    run_tasks(tasks, processes=processes, on_report=on_report)


def _probe(run: ProbeRun, seed: int, report: Callable[[Report], None], must_stop: Callable[[], bool]) -> None:
    def probed(done: float, total: int) -> None:
        report(Report(seed=seed, phase=run.probe.name, done=done, total=total))
        if must_stop():
            raise Interrupted("stopped inside a probe: the checkpoints that are done are kept")

    run_probe(run, on_progress=probed)
