"""Writes datasets that Minari reads, a few episodes at a time.

The storage is Arrow, with one file per episode that is written once. Its bytes do not depend on how many episodes are
appended at a time, and a failed write is an error like any other. With HDF5 (h5py 3.16), a limit on file sizes raised
no error, and the process crashed when the file was closed. Minari's own writer is not used, because it counts all bytes
of a dataset again with each episode.
"""

import copy
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mzprobe.datasets.core import Int64, Recorded, checked
from mzprobe.datasets.layout import DATA, FORMAT, METADATA, RECORD, digest, require_minari
from mzprobe.envs.core import EnvironmentSpec
from mzprobe.errors import MzprobeError, UsageError
from mzprobe.files import canonical_json, new_directory, sealed, sha256
from mzprobe.lines import unsayable
from mzprobe.locks import held
from mzprobe.names import check_name
from mzprobe.records.versions import versions

LONGEST = (1 << 17) - 1  # steps; Minari splits longer episodes when it reads them


class DatasetWriter:
    """Writer of a dataset, made by `new_dataset`; keeps no episodes in memory.

    Args:
        folder: folder to fill.
        name: name of the dataset.
        spec: specification of the environment.
        algorithm: what acted, in a few words.
        record: what made the dataset, as JSON; `command` is the command line.
    """

    def __init__(
        self, folder: Path, name: str, spec: EnvironmentSpec, *, algorithm: str, record: Mapping[str, Any]
    ) -> None:
        self.folder = folder
        self.name = name
        self.spec = spec
        self.algorithm = algorithm
        self.record = dict(record)
        self.steps = 0
        self.returns: list[float] = []  # return of each episode, environment units
        (folder / DATA).mkdir()

    def append(self, episodes: Sequence[Recorded], *, seeds: Int64 | None = None) -> None:
        """Writes episodes.

        Args:
            episodes: episodes in order.
            seeds: `[episodes]`, seeds of their starts if the environment's `reset` takes them, else None.

        Raises:
            MzprobeError: if an episode does not fit the environment's specification, or is too long for Minari.
        """
        for i, episode in enumerate(episodes):
            index, T = len(self.returns), len(episode.actions)
            ends = np.arange(1, T + 1) == T
            flags = {"terminations": ends & episode.terminated, "truncations": ends & (not episode.terminated)}
            try:
                checked(
                    self.spec,
                    observations=episode.observations,
                    actions=episode.actions,
                    rewards=episode.rewards,
                    **flags,
                )
            except ValueError as reason:
                raise MzprobeError(
                    f"episode {index} of {self.spec.name} {reason}: test the environment with mzprobe.check_env"
                ) from None
            if T > LONGEST:
                raise MzprobeError(
                    f"episode {index} of {self.spec.name} has {T} steps and Minari reads up to {LONGEST}: "
                    "give the environment a lower time_limit"
                )
            folder = self.folder / DATA / str(index)
            folder.mkdir()
            _write_arrow(folder / "part-0.arrow", episode, flags)
            about = {"id": index, "total_steps": T} | ({} if seeds is None else {"seed": int(seeds[i])})
            (folder / METADATA).write_text(canonical_json(about), "utf-8")
            self.steps += T
            self.returns.append(float(episode.rewards.sum()))

    def finish(self) -> None:
        """Writes Minari's metadata, and mzprobe's record with the digest of all data.

        Raises:
            ValueError: if no episode was written.
        """
        if not self.returns:
            raise ValueError("a dataset needs at least one episode")
        counts = {"episodes": len(self.returns), "steps": self.steps, "mean_return": float(np.mean(self.returns))}
        made = {**self.record, **counts, "versions": versions(self.spec.name)}
        data = self.folder / DATA
        metadata = canonical_json(self._metadata() | {"mzprobe": made}).encode()
        (data / METADATA).write_bytes(metadata)
        record = {
            "format": FORMAT,
            "environment": asdict(self.spec),
            **made,
            "sha256": digest(data),
            "metadata_sha256": sha256(metadata),
        }
        (self.folder / RECORD).write_bytes(sealed(record))

    def _metadata(self) -> dict[str, Any]:
        """Returns the metadata that Minari requires."""
        import minari
        from gymnasium.spaces import Discrete
        from minari.serialization import serialize_space

        size = sum(path.stat().st_size for path in (self.folder / DATA).rglob("*") if path.is_file())
        environment = _gymnasium_spec(self.spec)
        command = self.record.get("command", "mzprobe")
        return {
            "dataset_id": dataset_id(self.name),
            "total_episodes": len(self.returns),
            "total_steps": self.steps,
            "data_format": "arrow",
            "jpeg_encoding": False,
            "observation_space": serialize_space(_box(self.spec)),
            "action_space": serialize_space(Discrete(self.spec.num_actions)),
            "algorithm_name": self.algorithm,
            "description": f"Episodes in {self.spec.name} ({self.spec.source}), recorded by: {command}",
            "minari_version": minari.__version__,
            "dataset_size": round(size / 1e6, 1),  # MB
        } | ({} if environment is None else {"env_spec": environment.to_json()})


