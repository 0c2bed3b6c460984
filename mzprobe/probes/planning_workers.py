"""Processes that share the episodes of the planning probe, so that the same rows are made sooner.

Every process loads the checkpoint itself and draws the same random numbers. Only the choice of episodes and their rows
are sent between processes.
"""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import pandas as pd

from mzprobe.agents import Agent
from mzprobe.compute import Compute
from mzprobe.errors import MzprobeError
from mzprobe.probes.acting import acting_as
from mzprobe.probes.planning import Job, play
from mzprobe.settings import PlanningConfig
from mzprobe.sources.core import Source
from mzprobe.system.orphans import follow_parent

_POLL = 0.2  # seconds between looks at whether to stop


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Processes that play a checkpoint's episodes."""

    source: Source
    checkpoint: Path
    compute: Compute
    workers: int
    idle: Callable[[], int] | None = None  # returns the number of cores now idle, each for one more process
    allow: tuple[str, ...] = ()  # modules whose code the checkpoint may name

    def count(self) -> int:
        """Returns `workers` plus the number of cores that are idle now; see `Players.count`."""
        return self.workers + (self.idle() if self.idle else 0)

    def play(self, jobs: Sequence[Job], config: PlanningConfig, on_done: Callable[[float], None]) -> list[pd.DataFrame]:
        """Plays jobs in new processes and returns the rows of each, in order.

        Args:
            jobs: jobs to play.
            config: settings of the probe.
            on_done: called periodically with the fraction done; an exception from it stops the processes at once and
                propagates.

        Raises:
            MzprobeError: if a process dies.
        """
        before = set(multiprocessing.active_children())
        count, context = min(self.count(), len(jobs)), multiprocessing.get_context("spawn")
        executor = ProcessPoolExecutor(count, mp_context=context, initializer=follow_parent)
        with executor:
            try:
                played = replace(self, idle=None)  # only this process can call it
                futures = [executor.submit(_played, played, config, job) for job in jobs]
                _await(futures, [job.work for job in jobs], on_done)
                return [future.result() for future in futures]
            except BaseException as reason:
                for process in set(multiprocessing.active_children()) - before:
                    process.kill()  # an episode may take minutes, and these processes ignore SIGTERM
                if isinstance(reason, BrokenProcessPool):
                    raise MzprobeError(
                        "a process that played episodes died: run the same command again to resume"
                    ) from None
                raise


def _await(futures: Sequence[Future[pd.DataFrame]], work: Sequence[float], on_done: Callable[[float], None]) -> None:
    left = set(futures)
    while left:
        on_done(sum(w for future, w in zip(futures, work, strict=True) if future.done()) / sum(work))
        for future in wait(left, timeout=_POLL, return_when=FIRST_COMPLETED).done:
            future.result()  # a failure is raised now, not after the other jobs
            left.discard(future)


@lru_cache(maxsize=1)
def _loaded(workers: Workers) -> Agent:
    return workers.source.load(workers.checkpoint, compute=workers.compute, allow=workers.allow)


def _played(workers: Workers, config: PlanningConfig, job: Job) -> pd.DataFrame:
    return play(acting_as(_loaded(workers), config.acting), config, job)
