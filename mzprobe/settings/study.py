"""Settings of a study: its agents, their configurations and the probes to run."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, create_model, field_validator, model_validator

from mzprobe.config import Config, NonNegative, NonNegativeInt, PositiveInt, RunConfig, preset_with, validated
from mzprobe.errors import UsageError
from mzprobe.names import check_name
from mzprobe.settings.probes import (
    CrossConfig,
    EquivalenceConfig,
    HorizonConfig,
    ImprovementConfig,
    InspectConfig,
    OnlineConfig,
    OperatorsConfig,
    PlanningConfig,
    ProbeConfig,
    SearchErrorConfig,
    SequencesConfig,
    TargetsConfig,
    plugged_questions,
)
from mzprobe.toml import read_toml

_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class StepsConfig(Config):
    """Training steps that each probe of a study examines; empty means all, or the paper's 2000 for `search_error`."""

    online: tuple[NonNegativeInt, ...] = ()
    horizon: tuple[NonNegativeInt, ...] = ()
    sequences: tuple[NonNegativeInt, ...] = ()
    cross: tuple[NonNegativeInt, ...] = ()
    search_error: tuple[NonNegativeInt, ...] = ()
    planning: tuple[NonNegativeInt, ...] = ()
    equivalence: tuple[NonNegativeInt, ...] = ()
    improvement: tuple[NonNegativeInt, ...] = ()
    targets: tuple[NonNegativeInt, ...] = ()
    operators: tuple[NonNegativeInt, ...] = ()
    inspect: tuple[NonNegativeInt, ...] = ()


PolicyName = Literal["behaviour", "prior", "random"]


class StudyDataset(Config):
    """Recorded episodes that a study makes for itself, with an agent of its preset and overrides."""

    seed: NonNegativeInt = 0
    """Seed of the agent, and of the episodes."""
    step: NonNegativeInt
    """Training steps of the agent, which is trained no further."""
    returns: tuple[float, float] | None = None
    """Smallest and largest mean return that the episodes may have. The agent then has ten checkpoints up to `step`, and
    the earliest whose episodes return that much is recorded; without a range, the checkpoint at `step`."""
    policy: PolicyName = "behaviour"
    """Policy that acts: the agent's search, its policy network alone, or uniformly random actions."""
    temperature: NonNegative | None = None
    """T of the search; by default the one that collected data at that step."""
    episodes: PositiveInt = 100
    """Number of episodes to record."""


