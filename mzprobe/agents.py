"""An agent of any origin: a network in an environment, the search that it acts by, and its provenance."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral, Real
from typing import Any, Literal, get_args

import pandas as pd

from mzprobe import making
from mzprobe.behaviour import BehaviourPolicy, PriorPolicy
from mzprobe.compute import Compute
from mzprobe.config import Model, SearchConfig
from mzprobe.envs import Environment, refuse_unsound
from mzprobe.envs.core import bytes_of
from mzprobe.errors import UsageError
from mzprobe.names import check_choice
from mzprobe.networks import MuZeroNetwork
from mzprobe.networks.batching import search_batch_size
from mzprobe.networks.engine import engine_for
from mzprobe.networks.evaluate import Evaluator
from mzprobe.records.stored import StoredTargets
from mzprobe.search.models import AdvisedModel, LeafValue, PlanningModel, Prior, planning_in

PriorAt = Literal["latent", "state"]  # input of the policy network: the unrolled latent, or the encoded real state

TREES = 1 << 13  # largest number of trees grown at a time; more are no faster
_NUMBERS = 80  # bytes of a prefix of an action sequence, beside its state, its latent and its A children
_EDGE = 40  # bytes of an edge of a search tree
_PREFIXES = 8  # approximate number of prefixes held per sequence, since sequences share prefixes


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Provenance of an agent: names for its tables, and what its own code recorded. None means unknown."""

    source: str = "memory"  # name of the source that read the agent
    run: str = "agent"  # name of the folder of its tables
    seed: int = 0  # index of the agent in its run; part of the seed of every random draw for it
    training_step: int | None = None
    environment_steps: int | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)  # spec of its environment
    network: str = ""  # kind of its network; mlp runs on our own kernels
    weights_sha256: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)  # training configuration, as its own code keeps it
    dataset: Mapping[str, Any] = field(default_factory=dict)  # SHA-256 of the dataset it learned from, where known
    beyond_support: Mapping[str, Any] | None = None  # counts of targets beyond the support, where counted
    facts: Mapping[str, str] = field(default_factory=dict)  # source of each fact that the agent's file does not hold
    returned: float | None = None  # undiscounted return in the environment's units, as stated by its code or authors
    returned_where: str = ""  # where that return is stated
    differences: tuple[str, ...] = ()  # differences between how it was trained and how it is probed


