"""The dataset that a study records for itself: episodes of an agent that is trained up to a given step."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mzprobe.checkpoints import agent_folder, step_of, steps_of
from mzprobe.config import RunConfig
from mzprobe.datasets.layout import RECORD
from mzprobe.errors import MzprobeError, UsageError
from mzprobe.execution.core import Needs, Report
from mzprobe.files import canonical_json, read_bytes, read_object, remove_leftovers, replace_file
from mzprobe.locks import held, tidy
from mzprobe.records.digests import without_places
from mzprobe.settings import StudyDataset
from mzprobe.study.there import Records
from mzprobe.study.training import PROCESS, train_agent
from mzprobe.training.resume import states_of, step_of_state
from mzprobe.training.trainer import Trainer
from mzprobe.trust import modules_of


@dataclass(frozen=True, kw_only=True)
class DatasetTask:
    """Task that makes the dataset of a study: trains its agent, then records episodes of it."""

    study: str  # name of the study
    settings: StudyDataset
    config: RunConfig  # the study's preset and overrides
    datasets: Path  # folder of all datasets
    checkpoints: Path  # folder of all checkpoints
    analyses: Path  # folder of all tables
    command: str  # command that its outputs record
    memory: int = 0  # bytes of the replay buffer of its agent

    after: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Always `dataset`: a study has one."""
        return "dataset"

    @property
    def label(self) -> str:
        """Same as the name."""
        return self.name

    @property
    def needs(self) -> Needs:
        """One core for each thread of training, and memory for a process and the replay buffer."""
        return Needs(cores=self.config.training.threads, memory=PROCESS + self.memory)

    def run(self, report: Callable[[Report], None], must_stop: Callable[[], bool]) -> None:
        """Trains and records what is missing, and copies the dataset's record to the tables, for the figures."""
        config, settings = dataset_config(self.config, self.settings), self.settings
        trainer = Trainer(
            config, seed=settings.seed, run=_run_of(self.study), out=self.checkpoints, command=self.command
        )
        train_agent(trainer, self.label, report, must_stop)
        report(Report(label=self.label, phase="record", done=0, total=settings.episodes))
        allow = modules_of(config)
        checkpoint = _chosen(trainer.folder, settings, allow)
        record = make_dataset(checkpoint, settings, out=self.datasets / self.study, command=self.command, allow=allow)
        path = record_path(self.analyses, self.study)
        with held(path):
            replace_file(path, canonical_json(record).encode())
            remove_leftovers(path.parent, path.name)
        report(Report(label=self.label, phase="record", done=settings.episodes, total=settings.episodes))

    @property
    def recorded(self) -> bool:
        """Whether the episodes exist, with their record among the tables, and are those of this dataset."""
        there = (self.datasets / self.study / RECORD).exists() and record_path(self.analyses, self.study).exists()
        return there and not self.others()

    def steps_left(self) -> int:
        """Returns the remaining training steps of its agent; all of them if another agent must be put aside."""
        agent = dataset_agent(self.checkpoints, self.study, self.settings)
        states = states_of(agent)
        kept = [step_of(path) for path in steps_of(agent)] + [step_of_state(state) for state in states[-1:]]
        done = 0 if agent in self.others() else max(kept, default=0)
        return max(0, self.settings.step - done)

    def others(self) -> dict[Path, str]:
        """Returns the folders of this dataset and its agent that hold another one; see `other_datasets`."""
        places = {"checkpoints": self.checkpoints, "datasets": self.datasets}
        return other_datasets(self.study, self.settings, self.config, **places)


def other_datasets(
    study: str, settings: StudyDataset, config: RunConfig, *, checkpoints: Path, datasets: Path
) -> dict[Path, str]:
    """Returns the folders of a study's dataset and its agent that hold another one, each with the reason as a clause.

    Two things are known only when recording, and are not compared: which checkpoint has the returns that are asked for,
    and the temperature if it is the checkpoint's own.

    Args:
        study: name of the study.
        settings: settings of the dataset.
        config: configuration of the study: its preset and overrides.
        checkpoints: folder of all checkpoints.
        datasets: folder of all datasets.
    """
    agent, out, step = dataset_agent(checkpoints, study, settings), datasets / study, settings.step
    records = Records.of(agent)
    other = records.unlike(without_places(dataset_config(config, settings).model_dump(mode="json")))
    if not other and step not in records.kept and max(records.kept, default=0) > step:
        other = f"has no checkpoint at step {step}"
    found = {agent: other} if other else {}
    if out.exists() and (
        other or _recorded_otherwise(read_object(out / RECORD), settings, weights=records.weights(step))
    ):
        found[out] = "holds another dataset than the study's"
    return found


