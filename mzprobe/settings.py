"""Settings of the probes, one record each, and of a study, which is agents and probes on one configuration."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mzprobe.config import (
    Config,
    NonNegative,
    NonNegativeInt,
    PositiveInt,
    RunConfig,
    preset_with,
    read_toml,
    validated,
)

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
    enumerate_up_to: NonNegativeInt = 1024
    """Enumerate all A^h sequences exactly while there are no more than this; sample beyond."""
    sequences: Annotated[int, Field(ge=2)] = 64
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

    simulations: Simulations = (2, 4, 8, 16, 32, 64, 128)
    """N, numbers of simulations after which the tree is looked at."""
    horizon: PositiveInt = 16
    """Planning horizon of the search, counted from the root; its leaves are random rollouts."""


class PlanningConfig(ProbeConfig):
    """Settings of the planning probe (Figure 7)."""

    episodes: PositiveInt = 20
    """E, episodes of each cell, all from the same starts."""
    simulations: Simulations = (2, 4, 8, 16, 32, 64, 128)
    """N, simulations a step, one cell each."""
    leaf: Literal["rollout", "value"] = "rollout"
    """What a leaf is worth: a random rollout in the model that is planned in, or the network's value."""
    horizon: PositiveInt = 16
    """Planning horizon of rollouts, counted from the root."""
    temperature: NonNegative | None = 0.0
    """T of the acting policy: 0 takes the most visited action, null the temperature that collected data."""


class StepsConfig(Config):
    """The training steps that each probe of a study looks at; none means all, for `search` step 2000 as the paper's."""

    online: tuple[NonNegativeInt, ...] = ()
    horizon: tuple[NonNegativeInt, ...] = ()
    sequences: tuple[NonNegativeInt, ...] = ()
    cross: tuple[NonNegativeInt, ...] = ()
    search: tuple[NonNegativeInt, ...] = ()
    planning: tuple[NonNegativeInt, ...] = ()
    equivalence: tuple[NonNegativeInt, ...] = ()


class StudyConfig(Config):
    """Which agents and probes, on which configuration. A probe's section is its settings."""

    preset: str
    """Preset of the run."""
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]
    """One agent each."""
    overrides: dict[str, Any] = Field(default_factory=dict)
    """Dotted keys of the run's configuration and their values."""
    steps: StepsConfig = StepsConfig()
    """Training steps that each probe looks at."""
    online: OnlineConfig | None = None
    horizon: HorizonConfig | None = None
    sequences: SequencesConfig | None = None
    cross: CrossConfig | None = None
    search: SearchErrorConfig | None = None
    planning: PlanningConfig | None = None
    equivalence: EquivalenceConfig | None = None

    @model_validator(mode="after")
    def _one_agent_a_seed(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds must differ")
        return self

    def probes(self) -> dict[str, tuple[ProbeConfig, tuple[int, ...]]]:
        """The probes that have a section, in order: settings and training steps by name."""
        named = {name: getattr(self, name) for name in StepsConfig.model_fields}
        return {name: (given, getattr(self.steps, name)) for name, given in named.items() if given is not None}


def load_study(name: str) -> tuple[StudyConfig, RunConfig]:
    """A study (a shipped name or a path of a TOML file) and the configuration of its run.

    Raises:
        UsageError: if the study, a key or a value is wrong.
    """
    study = validated(StudyConfig, read_toml(name, "presets/studies"), name)
    return study, preset_with(study.preset, list(study.overrides.items()), name)