@contextmanager
def new_dataset(
    path: Path, spec: EnvironmentSpec, *, algorithm: str, record: Mapping[str, Any], locked: bool = False
) -> Iterator[DatasetWriter]:
    """Opens a dataset to write; it appears at `path`, complete and on disk, only if the block ends without an error.

    Args:
        path: folder of the dataset, which must not exist.
        spec: specification of the environment.
        algorithm: what acted, in a few words.
        record: what made the dataset, as JSON; `command` is the command line.
        locked: whether the caller holds the lock of `path`.

    Raises:
        UsageError: if something is at `path`, or Minari is not installed.
        InUse: if another command is writing there.
        MzprobeError: if the disk is full or the place cannot be written.
        ValueError: if the block writes no episode.
    """
    require_minari()
    refuse_existing(path)  # first, so that no lock is made for an impossible name
    with nullcontext() if locked else held(path), new_directory(path) as folder:
        writer = DatasetWriter(folder, path.name, spec, algorithm=algorithm, record=record)
        yield writer
        writer.finish()


def refuse_existing(path: Path) -> None:
    """Refuses a path where something is, or whose name no dataset can have.

    Raises:
        UsageError: naming it.
    """
    remedy = "end --out in a name such as expert-v0"
    check_name(path.name, "a dataset", remedy)
    if unsayable(str(path)):
        raise UsageError(f"a dataset cannot lie at {str(path)!r}: {remedy}")
    if os.path.lexists(path):
        raise UsageError(f"{path} exists and is not replaced: remove it or choose another --out")


def dataset_id(name: str) -> str:
    """Returns the id that Minari has for a dataset in a folder of that name; it must end in a version."""
    known = re.sub(r"[^-\w]", "-", name, flags=re.ASCII)
    return known if re.search(r".-v\d+$", known) else f"{known}-v0"


def _box(spec: EnvironmentSpec) -> Any:
    """Returns the Gymnasium space of a spec's observations."""
    from gymnasium.spaces import Box

    low, high = {"float32": (-np.inf, np.inf), "uint8": (0, 255), "bool": (False, True)}[spec.observation_dtype]
    return Box(low, high, spec.observation_shape, np.dtype(spec.observation_dtype).type)


def _write_arrow(path: Path, episode: Recorded, flags: Mapping[str, Any]) -> None:
    """Writes one episode as columns of Minari's Arrow storage: one row per observation, other columns padded."""
    flat = np.ascontiguousarray(episode.observations).reshape(len(episode.observations), -1)
    columns = {
        "observations": pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), flat.shape[1]),
        "actions": np.pad(np.asarray(episode.actions, np.int64), (0, 1)),
        "rewards": np.pad(np.asarray(episode.rewards, np.float64), (0, 1)),
        **{name: np.pad(values, (0, 1)) for name, values in flags.items()},
    }
    batch = pa.RecordBatch.from_pydict(columns)
    with path.open("wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)


def _gymnasium_spec(spec: EnvironmentSpec) -> Any:
    """Returns Gymnasium's spec of the environment that ours equals, with our time limit; None if there is none."""
    import gymnasium

    named = re.fullmatch(r"Gymnasium (\S+)", spec.source)
    if named is None or named[1] not in gymnasium.registry:
        return None
    found = copy.deepcopy(gymnasium.spec(named[1]))
    found.max_episode_steps = spec.time_limit
    return found