def _recorded_otherwise(record: Mapping[str, Any], settings: StudyDataset, *, weights: str | None) -> bool:
    """Whether a dataset was recorded with other settings, judged by its record and the weights at `settings.step`."""
    asked: dict[str, Any] = {"seed": settings.seed, "policy": settings.policy, "episodes": settings.episodes}
    if settings.temperature is not None:
        asked["temperature"] = settings.temperature
    if any(record.get(key) != value for key, value in asked.items()):
        return True
    if settings.policy == "random" or settings.returns is not None:
        return False
    player = record.get("checkpoint")
    if not isinstance(player, dict) or player.get("training_step") != settings.step:
        return True
    return weights is not None and player.get("weights_sha256") != weights


def dataset_agent(checkpoints: Path, study: str, settings: StudyDataset) -> Path:
    """Returns the folder of the agent whose episodes are recorded for a study."""
    return agent_folder(checkpoints, _run_of(study), settings.seed)


def _run_of(study: str) -> str:
    return f"{study}-dataset"


def _chosen(folder: Path, settings: StudyDataset, allow: Sequence[str]) -> Path:
    """Returns the checkpoint to record: the one at `settings.step`, or the earliest with returns as asked for.

    Raises:
        UsageError: if the agent has no checkpoint at that step, or none has a mean return in `settings.returns`.
    """
    checkpoints = {step_of(path): path for path in steps_of(folder)}
    if settings.step not in checkpoints:  # the agent was trained further, for a later step
        raise UsageError(f"{folder} has no checkpoint at step {settings.step}: remove it, to train it anew")
    if settings.returns is None:
        return checkpoints[settings.step]
    from mzprobe.datasets.collect import load_player, mean_return  # an extra, needed only here

    low, high = settings.returns
    seen = []
    for step in sorted(step for step in checkpoints if step <= settings.step):
        player = load_player(str(checkpoints[step]), settings.policy, temperature=settings.temperature, allow=allow)
        seen.append(mean_return(player, episodes=settings.episodes, seed=settings.seed))
        if low <= seen[-1] <= high:
            return checkpoints[step]
    raise UsageError(
        f"no checkpoint of {folder} returns {low:g} to {high:g} on average (they return {min(seen):.3g} to "
        f"{max(seen):.3g}): choose another dataset.returns, dataset.step or dataset.seed"
    )


def dataset_config(config: RunConfig, settings: StudyDataset) -> RunConfig:
    """Returns the configuration of the agent whose episodes are recorded: the study's, with `settings.step` steps."""
    changes = {"steps": settings.step}
    if settings.returns is not None:
        changes["checkpoint_interval"] = max(1, settings.step // 10)
    training = config.training.model_copy(update=changes)
    return config.model_copy(update={"training": training})


def make_dataset(
    checkpoint: Path, settings: StudyDataset, *, out: Path, command: str, allow: Sequence[str] = ()
) -> dict[str, Any]:
    """Records episodes of a checkpoint, unless they exist already.

    Args:
        checkpoint: folder of the checkpoint.
        settings: policy, number of episodes and seed.
        out: folder of the dataset.
        command: command that makes it, for its record.
        allow: modules whose code the checkpoint may name.

    Returns:
        The dataset's own record.

    Raises:
        UsageError: if the folder holds another dataset.
    """
    from mzprobe.datasets.collect import collect, load_player, made_by  # an extra, needed only here

    player = load_player(str(checkpoint), settings.policy, temperature=settings.temperature, allow=allow)
    if not out.exists():
        collect(player, out, episodes=settings.episodes, seed=settings.seed, command=command)
    made = {**made_by(player, seed=settings.seed), "episodes": settings.episodes}
    wanted = json.loads(canonical_json({**made, "environment": asdict(player.environment.spec)}))
    there = read_object(out / RECORD)
    if {key: there.get(key) for key in wanted} != wanted:
        raise UsageError(
            f"{out} holds another dataset than the study's: remove it, or choose another folder with --datasets"
        )
    tidy(out)
    return there


def record_path(analyses: Path, study: str) -> Path:
    """Returns the path, among the tables, of the record of a study's dataset."""
    return analyses / study / "dataset.json"


def dataset_sha256(analyses: Path, study: str) -> str | None:
    """Returns the SHA-256 of a study's dataset as last recorded; None if the tables have no record of it."""
    found = read_object(record_path(analyses, study)).get("sha256")
    return found if isinstance(found, str) else None


def dataset_return(analyses: Path, study: str) -> float | None:
    """Returns the mean return of the episodes of a study's dataset; None if the tables have no record of it.

    Raises:
        MzprobeError: if the record is truncated or not one of a dataset.
    """
    path, remedy = record_path(analyses, study), f"run mzprobe study {study} again"
    if not path.exists():
        return None
    try:
        mean = float(json.loads(read_bytes(path, error=MzprobeError, remedy=remedy))["mean_return"])
        if math.isfinite(mean):
            return mean
    except (ValueError, ArithmeticError, KeyError, TypeError, RecursionError):
        pass
    raise MzprobeError(f"{path} is truncated or not a dataset's record: {remedy}")
