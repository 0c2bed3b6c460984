"""Training an agent inside a study's process: it reports a few times a second, and stops when it is told to."""

import time
from collections.abc import Callable

from mzprobe.execution.core import Report
from mzprobe.training.trainer import Progress, Trainer

SECONDS = 0.2  # between reports
TRAIN = "train"  # a phase, and the end of a task's name


def train_agent(trainer: Trainer, label: str, report: Callable[[Report], None], must_stop: Callable[[], bool]) -> None:
    """Trains to the last step, from the saved state if there is one.

    Args:
        trainer: of the agent.
        label: of the task in its reports.
        report: told of progress.
        must_stop: asked whether to stop.

    Raises:
        Interrupted: if it had to stop; the state is saved.
        MzprobeError: as `Trainer.train`.
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
