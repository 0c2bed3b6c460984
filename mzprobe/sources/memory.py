"""Agents of this process as a source, so that tables are made of them as of checkpoints."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mzprobe.agents import Agent, Origin
from mzprobe.checkpoints import spec_record
from mzprobe.compute import Compute
from mzprobe.errors import UsageError
from mzprobe.networks import MLPNetwork


@dataclass(frozen=True, kw_only=True)
class InMemory:
    """One agent at several training steps."""

    at: Mapping[int, Agent]  # agents by training step, as `with_origin` returns them

    @property
    def name(self) -> str:
        """See `Source.name`."""
        return "memory"

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules that define its environments and networks."""
        return tuple(type(part).__module__ for one in self.at.values() for part in (one.environment, one.network))

    def recognises(self, path: Path) -> bool:  # noqa: ARG002
        """See `Source.recognises`; there is nothing at any path."""
        return False

    def agents(self, path: Path) -> list[Path]:
        """See `Source.agents`; the single one."""
        return [path]

    def checkpoints(self, agent: Path) -> dict[int, Path]:
        """See `Source.checkpoints`; the paths are names, and no files."""
        return {step: agent / str(step) for step in sorted(self.at)}

    def origin(self, checkpoint: Path) -> Origin:
        """See `Source.origin`."""
        return self.at[int(checkpoint.name)].origin

    def load(self, checkpoint: Path, *, compute: Compute, allow: Sequence[str] = ()) -> Agent:  # noqa: ARG002
        """See `Source.load`; the agent is already in memory."""
        return self.at[int(checkpoint.name)]


def with_origin(agent: Agent, *, seed: int, training_step: int) -> Agent:
    """Returns an agent whose origin holds all that its table records, as far as the agent shows it.

    Its temperature is not recorded there, since it may change from step to step, as in training.

    Raises:
        UsageError: see `weights_sha256`; not raised if its origin has a text of its own for them.
    """
    own, spec = agent.origin, spec_record(agent.environment)
    settings: dict[str, Any] = {"search": agent.search.model_dump(mode="json"), "unroll": agent.unroll}
    settings |= {"plan_in": agent.plan_in, "root_noise": agent.root_noise}
    origin = replace(
        own,
        source="memory",
        seed=seed,
        training_step=training_step,
        environment=spec,
        network=own.network or ("mlp" if type(agent.network) is MLPNetwork else type(agent.network).__qualname__),
        weights_sha256=_digest(own.weights_sha256) if own.weights_sha256 else weights_sha256(agent.network),
        config={**own.config, "environment": spec, **settings},  # settings in use, whatever the agent was made from
    )
    return replace(agent, origin=origin)


def _digest(given: str) -> str:
    """Returns a digest as it is, and the digest of any other text."""
    return given if re.fullmatch("[0-9a-f]{64}", given) else hashlib.sha256(given.encode()).hexdigest()


def weights_sha256(network: object) -> str:
    """Returns the SHA-256 of the weights of a torch module, by name and content.

    Raises:
        UsageError: for a network without weights, which cannot be told from another one.
    """
    weights = network.state_dict() if isinstance(network, torch.nn.Module) else {}
    if not weights or not all(isinstance(tensor, torch.Tensor) for tensor in weights.values()):
        raise UsageError(
            f"{type(network).__qualname__} has no weights (tensors of a torch.nn.Module) that a table could name: give "
            "the agent an Origin with a weights_sha256 of your own, any text that another network does not have"
        )
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
        digest.update(plain.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
