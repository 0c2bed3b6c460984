"""Checkpoints on disk: `<root>/<run>/seed-<s>/step-<0000000>/`, with weights as safetensors and a record as JSON.

Nothing is ever unpickled. All files are covered by a SHA-256, so that a truncated or edited checkpoint is refused.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from mzprobe import envs
from mzprobe.config import RunConfig, of_record
from mzprobe.envs import Environment
from mzprobe.errors import CheckpointError, UsageError
from mzprobe.files import canonical_json, read_bytes, refuse_absent, sealed, sha256, write_directory
from mzprobe.making import network_of
from mzprobe.networks import TrainableNetwork
from mzprobe.records.digests import code, own_code
from mzprobe.records.schemas import CheckpointRecord
from mzprobe.records.stored import StoredTargets
from mzprobe.records.versions import machine, versions
from mzprobe.trust import modules_of, refuse_code

FORMAT = 1
_AGAIN = "copy the checkpoint again or train it again"
RECORD, WEIGHTS, TARGETS = "checkpoint.json", "model.safetensors", "targets.safetensors"
STEP_NAME = re.compile(r"step-(\d{7,})")
SEED_NAME = re.compile(r"seed-(\d+)")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """An agent at one training step."""

    run: str
    seed: int
    training_step: int
    environment_steps: int
    config: RunConfig
    environment: dict[str, Any]  # spec of the environment
    metrics: dict[str, Any]  # metrics of training so far
    versions: dict[str, str]
    command: str  # command that trained the agent
    weights: dict[str, NDArray[Any]]
    weights_sha256: str
    targets: StoredTargets | None = None  # positions of the replay buffer, if any were kept
    allow: tuple[str, ...] = ()  # modules whose code the configuration may name
    source: str = "the checkpoint"  # name for error messages

    @property
    def dataset(self) -> dict[str, Any]:
        """Dict with the `sha256` of the dataset that the agent learned from; empty if none is known."""
        known = self.metrics.get("dataset")
        return {"sha256": known["sha256"]} if isinstance(known, dict) and "sha256" in known else {}

    def make_environment(self) -> Environment:
        """Makes the environment that the agent was trained in.

        Raises:
            CheckpointError: if this installation's environment of that name has another spec.
            UsageError: if the configuration names code that is not allowed.
        """
        refuse_code(self.config.model_dump(), allow=self.allow, source=self.source)
        environment = envs.make(self.config.environment.name, **self.config.environment.options)
        here = spec_record(environment)
        for key, value in self.environment.items():
            if here.get(key) != value:
                raise CheckpointError(
                    f"the checkpoint was trained in {self.environment['name']} with {key}={value}, but this "
                    f"installation's has {here.get(key)}: install mzprobe {self.versions.get('mzprobe')}"
                )
        return environment

    def make_network(self, environment: Environment) -> TrainableNetwork:
        """Makes the network with the checkpoint's weights, in evaluation mode.

        Raises:
            CheckpointError: if the weights do not fit the network that the configuration describes, in names, shapes
                or types.
            UsageError: if the configuration names code that is not allowed.
        """
        refuse_code(self.config.model_dump(), allow=self.allow, source=self.source)
        network = network_of(self.config.network, environment, torch.Generator())
        weights = {name: torch.from_numpy(array.copy()) for name, array in self.weights.items()}
        for name, own in network.state_dict().items():
            if name in weights and weights[name].dtype != own.dtype:
                seen = str(weights[name].dtype).removeprefix("torch.")
                kind = str(own.dtype).removeprefix("torch.")
                raise CheckpointError(f"the weights {name} are {seen} and the network's {kind}: {_AGAIN}")
        try:
            network.load_state_dict(weights)
        except RuntimeError as reason:
            said = str(reason).replace("\n", " ")
            raise CheckpointError(f"the weights do not fit network {self.config.network.kind}: {said}") from None
        return network.eval()


def spec_record(environment: Environment) -> dict[str, Any]:
    """Returns an environment's spec as a dict that JSON can hold."""
    spec = environment.spec
    return {
        "name": spec.name,
        "source": spec.source,
        "observation_shape": list(spec.observation_shape),
        **({} if spec.observation_dtype == "float32" else {"observation_dtype": spec.observation_dtype}),
        "num_actions": spec.num_actions,
        "gamma": spec.gamma,
        "time_limit": spec.time_limit,
    }


