"""The state from which an interrupted run goes on to the same bits: arrays and JSON, the latest only.

It lies beside the checkpoints, in `resume/<training step>-<environment steps>/`. A new one is whole on disk before
the old one goes.
"""

import re
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from mzprobe.checkpoints import FORMAT, sealed, unsealed
from mzprobe.errors import CheckpointError
from mzprobe.files import read_bytes, remove_directory, sha256, write_directory
from mzprobe.records import StateRecord

Arrays = dict[str, NDArray[Any]]
_NAME = re.compile(r"\d{8}-\d{10}")


def save_resume(agent: Path, *, step: int, environment_steps: int, arrays: Arrays, record: dict[str, Any]) -> None:
    """Writes the state and then removes older ones."""
    folder = agent / "resume"
    name = _name(step, environment_steps)
    if (folder / name).exists():  # the same state: rewriting it would only risk it
        return
    data = save_arrays({name: array.copy(order="C") for name, array in arrays.items()})
    sealed_record = sealed({**record, "format": FORMAT, "arrays_sha256": sha256(data)})
    write_directory(folder / name, {"state.safetensors": data, "state.json": sealed_record})
    remove_older_states(agent)


def remove_older_states(agent: Path) -> None:
    """Removes all states but the latest; whoever was killed between writing that and this has left them."""
    for old in states_of(agent)[:-1]:
        remove_directory(old)


def load_resume(agent: Path) -> tuple[Arrays, StateRecord] | None:
    """The latest state, or None where there is none; errors as `read_state`."""
    states = states_of(agent)
    return read_state(states[-1]) if states else None


def read_state(path: Path) -> tuple[Arrays, StateRecord]:
    """A state and its arrays, verified.

    Raises:
        CheckpointError: if it is truncated or edited, or of an older mzprobe.
    """
    agent, file = path.parent.parent, path / "state.json"
    remedy = "copy it back, or train under another --name; the checkpoints beside it are not affected"
    values = unsealed(read_bytes(file, error=CheckpointError, remedy=remedy), file)
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
    """Whether a folder is named as a state is, and lies where one does."""
    return bool(_NAME.fullmatch(folder.name)) and folder.parent.name == "resume"


def states_of(agent: Path) -> list[Path]:
    """The states in an agent's folder, the latest last."""
    folder = agent / "resume"
    return sorted(p for p in folder.iterdir() if _NAME.fullmatch(p.name)) if folder.is_dir() else []
