"""An agent of any origin: a network in an environment, the search by which it acts, and where all of that is from."""

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
from mzprobe.search.models import AdvisedModel, LeafValue, PlanningModel, Prior, planning_in
from mzprobe.stored import StoredTargets

PriorAt = Literal["latent", "state"]  # where the policy network is asked: unrolled, or encoded anew

TREES = 1 << 13  # that are grown at a time, at most: more make nothing faster
_NUMBERS = 80  # bytes that a prefix of a sequence takes beside state, latent and A children
_EDGE = 40  # bytes of an edge of a search tree
_PREFIXES = 8  # that a sequence takes, about, as those of all share theirs


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where an agent is from: names for its tables, and what its own code recorded. None means not known."""

    source: str = "memory"  # name of the source that read it
    run: str = "agent"  # names the folder of its tables
    seed: int = 0  # index of the agent in its run; mixed into all that is drawn for it
    training_step: int | None = None
    environment_steps: int | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)  # its spec
    network: str = ""  # its kind; mlp is what our kernels run
    weights_sha256: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)  # configuration that trained it, as its own code keeps it
    dataset: Mapping[str, Any] = field(default_factory=dict)  # the SHA-256 of what it learned from, where known
    beyond_support: Mapping[str, Any] | None = None  # its targets that the support did not hold, where counted
    facts: Mapping[str, str] = field(default_factory=dict)  # facts that its file does not hold: where each is from
    returned: float | None = None  # undiscounted, in the environment's units, as its own code or its authors say
    returned_where: str = ""  # they say it
    differences: tuple[str, ...] = ()  # between how it was trained and how it is asked


@dataclass(frozen=True, kw_only=True)
class Agent:
    """A network in an environment, with the search by which it acts: pi^MuZero, without root noise.

    Attributes:
        environment: the truth.
        network: h_theta, g_theta and f_theta, on the device of `compute`.
        search: settings of its search.
        temperature: T of pi^MuZero; of its own, the one that collected data at that training step (or, for Gumbel's
            rule, which collects data by noise, the one that it was evaluated at).
        unroll: K, steps that its model was unrolled in training; 0 where it was not, None where that is not known.
        plan_in: the model that its search plans in.
        root_noise: whether its search has root noise; the same state always has the same noise.
        targets: positions of its replay buffer, where any were kept.
        positions: how many such positions its checkpoints keep.
        origin: where it is from.
        compute: how its numbers are made.
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
        """Refuses an environment or a network of somebody's own that breaks the protocol, and what is no such setting.

        Raises:
            UsageError: naming the rule that it breaks.
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
        """The behaviour policy, pi^MuZero."""
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
        """pi_theta and v at observations."""
        A = self.environment.spec.num_actions
        return Evaluator(self.network, num_actions=A, compute=self.compute)

    @cached_property
    def position_bytes(self) -> int:
        """Bytes that a position takes: a state and its latent, as they are at a start."""
        states = self.environment.reset([0])
        latents = engine_for(self.network, self.compute).represent(self.environment.observe(states))
        return bytes_of(states) + latents.nbytes

    @property
    def sequences_at_once(self) -> int:
        """Action sequences that a probe holds at a time; no number depends on it."""
        prefix = self.position_bytes + _NUMBERS + 8 * self.environment.spec.num_actions
        return max(1, self.compute.memory // (_PREFIXES * prefix))

    def trees(self, simulations: int) -> int:
        """How many trees of so many simulations are grown at a time; no number depends on it."""
        node = self.position_bytes + _EDGE * self.environment.spec.num_actions
        return min(TREES, max(1, self.compute.memory // ((simulations + 1) * node)))

    @property
    def prior(self) -> PriorPolicy:
        """The policy prior, pi_theta, sampled."""
        return PriorPolicy(environment=self.environment, evaluate=self.evaluate)

    def acting(self, model: PlanningModel, *, temperature: float = 0.0, **changes: Any) -> BehaviourPolicy:
        """A policy that acts by the agent's search in a model, without root noise.

        Args:
            model: what is planned in.
            temperature: T of the policy.
            changes: other settings of its search, such as `simulations`.
        """
        config = self.search.model_copy(update=changes)
        trees = self.trees(config.simulations)
        return BehaviourPolicy(
            environment=self.environment, model=model, config=config, temperature=temperature, trees=trees
        )

    @property
    def models(self) -> tuple[Model, ...]:
        """The models that can be planned in: an agent that was trained without unrolling (K = 0) has learned none."""
        return ("true",) if self.unroll == 0 else get_args(Model)

    def planning_in(
        self, model: Model, *, prior: Prior = "policy", leaf: LeafValue = "value", prior_at: PriorAt | None = None
    ) -> PlanningModel:
        """The agent's learned model, or the true one with the agent's policy and value.

        Calls of the network have a fixed number of rows, so that a table is the same whatever the batch.

        Args:
            model: what is planned in.
            prior: the policy network's, or uniform.
            leaf: what a leaf is worth.
            prior_at: where the policy network is read below the root: at the unrolled latent, or at the real state
                that the same actions lead to; without it, where the model itself stands.
        """
        if prior == "policy" and prior_at not in (None, own_place(model)):
            planned = self.planning_in(model, prior="uniform", leaf=leaf)
            return AdvisedModel(planned, self.planning_in("true" if model == "learned" else "learned"))
        compute, batch_size = self.compute, search_batch_size(self.network, self.compute)
        return planning_in(
            model, self.environment, self.network, compute=compute, batch_size=batch_size, prior=prior, leaf=leaf
        )

    def label(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Puts columns of the agent's seed, training step and, if there is none yet, policy temperature in front."""
        if "temperature" not in frame:
            frame.insert(0, "temperature", self.temperature)
        frame.insert(0, "training_step", or_missing(self.origin.training_step))
        frame.insert(0, "seed", self.origin.seed)
        return frame


def or_missing(number: int | None) -> float:
    """A number as tables keep it: missing where it is not known."""
    return math.nan if number is None else number


def own_place(model: Model) -> PriorAt:
    """Where a model evaluates the policy network unless told otherwise."""
    return "latent" if model == "learned" else "state"
