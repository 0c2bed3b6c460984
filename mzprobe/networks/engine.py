"""Engines, which run a network: batched calls in which a row has the same bits in any batch."""

from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn

from mzprobe.compute import Compute
from mzprobe.inputs import as_tensor
from mzprobe.networks.batching import in_batches, usual_batch_size
from mzprobe.networks.core import MuZeroNetwork, TrainableNetwork, evaluating
from mzprobe.networks.fused.weights import FusedWeights
from mzprobe.networks.support import Support

AnyNetwork = TypeVar("AnyNetwork")


class Engine(Protocol):
    """A network in evaluation mode, without gradients; tensors live on its device.

    No other code asks what kind of network it has: what only some networks can do is a method of the engine.
    """

    @property
    def support(self) -> Support | None:
        """Support of both scalar heads; None where they are not known to have one."""
        ...

    def represent(self, observations: Any) -> Tensor:
        """Encodes observations `[B, *shape]`, an array or a tensor, as latents `[B, ...]` (h_theta)."""
        ...

    def dynamics(self, latents: Tensor, actions: Any) -> tuple[Tensor, Tensor]:
        """Steps latents `[B, ...]` by actions `[B]` (g_theta).

        Returns the next latents and the reward `[B]` in environment units.
        """
        ...

    def rewards_along(self, latents: Tensor, actions: Any) -> Tensor:
        """Returns rewards of g_theta along actions `[B, T]` from latents `[B, ...]`: `[B, T]`, environment units."""
        ...

    def predict(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Returns pi_theta `[B, A]` (probabilities) and value `[B]` (environment units) at latents `[B, ...]`."""
        ...

    def value_distribution(self, latents: Tensor) -> Tensor:
        """Returns the categorical distribution that the value is read from, `[B, atoms]`, where there is a support."""
        ...

    def fused_search(self) -> FusedWeights | None:
        """Returns the weights for a search in one kernel; None where this network has none."""
        ...

    def fused_gradient(self) -> FusedWeights | None:
        """Returns the weights that a gradient in one kernel trains in place; None where this network has none."""
        ...


def engine_for(
    network: MuZeroNetwork, compute: Compute | None = None, *, batch_size: int | Literal["usual"] | None = "usual"
) -> Engine:
    """Returns the engine of a network.

    Args:
        network: network on the device of `compute`, see `place_on_device`. If it has a `kernel_engine()`, as an
            `MLPNetwork` does, that is its engine on the CPU (unless None), with the same bits on every processor with
            fused multiply-add. Any other is called by torch, in evaluation mode.
        compute: how the network runs.
        batch_size: rows of every call by torch (see `in_batches`): `usual` is `usual_batch_size`, None takes the batch
            as it is.
    """
    compute = compute or Compute()
    own = getattr(network, "kernel_engine", None)
    engine: Engine | None = own() if own is not None and compute.on_cpu else None
    return TorchEngine(network, compute, batch_size=batch_size) if engine is None else engine


def place_on_device(network: AnyNetwork, compute: Compute) -> AnyNetwork:
    """Moves a network to its device, with weights laid out as `compute` says, if it is a torch module."""
    if not isinstance(network, nn.Module):
        return network
    network.to(compute.device)
    if compute.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


class TorchEngine:
    """An engine for any network on any device, which makes calls of a fixed size.

    Only the learner has a network in training mode, and for no longer than a step. Here, every call is in evaluation
    mode, so that a search changes no statistics and draws no dropout.
    """

    def __init__(
        self,
        network: MuZeroNetwork,
        compute: Compute | None = None,
        *,
        batch_size: int | Literal["usual"] | None = "usual",
    ) -> None:
        self.network = network
        self.compute = compute or Compute()
        self.device = torch.device(self.compute.device)
        self.batch_size = usual_batch_size(network, self.compute) if batch_size == "usual" else batch_size
        self._compiled: dict[str, Callable[..., tuple[Tensor, ...]]] = {}

    @property
    def support(self) -> Support | None:
        """See `Engine.support`."""
        return self.network.support if isinstance(self.network, TrainableNetwork) else None

    @torch.inference_mode()
    def represent(self, observations: Any) -> Tensor:
        """See `Engine.represent`."""
        shown = torch.as_tensor(observations, device=self.device)
        # Images become floats one call at a time, since all at once would take four times the memory.
        (latents,) = self._call("represent", shown, prepared=as_tensor)
        return latents

    @torch.inference_mode()
    def dynamics(self, latents: Tensor, actions: Any) -> tuple[Tensor, Tensor]:
        """See `Engine.dynamics`."""
        chosen = torch.as_tensor(actions, dtype=torch.int64, device=self.device)
        following, reward = self._call("dynamics", latents, chosen)
        return following, reward

    def rewards_along(self, latents: Tensor, actions: Any) -> Tensor:
        """See `Engine.rewards_along`."""
        rewards = []
        for chosen in torch.as_tensor(actions, dtype=torch.int64, device=self.device).unbind(dim=1):
            latents, reward = self.dynamics(latents, chosen)
            rewards.append(reward)
        return torch.stack(rewards, dim=1) if rewards else latents.new_zeros((len(latents), 0))

    @torch.inference_mode()
    def predict(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """See `Engine.predict`."""
        logits, value = self._call("predict", latents)
        return torch.softmax(logits, dim=1), value

    @torch.inference_mode()
    def value_distribution(self, latents: Tensor) -> Tensor:
        """See `Engine.value_distribution`."""
        _, logits = self._call("prediction_logits", latents)
        return torch.softmax(logits, dim=1)

    def fused_search(self) -> FusedWeights | None:
        """Returns None: there is no fused search by torch."""
        return None

    def fused_gradient(self) -> FusedWeights | None:
        """Returns None: there is no fused gradient by torch."""
        return None

    def _call(self, name: str, *inputs: Tensor, prepared: Callable[..., Tensor] = lambda x, **_: x) -> list[Tensor]:
        """Calls a function of the network in evaluation mode and the precision asked for; returns float32 or more."""
        function = self._function(name)

        def call(*rows: Tensor) -> tuple[Tensor, ...]:
            given = function(*(prepared(x, device=self.device) for x in rows))
            results = given if isinstance(given, tuple) else (given,)
            return tuple(x.float() if x.dtype == torch.bfloat16 else x for x in results)

        with evaluating(self.network), self.compute.autocast():
            return in_batches(call, *inputs, batch_size=self.batch_size)

    def _function(self, name: str) -> Callable[..., Any]:
        if not self.compute.compiled:
            function: Callable[..., Any] = getattr(self.network, name)
            return function
        if name not in self._compiled:
            self._compiled[name] = torch.compile(getattr(self.network, name))
        return self._compiled[name]
