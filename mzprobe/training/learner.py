"""One optimiser step: loss, gradient, clipping, AdamW."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mzprobe.compute import Compute
from mzprobe.config import TrainingConfig
from mzprobe.inputs import as_floats
from mzprobe.networks import TrainableNetwork
from mzprobe.networks.engine import engine_for
from mzprobe.networks.fused.weights import FusedWeights, Layers, MLPWeights
from mzprobe.seeding import torch_seed
from mzprobe.system.memory import refuse_more_than_fits
from mzprobe.training.fused import COVERED, fused_gradient
from mzprobe.training.objective import Objective, muzero_objective
from mzprobe.training.optimiser import AdamW
from mzprobe.training.targets import Batch
from mzprobe.training.workspace import Workspace, workspace

Float32 = NDArray[np.float32]
Losses = dict[str, float]


class Learner:
    """Updates a network in place.

    The fused gradient is used if the network's engine has one and it supports all terms of the objective. Otherwise
    autograd is used, with the network in training mode during a step, and in evaluation mode before and after.

    Args:
        network: network on the device of `compute`.
        config: learning rate, clipping, batch and unroll sizes.
        objective: objective to minimise; None for that of MuZero with the configuration's weights.
        compute: how the network runs.
        fused: whether to use the fused gradient where there is one.
        seed: seed of the agent. What random layers draw in a training step depends only on it and on the step.

    Raises:
        UsageError: if a training batch does not fit into memory.
    """

    def __init__(
        self,
        network: TrainableNetwork,
        config: TrainingConfig,
        *,
        objective: Objective | None = None,
        compute: Compute | None = None,
        fused: bool = True,
        seed: int = 0,
    ) -> None:
        self.network = network
        self.seed = seed
        self.config = config
        self.objective = objective or muzero_objective(config)
        self.compute = compute or Compute()
        B, K = config.batch_size, config.unroll_steps
        what = f"training.batch_size={B} with training.unroll_steps={K}"
        kept = network.kept_per_position + (K + 1) * (16 + network.kept_per_step)
        there = None if self.compute.on_cpu else torch.cuda.get_device_properties(self.compute.device).total_memory
        refuse_more_than_fits(4 * B * kept, what=what, there=there)
        self._fused: _FusedStep | None = None
        known = tuple(term.loss for term in self.objective.terms) == COVERED
        frozen = not all(parameter.requires_grad for parameter in network.parameters())  # the kernels move all
        found = engine_for(network.eval(), self.compute).fused_gradient() if fused and known and not frozen else None
        if found is not None:
            self._fused = _FusedStep(found, config, self.objective)
        else:
            self._unrolled = torch.compile(network.unroll) if self.compute.compiled else network.unroll
            self.parameters = list(network.parameters())
            self.optimiser = torch.optim.AdamW(
                self.parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
            )

    def step(self, batch: Batch, step: int) -> tuple[Losses, Float32]:
        """Makes one update at training step `step`; returns the losses and v_theta(root) `[B]` before it.

        If the gradient is not finite, no weight is updated, and `gradient_norm` among the losses is not finite either.
        """
        learning_rate = self.learning_rate(step)
        if self._fused:
            return self._fused.step(batch, learning_rate)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        with torch.random.fork_rng(devices=[] if self.compute.on_cpu else [self.compute.device]):
            torch.manual_seed(torch_seed(self.seed, "learn", step))
            losses, root_values = self._autograd(batch)
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, self.config.gradient_clip))
        losses["gradient_norm"] = norm
        if np.isfinite(norm):
            self.optimiser.step()
        return losses, root_values

    def learning_rate(self, step: int) -> float:
        """Returns the learning rate at training step `step`, by its schedule."""
        config = self.config
        start, floor = config.learning_rate, config.learning_rate_floor
        if config.learning_rate_schedule == "constant":
            return start
        if config.learning_rate_schedule == "cosine":  # Loshchilov and Hutter 2017, Eq. 5, without restarts
            done = min(1.0, step / config.learning_rate_steps)
            return floor + (start - floor) * (1 + math.cos(math.pi * done)) / 2
        rate: float = start * config.learning_rate_decay ** (step / 1000)
        return max(rate, floor)

    def state(self) -> dict[str, NDArray[Any]]:
        """Returns the weights and the optimiser's moments, as arrays."""
        arrays = {f"weights/{name}": array for name, array in self.network.weight_arrays().items()}
        for index, moments in self._moments().items():
            arrays |= {f"moments/{index}/{name}": x for name, x in moments.items()}
        return arrays

    @torch.no_grad()
    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Restores the result of `state`."""
        weights = {
            name.removeprefix("weights/"): torch.from_numpy(array)
            for name, array in arrays.items()
            if name.startswith("weights/")
        }
        self.network.load_state_dict(weights)
        state: dict[int, dict[str, NDArray[Any]]] = {}
        for name, array in arrays.items():
            if name.startswith("moments/"):
                _, index, moment = name.split("/")
                state.setdefault(int(index), {})[moment] = array
        if self._fused:
            self._fused.optimiser.restore(state)
        else:
            tensors = {
                i: {name: _laid_as(self.parameters[i], torch.from_numpy(x.copy())) for name, x in moments.items()}
                for i, moments in state.items()
            }
            self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": tensors})

    def _moments(self) -> dict[int, dict[str, NDArray[Any]]]:
        if self._fused:
            return self._fused.optimiser.state()
        state = self.optimiser.state_dict()["state"]
        return {index: {name: x.cpu().numpy() for name, x in moments.items()} for index, moments in state.items()}

    def _autograd(self, batch: Batch) -> tuple[Losses, Float32]:
        self.optimiser.zero_grad()
        self.network.train()
        try:
            with self.compute.autocast():
                device = torch.device(self.compute.device)
                losses, root_values = self.objective.losses(self.network, batch, device, unrolled=self._unrolled)
            torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        finally:
            self.network.eval()
        numbers = torch.stack(losses).tolist()
        return dict(zip(self.objective.names, numbers, strict=True)), root_values.cpu().numpy()


def _laid_as(parameter: torch.Tensor, moment: torch.Tensor) -> torch.Tensor:
    """Returns a moment in its parameter's memory layout, as torch's fused optimiser assumes; a count stays as it is."""
    if moment.shape != parameter.shape:
        return moment
    return torch.empty_like(parameter, dtype=moment.dtype).copy_(moment)


class _FusedStep:
    """Fused gradient and its optimiser, with the workspace and views of weights and gradients."""

    def __init__(self, fused: FusedWeights, config: TrainingConfig, objective: Objective) -> None:
        self.names = objective.names
        of_reward, of_value, of_policy = (term.weight for term in objective.terms)
        self.term_weights = (of_reward, of_value, of_policy)
        self.weights, self.support = fused
        self.gradients = MLPWeights(*(Layers(*map(np.zeros_like, layers)) for layers in self.weights))
        self.optimiser = AdamW(
            [array for layers in self.weights for array in layers],
            [array for layers in self.gradients for array in layers],
            weight_decay=config.weight_decay,
            clip=config.gradient_clip,
        )
        self.work: Workspace = workspace(self.weights, B=config.batch_size, K=config.unroll_steps)

    def step(self, batch: Batch, learning_rate: float) -> tuple[Losses, Float32]:
        """Makes one update; returns the losses and the values of the roots `[B]` before it."""
        losses, root_values = self.gradient(batch)
        losses["gradient_norm"] = self.optimiser.step(learning_rate)
        return losses, root_values

    def gradient(self, batch: Batch) -> tuple[Losses, Float32]:
        """Fills `gradients`; returns the losses and the values of the roots `[B]`."""
        B = len(batch.observations)
        root_values = np.empty(B, np.float32)
        flat = batch._replace(observations=as_floats(batch.observations).reshape(B, -1))
        numbers = fused_gradient(
            self.weights,
            self.gradients,
            self.support.axis,
            flat,
            self.work,
            root_values,
            self.term_weights,
        )
        return dict(zip(self.names, numbers, strict=True)), root_values
