"""Trains an agent in a process of a study, which reports a few times per second and stops on request."""

import time
from collections.abc import Callable

from mzprobe.execution.core import Report
from mzprobe.training.trainer import Progress, Trainer

SECONDS = 0.2  # least time between two reports
TRAIN = "train"  # phase in reports, and end of the name of a training task
PROCESS = 600 << 20  # approximate bytes of a process that has imported what a task needs


def train_agent(trainer: Trainer, label: str, report: Callable[[Report], None], must_stop: Callable[[], bool]) -> None:
    """Trains to the last step, from the saved state if there is one.

    Args:
        trainer: trainer of the agent.
        label: label of the task in its reports.
        report: called with every report of progress.
        must_stop: called at every report; True stops training.

    Raises:
        Interrupted: if it was stopped; the state is saved.
        MzprobeError: see `Trainer.train`.
    """
    reported = 0.0

    def trained(progress: Progress) -> None:
        nonlocal reported
        if time.monotonic() < reported + SECONDS and progress.step < progress.steps:
            return
        reported = time.monotonic()
        trainer.stop = must_stop()
        steps = {"done": progress.step, "total": progress.steps}
        report(Report(label=label, phase=TRAIN, **steps, note=progress.note))

    trainer.train(trained)
