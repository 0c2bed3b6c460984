"""Opening a dataset: everything in it is verified, a few episodes at a time, before anything learns from it.

Nothing is unpickled and no environment is made: Minari would make the recorded one, which may be code of anybody's,
where a dataset does not say its spaces; such a dataset is refused.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mzprobe.datasets.core import Float64, Int64, Recorded, checked
from mzprobe.datasets.places import DAMAGED, DATA, METADATA, check_record, digest, find, missing_extra, require_minari
from mzprobe.envs.core import EnvironmentSpec
from mzprobe.errors import DatasetError, MzprobeError, UsageError
from mzprobe.files import read_bytes

_AT_A_TIME = 64  # episodes, each time a file of all of them is opened
_LONGEST_REASON = 200  # characters of another library's message


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset that was opened and verified. It keeps no observations: `read` takes them from disk."""

    name: str
    path: Path
    sha256: str  # over all of its data files
    lengths: Int64  # [episodes], steps T of each
    returns: Float64  # [episodes], undiscounted sum of rewards, environment units
    spec: EnvironmentSpec = field(repr=False)
    storage: Any = field(repr=False)  # Minari's access to the files

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self.lengths)

    def read(self, indices: Iterable[int] | NDArray[np.int64]) -> list[Recorded]:
        """Reads some episodes, in the order asked for; only these are read.

        Raises:
            IndexError: if there is no such episode.
            DatasetError: if the files are no longer what they were when the dataset was opened.
        """
        chosen = [int(index) for index in indices]
        if any(not 0 <= index < len(self) for index in chosen):
            raise IndexError(f"dataset {self.name} has episodes 0..{len(self) - 1}, not all of {chosen}")
        episodes = list(_episodes(self.name, self.storage, chosen, self.spec))
        for index, episode in zip(chosen, episodes, strict=True):
            if len(episode.actions) != self.lengths[index]:
                raise DatasetError(f"episode {index} of dataset {self.name} changed while it was in use: {DAMAGED}")
        return episodes


def open_dataset(name: str, spec: EnvironmentSpec) -> Dataset:
    """Opens a dataset in Minari's format, and verifies all of it with a few episodes in memory at a time.

    Args:
        name: its folder, or its id in Minari's own place.
        spec: of the environment that the episodes must be of.

    Raises:
        UsageError: if it is a dataset of another kind of environment, or Minari is not installed.
        DatasetError: if it is missing, damaged, edited, empty, or holds what cannot be learnt from.
    """
    require_minari()
    folder = find(name)
    data = folder / DATA
    metadata = _metadata(name, data / METADATA)
    with _said(f"dataset {name}"):
        found = digest(data)
    check_record(folder, found, metadata)
    with _said(f"dataset {name}"):
        from minari.dataset.minari_storage import MinariStorage

        storage = MinariStorage.read(data)
    _refuse_other_spaces(name, storage, spec)
    with _said(f"dataset {name}"):
        held = _episodes_held(storage)
    if held != metadata["total_episodes"]:
        raise DatasetError(
            f"dataset {name} has {held} episodes where its metadata say {metadata['total_episodes']}: {DAMAGED}"
        )
    if held == 0:
        raise DatasetError(f"dataset {name} holds no episodes: record some, with mzprobe collect for instance")
    lengths, returns = np.zeros(held, np.int64), np.zeros(held)
    for index, episode in enumerate(_episodes(name, storage, range(held), spec)):
        lengths[index], returns[index] = len(episode.actions), episode.rewards.sum()
    if lengths.sum() != metadata["total_steps"]:
        raise DatasetError(
            f"dataset {name} has {lengths.sum()} steps where its metadata say {metadata['total_steps']}: {DAMAGED}"
        )
    return Dataset(name=name, path=folder, sha256=found, lengths=lengths, returns=returns, spec=spec, storage=storage)


def _metadata(name: str, path: Path) -> dict[str, Any]:
    """Minari's metadata, with all that is needed of them."""
    from minari import supported_dataset_versions

    try:
        metadata = json.loads(read_bytes(path, error=DatasetError, remedy=DAMAGED))
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        raise DatasetError(f"{path} is truncated or not JSON: {DAMAGED}")
    needed = {
        "data_format": str,
        "minari_version": str,
        "observation_space": str,
        "action_space": str,
        "total_episodes": int,
        "total_steps": int,
    }
    for key, kind in needed.items():
        if not isinstance(metadata.get(key), kind):
            raise DatasetError(f"{path} does not say {key}: record dataset {name} again with Minari 0.5 or newer")
    if metadata["minari_version"] not in supported_dataset_versions:
        raise DatasetError(
            f"dataset {name} was recorded by Minari {metadata['minari_version']}, which this Minari does not read: "
            "install a newer one, or record it again"
        )
    return metadata


def _refuse_other_spaces(name: str, storage: Any, spec: EnvironmentSpec) -> None:
    """Compares the spaces that a dataset says it has with the environment's.

    Raises:
        UsageError: if they differ.
    """
    from gymnasium.spaces import Box, Discrete

    action, observation = storage.action_space, storage.observation_space
    remedy = f"give a dataset of {spec.name}, or the environment that it was recorded in"
    if not isinstance(action, Discrete) or action.n != spec.num_actions or action.start != 0:
        raise UsageError(
            f"dataset {name} has actions {action} where {spec.name} has Discrete({spec.num_actions}): {remedy}"
        )
    if not isinstance(observation, Box) or observation.shape != spec.observation_shape:
        kind = f"Box{observation.shape}" if isinstance(observation, Box) else type(observation).__name__
        raise UsageError(
            f"dataset {name} has observations {kind} where {spec.name} has Box{spec.observation_shape}: {remedy}"
        )


def _episodes_held(storage: Any) -> int:
    """How many episodes the files hold, whatever the metadata say."""
    if storage.FORMAT != "hdf5":
        return sum(path.is_dir() and path.name.isdecimal() for path in storage.data_path.iterdir())
    import h5py

    with h5py.File(storage.data_path / "main_data.hdf5", "r") as file:
        return sum(key.startswith("episode_") for key in file)


def _episodes(name: str, storage: Any, indices: Iterable[int], spec: EnvironmentSpec) -> Iterator[Recorded]:
    """Reads and checks episodes, one at a time."""
    for index, raw in _raw(name, storage, indices):
        columns = ("observations", "actions", "rewards", "terminations", "truncations")
        try:
            yield checked(spec, **{column: raw[column] for column in columns})
        except ValueError as reason:
            raise DatasetError(
                f"episode {index} of dataset {name} {reason}: {DAMAGED}, or leave that episode out"
            ) from None


def _raw(name: str, storage: Any, indices: Iterable[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Episodes as Minari decodes them."""
    chosen = list(indices)
    # Of files by episode, Minari would read ahead; of one file, the HDF5 library keeps more, the longer it is open.
    size = _AT_A_TIME if storage.FORMAT == "hdf5" else 1
    for first in range(0, len(chosen), size):
        group = chosen[first : first + size]
        decoded = None
        for index in group:
            with _said(f"episode {index} of dataset {name}"):
                decoded = decoded or iter(storage.get_episodes(group))
                raw = next(decoded)
            yield index, raw


@contextmanager
def _said(what: str) -> Iterator[None]:
    """Turns whatever the storage's libraries raise on damaged files into one sentence."""
    try:
        yield
    except MzprobeError:
        raise
    except ImportError:
        raise missing_extra() from None
    except Exception as reason:
        said = " ".join(str(reason).split())[:_LONGEST_REASON] or type(reason).__name__
        raise DatasetError(f"{what} cannot be read ({said}): {DAMAGED}") from None
