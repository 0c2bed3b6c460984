"""Engines, which run a network: batched calls in which a row has the same bits whatever batch it is in."""

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

    No other code asks what kind of network it is: what only some networks can do is asked of the engine.
    """

    @property
    def support(self) -> Support | None:
        """The support of both scalar heads; None where they are not known to have one."""
        ...

    def represent(self, observations: Any) -> Tensor:
        """h_theta: observations `[B, *shape]`, an array or a tensor -> latents `[B, ...]`."""
        ...

    def dynamics(self, latents: Tensor, actions: Any) -> tuple[Tensor, Tensor]:
        """g_theta: latents `[B, ...]`, actions `[B]` -> next latents, reward `[B]`, environment units."""
        ...

    def rewards_along(self, latents: Tensor, actions: Any) -> Tensor:
        """Rewards of g_theta along actions `[B, T]` from latents `[B, ...]`: `[B, T]`, environment units."""
        ...

    def predict(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """f_theta: latents `[B, ...]` -> pi_theta `[B, A]`, probabilities, and value `[B]`, environment units."""
        ...

    def value_distribution(self, latents: Tensor) -> Tensor:
        """The categorical distribution that the value is read from, `[B, atoms]`, where there is a support."""
        ...

    def fused_search(self) -> FusedWeights | None:
        """What a search in one kernel needs; None where there is none for this network."""
        ...

    def fused_gradient(self) -> FusedWeights | None:
        """What the gradient in one kernel needs, which trains the network in place; None where there is none."""
        ...


def engine_for(
    network: MuZeroNetwork, compute: Compute | None = None, *, batch_size: int | Literal["usual"] | None = "usual"
) -> Engine:
    """The engine of a network.

    Args:
        network: on the device of `compute`, see `placed`. One that has a `kernel_engine()` gives its own for the CPU,
            as an `MLPNetwork` does, whose bits are the same on every processor with fused multiply-add; any other is
            called by torch, in evaluation mode.
        compute: how it runs.
        batch_size: of every call by torch (see `in_batches`); None calls with the batch as it is.
    """
    compute = compute or Compute()
    own = getattr(network, "kernel_engine", None)
    engine: Engine | None = own() if own is not None and compute.on_cpu else None
    return TorchEngine(network, compute, batch_size=batch_size) if engine is None else engine


def placed(network: AnyNetwork, compute: Compute) -> AnyNetwork:
    """Puts a network on its device, its weights laid out as `compute` says; what is no torch module stays as it is."""
    if not isinstance(network, nn.Module):
        return network
    network.to(compute.device)
    if compute.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


class TorchEngine:
    """Calls of a fixed size to any network, on any device.

    Only the learner has a network in training mode, and for no longer than a step; whatever comes here is put into
    evaluation mode, so that what a search asks moves no statistic and draws no dropout.
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
        """As in the protocol."""
        return self.network.support if isinstance(self.network, TrainableNetwork) else None

    @torch.inference_mode()
    def represent(self, observations: Any) -> Tensor:
        """As in the protocol."""
        shown = torch.as_tensor(observations, device=self.device)
        # Images become floats as many at a time as the network sees: all at once they would take four times the memory.
        (latents,) = self._call("represent", shown, prepared=as_tensor)
        return latents

    @torch.inference_mode()
    def dynamics(self, latents: Tensor, actions: Any) -> tuple[Tensor, Tensor]:
        """As in the protocol."""
        chosen = torch.as_tensor(actions, dtype=torch.int64, device=self.device)
        following, reward = self._call("dynamics", latents, chosen)
        return following, reward

    def rewards_along(self, latents: Tensor, actions: Any) -> Tensor:
        """As in the protocol."""
        rewards = []
        for chosen in torch.as_tensor(actions, dtype=torch.int64, device=self.device).unbind(dim=1):
            latents, reward = self.dynamics(latents, chosen)
            rewards.append(reward)
        return torch.stack(rewards, dim=1) if rewards else latents.new_zeros((len(latents), 0))

    @torch.inference_mode()
    def predict(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """As in the protocol."""
        logits, value = self._call("predict", latents)
        return torch.softmax(logits, dim=1), value

    @torch.inference_mode()
    def value_distribution(self, latents: Tensor) -> Tensor:
        """As in the protocol."""
        _, logits = self._call("prediction_logits", latents)
        return torch.softmax(logits, dim=1)

    def fused_search(self) -> FusedWeights | None:
        """As in the protocol: none."""
        return None

    def fused_gradient(self) -> FusedWeights | None:
        """As in the protocol: none."""
        return None

    def _call(self, name: str, *inputs: Tensor, prepared: Callable[..., Tensor] = lambda x, **_: x) -> list[Tensor]:
        """One of the network's functions, in evaluation mode and as precisely as asked for; gives float32 or more."""
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