@dataclass(frozen=True, kw_only=True)
class Agent:
    """A network in an environment, with the search that it acts by: pi^MuZero, by default without root noise.

    Attributes:
        environment: the real environment.
        network: h_theta, g_theta and f_theta, on the device of `compute`.
        search: settings of its search.
        temperature: T of pi^MuZero. For an agent of mzprobe, the one that collected data at that training step (for
            Gumbel's rule, which collects data by noise, the one that it was evaluated at).
        unroll: K, the number of steps that its model was unrolled in training; 0 if it was not unrolled, None if
            unknown.
        plan_in: the model that its search plans in.
        root_noise: whether its search has root noise; the same state always has the same noise.
        targets: positions of its replay buffer, if any were kept.
        positions: number of such positions that its checkpoints keep.
        origin: its provenance.
        compute: device, precision, threads and memory of its computations.
    """

    environment: Environment
    network: MuZeroNetwork
    search: SearchConfig = field(default_factory=SearchConfig)
    temperature: float = 1.0
    unroll: int | None = None
    plan_in: Model = "learned"
    root_noise: bool = False
    targets: StoredTargets | None = None
    positions: int = 0
    origin: Origin = field(default_factory=Origin)
    compute: Compute = field(default_factory=Compute)

    def __post_init__(self) -> None:
        """Validates the settings, and the environment and network if they are the user's own.

        Raises:
            UsageError: if a setting is invalid, or the environment or network breaks a rule of its protocol, which
                the error names.
        """
        check_choice(self.plan_in, get_args(Model), "plan_in")
        if self.unroll is not None and not (isinstance(self.unroll, Integral) and self.unroll >= 0):
            raise UsageError(f"unroll is how many steps the model was unrolled in training, not {self.unroll!r}")
        T = self.temperature
        if isinstance(T, bool) or not isinstance(T, Real) or not 0 <= T < math.inf:
            raise UsageError(f"temperature is T of the behaviour policy, a number of at least 0, not {T!r}")
        if not isinstance(self.search, SearchConfig):
            raise UsageError(f"search is a mzprobe.config.SearchConfig, not {self.search!r}")
        refuse_unsound(self.environment)
        making.refuse_unsound(self.network, self.environment, self.compute)

    @cached_property
    def policy(self) -> BehaviourPolicy:
        """Behaviour policy, pi^MuZero."""
        return BehaviourPolicy(
            environment=self.environment,
            model=self.planning_in(self.plan_in),
            config=self.search,
            temperature=self.temperature,
            noise=self.root_noise,
            trees=self.trees(self.search.simulations),
        )

    @cached_property
    def evaluate(self) -> Evaluator:
        """Evaluator of pi_theta and v at observations."""
        A = self.environment.spec.num_actions
        return Evaluator(self.network, num_actions=A, compute=self.compute)

    @cached_property
    def position_bytes(self) -> int:
        """Bytes of a position: a state and its latent, measured at a start state."""
        states = self.environment.reset([0])
        latents = engine_for(self.network, self.compute).represent(self.environment.observe(states))
        return bytes_of(states) + latents.nbytes

    @property
    def sequences_at_once(self) -> int:
        """Number of action sequences that a probe holds at a time; affects no result."""
        prefix = self.position_bytes + _NUMBERS + 8 * self.environment.spec.num_actions
        return max(1, self.compute.memory // (_PREFIXES * prefix))

    def trees(self, simulations: int) -> int:
        """Returns how many trees of `simulations` simulations are grown at a time; affects no result."""
        node = self.position_bytes + _EDGE * self.environment.spec.num_actions
        return min(TREES, max(1, self.compute.memory // ((simulations + 1) * node)))

    @property
    def prior(self) -> PriorPolicy:
        """Policy that samples from the prior, pi_theta."""
        return PriorPolicy(environment=self.environment, evaluate=self.evaluate)

    def acting(self, model: PlanningModel, *, temperature: float = 0.0, **changes: Any) -> BehaviourPolicy:
        """Returns a policy that acts by the agent's search in a model, without root noise.

        Args:
            model: the model that is planned in.
            temperature: T of the policy.
            changes: settings that differ from the agent's search, such as `simulations`.
        """
        config = self.search.model_copy(update=changes)
        trees = self.trees(config.simulations)
        return BehaviourPolicy(
            environment=self.environment, model=model, config=config, temperature=temperature, trees=trees
        )

    @property
    def models(self) -> tuple[Model, ...]:
        """Models that can be planned in; an agent trained without unrolling (K = 0) has no learned model."""
        return ("true",) if self.unroll == 0 else get_args(Model)

    def planning_in(
        self, model: Model, *, prior: Prior = "policy", leaf: LeafValue = "value", prior_at: PriorAt | None = None
    ) -> PlanningModel:
        """Returns the agent's learned model, or the true model with the agent's policy and value.

        Calls of the network have a fixed number of rows, so that a table is the same whatever the batch.

        Args:
            model: the model that is planned in.
            prior: the prior of the policy network, or a uniform one.
            leaf: how leaves are valued.
            prior_at: where the policy network is evaluated below the root: at the unrolled latent, or at the real
                state that the same actions lead to. None evaluates it in the model's own place (see `own_place`).
        """
        if prior == "policy" and prior_at not in (None, own_place(model)):
            planned = self.planning_in(model, prior="uniform", leaf=leaf)
            return AdvisedModel(planned, self.planning_in("true" if model == "learned" else "learned"))
        compute, batch_size = self.compute, search_batch_size(self.network, self.compute)
        return planning_in(
            model, self.environment, self.network, compute=compute, batch_size=batch_size, prior=prior, leaf=leaf
        )

    def label(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Inserts the columns `seed`, `training_step` and, unless it exists, `temperature` at the front of `frame`.

        The frame is changed in place and returned.
        """
        if "temperature" not in frame:
            frame.insert(0, "temperature", self.temperature)
        frame.insert(0, "training_step", or_missing(self.origin.training_step))
        frame.insert(0, "seed", self.origin.seed)
        return frame


def or_missing(number: int | None) -> float:
    """Returns a number as tables keep it: NaN for None."""
    return math.nan if number is None else number


def own_place(model: Model) -> PriorAt:
    """Returns where a model evaluates the policy network by default."""
    return "latent" if model == "learned" else "state"
