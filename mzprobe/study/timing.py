"""Table of an agent's training times, beside the tables of the probes.

It is made from `timing.json`, where the trainer writes one row per checkpoint. Times do not repeat, so this is the only
table that is not the same for the same seed; its counts of steps and of targets are.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from mzprobe.checkpoints import read_checkpoint, steps_of
from mzprobe.errors import MzprobeError
from mzprobe.files import read_bytes, remove_leftovers
from mzprobe.locks import held
from mzprobe.probes.sampling import AGENT_UNITS
from mzprobe.records.digests import own_code, without_places
from mzprobe.records.versions import versions
from mzprobe.tables import TIMING, Table, continued, table_path, write_table
from mzprobe.training.clock import FILE, PARTS
from mzprobe.trust import modules_of
from mzprobe.values import whole

UNITS = {
    "seed": AGENT_UNITS["seed"],
    "training_step": AGENT_UNITS["training_step"],
    "environment_steps": "environment steps; that the training had taken",
    "fresh": "targets; made so far by searches of self-play",
    "reanalysed": "targets; made so far by searches at stored positions",
    "part": "name; play, reanalyse, learn or evaluate",
    "seconds": "s; wall-clock so far, which does not repeat",
    "core_seconds": "s; processor time so far, over all cores, which does not repeat",
}


def write_timing(agent: Path, analyses: Path, *, command: str, overwrite: bool = False) -> Path | None:
    """Writes the timing table of an agent if its trainer kept the times; leaves a table that would not change alone.

    Args:
        agent: folder of the agent.
        analyses: folder of all tables.
        command: command that makes the table, for its record.
        overwrite: whether an existing table that cannot be continued is replaced.

    Returns:
        The table's path, or None if there are no times.

    Raises:
        InUse: if another command is writing the table.
        MzprobeError: if the file of times, or without `overwrite` the existing table, is truncated.
        UsageError: if the existing table is of another configuration, without `overwrite`.
    """
    source = agent / FILE
    if not source.exists():
        return None
    last = read_checkpoint(steps_of(agent)[-1])
    frame = timing_rows(source).assign(seed=last.seed)[list(UNITS)]
    record: dict[str, Any] = {
        "probe": TIMING,
        "run": last.run,
        "seed": last.seed,
        "settings": {},
        "config": without_places(last.config.model_dump(mode="json")),
        "environment": last.environment,
        "versions": versions(last.environment["name"]) | own_code(modules_of(last.config)),
        "commands": {str(step): command for step in sorted(set(frame["training_step"]))},
        **({"dataset": without_places(last.dataset)} if last.dataset else {}),
    }
    path = table_path(analyses, last.run, TIMING, last.seed)
    with held(path):
        _write(path, Table(frame=frame, units=UNITS, record=record), overwrite=overwrite)
        remove_leftovers(path.parent, path.name)
    return path


def _write(path: Path, table: Table, *, overwrite: bool) -> None:
    try:
        old = continued(path, table.record, remedy="choose another folder for tables, or remove it")
    except MzprobeError:
        if not overwrite:
            raise
        old = None
    if old is None or old.record != table.record or not old.frame.equals(table.frame):
        write_table(path, table)


def timing_rows(source: Path) -> pd.DataFrame:
    """Returns the rows of a file of times, one per checkpoint and part of training, without the seed.

    Raises:
        MzprobeError: if the file is missing or truncated.
    """
    remedy = "remove it, the timing table is then left out"
    data = read_bytes(source, error=MzprobeError, remedy=remedy)
    try:
        rows = [
            {
                **{name: whole(row[name]) for name in ("training_step", "environment_steps", "fresh", "reanalysed")},
                "part": part,
                **{name: float(row[name][part]) for name in ("seconds", "core_seconds")},
            }
            for row in json.loads(data)["rows"]
            for part in PARTS
        ]
    except (ValueError, ArithmeticError, KeyError, TypeError, RecursionError):
        raise MzprobeError(f"{source} is truncated or not a file of times: {remedy}") from None
    return pd.DataFrame(rows, columns=[name for name in UNITS if name != "seed"])
