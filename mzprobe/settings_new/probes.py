"""Settings of the probes, one record each, and of a study, which is agents and probes on one configuration."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mzprobe.config import (
    MOST,
    Config,
    NonNegative,
    NonNegativeInt,
    PositiveInt,
    Rule,
    RunConfig,
    preset_with,
    validated,
)
from mzprobe.errors import UsageError
from mzprobe.names import check_name
from mzprobe.toml import read_toml

_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

_MOST_SIMULATIONS = 128

Simulations = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]


class ProbeConfig(Config):
    """What all probes have."""

    seed: NonNegativeInt = 0
    """Seed of the episodes, states and sequences; the agent's own seed is mixed in."""


class OnlineConfig(ProbeConfig):
    """Settings of the online probe (Figure 2)."""

    episodes: PositiveInt = 100
    """E, episodes of each policy, from the same starts at every checkpoint."""


class StatesConfig(ProbeConfig):
    """What all probes have that ask at states of the behaviour policy."""

    states: PositiveInt = 200
    """S, states sampled for each agent and checkpoint."""
    episodes: PositiveInt = 20
    """Episodes of the behaviour policy that the states are drawn from."""


class HorizonConfig(StatesConfig):
    """Settings of the horizon probe (Figure 3)."""

    horizon: PositiveInt | None = None
    """Largest h; without one, the unroll length of training."""
    enumerate_up_to: Annotated[int, Field(ge=0, le=2**53)] = 1024
    """Enumerate all A^h sequences exactly while there are no more than this; sample beyond."""
    sequences: Annotated[int, Field(ge=2, le=MOST)] = 64
    """m, sequences sampled for each state where enumeration is too much; one would have no standard error."""


class SequencesConfig(StatesConfig):
    """Settings of the sequences probe (Figure 4)."""

    states: PositiveInt = 100
    """S, states sampled for each agent and checkpoint."""
    length: PositiveInt = 8
    """h, length of the action sequences, all A^h of which are scored; the paper's is 8 with 2 actions, 4 with 4."""


class CrossConfig(HorizonConfig):
    """Settings of the cross-matrix probe (Figure 5)."""

    states: PositiveInt = 100
    """S, states sampled for each agent and row; all policies of a row are evaluated at the same ones."""


class EquivalenceConfig(HorizonConfig):
    """Settings of the equivalence probe."""

    states: PositiveInt = 100
    """S, states sampled for each agent and checkpoint; a tabular environment is asked at all of its states."""
    horizon: PositiveInt | None = None
    """Largest order k; without one, twice the unroll length of training. Where its sequences are sampled, all are."""


class SearchErrorConfig(StatesConfig):
    """Settings of the search probe (Figure 6)."""

    simulations: Simulations | None = None
    """N, numbers of simulations after which the tree is looked at; without any, as in the planning probe."""
    horizon: PositiveInt = 16
    """Planning horizon of the search, counted from the root; its leaves are random rollouts."""


class ImprovementConfig(StatesConfig):
    """Settings of the improvement probe."""

    states: PositiveInt = 100
    """S, states sampled for each agent and checkpoint."""
    simulations: Simulations | None = None
    """N of the searches; without any, as in the planning probe."""
    horizon: PositiveInt = 16
    """Planning horizon of the searches whose leaves are random rollouts, counted from the root."""
    steps: PositiveInt | None = None
    """T, steps after which a return is cut; without it, the time limit of the environment, from whatever state."""


class OperatorsConfig(ProbeConfig):
    """Settings of the operators probe."""

    episodes: PositiveInt = 20
    """E, episodes of each rule and N, all from the same starts."""
    states: PositiveInt = 5
    """States of each episode at which its decision is judged."""
    rules: tuple[Rule, ...] = ("puct", "gumbel", "regularised")
    """Search rules that act; none for the agent's own."""
    simulations: Simulations = (2, 4, 8, 16, 50)
    """N, simulations a step, of each rule."""
    steps: PositiveInt | None = None
    """T, steps after which the return of a decision is cut; without it, the time limit, from whatever state."""


