"""The state from which an interrupted run goes on to the same bits: arrays and JSON, the latest only.

It lies beside the checkpoints, in `resume/<training step>-<environment steps>/`. A new one is whole on disk before
the old one goes.
"""

import re
import shutil
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from mzprobe.checkpoints import FORMAT, sealed, unsealed
from mzprobe.errors import CheckpointError
from mzprobe.files import read_bytes, sha256, write_directory

Arrays = dict[str, NDArray[Any]]
_NAME = re.compile(r"\d{8}-\d{10}")


def save_resume(agent: Path, *, step: int, environment_steps: int, arrays: Arrays, record: dict[str, Any]) -> None:
    """Writes the state and then removes older ones."""
    folder = agent / "resume"
    name = f"{step:08d}-{environment_steps:010d}"
    if (folder / name).exists():  # the same state: rewriting it would only risk it
        return
    data = save_arrays({name: array.copy(order="C") for name, array in arrays.items()})
    sealed_record = sealed({**record, "format": FORMAT, "arrays_sha256": sha256(data)})
    write_directory(folder / name, {"state.safetensors": data, "state.json": sealed_record})
    for old in _states(folder):
        if old.name != name:
            shutil.rmtree(old)


def load_resume(agent: Path) -> tuple[Arrays, dict[str, Any]] | None:
    """The latest state, or None where there is none.

    Raises:
        CheckpointError: if it is truncated or edited, or of an older mzprobe.
    """
    states = _states(agent / "resume")
    if not states:
        return None
    path = states[-1]
    remedy = f"remove {agent} to start over"
    record = unsealed(read_bytes(path / "state.json", error=CheckpointError, remedy=remedy), path / "state.json")
    if "experience" not in record:
        raise CheckpointError(
            f"{path} was saved by an older mzprobe, from which this one cannot go on: train under another --name, or "
            f"remove {agent} to start over"
        )
    data = read_bytes(path / "state.safetensors", error=CheckpointError, remedy=remedy)
    if sha256(data) != record["arrays_sha256"]:
        raise CheckpointError(f"{path / 'state.safetensors'} is truncated or edited: {remedy}")
    try:
        return load_arrays(data), record
    except SafetensorError as reason:
        raise CheckpointError(f"{path / 'state.safetensors'} cannot be read ({reason}): {remedy}") from None


def _states(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if _NAME.fullmatch(p.name)) if folder.is_dir() else []
