"""Reanalyse: targets made anew from stored positions by a search with today's weights (MuZero Unplugged)."""

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
    """Targets made so far, since there was a first stored position to choose from."""

    fresh: int = 0  # by the searches of self-play
    reanalysed: int = 0  # by searches at stored positions

    @property
    def fraction(self) -> float | None:
        """Share made from stored positions; None before the first target."""
        made = self.fresh + self.reanalysed
        return self.reanalysed / made if made else None

    def due(self, fraction: float) -> int:
        """Stored positions to search now so that the share is the asked one, rounded down."""
        return math.floor(fraction / (1 - fraction) * self.fresh) - self.reanalysed


class Reanalyser:
    """Makes targets for observations: a policy by search, a value by search or by the target network.

    Args:
        config: of the run.
        environment: where stored positions are.
        model: to search in, by the latest network or the averaged one.
        network: the same, to be copied into the target network.
        generator: draws root noise, where there is any.
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
        """Policy targets `[M, A]` of fresh searches, and root values `[M]`.

        The search is that of acting. Batches of its own: measured faster than with the roots of self-play in one.

        Args:
            observations: `[M, *shape]`.
            states: M real states, where those are searched from.
            legal: `[M, A]`, or None where all actions are.
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
        """Values `[M]` of the target network, or of the one that is searched in where there is none; no search."""
        return self._evaluate(observations)[1]

    def renew_next(self, replay: Replay, count: int, *, searched: bool = True) -> int:
        """Makes the targets of `count` stored positions anew, or of all where there are fewer; gives how many.

        Args:
            replay: where they are stored.
            count: positions, those in turn or with the oldest targets.
            searched: by search; else the policy targets stay, and the network's value bootstraps.
        """
        slots = replay.oldest(count) if self.config.reanalyse.positions == "oldest" else replay.stale(count)
        return self.renew(replay, slots, searched=searched)

    def renew(self, replay: Replay, slots: NDArray[np.int64], *, searched: bool = True) -> int:
        """Makes the targets of slots `[M]` anew, as `renew_next` does; gives how many."""
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
        """Copies the weights into the target network, where it is time."""
        interval = self.config.reanalyse.target_interval
        if self.target is not None and step % interval == 0:
            self.target.load_state_dict(self.network.state_dict())

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Weights of the target network, if there is one, and the generator, as JSON."""
        weights = {} if self.target is None else self.target.state_dict()
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in weights.items()}
        return arrays, dict(self.generator.bit_generator.state)

    def restore(self, arrays: dict[str, NDArray[Any]], generator: dict[str, Any]) -> None:
        """Takes back what `state` gave."""
        self.generator.bit_generator.state = generator
        if self.target is not None:
            self.target.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
