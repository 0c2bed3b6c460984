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
    """An agent at several training steps."""

    at: Mapping[int, Agent]  # by training step, as `placed` gives them

    @property
    def name(self) -> str:
        """As in the protocol."""
        return "memory"

    @property
    def modules(self) -> tuple[str, ...]:
        """Whose code its environment and its networks are."""
        return tuple(type(part).__module__ for one in self.at.values() for part in (one.environment, one.network))

    def recognises(self, path: Path) -> bool:  # noqa: ARG002
        """As in the protocol: nothing lies anywhere."""
        return False

    def agents(self, path: Path) -> list[Path]:
        """As in the protocol: the one."""
        return [path]

    def checkpoints(self, agent: Path) -> dict[int, Path]:
        """As in the protocol; no file has these names."""
        return {step: agent / str(step) for step in sorted(self.at)}

    def origin(self, checkpoint: Path) -> Origin:
        """As in the protocol."""
        return self.at[int(checkpoint.name)].origin

    def load(self, checkpoint: Path, *, compute: Compute, allow: Sequence[str] = ()) -> Agent:  # noqa: ARG002
        """As in the protocol: it is there."""
        return self.at[int(checkpoint.name)]


def placed(agent: Agent, *, seed: int, training_step: int) -> Agent:
    """An agent whose origin says all that its table is to say, as far as the agent shows it.

    Its temperature is not part of that: it may change from step to step, as in training.

    Raises:
        UsageError: as `weights_sha256`, unless its origin has a text of its own for them.
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
        config={**own.config, "environment": spec, **settings},  # as it is asked, whatever it was made from
    )
    return replace(agent, origin=origin)


def _digest(given: str) -> str:
    """A digest as it is, and any other text's digest."""
    return given if re.fullmatch("[0-9a-f]{64}", given) else hashlib.sha256(given.encode()).hexdigest()


def weights_sha256(network: object) -> str:
    """SHA-256 of the weights of a torch module, by name and content.

    Raises:
        UsageError: for a network without any, which nobody but its author can tell from another one.
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
