"""Opens datasets, and verifies every episode, a few at a time, before anything learns from it.

Nothing is unpickled and no environment is made. Where a dataset does not state its spaces, Minari would make the
recorded environment, which may run any code; such a dataset is refused.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mzprobe._plugins import kind_of
from mzprobe.datasets.core import Float64, Int64, Recorded, checked
from mzprobe.datasets.layout import (
    DAMAGED,
    DATA,
    METADATA,
    check_record,
    digest,
    find,
    missing_extra,
    refuse_odd_files,
    require_minari,
)
from mzprobe.datasets.spaces import Spaces, flattened, refuse_other_spaces, spaces_of
from mzprobe.datasets.storages import Storage, storage_of
from mzprobe.envs.core import EnvironmentSpec
from mzprobe.errors import DatasetError, MzprobeError, UsageError
from mzprobe.files import read_bytes

_LONGEST_REASON = 200  # characters of another library's message


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset that was opened and verified. It keeps no observations: `read` loads them from disk."""

    name: str
    path: Path
    sha256: str  # of all that its episodes are read from; the same wherever it lies
    lengths: Int64  # [episodes], number of steps T
    returns: Float64  # [episodes], undiscounted sum of rewards, environment units
    spec: EnvironmentSpec = field(repr=False)
    storage: Storage = field(repr=False)  # access to the files

    def __len__(self) -> int:
        """Returns the number of episodes."""
        return len(self.lengths)

    def read(self, indices: Iterable[int] | NDArray[np.int64]) -> list[Recorded]:
        """Reads the episodes at `indices`, in that order, and no others.

        Raises:
            IndexError: if there is no such episode.
            DatasetError: if an episode is damaged, or not as long as it was when the dataset was opened.
        """
        chosen = [int(index) for index in indices]
        if any(not 0 <= index < len(self) for index in chosen):
            raise IndexError(f"dataset {self.name} has episodes 0..{len(self) - 1}, not all of {chosen}")
        episodes = list(_episodes(self.name, self.storage, chosen, self.spec))
        for index, episode in zip(chosen, episodes, strict=True):
            if len(episode.actions) != self.lengths[index]:
                raise DatasetError(f"episode {index} of dataset {self.name} changed while it was in use: {DAMAGED}")
        return episodes


def open_dataset(name: str | Path, spec: EnvironmentSpec) -> Dataset:
    """Opens a dataset in Minari's format, and verifies all of it with a few episodes in memory at a time.

    Args:
        name: its folder, or its id in Minari's own place.
        spec: specification of the environment that the episodes must be of.

    Raises:
        UsageError: if it is of another kind of environment, `spec` is no specification, or Minari is not installed.
        DatasetError: if it is missing, damaged, edited or empty, or holds values that cannot be learnt from.
    """
    if not isinstance(spec, EnvironmentSpec):
        raise UsageError(f"open_dataset takes the spec of an environment, env.spec, not {kind_of(spec)}")
    require_minari()
    name = str(name)
    folder = find(name)
    metadata, found = verify_files(name, folder)
    data = folder / DATA
    with _said(f"dataset {name}"):
        spaces = spaces_of(metadata)
        refuse_other_spaces(name, spaces, spec)
        storage = storage_of(data, metadata["data_format"], spaces)
        held = storage.count()
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
    return Dataset(
        name=name,
        path=folder,
        sha256=spaces.identity(found),
        lengths=lengths,
        returns=returns,
        spec=spec,
        storage=storage,
    )


def verify_files(name: str, folder: Path) -> tuple[dict[str, Any], str]:
    """Returns Minari's metadata of a dataset and the digest of its files, checked against mzprobe's record, if any.

    Raises:
        DatasetError: if a file is damaged, edited, or not a regular file.
    """
    with _said(f"dataset {name}"):
        refuse_odd_files(folder)
    metadata = _metadata(name, folder / DATA / METADATA)
    with _said(f"dataset {name}"):
        found = digest(folder / DATA)
    check_record(folder, found, metadata)
    return metadata, found


def _metadata(name: str, path: Path) -> dict[str, Any]:
    """Reads Minari's metadata, and checks that they have all entries that are needed."""
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
        # The type itself, since `isinstance` takes True for a number.
        if type(metadata.get(key)) is not kind:
            raise DatasetError(f"{path} does not say {key}: record dataset {name} again with Minari 0.5 or newer")
    if metadata["minari_version"] not in supported_dataset_versions:
        raise DatasetError(
            f"dataset {name} was recorded by Minari {metadata['minari_version'][:20]!r}, which this Minari does not "
            "read: install a newer one, or record it again"
        )
    return metadata


def _episodes(name: str, storage: Storage, indices: Iterable[int], spec: EnvironmentSpec) -> Iterator[Recorded]:
    """Reads and checks episodes, one at a time."""
    for index, raw in _raw(name, storage, list(indices)):
        try:
            yield checked(spec, **_as_numbers(raw, storage.spaces))
        except ValueError as reason:
            raise DatasetError(
                f"episode {index} of dataset {name} {reason}: {DAMAGED}, or leave that episode out"
            ) from None


def _as_numbers(raw: dict[str, Any], spaces: Spaces) -> dict[str, Any]:
    """Returns the columns with observations flattened and actions counted from 0, where the spaces require it."""
    if spaces.plain:
        return raw
    changed = dict(raw)
    if spaces.flattens:
        rows = len(np.atleast_1d(raw["rewards"])) + 1
        changed["observations"] = flattened(spaces.observation, raw["observations"], rows)
    if isinstance(raw["actions"], np.ndarray) and raw["actions"].dtype.kind in "iu":
        changed["actions"] = raw["actions"].astype(np.int64) - int(spaces.action.start)
    return changed


def _raw(name: str, storage: Storage, indices: list[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields episodes as the files hold them, each with its index."""
    decoded = storage.episodes(indices)
    for index in indices:
        with _said(f"episode {index} of dataset {name}"):
            raw = next(decoded)
        yield index, raw


@contextmanager
def _said(what: str) -> Iterator[None]:
    """Turns whatever the storage's libraries raise on damaged files into a `DatasetError` of one sentence."""
    try:
        yield
    except (MzprobeError, MemoryError):
        raise
    except ImportError:
        raise missing_extra() from None
    except Exception as reason:
        said = " ".join(str(reason).split())[:_LONGEST_REASON] or type(reason).__name__
        raise DatasetError(f"{what} cannot be read ({said}): {DAMAGED}") from None