def agent_folder(root: Path | str, run: str, seed: int) -> Path:
    """Returns the folder of an agent's checkpoints."""
    return Path(root) / run / f"seed-{seed}"


def write_checkpoint(
    folder: Path,
    *,
    run: str,
    seed: int,
    training_step: int,
    environment_steps: int,
    config: RunConfig,
    environment: Environment,
    metrics: Mapping[str, Any],
    command: str,
    weights: Mapping[str, NDArray[Any]],
    targets: StoredTargets | None = None,
    device: str = "cpu",
) -> Path:
    """Writes one checkpoint of an agent trained on `device` into the agent's folder; returns the checkpoint's path."""
    files = {WEIGHTS: save_arrays(dict(weights))}
    if targets is not None:
        files[TARGETS] = save_arrays(targets.arrays())
    record: dict[str, Any] = {
        "format": FORMAT,
        "run": run,
        "seed": seed,
        "training_step": training_step,
        "environment_steps": environment_steps,
        "config": config.model_dump(mode="json"),
        "environment": spec_record(environment),
        "metrics": dict(metrics),
        "versions": versions(environment.spec.name) | own_code(modules_of(config)),
        "machine": machine(
            environment.spec.name, network=config.network.kind, device=device, threads=config.training.threads
        ),
        "code": code(),
        "command": command,
        "weights_sha256": sha256(files[WEIGHTS]),
    }
    if targets is not None:
        record["targets_sha256"] = sha256(files[TARGETS])
    path = folder / f"step-{training_step:07d}"
    write_directory(path, {**files, RECORD: sealed(record)})
    return path


def read_checkpoint(path: Path, *, allow: Sequence[str] = ()) -> Checkpoint:
    """Reads a checkpoint and verifies it; runs no code that it names.

    Args:
        path: folder of the checkpoint.
        allow: modules whose code may run when the environment and the network are made. Needed where the configuration
            names code, as for an agent in an environment of your own.

    Raises:
        CheckpointError: if it is missing, truncated, edited, of a newer format or not a checkpoint.
    """
    remedy = "give the folder of a checkpoint, such as checkpoints/cartpole/seed-0/step-0001000"
    values = unsealed(read_bytes(path / RECORD, error=CheckpointError, remedy=remedy), path / RECORD)
    record = CheckpointRecord.of(values, source=path / RECORD, error=CheckpointError, remedy=_AGAIN)
    weights = _arrays(path / WEIGHTS, record.weights_sha256)
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise CheckpointError(f"{path / WEIGHTS} holds a number that is not finite ({name}): {_AGAIN}")
    kept = _arrays(path / TARGETS, record.targets_sha256) if record.targets_sha256 else None
    return Checkpoint(
        run=record.run,
        seed=record.seed,
        training_step=record.training_step,
        environment_steps=record.environment_steps,
        config=of_record(record.config, str(path / RECORD)),
        environment=values["environment"],
        metrics=record.metrics,
        versions=record.versions,
        command=record.command,
        weights=weights,
        weights_sha256=record.weights_sha256,
        targets=None if kept is None else _stored(kept, path / TARGETS),
        allow=tuple(allow),
        source=str(path / RECORD),
    )


def _stored(arrays: dict[str, NDArray[Any]], path: Path) -> StoredTargets:
    """Converts a checkpoint's arrays to the positions that it keeps, or raises `CheckpointError`."""
    try:
        return StoredTargets.of_arrays(arrays)
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(f"{path} does not hold positions of a replay buffer: {_AGAIN}") from None


