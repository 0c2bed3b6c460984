"""Models that a search plans in: the planning-model protocol, the learned model and the true one."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mzprobe.compute import Compute
from mzprobe.config import Model
from mzprobe.envs.core import Environment, concatenate, legal_actions, step_of
from mzprobe.names import check_choice
from mzprobe.networks.core import MuZeroNetwork
from mzprobe.networks.engine import engine_for
from mzprobe.networks.evaluate import Evaluator
from mzprobe.networks.support import Support
from mzprobe.search.rollouts import Rollout, RolloutArena, discounted, rolled_out

Bool = NDArray[np.bool_]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Prior = Literal["policy", "uniform"]
LeafValue = Literal["value"] | Rollout


class Leaf(NamedTuple):
    """Output of a planning model for B nodes, one in each tree."""

    reward: Float64  # [B], of the step that led to the node; 0 for roots
    discount: Float64  # [B], of that step: gamma, 0 where it ended the episode, -gamma where the other player moves
    prior: Float64  # [B, A], probabilities
    value: Float64  # [B], discounted return from the node on
    legal: Bool | None = None  # [B, A], legal actions; None where the model excludes none


class PlanningModel(Protocol):
    """A model to search in. The model decides what a node is and keeps its nodes in an arena, by tree and slot."""

    num_actions: int
    gamma: float
    reward_unit: float  # reward that counts as 1, in environment units; the floor of the Q normalisation is in it

    def observations(self, roots: Any) -> Any:
        """Returns numbers that tell roots apart, `[B, ...]`, from which ties and rollouts are drawn by lot."""
        ...

    def roots(self, environment: Environment, states: Any) -> Any:
        """Converts real states of an environment to the roots that `start` takes."""
        ...

    def start(self, roots: Any, capacity: int) -> tuple[Any, Leaf]:
        """Opens an arena with room for `capacity` nodes per tree and puts B roots in slot 0."""
        ...

    def expand(self, arena: Any, nodes: Int32, actions: Int32, slot: int) -> Leaf:
        """Steps the node in slot `nodes[b]` of each tree b by `actions[b]` and keeps the result in slot `slot`."""
        ...


class LearnedModel:
    """A planning model in the network: roots are observations `[B, *shape]`, nodes are latents on the device.

    Args:
        network: any `MuZeroNetwork`.
        num_actions: A.
        gamma: discount.
        prior: the network's policy, or uniform.
        leaf: the network's value, or random rollouts in the network.
        compute: how the network runs.
        batch_size: rows of every call of the network by torch, so that a root's search has the same bits in any batch
            (see `in_batches`); None calls it with the batch as it is.

    Raises:
        UsageError: if there is no such prior.
    """

    def __init__(
        self,
        network: MuZeroNetwork,
        *,
        num_actions: int,
        gamma: float,
        prior: Prior = "policy",
        leaf: LeafValue = "value",
        compute: Compute | None = None,
        batch_size: int | None = None,
    ) -> None:
        check_choice(prior, get_args(Prior), "prior")
        self.network = network
        self.num_actions = num_actions
        self.gamma = gamma
        self.prior: Prior = prior
        self.leaf: LeafValue = leaf
        self._engine = engine_for(network, compute, batch_size=batch_size)
        self.reward_unit = _reward_unit(self._engine.support)
        self.fused = self._engine.fused_search()  # weights for the fused path, or None

    def observations(self, roots: Any) -> NDArray[Any]:
        """Returns the roots themselves, as an array."""
        return roots.cpu().numpy() if isinstance(roots, Tensor) else np.asarray(roots)

    def roots(self, environment: Environment, states: Any) -> NDArray[Any]:
        """Returns the observations of real states, `[B, *shape]`."""
        return environment.observe(states)

    @torch.inference_mode()
    def start(self, roots: Any, capacity: int) -> tuple["LatentArena", Leaf]:
        """Encodes observations `[B, *shape]` as roots; see `PlanningModel.start`."""
        latents = self._engine.represent(roots)
        arena = LatentArena(
            latents.new_empty((capacity, *latents.shape)),
            torch.arange(len(latents), device=latents.device),
            None if self.leaf == "value" else RolloutArena(self.leaf, self.observations(roots), capacity),
        )
        arena.latents[0] = latents
        return arena, self._leaf(latents.new_zeros(len(latents), dtype=torch.float64), latents, arena, 0)

    @torch.inference_mode()
    def expand(self, arena: "LatentArena", nodes: Int32, actions: Int32, slot: int) -> Leaf:
        """Expands one node per tree, by one dynamics and one prediction call for the whole batch."""
        # One transfer to the device for both: a copy costs more than the bytes.
        slots, chosen = torch.from_numpy(np.array((nodes, actions), np.int64)).to(arena.trees.device)
        latents, reward = self._engine.dynamics(arena.latents[slots, arena.trees], chosen)
        arena.latents[slot] = latents
        if arena.rollouts is not None:
            arena.rollouts.place(nodes, slot)
        return self._leaf(reward, latents, arena, slot)

    def _leaf(self, reward: Tensor, latents: Tensor, arena: "LatentArena", slot: int) -> Leaf:
        if self.prior == "uniform" and arena.rollouts is not None:  # no head is needed
            prior, value = reward.new_zeros((len(latents), self.num_actions)), torch.zeros_like(reward)
        else:
            prior, value = self._engine.predict(latents)
        # One transfer from the device for all three.
        joined = torch.cat((reward[:, None], value[:, None], prior), dim=1)
        numbers = joined.cpu().numpy().astype(np.float64)
        probabilities = numbers[:, 2:]
        if self.prior == "uniform":
            probabilities = np.full_like(probabilities, 1 / self.num_actions)
        discount = np.full(len(latents), self.gamma)
        if arena.rollouts is None:
            return Leaf(numbers[:, 0], discount, probabilities, numbers[:, 1])
        left = arena.rollouts.left(slot)
        actions = arena.rollouts.actions(slot, self.num_actions)
        rewards = np.asarray(self._engine.rewards_along(latents, actions).cpu().numpy(), np.float64)
        reached = np.where(left < 0, 0.0, numbers[:, 0])
        return Leaf(reached, discount, probabilities, discounted(rewards, left, self.gamma))


@dataclass(frozen=True)
class PairedRoots:
    """The same B roots for two models."""

    planned: Any  # for the model that is planned in
    advising: Any  # for the model that supplies the prior

    def __len__(self) -> int:
        return len(self.planned)


class AdvisedModel:
    """A planning model with the prior of another model, which takes the same actions from the same roots.

    With the learned and the true model, this separates what is lost by the prior along an unrolled latent from what is
    lost by the model's rewards and values: the policy network reads either the latent or the encoded real state.

    Args:
        planned: model that supplies rewards and leaf values.
        advising: model that supplies priors.
    """

    def __init__(self, planned: PlanningModel, advising: PlanningModel) -> None:
        self.num_actions, self.gamma, self.reward_unit = planned.num_actions, planned.gamma, planned.reward_unit
        self.planned, self.advising = planned, advising

    def observations(self, roots: PairedRoots) -> Any:
        """Returns the observations of the model that is planned in."""
        return self.planned.observations(roots.planned)

    def roots(self, environment: Environment, states: Any) -> PairedRoots:
        """Returns the roots of both models."""
        return PairedRoots(self.planned.roots(environment, states), self.advising.roots(environment, states))

    def start(self, roots: PairedRoots, capacity: int) -> tuple[tuple[Any, Any], Leaf]:
        """Opens the arenas of both models."""
        planned, leaf = self.planned.start(roots.planned, capacity)
        advising, advice = self.advising.start(roots.advising, capacity)
        return (planned, advising), leaf._replace(prior=advice.prior)

    def expand(self, arena: tuple[Any, Any], nodes: Int32, actions: Int32, slot: int) -> Leaf:
        """Steps both models; returns the planned model's leaf with the advising model's prior."""
        leaf = self.planned.expand(arena[0], nodes, actions, slot)
        return leaf._replace(prior=self.advising.expand(arena[1], nodes, actions, slot).prior)


def _reward_unit(support: Support | None) -> float:
    """Returns the reward that the network's scale makes 1, in environment units; 1 without a support."""
    return 1.0 if support is None else 1 / support.reward_scale


