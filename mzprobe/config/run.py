"""Configuration of a run: environment, network, search, training, reanalyse and dataset."""

from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from mzprobe.config.base import (
    Config,
    Exponent,
    NonNegative,
    NonNegativeInt,
    Options,
    Positive,
    PositiveInt,
    Share,
    validated,
)
from mzprobe.config.network import AnyNetworkConfig, MLPConfig, ResNetConfig, config_class, network_kind


class EnvironmentConfig(Config):
    """Name and options of the environment, as `envs.make` takes them."""

    name: str = "cartpole"
    """A registered name, `gym:ID` of a deterministic Gymnasium environment, or `module:attribute` of
    a factory of your own."""
    options: Options = Field(default_factory=dict)
    """Keyword arguments of the environment, such as gamma or time_limit: any values that JSON can hold."""


Rule = Literal["puct", "gumbel", "regularised"]
Ties = Literal["lot", "lowest"]
Model = Literal["learned", "true"]


class SearchConfig(Config):
    """Constants of the search (the paper's Eq. 2; MuZero, appendix B)."""

    simulations: PositiveInt = 50
    """N, simulations per search."""
    rule: Rule = "puct"
    """How actions are searched, played and learned: `puct`, MuZero's own rule; `gumbel`, Gumbel MuZero (Danihelka et
    al. 2022); or `regularised`, PUCT's tree, with the regularised policy of its root to play and to learn (Grill et al.
    2020)."""
    c1: NonNegative = 1.25
    """Weight of the prior."""
    c2: Positive = 19652.0
    """Visits at which the weight of the prior begins to grow."""
    dirichlet_alpha: Positive = 0.25
    """Concentration of the root noise (collecting data only; Gumbel's rule has noise of its own)."""
    dirichlet_fraction: Share = 0.25
    """Share of the noise in the root prior (collecting data only)."""
    considered: PositiveInt = 16
    """Gumbel: largest number of actions tried at the root."""
    c_visit: NonNegative = 50.0
    """Gumbel: added to the largest visit count of a node, in the weight of Q against the prior."""
    c_scale: NonNegative = 0.1
    """Gumbel: factor on the weight of Q against the prior."""
    q_range: Literal["node", "tree"] = "node"
    """Gumbel: smallest and largest Q that scale Q to [0, 1]: those of the node (mctx), so that two actions always get 0
    and 1, however little they differ, or those of the tree (the paper)."""
    untried: Literal["least", "mean"] = "least"
    """PUCT: value of an action before it is tried: the least that the tree has seen (MuZero), or a mean of the actions
    tried beside it and above (EfficientZero, Ye et al. 2021)."""
    node_visits: Literal["all", "children"] = "all"
    """PUCT: visits that N(s) counts: all, including the one that expanded s, so that the first choice there follows the
    prior; or those of its actions alone (LightZero), so that the first choice is a tie."""
    normalisation_floor: Positive = 0.01
    """Smallest divisor when Q is scaled by the tree's range; in the unit in which the network sees rewards, that is
    after `network.reward_scale`, so that it means the same whatever the unit of the environment."""
    ties: Ties = "lot"
    """Which of equal scores is selected: by lot, drawn from root, node and action, or the lowest action."""


FREE_KEYS = frozenset({"training.steps", "training.resume_interval"})  # they change nothing up to a training step


