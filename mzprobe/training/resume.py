"""Saved state from which an interrupted run resumes with bit-identical results: arrays and JSON, the latest only.

It lies beside the checkpoints, in `resume/<training step>-<environment steps>/`. A new state is complete on disk before
the old one is removed. The frames of an episode are large and never change, so they have a file of their own in
`resume/frames/`, named by its digest. It is written once, and removed when the state no longer refers to it.
"""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays

from mzprobe.checkpoints import FORMAT, unsealed
from mzprobe.errors import CheckpointError
from mzprobe.files import (
    digest_of,
    read_bytes,
    remove_directory,
    remove_leftovers,
    sealed,
    sha256,
    write_directory,
    write_file,
)
from mzprobe.records.schemas import StateRecord
from mzprobe.training.arrays import array_chunks
from mzprobe.training.frames import Files

Arrays = dict[str, NDArray[Any]]
_FRAMES = "frames"
_REMEDY = "copy it back, or train under another --name; the checkpoints beside it are not affected"
_NAME = re.compile(r"(\d{8,})-(\d{10,})")


def save_resume(
    agent: Path, *, step: int, environment_steps: int, arrays: Arrays, record: dict[str, Any], files: Files
) -> None:
    """Writes a state and those of its files that are missing, and then removes older states and their files."""
    folder = agent / "resume"
    name = _name(step, environment_steps)
    if (folder / name).exists():  # the same state: rewriting it would only risk it
        return
    for digest, made in files.items():
        if not _frames(agent, digest).exists():
            write_file(_frames(agent, digest), made())
    chunks = array_chunks(arrays)
    kept = {"files": sorted(files)} if files else {}
    sealed_record = sealed({**record, **kept, "format": FORMAT, "arrays_sha256": digest_of(chunks)})
    write_directory(folder / name, {"state.safetensors": chunks, "state.json": sealed_record})
    remove_older_states(agent, files)


def remove_older_states(agent: Path, files: Collection[str] = ()) -> None:
    """Removes all states but the latest, and all files but its own, also those left by a run that was killed.

    Args:
        agent: folder of the agent.
        files: digests of the files that the latest state refers to.
    """
    for old in states_of(agent)[:-1]:
        remove_directory(old)
    folder = agent / "resume" / _FRAMES
    if folder.is_dir():
        remove_leftovers(folder)
        for path in folder.iterdir():
            if path.name.partition(".")[0] not in files:
                path.unlink()
        if not files:
            folder.rmdir()


def read_file(agent: Path, digest: str) -> bytes:
    """Returns the content of a file that a state refers to, by its digest.

    Raises:
        CheckpointError: if it is missing, truncated or edited.
    """
    path = _frames(agent, digest)
    data = read_bytes(path, error=CheckpointError, remedy=_REMEDY)
    if sha256(data) != digest:
        raise CheckpointError(f"{path} is truncated or edited: {_REMEDY}")
    return data


def _frames(agent: Path, digest: str) -> Path:
    return agent / "resume" / _FRAMES / f"{digest}.safetensors"


def load_resume(agent: Path) -> tuple[Arrays, StateRecord] | None:
    """Returns the latest state, or None if there is none.

    Raises:
        CheckpointError: see `read_state`.
    """
    states = states_of(agent)
    return read_state(states[-1]) if states else None


def read_state(path: Path) -> tuple[Arrays, StateRecord]:
    """Returns the arrays and the record of a state, verified.

    Raises:
        CheckpointError: if the state is incomplete, truncated or edited, or was saved by an older mzprobe.
    """
    agent, file, remedy = path.parent.parent, path / "state.json", _REMEDY
    values = unsealed(read_bytes(file, error=CheckpointError, remedy=remedy), file, remedy=remedy)
    if not {"experience", "seed", "beyond_support"} <= values.keys():
        raise CheckpointError(
            f"{path} was saved by an older mzprobe, from which this one cannot go on: train under another --name, or "
            f"remove {agent} to start over"
        )
    record = StateRecord.of(values, source=file, error=CheckpointError, remedy=remedy)
    if path.name != _name(record.step, record.environment_steps):
        raise CheckpointError(f"{path} holds the state of step {record.step}: {remedy}")
    data = read_bytes(path / "state.safetensors", error=CheckpointError, remedy=remedy)
    if sha256(data) != record.arrays_sha256:
        raise CheckpointError(f"{path / 'state.safetensors'} is truncated or edited: {remedy}")
    try:
        return load_arrays(data), record
    except (SafetensorError, KeyError, TypeError, ValueError) as reason:
        raise CheckpointError(f"{path / 'state.safetensors'} cannot be read ({reason}): {remedy}") from None


def _name(step: int, environment_steps: int) -> str:
    return f"{step:08d}-{environment_steps:010d}"


def is_state(folder: Path) -> bool:
    """Whether a folder is a saved state, judged by its name and that of its parent."""
    return bool(_NAME.fullmatch(folder.name)) and folder.parent.name == "resume"


def states_of(agent: Path) -> list[Path]:
    """Returns the states in an agent's folder, the latest last."""
    folder = agent / "resume"
    found = [p for p in folder.iterdir() if _NAME.fullmatch(p.name)] if folder.is_dir() else []
    return sorted(found, key=lambda state: [int(number) for number in state.name.split("-")])


def step_of_state(state: Path) -> int:
    """Returns the training step in the name of a state's folder."""
    return int(state.name.partition("-")[0])