class TargetsConfig(ProbeConfig):
    """Settings of the targets probe."""

    rollouts: PositiveInt = 1
    """R, episodes of the behaviour policy from each position that a checkpoint has kept; V is their mean."""
    steps: PositiveInt | None = None
    """T, steps after which a return is cut; without it, the time limit of the environment, from whatever state."""


class PlanningConfig(ProbeConfig):
    """Settings of the planning probe (Figure 7)."""

    episodes: PositiveInt = 20
    """E, episodes of each cell, all from the same starts."""
    simulations: Simulations | None = None
    """N, simulations a step, one cell each; without any, doubled from 2A to 128: after fewer not every action has
    been tried twice, so that which one is played hardly depends on the model."""
    leaf: Literal["rollout", "value"] = "rollout"
    """What a leaf is worth: a random rollout in the model that is planned in, or the network's value."""
    horizon: PositiveInt = 16
    """Planning horizon of rollouts, steps."""
    counted_from: Literal["root", "leaf"] = "root"
    """Where that horizon begins: at the root, so that nothing deeper counts, or at every leaf anew."""
    crossed: tuple[PositiveInt, ...] | None = None
    """N at which the policy network's prior is also taken from where the other model stands: from real states, encoded
    anew, while planning in the learned model, from unrolled latents while planning in the true one; without it all N,
    an empty list none. Both models are stepped then, and not in one kernel: several times the work of the others."""
    ties: Literal["lot", "lowest"] = "lot"
    """Which of equal scores the searches select, whatever the agent was trained with (see `search.ties`)."""
    temperature: NonNegative | None = 0.0
    """T of the acting policy: 0 takes the most visited action, null the temperature that collected data."""


def simulation_counts(given: tuple[int, ...] | None, num_actions: int) -> tuple[int, ...]:
    """Numbers of simulations to look at: those given, else 2A and its doubles up to 128."""
    if given is not None:
        return tuple(sorted(set(given)))
    first = 2 * num_actions
    return tuple(first << i for i in range(7) if i == 0 or first << i <= _MOST_SIMULATIONS)


class StepsConfig(Config):
    """The training steps that each probe of a study looks at; none means all, for `search` step 2000 as the paper's."""

    online: tuple[NonNegativeInt, ...] = ()
    horizon: tuple[NonNegativeInt, ...] = ()
    sequences: tuple[NonNegativeInt, ...] = ()
    cross: tuple[NonNegativeInt, ...] = ()
    search: tuple[NonNegativeInt, ...] = ()
    planning: tuple[NonNegativeInt, ...] = ()
    equivalence: tuple[NonNegativeInt, ...] = ()
    improvement: tuple[NonNegativeInt, ...] = ()
    targets: tuple[NonNegativeInt, ...] = ()
    operators: tuple[NonNegativeInt, ...] = ()


class StudyDataset(Config):
    """Recorded episodes that a study makes for itself, by an agent of its preset and overrides."""

    seed: NonNegativeInt = 0
    """Seed of the agent, and of the episodes."""
    step: NonNegativeInt
    """Training steps of the agent, which is trained no further."""
    returns: tuple[float, float] | None = None
    """Smallest and largest mean return that the episodes may have. The agent then has ten checkpoints up to `step`, and
    the earliest whose episodes return so much is recorded; without it that of `step`."""
    policy: Literal["behaviour", "prior", "random"] = "behaviour"
    """Who acts: the agent's search, its policy network alone, or nobody (uniform actions)."""
    temperature: NonNegative | None = None
    """T of the search; none for the one that collected data at that step."""
    episodes: PositiveInt = 100
    """Episodes recorded."""


