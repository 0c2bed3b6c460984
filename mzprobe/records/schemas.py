"""Records that mzprobe writes beside its arrays and tables: typed, and validated whenever they are read back."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from mzprobe.errors import MzprobeError, UsageError
from mzprobe.names import check_name


def _folder(name: str) -> str:
    try:
        check_name(name, "a run", "")
    except UsageError as reason:
        raise ValueError(str(reason).removesuffix(": ")) from None
    return name


Name = Annotated[str, AfterValidator(_folder)]
Count = Annotated[int, Field(ge=0, lt=2**53)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Step = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,15})$")]  # training step as a key in JSON
Json = dict[str, Any]


class Record(BaseModel):
    """Base class of records: frozen and strict, without conversions between types; keys of later versions are kept."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")
    what: ClassVar[str]  # thing that is recorded, for error messages

    @classmethod
    def of(cls, values: Any, *, source: Path, error: Callable[[str], MzprobeError], remedy: str) -> Self:
        """Validates the values read from the file `source`, or raises `error` with a sentence that ends in `remedy`."""
        try:
            return cls.model_validate(values)
        except (ValidationError, RecursionError) as reason:
            raise error(f"{source} holds no record of {cls.what} ({_said(reason)}): {remedy}") from None


class EnvironmentRecord(BaseModel):
    """Spec of an environment."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")

    name: str
    source: str
    observation_shape: list[Annotated[int, Field(ge=0)]]
    num_actions: Annotated[int, Field(ge=1)]
    gamma: Annotated[float, Field(gt=0, le=1)]
    time_limit: Annotated[int, Field(ge=1)]


class CheckpointRecord(Record):
    """Record of a checkpoint."""

    what: ClassVar[str] = "a checkpoint"

    format: Annotated[int, Field(ge=1)]
    run: Name
    seed: Seed
    training_step: Count
    environment_steps: Count
    config: Json
    environment: EnvironmentRecord
    metrics: Json
    versions: dict[str, str]
    machine: dict[str, str] = Field(default_factory=dict)
    command: str
    weights_sha256: Digest
    targets_sha256: Digest | None = None


class EvaluationRecord(BaseModel):
    """Evaluation of the behaviour policy at a training step."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")

    step: Count
    environment_steps: Count
    temperature: float
    episodes: Count
    mean_return: float
    min_return: float


class CountedRecord(BaseModel):
    """Number of targets of one kind, number of those beyond the support, and their range."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    targets: Count
    outside: Count
    lowest: float
    highest: float


class BeyondRecord(BaseModel):
    """Counts of targets beyond the support so far, and whether the user was warned."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")

    values: CountedRecord
    rewards: CountedRecord
    told: bool


class StateRecord(Record):
    """Record of the state from which training resumes."""

    what: ClassVar[str] = "a state of training"

    format: Annotated[int, Field(ge=1)]
    run: Name
    seed: Seed
    versions: dict[str, str]
    config: Json
    step: Count
    environment_steps: Count
    recent: list[float]
    evaluations: list[EvaluationRecord]
    last_losses: dict[str, float]
    beyond_support: BeyondRecord
    experience: Json
    compute: dict[str, str] = Field(default_factory=dict)  # missing in older records
    files: list[Digest] = Field(default_factory=list)
    arrays_sha256: Digest


class TableRecord(Record):
    """Record of a table."""

    what: ClassVar[str] = "a table"

    probe: Name
    run: Name
    seed: Seed
    settings: Json
    config: Json
    environment: EnvironmentRecord
    versions: dict[str, str]
    commands: dict[Step, str]
    checkpoints: dict[Step, Digest] = Field(default_factory=dict)
    units: dict[str, str]
    bits: Annotated[int, Field(ge=2, le=52)] | None = None


def _said(reason: ValidationError | RecursionError) -> str:
    """Describes the first error in a record in a few words."""
    if isinstance(reason, RecursionError):
        return "it is nested too deeply"
    first: Mapping[str, Any] = reason.errors(include_url=False, include_input=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    return f"{key}: {first['msg'].removeprefix('Value error, ')}" if key else str(first["msg"])