class LatentArena(NamedTuple):
    """Latents of every node of every tree."""

    latents: Tensor  # [capacity, B, ...]
    trees: Tensor  # [B], the numbers 0 .. B - 1
    rollouts: RolloutArena | None


class TrueModel:
    """A planning model in the environment itself: nodes are its states, terminal ones absorbing and worth 0.

    Args:
        environment: environment to plan in.
        network: supplies a policy prior and value leaves, both at h_theta(o) of the true state; needed for these alone.
        prior: the network's policy, or uniform.
        leaf: the network's value, or random rollouts in the environment.
        compute: how the network runs.

    Raises:
        ValueError: if a network is needed and there is none.
        UsageError: if there is no such prior.
    """

    def __init__(
        self,
        environment: Environment,
        network: MuZeroNetwork | None = None,
        *,
        prior: Prior = "policy",
        leaf: LeafValue = "value",
        compute: Compute | None = None,
    ) -> None:
        check_choice(prior, get_args(Prior), "prior")
        if network is None and (prior == "policy" or leaf == "value"):
            raise ValueError(
                "a policy prior and a value leaf need a network: give one, or a uniform prior and rollouts"
            )
        self.environment = environment
        self.num_actions = environment.spec.num_actions
        self.gamma = environment.spec.gamma
        self.prior: Prior = prior
        self.leaf: LeafValue = leaf
        self._evaluate = None if network is None else Evaluator(network, num_actions=self.num_actions, compute=compute)
        self.reward_unit = _reward_unit(None if self._evaluate is None else self._evaluate.support)

    def observations(self, roots: Any) -> NDArray[Any]:
        """Returns the environment's observations of the roots."""
        return self.environment.observe(roots)

    def roots(self, environment: Environment, states: Any) -> Any:  # noqa: ARG002 - the learned model observes
        """Returns the states themselves."""
        return states

    def start(self, roots: Any, capacity: int) -> tuple["StateArena", Leaf]:
        """Puts B real states in slot 0."""
        rollouts = None
        if self.leaf != "value":
            rollouts = RolloutArena(self.leaf, self.observations(roots), capacity)
        arena = StateArena(roots, rollouts)
        nothing = np.zeros(len(roots))
        return arena, self._leaf(nothing, nothing, roots, arena, 0)

    def expand(self, arena: "StateArena", nodes: Int32, actions: Int32, slot: int) -> Leaf:
        """Expands one node per tree, by one step of the environment for the whole batch."""
        states, outcome = step_of(self.environment, arena.take(nodes), actions)
        arena.add(states)
        if arena.rollouts is not None:
            arena.rollouts.place(nodes, slot)
        discount = np.where(outcome.terminated, 0.0, self.gamma)
        return self._leaf(outcome.reward, discount, states, arena, slot)

    def _leaf(self, reward: Float64, discount: Float64, states: Any, arena: "StateArena", slot: int) -> Leaf:
        A = self.num_actions
        prior, value = np.full((len(states), A), 1 / A), np.zeros(len(states))
        if self._evaluate is not None and (self.prior == "policy" or arena.rollouts is None):
            policy, value = self._evaluate(self.environment.observe(states))
            prior = policy if self.prior == "policy" else prior
        legal = legal_actions(self.environment, states)
        if arena.rollouts is None:
            worth = np.where(self.environment.terminal(states), 0.0, value)
            return Leaf(reward, discount, prior, worth, legal)
        left = arena.rollouts.left(slot)
        rewards = rolled_out(self.environment, states, arena.rollouts, slot)
        reached = np.where(left < 0, 0.0, reward)
        return Leaf(reached, discount, prior, discounted(rewards, left, self.gamma), legal)