def _arrays(path: Path, digest: str) -> dict[str, NDArray[Any]]:
    """Reads a file of arrays and verifies its SHA-256."""
    data = read_bytes(path, error=CheckpointError, remedy=_AGAIN)
    if sha256(data) != digest:
        raise CheckpointError(f"{path} is truncated or edited (its sha256 is not the recorded one): {_AGAIN}")
    try:
        arrays: dict[str, NDArray[Any]] = load_arrays(data)
    except (SafetensorError, KeyError, TypeError, ValueError) as reason:
        raise CheckpointError(f"{path} is not a safetensors file ({reason}): train it again") from None
    return arrays


def unsealed(
    data: bytes, path: Path, *, remedy: str = "copy it again, or remove the agent's folder and train it anew"
) -> dict[str, Any]:
    """Parses a record that `sealed` wrote, and verifies it.

    Args:
        data: content of the file.
        path: of the file, for error messages.
        remedy: end of error messages.

    Raises:
        CheckpointError: if it is not JSON, edited or of a newer format.
    """
    try:
        record = json.loads(data)
        digest = record.pop("record_sha256")
        found = sha256(canonical_json(record).encode())
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise CheckpointError(f"{path} is truncated or not a record of mzprobe: {remedy}") from None
    if isinstance(record.get("format"), int) and record["format"] > FORMAT:
        raise CheckpointError(
            f"{path} has format {record['format']} and this mzprobe reads up to {FORMAT}: install a newer mzprobe"
        )
    if found != digest:
        raise CheckpointError(f"{path} was edited (its sha256 is not the recorded one): {remedy}")
    result: dict[str, Any] = record
    return result


def steps_of(agent: Path) -> list[Path]:
    """Returns the checkpoints in an agent's folder, sorted by step; none if the folder does not exist."""
    found = [p for p in agent.iterdir() if STEP_NAME.fullmatch(p.name)] if agent.is_dir() else []
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """Returns the training step in a checkpoint folder's name.

    Raises:
        UsageError: if the name is not like `step-0001000`.
    """
    match = STEP_NAME.fullmatch(checkpoint.name)
    if not match:
        raise UsageError(f"{checkpoint} is not the folder of a checkpoint: its name should be like step-0001000")
    return int(match[1])


def agents_at(path: Path) -> list[Path]:
    """Returns the agents' folders at a path: that of one agent, or those of a run sorted by seed; may be empty."""
    if steps_of(path):
        return [path]
    agents = [p for p in path.iterdir() if SEED_NAME.fullmatch(p.name) and steps_of(p)] if path.is_dir() else []
    return sorted(agents, key=seed_of)


def find_agents(path: Path) -> list[Path]:
    """Returns `agents_at` of a path, at least one.

    Raises:
        UsageError: if the path does not exist or holds no agent.
    """
    refuse_absent(path, remedy="give an agent's folder, or a run's, or train one with mzprobe train")
    agents = agents_at(path)
    if not agents:
        raise UsageError(
            f"{path} holds no checkpoints: give an agent's folder (seed-0) or a run's, made by mzprobe train"
        )
    return agents


def seed_of(agent: Path) -> int:
    """Returns the seed in an agent folder's name.

    Raises:
        UsageError: if the name is not like `seed-0`.
    """
    match = SEED_NAME.fullmatch(agent.name)
    if not match:
        raise UsageError(f"{agent} is not an agent's folder: its name should be like seed-0")
    return int(match[1])


def newest_run(root: Path) -> Path:
    """Returns the most recently written run under a folder of checkpoints.

    Raises:
        UsageError: if there is no run.
    """
    agents = [a for a in root.glob("*/seed-*") if steps_of(a)]
    if not agents:
        raise UsageError(f"there is no run under {root}: train one with mzprobe train, or give a path")
    return max(agents, key=lambda a: max(p.stat().st_mtime_ns for p in steps_of(a))).parent