class StudyConfig(Config):
    """Which agents and probes, on which configuration. A probe's section is its settings."""

    preset: str
    """Preset of the run."""
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]
    """One agent each."""
    overrides: dict[str, Any] = Field(default_factory=dict)
    """Dotted keys of the run's configuration and their values."""
    variants: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Runs that are compared, by name: each has all seeds, with further dotted keys on top of `overrides`."""
    dataset: StudyDataset | None = None
    """Recorded episodes for the variants that say how they are used (`dataset.use`); made before them."""
    steps: StepsConfig = StepsConfig()
    """Training steps that each probe looks at."""
    online: OnlineConfig | None = None
    horizon: HorizonConfig | None = None
    sequences: SequencesConfig | None = None
    cross: CrossConfig | None = None
    search: SearchErrorConfig | None = None
    planning: PlanningConfig | None = None
    equivalence: EquivalenceConfig | None = None
    improvement: ImprovementConfig | None = None
    targets: TargetsConfig | None = None
    operators: OperatorsConfig | None = None

    @model_validator(mode="after")
    def _returns_are_a_range(self) -> Self:
        if self.dataset and self.dataset.returns and not self.dataset.returns[0] <= self.dataset.returns[1]:
            raise ValueError("dataset.returns must be the smallest and the largest mean return, in this order")
        return self

    @model_validator(mode="after")
    def _one_agent_a_seed(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds must differ")
        return self

    @model_validator(mode="after")
    def _variants_name_folders(self) -> Self:
        for name in self.variants:
            if not _FOLDER.fullmatch(name) or name == "dataset":
                raise ValueError(f"variant {name!r} must be named by letters, digits, dots and dashes, and not dataset")
        return self

    @model_validator(mode="after")
    def _dataset_is_used(self) -> Self:
        if self.dataset and not any("dataset.use" in {**self.overrides, **own} for own in self.variants.values()):
            raise ValueError("dataset is used by no variant: give one of them dataset.use, or remove that section")
        return self

    def probes(self) -> dict[str, tuple[ProbeConfig, tuple[int, ...]]]:
        """The probes that have a section, in order: settings and training steps by name."""
        named = {name: getattr(self, name) for name in StepsConfig.model_fields}
        return {name: (given, getattr(self.steps, name)) for name, given in named.items() if given is not None}


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """A run of a study: one configuration, with all seeds."""

    name: str  # of the run
    variant: str  # its name in the study; empty where that has no variants
    config: RunConfig


def load_study(name: str) -> tuple[StudyConfig, RunConfig]:
    """A study (a shipped name or a path of a TOML file) and its preset with its overrides.

    That is the configuration of its run, where it has no variants.

    Raises:
        UsageError: if the study, a key or a value is wrong.
    """
    study = validated(StudyConfig, read_toml(name, "presets/studies"), name)
    return study, preset_with(study.preset, list(study.overrides.items()), name)


def study_runs(name: str, study: StudyConfig, *, datasets: Path = Path("datasets")) -> tuple[StudyRun, ...]:
    """The runs of a study, in order: one, named as the study, or one a variant, named `<study>-<variant>`.

    Args:
        name: of the study, as `load_study` takes it.
        study: its settings.
        datasets: folder of all datasets. Its path, as it is given, is part of the configuration of a run that learns
            from the study's dataset.

    Raises:
        UsageError: if a key or a value of a variant is wrong, or no folder can have its name; names it.
    """
    stem = Path(name).stem
    for run in [f"{stem}-{variant}" for variant in study.variants] or [stem]:
        check_name(run, "a run", "give its file another name, or the variant a shorter one")
    if not study.variants:
        config = preset_with(study.preset, list(study.overrides.items()), name)
        return (StudyRun(name=stem, variant="", config=config),)
    recorded = {"dataset.path": (datasets / stem).as_posix()} if study.dataset else {}
    runs = []
    for variant, own in study.variants.items():
        overrides = {**study.overrides, **own}
        if "dataset.use" in overrides:
            overrides = {**recorded, **overrides}
            if "dataset.path" not in overrides:
                raise UsageError(
                    f"{name}, variant {variant}: dataset.use needs episodes: add a dataset section to the study, or "
                    "dataset.path to the variant"
                )
        try:
            config = preset_with(study.preset, list(overrides.items()), study.preset)
        except UsageError as reason:
            raise UsageError(f"{name}, variant {variant}: {reason}") from None
        runs.append(StudyRun(name=f"{stem}-{variant}", variant=variant, config=config))
    return tuple(runs)