class StateArena:
    """Real states of every node of every tree, slot by slot."""

    def __init__(self, roots: Any, rollouts: RolloutArena | None = None) -> None:
        self.parts = [roots]  # slots in order; every part has more states than the next one
        self.sizes = [len(roots)]  # states in each part
        self.trees = np.arange(len(roots))
        self.rollouts = rollouts

    def take(self, nodes: NDArray[Any]) -> Any:
        """Returns the states of node `nodes[b]` of each tree b, B states."""
        wanted = nodes * len(self.trees) + self.trees
        ends = np.cumsum(self.sizes)
        part_of = np.searchsorted(ends, wanted, side="right")
        order = np.argsort(part_of, kind="stable")
        found, first = [], 0
        for part, size, end, count in zip(self.parts, self.sizes, ends, np.bincount(part_of).tolist(), strict=False):
            if count:
                found.append(part.take(wanted[order[first : first + count]] - (end - size)))
                first += count
        return concatenate(found).take(np.argsort(order))

    def add(self, states: Any) -> None:
        """Puts one state per tree in the next slot; parts are joined so that a state is copied log(slots) times."""
        self.parts.append(states)
        self.sizes.append(len(self.trees))
        while len(self.parts) > 1 and self.sizes[-2] <= self.sizes[-1]:
            self.parts[-2:] = [concatenate(self.parts[-2:])]
            self.sizes[-2:] = [sum(self.sizes[-2:])]


def planning_in(
    model: Model,
    environment: Environment,
    network: MuZeroNetwork,
    *,
    compute: Compute | None = None,
    batch_size: int | None = None,
    **options: Any,
) -> PlanningModel:
    """Returns the learned model, or the true one with the same network's policy and value.

    Args:
        model: which of the two.
        environment: the real environment.
        network: the agent's network.
        compute: how the network runs.
        batch_size: rows of every call of the network by torch, in the learned model alone.
        **options: `prior` and `leaf` of either model.

    Raises:
        UsageError: if there is no such model or prior.
    """
    check_choice(model, get_args(Model), "model")
    if model == "true":
        return TrueModel(environment, network, compute=compute, **options)
    spec = environment.spec
    return LearnedModel(
        network, num_actions=spec.num_actions, gamma=spec.gamma, compute=compute, batch_size=batch_size, **options
    )
