"""Settings of the probes, one class each: name, command, help and options of a question."""

import warnings
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from mzprobe._plugins import kind_of, plugged
from mzprobe.config import (
    MOST,
    Config,
    NonNegative,
    NonNegativeInt,
    PositiveInt,
    Rule,
    Ties,
)
from mzprobe.errors import MzprobeWarning

_MOST_SIMULATIONS = 128

Simulations = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]


class ActingConfig(Config):
    """How a probe plays the behaviour policy; settings that are left out are as in the agent's training."""

    simulations: PositiveInt | None = None
    """N of its searches."""
    temperature: NonNegative | None = None
    """T of its visits; 0 takes the most visited action."""
    rule: Rule | None = None
    """Rule of its searches."""
    noise: bool = False
    """Root noise as in data collection, determined by the observation: the same state always has the same noise."""


class ProbeConfig(Config):
    """Settings that all probes have. A probe's docstring is the help of its command, and its fields are the options."""

    question: ClassVar[str]  # name of the question and its tables
    command: ClassVar[str]  # command that runs the probe
    example: ClassVar[str]  # example of the command's arguments

    seed: NonNegativeInt = 0
    """Seed of the episodes, states and sequences; the agent's own seed is mixed in."""
    acting: ActingConfig = ActingConfig()
    """How the behaviour policy is played."""

    @model_serializer(mode="wrap")
    def _acting_where_asked(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Omits default values of `acting` from the record, so that it still equals those of older tables."""
        values: dict[str, Any] = write(self)
        asked = self.acting.model_dump(mode="json", exclude_defaults=True)
        return {**values, "acting": asked} if asked else {key: values[key] for key in values if key != "acting"}


class OnlineConfig(ProbeConfig):
    """Figure 2: what does the agent earn by search, and what by the policy network alone?

    One row per episode. An interrupted command continues with the missing checkpoints.
    """

    question: ClassVar[str] = "online"
    command: ClassVar[str] = "eval-online"
    example: ClassVar[str] = "checkpoints/cartpole"

    episodes: PositiveInt = 100
    """E, episodes of each policy, from the same starts at every checkpoint."""


class StatesConfig(ProbeConfig):
    """Settings of probes that examine states visited by the behaviour policy."""

    states: PositiveInt = 200
    """S, states sampled for each agent and checkpoint."""
    episodes: PositiveInt = 20
    """Episodes of the behaviour policy that the states are drawn from."""


class HorizonConfig(StatesConfig):
    """Figure 3: how wrong is the model's value of the agent's own behaviour policy, by horizon?

    Truth and model are scored on the same action sequences. A table holds one row per state and horizon; an interrupted
    command continues with the missing checkpoints.
    """

    question: ClassVar[str] = "horizon"
    command: ClassVar[str] = "eval-horizon"
    example: ClassVar[str] = "checkpoints/cartpole/seed-0 --out analyses"

    horizon: PositiveInt | None = None
    """Largest h; without one, the unroll length of training."""
    enumerate_up_to: Annotated[int, Field(ge=0, le=2**53)] = 1024
    """Enumerate all A^h sequences if there are no more than this; otherwise, sample some."""
    sequences: Annotated[int, Field(ge=2, le=MOST)] = 64
    """m, sequences sampled for each state where there are too many to enumerate; one would have no standard error."""


class SequencesConfig(StatesConfig):
    """Figure 4: is the model more wrong about action sequences that the behaviour policy would hardly take?

    One row per state and sequence, ranked by probability within the state.
    """

    question: ClassVar[str] = "sequences"
    command: ClassVar[str] = "eval-sequences"
    example: ClassVar[str] = "checkpoints/cartpole --states 50"

    states: PositiveInt = 100
    """S, states sampled for each agent and checkpoint."""
    length: PositiveInt = 8
    """h, length of the action sequences, all A^h of which are scored; the paper has 8 for 2 actions, 4 for 4."""


class CrossConfig(HorizonConfig):
    """Figure 5: can the model of one training step evaluate the behaviour policy of another?

    Pairs every checkpoint's model and states (rows) with every checkpoint's policy (columns). A step that is added
    later adds a row and a column.
    """

    question: ClassVar[str] = "cross"
    command: ClassVar[str] = "cross-matrix"
    example: ClassVar[str] = "checkpoints/cartpole --step 1000 --step 10000"

    states: PositiveInt = 100
    """S, states sampled for each agent and row; all policies of a row are evaluated at the same ones."""


class EquivalenceConfig(HorizonConfig):
    """Beyond the paper: is the model's k-step Bellman update the true one (order-k value equivalence)?

    For k = 0, 1 and so on: the on-policy error, split into reward and bootstrap, with the agent's own value head and
    with those of its other checkpoints. In a tabular environment all states are used, and errors are exact.
    """

    question: ClassVar[str] = "equivalence"
    command: ClassVar[str] = "eval-equivalence"
    example: ClassVar[str] = "checkpoints/cartpole --step 10000"

    states: PositiveInt = 100
    """S, states sampled for each agent and checkpoint; in a tabular environment, all states are used."""
    horizon: PositiveInt | None = None
    """Largest order k; without one, twice the unroll length of training. Where its sequences are sampled, all are."""


class SearchErrorConfig(StatesConfig):
    """Figure 6: does the policy prior keep the search where the model is right?

    The errors of the trajectories that a search simulates, and how far the policy network is from the search's visits,
    with the policy prior and with a uniform one. Without --step, it looks at step 2000, as the paper does.
    """

    question: ClassVar[str] = "search_error"
    command: ClassVar[str] = "eval-search-error"
    example: ClassVar[str] = "checkpoints/cartpole --step 2000"

    simulations: Simulations | None = None
    """N, numbers of simulations after which the tree is examined; by default as in the planning probe."""
    horizon: PositiveInt = 16
    """Planning horizon of the search, counted from the root; its leaves are random rollouts."""


class ImprovementConfig(StatesConfig):
    """Beyond the paper: does the search choose better actions than its prior, state by state?

    The true value of the search's action minus that of the policy network's likeliest one, with the network followed
    from then on, for the {learned, true} model, the {policy, uniform} prior, both kinds of leaves and every N.
    """

    question: ClassVar[str] = "improvement"
    command: ClassVar[str] = "eval-improvement"
    example: ClassVar[str] = "checkpoints/cartpole --step 2000 --states 200"

    states: PositiveInt = 100
    """S, states sampled for each agent and checkpoint."""
    simulations: Simulations | None = None
    """N, simulations of the searches; by default as in the planning probe."""
    horizon: PositiveInt = 16
    """Planning horizon of the searches whose leaves are random rollouts, counted from the root."""
    steps: PositiveInt | None = None
    """T, steps after which a return is cut; by default the environment's time limit, counted from each state."""


class OperatorsConfig(ProbeConfig):
    """Beyond the paper: which search rule acts and teaches best, and with how few simulations?

    PUCT, Gumbel's rule and the regularised policy in the agent's own search, for every N: the return, how certain the
    policy is that each would teach, and how often the action that it plays is truly a best one.
    """

    question: ClassVar[str] = "operators"
    command: ClassVar[str] = "eval-operators"
    example: ClassVar[str] = "checkpoints/cartpole --step 20000 --simulations 8 --simulations 50"

    episodes: PositiveInt = 20
    """E, episodes of each rule and N, all from the same starts."""
    states: PositiveInt = 5
    """States of each episode at which the decision is judged."""
    rules: tuple[Rule, ...] = get_args(Rule)
    """Search rules that act; an empty list stands for the agent's own rule."""
    simulations: Simulations = (2, 4, 8, 16, 50)
    """N, simulations per step, for each rule."""
    steps: PositiveInt | None = None
    """T, steps after which the return of a decision is cut; by default the time limit, counted from each state."""

    @model_validator(mode="after")
    def _acts_by_its_own(self) -> Self:
        if self.acting.rule is not None or self.acting.simulations is not None:
            raise ValueError("acting.rule and acting.simulations are its own rules and simulations: leave them out")
        return self


class InspectConfig(HorizonConfig):
    """Beyond the paper: what happens at the states where the model is most wrong, and elsewhere?

    Of the states that eval-horizon draws with the same settings, a few are kept in full: what they look like, predicted
    and true rewards along the likeliest, the best and the worst action sequence, and the search trees in both models.
    """

    question: ClassVar[str] = "inspect"
    command: ClassVar[str] = "eval-inspect"
    example: ClassVar[str] = "checkpoints/cartpole --step 2000"

    chosen: tuple[Literal["worst", "median", "random"], ...] = ("worst", "median", "random")
    """States to keep: the one of the largest error at the largest h, the one of the median error, one drawn by lot."""
    at: tuple[NonNegativeInt, ...] = ()
    """Further states, by their index in the table of eval-horizon."""
    length: PositiveInt | None = None
    """Length of the action sequences; by default the largest, up to the horizon, with at most 1024 sequences."""
    simulations: PositiveInt | None = None
    """N, simulations of the searches; by default the agent's own."""
    nodes: PositiveInt = 30
    """Nodes to keep of each tree, the most visited ones; those right below the root are always kept."""
    rollouts: Annotated[int, Field(ge=2, le=MOST)] = 4
    """R, episodes of the behaviour policy after each action; their mean return is the action's true return."""
    steps: PositiveInt | None = None
    """T, steps after which such an episode is cut; by default the time limit of the environment."""


class TargetsConfig(ProbeConfig):
    """Beyond the paper: are the value targets that the agent learns from still true?

    At the replay-buffer positions that each checkpoint has kept: the stored target against the true value of the
    agent's own behaviour policy, by the episode's age and the position's priority, and the value head's prediction.
    """

    question: ClassVar[str] = "targets"
    command: ClassVar[str] = "eval-targets"
    example: ClassVar[str] = "checkpoints/cartpole --step 2000 --rollouts 4"

    rollouts: PositiveInt = 1
    """R, episodes of the behaviour policy from each position that a checkpoint has kept; V is their mean."""
    steps: PositiveInt | None = None
    """T, steps after which a return is cut; by default the environment's time limit, counted from each state."""


class PlanningConfig(ProbeConfig):
    """Figure 7: does the learned model help planning, and how far is it from the true one?

    Returns of acting by search in the {learned, true} model with the {policy, uniform} prior, for every N, and of
    the policy prior alone. In both models, the policy's prior is evaluated at unrolled latents and at encoded real
    states. All cells start from the same states.
    """

    question: ClassVar[str] = "planning"
    command: ClassVar[str] = "eval-planning"
    example: ClassVar[str] = "checkpoints/cartpole --step 2000 --simulations 64"

    episodes: PositiveInt = 20
    """E, episodes of each cell, all from the same starts."""
    simulations: Simulations | None = None
    """N, simulations per step, one cell each; by default doubled from 2A to 128. With fewer than 2A, not every action
    has been tried twice, so that the action played hardly depends on the model."""
    leaf: Literal["rollout", "value"] = "rollout"
    """Value of a leaf: that of a random rollout in the model that is planned in, or the network's."""
    horizon: PositiveInt = 16
    """Planning horizon of the rollouts, in steps."""
    counted_from: Literal["root", "leaf"] = "root"
    """Where that horizon begins: at the root, so that nothing deeper counts, or at each leaf."""
    crossed: tuple[PositiveInt, ...] | None = None
    """N at which the policy network's prior is also evaluated where the other model evaluates it: at encoded real
    states while planning in the learned model, and at unrolled latents while planning in the true one; by default all
    N, and none for an empty list (--set crossed=[]). This steps both models, outside the fused kernel, and takes
    several times the work of the others."""
    ties: Ties = "lot"
    """Which of equal scores the searches select, whatever the agent was trained with (see `search.ties`)."""
    temperature: NonNegative | None = 0.0
    """T of the acting policy: 0 takes the most visited action; without one, the temperature that collected data."""


QUESTIONS = "mzprobe.questions"  # group of entry points, each a `Question` of an installed package

OURS: tuple[type[ProbeConfig], ...] = (
    OnlineConfig,
    HorizonConfig,
    SequencesConfig,
    CrossConfig,
    SearchErrorConfig,
    PlanningConfig,
    EquivalenceConfig,
    ImprovementConfig,
    OperatorsConfig,
    TargetsConfig,
    InspectConfig,
)


def plugged_questions() -> list[Any]:
    """Returns the `Question` objects of installed packages, sorted by the names of their entry points.

    Entries that are not a `Question`, or reuse a name or command, are skipped with a warning.
    """
    taken = {word for settings in OURS for word in (settings.question, settings.command)}
    found = []
    for question in plugged(QUESTIONS):
        name, command = getattr(question, "name", None), getattr(question, "command", None)
        if isinstance(name, str) and isinstance(command, str) and not taken & {name, command}:
            taken |= {name, command}
            found.append(question)
            continue
        said = f"{name} has the name or the command of another" if name else f"{kind_of(question)} is no Question"
        warnings.warn(f"a question of an installed package is left out: {said}", MzprobeWarning, stacklevel=2)
    return found


def simulation_counts(given: tuple[int, ...] | None, num_actions: int) -> tuple[int, ...]:
    """Returns the numbers of simulations to examine, sorted: those given, or 2A and its doublings up to 128."""
    if given is not None:
        return tuple(sorted(set(given)))
    counts = [2 * num_actions]
    while 2 * counts[-1] <= _MOST_SIMULATIONS:
        counts.append(2 * counts[-1])
    return tuple(counts)
