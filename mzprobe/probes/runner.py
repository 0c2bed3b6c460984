"""Running a probe over the checkpoints of agents: one table an agent, written after every checkpoint, resumable."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mzprobe.checkpoints import Checkpoint, read_checkpoint, step_of, steps_of
from mzprobe.config import Config
from mzprobe.errors import UsageError
from mzprobe.probes.horizon import UNITS as HORIZON_UNITS
from mzprobe.probes.horizon import measure_horizon
from mzprobe.probes.sampling import Agent, load_agent
from mzprobe.probes.tables import Table, differing, read_table, table_path, write_table
from mzprobe.provenance import versions


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A question that is asked of every checkpoint by itself."""

    name: str
    units: dict[str, str]
    measure: Callable[[Agent, Any], pd.DataFrame]


HORIZON = Probe(name="horizon", units=HORIZON_UNITS, measure=measure_horizon)


def run_probe(
    probe: Probe,
    agent: Path,
    config: Config,
    *,
    analyses: Path,
    command: str,
    steps: Sequence[int] = (),
    device: str = "cpu",
    overwrite: bool = False,
    on_checkpoint: Callable[[int, int], None] = lambda _done, _total: None,
) -> Path:
    """Measures an agent's checkpoints that its table does not hold yet.

    Args:
        probe: what to ask.
        agent: folder of the agent's checkpoints.
        config: settings of the probe.
        analyses: folder of all tables.
        command: that a reader can type to make this table.
        steps: training steps; none means all that there are.
        device: of the network.
        overwrite: whether a table made otherwise is replaced.
        on_checkpoint: told how many checkpoints are done, of how many.

    Returns:
        The table's path.

    Raises:
        UsageError: if a step has no checkpoint, or the table there was made otherwise.
    """
    chosen = _chosen(agent, steps)
    first = read_checkpoint(chosen[0])
    path = table_path(analyses, first.run, probe.name, first.seed)
    record: dict[str, Any] = {
        "probe": probe.name,
        "run": first.run,
        "seed": first.seed,
        "settings": config.model_dump(mode="json"),
        "config": first.config.model_dump(mode="json"),
        "environment": first.environment,
        "versions": versions(),
        "commands": {},  # by training step
        "checkpoints": {},  # by training step, the SHA-256 of the weights
    }
    frames: dict[int, pd.DataFrame] = {}
    if path.exists() and not overwrite:
        old = read_table(path)
        _refuse_other(path, old.record, record)
        for part in ("commands", "checkpoints"):
            record[part] = old.record[part]
        frames = {int(str(step)): rows for step, rows in old.frame.groupby("training_step")}
    for done, folder in enumerate(chosen):
        on_checkpoint(done, len(chosen))
        checkpoint = read_checkpoint(folder)
        if _is_measured(path, record, checkpoint):
            continue
        frames[checkpoint.training_step] = probe.measure(load_agent(checkpoint, device), config)
        record["commands"][str(checkpoint.training_step)] = command
        record["checkpoints"][str(checkpoint.training_step)] = checkpoint.weights_sha256
        frame = pd.concat([frames[step] for step in sorted(frames)], ignore_index=True)
        write_table(path, Table(frame=frame, units=probe.units, record=record))
    on_checkpoint(len(chosen), len(chosen))
    return path


def _chosen(agent: Path, steps: Sequence[int]) -> list[Path]:
    there = {step_of(path): path for path in steps_of(agent)}
    if not there:
        raise UsageError(f"{agent} holds no checkpoints: train the agent with mzprobe train")
    missing = [step for step in steps if step not in there]
    if missing:
        raise UsageError(f"{agent} has no checkpoint at step {missing[0]}: there are {', '.join(map(str, there))}")
    return [there[step] for step in sorted(set(steps) or there)]


def _refuse_other(path: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """A table goes on only with the settings, the configuration and the versions that began it."""
    other = differing(old, new)
    if other:
        raise UsageError(f"{path} was made with other {other}: choose another --out, or replace it with --overwrite")


def _is_measured(path: Path, record: dict[str, Any], checkpoint: Checkpoint) -> bool:
    known = record["checkpoints"].get(str(checkpoint.training_step))
    if known is not None and known != checkpoint.weights_sha256:
        raise UsageError(
            f"{path} holds step {checkpoint.training_step} of other weights: choose another --out, or replace it with "
            "--overwrite"
        )
    return known is not None