class StudyConfig(Config):
    """Agents and probes of a study, and their configuration; the section of a probe holds its settings."""

    preset: str
    """Preset of the run."""
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]
    """Seeds, one agent for each."""
    overrides: dict[str, Any] = Field(default_factory=dict)
    """Dotted keys of the run's configuration and their values."""
    variants: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Runs that are compared, by name: each has all seeds, with further dotted keys on top of `overrides`."""
    dataset: StudyDataset | None = None
    """Recorded episodes for the variants that set `dataset.use`; made before the variants are trained."""
    steps: StepsConfig = StepsConfig()
    """Training steps that each probe examines."""
    online: OnlineConfig | None = None
    horizon: HorizonConfig | None = None
    sequences: SequencesConfig | None = None
    cross: CrossConfig | None = None
    search_error: SearchErrorConfig | None = None
    planning: PlanningConfig | None = None
    equivalence: EquivalenceConfig | None = None
    improvement: ImprovementConfig | None = None
    targets: TargetsConfig | None = None
    operators: OperatorsConfig | None = None
    inspect: InspectConfig | None = None

    @field_validator("overrides", mode="before")
    @classmethod
    def _dotted_overrides(cls, given: Any) -> Any:
        return dotted(given)

    @field_validator("variants", mode="before")
    @classmethod
    def _dotted_variants(cls, given: Any) -> Any:
        return {name: dotted(own) for name, own in given.items()} if isinstance(given, dict) else given

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
                raise ValueError(
                    f"variant {name!r} must be named by letters, digits, dots, dashes and underscores, and not dataset"
                )
        return self

    @model_validator(mode="after")
    def _dataset_is_used(self) -> Self:
        if self.dataset and not any("dataset.use" in {**self.overrides, **own} for own in self.variants.values()):
            raise ValueError("dataset is used by no variant: give one of them dataset.use, or remove that section")
        return self

    @model_validator(mode="after")
    def _steps_are_of_a_probe(self) -> Self:
        for name in type(self.steps).model_fields:
            if getattr(self.steps, name) and getattr(self, name) is None:
                raise ValueError(f"steps.{name} is given, and there is no section [{name}]: add one, or leave it out")
        return self

    @model_validator(mode="after")
    def _one_behaviour_policy(self) -> Self:
        """Refuses probes with different behaviour policies.

        Tables in one folder are drawn together, which would otherwise fail only after hours of work.
        """
        asked = {name: settings.acting.model_dump() for name, (settings, _) in self.probes().items()}
        first = next(iter(asked), "")
        for name, acting in asked.items():
            unlike = [f"acting.{key}" for key, value in acting.items() if value != asked[first][key]]
            if unlike:
                raise ValueError(
                    f"{first} and {name} ask about behaviour policies with other {', '.join(unlike)}, whose tables "
                    "cannot share a folder: give all sections the same acting, or make a study of each"
                )
        return self

    def probes(self) -> dict[str, tuple[ProbeConfig, tuple[int, ...]]]:
        """Returns the settings and training steps of the probes that have a section, by name and in order."""
        named = {name: getattr(self, name) for name in type(self.steps).model_fields}
        return {name: (given, getattr(self.steps, name)) for name, given in named.items() if given is not None}


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """Run of a study: one configuration, with all seeds."""

    name: str  # name of the run
    variant: str  # name of its variant; empty if the study has none
    config: RunConfig


def dotted(given: Any) -> Any:
    """Rejoins dotted keys that TOML nested because they were not quoted (`training.steps = 3`).

    Raises:
        ValueError: if a key is given in both forms.
    """
    if not isinstance(given, dict):
        return given
    found: dict[str, Any] = {}
    for key, value in given.items():
        if key not in RunConfig.model_fields or not isinstance(value, dict):
            found[key] = value
            continue
        for name, part in value.items():
            options = part if name == "options" and isinstance(part, dict) else {}
            own = {f"{key}.{name}.{option}": chosen for option, chosen in options.items()} or {f"{key}.{name}": part}
            twice = [one for one in own if one in found or one in given]
            if twice:
                raise ValueError(f"{twice[0]} is given twice, with quotes and without: leave one out")
            found |= own
    return found


def study_model() -> type[StudyConfig]:
    """Returns the configuration class of a study, including a section for each question of installed packages."""
    theirs = {question.name: question.config for question in plugged_questions()}
    if not theirs:
        return StudyConfig
    of_steps: dict[str, Any] = dict.fromkeys(theirs, (tuple[NonNegativeInt, ...], ()))
    steps: Any = create_model("StepsConfig", __base__=StepsConfig, **of_steps)
    sections: dict[str, Any] = {name: (config | None, None) for name, config in theirs.items()}
    return create_model("StudyConfig", __base__=StudyConfig, steps=(steps, steps()), **sections)


def load_study(name: str) -> tuple[StudyConfig, RunConfig]:
    """Loads a study (a shipped name or a path of a TOML file), and the configuration of its preset with its overrides.

    If the study has no variants, that is the configuration of its run.

    Raises:
        UsageError: if the study, a key or a value is wrong.
    """
    study = validated(study_model(), read_toml(name, "presets/studies"), name)
    return study, preset_with(study.preset, list(study.overrides.items()), name)


def study_runs(name: str, study: StudyConfig, *, datasets: Path = Path("datasets")) -> tuple[StudyRun, ...]:
    """Returns the runs of a study, in order: one with the study's name, or one per variant, `<study>-<variant>`.

    Args:
        name: name or path of the study, as for `load_study`.
        study: settings of the study.
        datasets: folder of all datasets. Its path, as given, becomes part of the configuration of a run that learns
            from the study's dataset.

    Raises:
        UsageError: if a key or a value of a variant is wrong, or no folder can have its name; names the variant.
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
