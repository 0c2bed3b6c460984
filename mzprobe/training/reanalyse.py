"""Reanalyse: targets recomputed at stored positions by a search with the current weights (MuZero Unplugged)."""

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mzprobe.compute import Compute
from mzprobe.config import RunConfig
from mzprobe.envs.core import Environment
from mzprobe.networks import TrainableNetwork
from mzprobe.networks.evaluate import Evaluator
from mzprobe.search.mcts import search
from mzprobe.search.models import PlanningModel
from mzprobe.training.replay import Replay
from mzprobe.training.revisiting import states_at

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(kw_only=True)
class TargetCounts:
    """Counts of the targets made since the first position was stored."""

    fresh: int = 0  # made by the searches of self-play
    reanalysed: int = 0  # made by searches at stored positions

    @property
    def fraction(self) -> float | None:
        """Share of the targets made at stored positions; None before the first target."""
        made = self.fresh + self.reanalysed
        return self.reanalysed / made if made else None

    def due(self, fraction: float) -> int:
        """Returns the number of stored positions to search now for a share of `fraction`, rounded down."""
        return math.floor(fraction / (1 - fraction) * self.fresh) - self.reanalysed


class Reanalyser:
    """Makes targets for observations: a policy by search, a value by search or by the target network.

    Args:
        config: configuration of the run.
        environment: environment of the stored positions.
        model: model to search in, with the latest network or the averaged one.
        network: that network, of which the target network is a copy.
        generator: draws root noise, if the configuration asks for it.
        compute: how the network runs.
    """

    def __init__(
        self,
        config: RunConfig,
        environment: Environment,
        model: PlanningModel,
        network: TrainableNetwork,
        *,
        generator: np.random.Generator,
        compute: Compute | None = None,
    ) -> None:
        self.config = config
        self.environment = environment
        self.model = model
        self.network = network
        self.generator = generator
        self.target = copy.deepcopy(network) if config.reanalyse.target_interval else None
        bootstrap = network if self.target is None else self.target
        self._evaluate = Evaluator(bootstrap, num_actions=model.num_actions, compute=compute)

    def search_targets(
        self, observations: NDArray[Any], *, states: Any = None, legal: Bool | None = None
    ) -> tuple[Float64, Float64]:
        """Returns policy targets `[M, A]` of fresh searches, and root values `[M]` of these or of the target network.

        The search is the same as in self-play. It runs in batches of its own, which was measured to be faster than
        batches shared with self-play.

        Args:
            observations: `[M, *shape]`.
            states: M real states to search from; None searches from the observations.
            legal: `[M, A]`, legal actions; None if all are legal.
        """
        size = self.config.reanalyse.batch_size
        noise = self.generator if self.config.reanalyse.root_noise else None
        policies, values = [], []
        for first in range(0, len(observations), size):
            here = slice(first, first + size)
            roots = observations[here] if states is None else states.take(np.arange(len(observations))[here])
            allowed = None if legal is None else legal[here]
            result = search(self.model, roots, config=self.config.search, generator=noise, legal=allowed)
            policies.append(result.target)
            values.append(result.value_target)
        if self.target is not None:
            return np.concatenate(policies), self.evaluate_targets(observations)
        return np.concatenate(policies), np.concatenate(values)

    def evaluate_targets(self, observations: NDArray[Any]) -> Float64:
        """Returns values `[M]` of the target network or, without one, of the network searched with; no search."""
        return self._evaluate(observations)[1]

    def renew_next(self, replay: Replay, count: int, *, searched: bool = True) -> int:
        """Renews the targets of `count` stored positions, or of all if there are fewer; returns their number.

        Args:
            replay: buffer of the positions.
            count: number of positions, which take turns or have the oldest targets, as `reanalyse.positions` says.
            searched: whether to search; else policy targets stay, and values bootstrap from `evaluate_targets`.
        """
        slots = replay.oldest(count) if self.config.reanalyse.positions == "oldest" else replay.stale(count)
        return self.renew(replay, slots, searched=searched)

    def renew(self, replay: Replay, slots: NDArray[np.int64], *, searched: bool = True) -> int:
        """Renews the targets of slots `[M]`, as `renew_next` does; returns M."""
        if len(slots):
            observations = replay.observations[slots]
            if searched:
                true = self.config.training.plan_in == "true"
                states = states_at(self.environment, replay, slots) if true else None
                policies, root_values = self.search_targets(observations, states=states, legal=replay.legal_at(slots))
                replay.take_targets(slots, root_values, policies)
            else:
                replay.take_targets(slots, self.evaluate_targets(observations))
        return len(slots)

    def at_step(self, step: int) -> None:
        """Copies the weights into the target network, if there is one and `step` is a multiple of its interval."""
        interval = self.config.reanalyse.target_interval
        if self.target is not None and step % interval == 0:
            self.target.load_state_dict(self.network.state_dict())

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Returns the weights of the target network, if there is one, and the generator's state for JSON."""
        arrays = {} if self.target is None else self.target.weight_arrays()
        return arrays, dict(self.generator.bit_generator.state)

    def restore(self, arrays: dict[str, NDArray[Any]], generator: dict[str, Any]) -> None:
        """Restores the result of `state`."""
        self.generator.bit_generator.state = generator
        if self.target is not None:
            self.target.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
