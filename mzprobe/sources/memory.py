"""Agents of this process as a source, so that tables are made of them as of checkpoints."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mzprobe.agents import Agent, Origin
from mzprobe.checkpoints import spec_record
from mzprobe.compute import Compute
from mzprobe.errors import UsageError
from mzprobe.networks import MLPNetwork


@dataclass(frozen=True, kw_only=True)
class InMemory:
    """An agent at several training steps."""

    at: Mapping[int, Agent]  # by training step

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
        """As in the protocol, completed by what the agent shows of itself."""
        agent = self.at[int(checkpoint.name)]
        own = agent.origin
        search = {"search": agent.search.model_dump(mode="json"), "unroll": agent.unroll, "plan_in": agent.plan_in}
        return replace(
            own,
            environment=own.environment or spec_record(agent.environment),
            network=own.network or ("mlp" if type(agent.network) is MLPNetwork else type(agent.network).__qualname__),
            weights_sha256=_digest(own.weights_sha256) if own.weights_sha256 else weights_sha256(agent.network),
            config=own.config or search,
        )

    def load(self, checkpoint: Path, *, compute: Compute, allow: Sequence[str] = ()) -> Agent:  # noqa: ARG002
        """As in the protocol: it is there."""
        agent = self.at[int(checkpoint.name)]
        return replace(agent, origin=self.origin(checkpoint))


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