class TrainingConfig(Config):
    """Settings of the training loop."""

    steps: NonNegativeInt = 20_000
    """Training steps (optimiser updates) at which the run is complete."""
    checkpoint_interval: PositiveInt = 1000
    """Training steps between checkpoints; the first and the last step always have one."""
    checkpoint_steps: tuple[NonNegativeInt, ...] = ()
    """Further training steps with a checkpoint."""
    resume_interval: PositiveInt = 1000
    """Training steps between saves of the state from which a killed run resumes."""
    environments: PositiveInt = 16
    """Episodes played side by side, in one batch of searches."""
    training_ratio: Annotated[float, Field(ge=1e-6, le=1000)] = 0.125
    """Training steps for each environment step. Below one in a million, the first training step would come after
    days of play, or never; above a thousand, tens of thousands would learn from one and the same buffer."""
    warmup_environment_steps: NonNegativeInt = 1000
    """Environment steps before the first training step; more where no episode has ended by then."""
    batch_size: PositiveInt = 128
    """Positions in a training batch."""
    unroll_steps: Annotated[int, Field(ge=0, le=1000)] = 10
    """K, steps that the model is unrolled in training; with 0 no model is learned, only policy and value. A batch
    keeps all K steps for the gradient, which is halved at each step, so that very long ones teach nothing."""
    n_step: PositiveInt = 50
    """n, real rewards before the value target bootstraps."""
    n_step_by_age: tuple[tuple[PositiveInt, PositiveInt], ...] = ()
    """Pairs (training steps since an episode was stored, n of its positions from then on), in order: the older an
    episode, the less its rewards are those of today's policy. Bootstraps by the latest root value of the position."""
    learning_rate: Positive = 3e-3
    """AdamW's step size at the start."""
    learning_rate_schedule: Literal["exponential", "constant", "cosine"] = "exponential"
    """How the step size falls from its start, by training step."""
    learning_rate_decay: Share = 0.8
    """Exponential: factor on the step size every 1000 training steps, applied smoothly."""
    learning_rate_floor: NonNegative = 0.0
    """Exponential and cosine: smallest step size."""
    learning_rate_steps: PositiveInt = 20_000
    """Cosine: training step at which the floor is reached; not `steps`, so that a run can be taken further."""
    average_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Averaged weights: after training step t they keep min(this, (1 + t) / (10 + t)) of themselves. 0 for none."""
    averaged: tuple[Literal["play", "reanalyse", "checkpoints"], ...] = ("play", "reanalyse", "checkpoints")
    """Uses of averaged weights, if there are any; evaluations use the weights that checkpoints hold."""
    weight_decay: NonNegative = 1e-4
    """AdamW's decoupled decay."""
    gradient_clip: Positive = 5.0
    """Largest global norm of the gradient."""
    reward_loss_weight: NonNegative = 1.0
    """Weight of the reward loss."""
    value_loss_weight: NonNegative = 0.25
    """Weight of the value loss."""
    policy_loss_weight: NonNegative = 1.0
    """Weight of the policy loss."""
    replay_capacity: PositiveInt = 30_000
    """Positions kept; the oldest episodes leave first."""
    keep_best: PositiveInt | None = None
    """Keep this many episodes, those of the highest return, instead of the latest."""
    priority_alpha: Exponent = 0.5
    """Exponent on priorities; 0 samples uniformly."""
    priority_beta: Exponent = 0.4
    """Exponent on importance weights; 1 undoes the sampling's bias."""
    temperatures: tuple[tuple[NonNegativeInt, Positive], ...] = ((0, 1.0), (5000, 0.5), (7500, 0.25))
    """Pairs (first training step, T) for the behaviour policy, in order. Gumbel's rule collects data by its noise
    instead, and uses T where it is evaluated or probed."""
    temperature_ladder: tuple[Positive, ...] = ()
    """T of the episodes played side by side while collecting data, assigned to them in turn and used at every training
    step, instead of `temperatures`, which still apply to evaluations and probes. Offline, nothing is played, and
    neither this key nor `uniform_share` has an effect."""
    uniform_share: Share = 0.0
    """Share of the uniform policy in the policy that collects data."""
    evaluation_interval: PositiveInt = 1000
    """Training steps between evaluations of the behaviour policy without root noise."""
    evaluation_episodes: NonNegativeInt = 20
    """Episodes of each evaluation; 0 for no evaluations."""
    audited_positions: NonNegativeInt = 128
    """Positions of the replay buffer that each checkpoint keeps, with the actions that lead there and their targets,
    for `mzprobe eval-targets`; nothing else depends on it."""
    plan_in: Model = "learned"
    """Model that self-play, reanalyse and the behaviour policy of the probes search in: the learned one, or the
    environment itself with the network's policy and value (AlphaZero for one player). The model is learned either way,
    so that it can be probed; `unroll_steps=0` leaves it out."""
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """CPU threads; results repeat bit for bit with the same number of them."""

    @model_validator(mode="after")
    def _temperatures_in_order(self) -> Self:
        steps = [step for step, _ in self.temperatures]
        if not steps or steps[0] != 0 or steps != sorted(set(steps)):
            raise ValueError("temperatures must begin at step 0 and be in increasing order")
        return self

    @model_validator(mode="after")
    def _ages_in_order(self) -> Self:
        ages = [age for age, _ in self.n_step_by_age]
        if ages != sorted(set(ages)):
            raise ValueError("n_step_by_age must be in increasing order of age")
        return self

    @model_validator(mode="after")
    def _keys_agree(self) -> Self:
        if self.learning_rate_schedule != "constant" and self.learning_rate_floor > self.learning_rate:
            raise ValueError("learning_rate_floor must not be above learning_rate")
        if len(self.temperature_ladder) > self.environments:
            raise ValueError(
                f"temperature_ladder has {len(self.temperature_ladder)} temperatures for environments="
                f"{self.environments}: each needs an episode of its own"
            )
        if self.average_decay and not self.averaged:
            raise ValueError("averaged must say who uses the averaged weights where average_decay is above 0")
        return self

    def temperature(self, step: int) -> float:
        """Returns T of the behaviour policy at a training step."""
        return [T for first, T in self.temperatures if first <= step][-1]

    def n_at(self, ages: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns n of the returns, `[B]`, for positions whose episodes were stored `ages` training steps ago."""
        first = np.array([age for age, _ in self.n_step_by_age], np.int64)
        n = np.array([self.n_step, *(n for _, n in self.n_step_by_age)], np.int64)
        return np.asarray(n[np.searchsorted(first, ages, side="right")])

    def checkpoints(self) -> tuple[int, ...]:
        """Returns all training steps at which a checkpoint is due."""
        further = {step for step in self.checkpoint_steps if step <= self.steps}
        return tuple(sorted({*range(0, self.steps + 1, self.checkpoint_interval), *further, self.steps}))

    def is_checkpoint(self, step: int) -> bool:
        """Whether a checkpoint is due at a training step."""
        return step == self.steps or step % self.checkpoint_interval == 0 or step in self.checkpoint_steps


class ReanalyseConfig(Config):
    """Recomputes targets of stored positions, by a search with the latest or averaged weights (MuZero Unplugged)."""

    fraction: Share = 0.0
    """Share of all targets that are made from stored positions; below 1 online. Offline, 1 for these targets, or 0 for
    recorded actions as policy targets (behaviour cloning)."""
    positions: Literal["in_turn", "oldest", "drawn"] = "in_turn"
    """Which stored positions get new targets: all `in_turn`; the `oldest` targets first; or those `drawn` for a
    training batch, before it is used. With `drawn`, at most half a batch may be due at each training step online.
    With a fraction of 0.5, turns come exactly as fast as the buffer fills: `in_turn` then renews each position once, at
    an age that chance has set, and `oldest` does not."""
    batch_size: PositiveInt = 64
    """Stored positions searched side by side; fewer online, where so many at once would blur the fraction."""
    root_noise: bool = True
    """Whether these searches have root noise, as those of self-play do; without it, a policy that has become certain
    only confirms itself."""
    target_interval: NonNegativeInt = 0
    """Training steps between copies of the weights to a target network, whose value then bootstraps; 0 has none, and
    bootstraps by the value of the search."""


class DatasetConfig(Config):
    """Recorded episodes to learn from."""

    path: str | None = None
    """A Minari dataset: its folder, or its id in Minari's own storage; None for no dataset."""
    use: Literal["offline", "demonstrations"] = "offline"
    """Learn from it alone and never step the environment, or begin with it and continue online."""
    targets_per_step: PositiveInt = 64
    """Recorded positions whose targets are recomputed each training step; online, a reanalyse fraction above 0 decides
    instead."""
    warm_start: bool = True
    """Offline with reanalyse: begin with the recorded actions as policy targets, until their positions are searched in
    turn; otherwise all positions are searched before the first step, with untrained weights."""
    share: Share = 0.5
    """Share of demonstrations in a training batch at step 0."""
    decay_steps: PositiveInt = 5000
    """Training steps in which that share falls to 0, evenly."""

    def share_at(self, step: int) -> float:
        """Returns the share of demonstrations in a training batch at a training step."""
        return self.share * max(0.0, 1 - step / self.decay_steps)

    def share_until(self, step: int) -> float:
        """Returns the sum of `share_at` over all training steps before `step`."""
        steps = min(step, self.decay_steps)
        return self.share * (steps - steps * (steps - 1) / (2 * self.decay_steps))


class RunConfig(Config):
    """Complete configuration of a run; together with a seed it determines an agent."""

    environment: EnvironmentConfig = EnvironmentConfig()
    network: AnyNetworkConfig = MLPConfig()
    search: SearchConfig = SearchConfig()
    training: TrainingConfig = TrainingConfig()
    reanalyse: ReanalyseConfig = ReanalyseConfig()
    dataset: DatasetConfig = DatasetConfig()

    @field_validator("network", mode="before")
    @classmethod
    def _known_kind(cls, network: Any) -> Any:
        config_class(network_kind(network))
        return network

    @property
    def offline(self) -> bool:
        """Whether the environment is never stepped."""
        return self.dataset.path is not None and self.dataset.use == "offline"

    @model_validator(mode="after")
    def _batch_can_be_normalised(self) -> Self:
        if isinstance(self.network, ResNetConfig) and self.training.batch_size < 2:
            raise ValueError("training.batch_size must be at least 2 for a network that normalises over its batch")
        return self

    @model_validator(mode="after")
    def _fraction_fits(self) -> Self:
        fraction = self.reanalyse.fraction
        if self.offline and fraction not in (0, 1):
            raise ValueError("reanalyse.fraction must be 1 offline, or 0 for behaviour cloning")
        if not self.offline and fraction == 1:
            raise ValueError("reanalyse.fraction must be below 1 online: with 1 there are no episodes of its own")
        return self

    @model_validator(mode="after")
    def _true_states_are_known(self) -> Self:
        if self.training.plan_in == "true" and self.dataset.path is not None:
            raise ValueError(
                "training.plan_in=true plans from real states, which recorded episodes do not have: leave dataset.path "
                "out, or plan_in=learned"
            )
        return self

    @model_validator(mode="after")
    def _drawn_are_enough(self) -> Self:
        fraction, B = self.reanalyse.fraction, self.training.batch_size
        if self.reanalyse.positions == "drawn" and self.offline and self.dataset.targets_per_step > B:
            raise ValueError(
                f"dataset.targets_per_step={self.dataset.targets_per_step} is more than the {B} positions that are "
                "drawn each training step: lower it, or raise training.batch_size"
            )
        if self.reanalyse.positions == "drawn" and not self.offline:
            due = fraction / (1 - fraction) / self.training.training_ratio
            if due > B / 2:  # positions may be drawn twice, and the backlog of the warm-up must be made up for
                raise ValueError(
                    f"reanalyse.fraction={fraction:g} calls for {due:.0f} targets a training step, and of drawn "
                    f"positions there are {B}, of which half at most may be due: lower it, or raise "
                    "training.batch_size or training.training_ratio"
                )
        return self


def of_record(values: dict[str, Any], source: str) -> RunConfig:
    """Builds a run's configuration from a record; keys that older versions lacked get the values they used.

    Args:
        values: nested values of the record.
        source: name for error messages.

    Raises:
        UsageError: if a key or a value is wrong; names the source.
    """
    search = values.get("search", {})
    if isinstance(search, dict):
        values = {**values, "search": {"ties": "lowest", **search}}
    return validated(RunConfig, values, source)
