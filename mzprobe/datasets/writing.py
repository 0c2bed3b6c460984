"""Writing a dataset that Minari reads, a few episodes at a time.

Of Minari's storages, Arrow: a file an episode, written once. Its bytes do not depend on how many episodes come at a
time, and a refused write is an error like any other; with h5py 3.16 at a limit on file sizes, none was raised and the
process crashed as the file was closed. The files are written here: Minari's own writer counts all bytes of a dataset
anew with each episode.
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
from mzprobe.provenance import versions

LONGEST = (1 << 17) - 1  # steps: Minari's reading splits what is longer


class DatasetWriter:
    """What `new_dataset` gives: takes episodes, holds none of them.

    Args:
        folder: to fill.
        name: of the dataset.
        spec: of the environment.
        algorithm: who acted, in a few words.
        record: JSON, what made the dataset; the command as `command`.
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
        self.returns: list[float] = []  # of each episode, environment units
        (folder / DATA).mkdir()

    def append(self, episodes: Sequence[Recorded], *, seeds: Int64 | None = None) -> None:
        """Writes episodes.

        Args:
            episodes: in order.
            seeds: `[episodes]`, of the starts, where `reset` of the environment takes such.

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
        """Writes the metadata, Minari's and our own with the digest of all data.

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
        """What Minari wants to know of a dataset."""
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
    """A dataset to write, which appears at `path` when the block ends well, whole and on disk; else nothing does.

    Args:
        path: folder of the dataset; nothing may be there.
        spec: of the environment.
        algorithm: who acted, in a few words.
        record: JSON, what made the dataset; the command as `command`.
        locked: whether the caller holds the lock of `path`.

    Raises:
        UsageError: if something is at `path`, or Minari is not installed.
        InUse: if another command writes there.
        MzprobeError: if the disk is full or the place cannot be written.
    """
    require_minari()
    refuse_existing(path)  # no lock is made beside what has a name that no dataset can have
    with nullcontext() if locked else held(path), new_directory(path) as folder:
        writer = DatasetWriter(folder, path.name, spec, algorithm=algorithm, record=record)
        yield writer
        writer.finish()


def refuse_existing(path: Path) -> None:
    """Refuses a place where something is, or whose name no dataset can have.

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
    """The id under which Minari knows a dataset whose folder has a name; Minari wants a version at the end."""
    known = re.sub(r"[^-\w]", "-", name, flags=re.ASCII)
    return known if re.search(r".-v\d+$", known) else f"{known}-v0"


def _box(spec: EnvironmentSpec) -> Any:
    """The space of a spec's observations."""
    from gymnasium.spaces import Box

    low, high = {"float32": (-np.inf, np.inf), "uint8": (0, 255), "bool": (False, True)}[spec.observation_dtype]
    return Box(low, high, spec.observation_shape, np.dtype(spec.observation_dtype).type)


def _write_arrow(path: Path, episode: Recorded, flags: Mapping[str, Any]) -> None:
    """One episode in the columns of Minari's Arrow storage: a row an observation, the last one padded."""
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
    """Gymnasium's own specification of the environment that ours equals, with our time limit; None if there is none."""
    import gymnasium

    named = re.fullmatch(r"Gymnasium (\S+)", spec.source)
    if named is None or named[1] not in gymnasium.registry:
        return None
    found = copy.deepcopy(gymnasium.spec(named[1]))
    found.max_episode_steps = spec.time_limit
    return found
