"""The dataset that a study makes for itself: an agent trained so far, and episodes of it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mzprobe.checkpoints import Checkpoint, read_checkpoint, steps_of
from mzprobe.config import RunConfig
from mzprobe.errors import UsageError
from mzprobe.files import canonical_json, replace_file, write_file
from mzprobe.settings import StudyDataset
from mzprobe.study.processes import Report
from mzprobe.study.training import train_agent
from mzprobe.training.trainer import Trainer

RECORD = "study.json"  # in the dataset's folder, of what made it
_SAME = ("settings", "checkpoint")  # parts of a record by which a dataset is the one that is asked for


@dataclass(frozen=True, kw_only=True)
class DatasetTask:
    """The dataset of a study: train its agent, then record episodes of it."""

    study: str  # name
    settings: StudyDataset
    config: RunConfig  # the study's preset and overrides
    datasets: Path  # folder of all datasets
    checkpoints: Path
    analyses: Path
    command: str

    @property
    def label(self) -> str:
        """There is one a study."""
        return "dataset"

    def run(self, report: Callable[[Report], None], must_stop: Callable[[], bool]) -> None:
        """Does what is not done yet; a copy of the dataset's record goes to the tables, for the figures."""
        config, settings = dataset_config(self.config, self.settings), self.settings
        trainer = Trainer(
            config, seed=settings.seed, run=f"{self.study}-dataset", out=self.checkpoints, command=self.command
        )
        train_agent(trainer, self.label, report, must_stop)
        report(Report(label=self.label, phase="record", done=0, total=settings.episodes))
        checkpoint = read_checkpoint(steps_of(trainer.folder)[-1])
        record = make_dataset(checkpoint, settings, out=self.datasets / self.study, command=self.command)
        replace_file(record_path(self.analyses, self.study), canonical_json(record).encode())
        report(Report(label=self.label, phase="record", done=settings.episodes, total=settings.episodes))


def dataset_config(config: RunConfig, settings: StudyDataset) -> RunConfig:
    """The configuration of the agent whose episodes are recorded: that of the study, trained to that step."""
    training = config.training.model_copy(update={"steps": settings.step})
    return config.model_copy(update={"training": training})


def make_dataset(checkpoint: Checkpoint, settings: StudyDataset, *, out: Path, command: str) -> dict[str, Any]:
    """Records episodes of a checkpoint, unless they are there already; the folder appears whole.

    Args:
        checkpoint: of the agent.
        settings: who acts, and how often.
        out: folder of the dataset.
        command: that a reader can type to make it.

    Returns:
        What made it: `settings`, `checkpoint` (SHA-256 of the weights), `command`, and `mean_return`, undiscounted.

    Raises:
        UsageError: if the folder holds another dataset.
    """
    from mzprobe.datasets import collect_dataset  # type: ignore[import-not-found]  # it needs an extra

    record: dict[str, Any] = {
        "settings": settings.model_dump(mode="json"),
        "checkpoint": checkpoint.weights_sha256,
        "command": command,
    }
    if out.exists():
        return _known(out, record)
    # In a folder of its own until it is whole, under its own name, which a dataset may record.
    partial = out.parent / f".{out.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    collected = collect_dataset(
        checkpoint,
        out=partial / out.name,
        policy=settings.policy,
        temperature=settings.temperature,
        episodes=settings.episodes,
        seed=settings.seed,
        command=command,
    )
    record["mean_return"] = float(collected.mean_return)
    write_file(partial / out.name / RECORD, canonical_json(record).encode())
    (partial / out.name).rename(out)
    partial.rmdir()
    return record


def record_path(analyses: Path, study: str) -> Path:
    """Where the tables keep the record of a study's dataset."""
    return analyses / study / "dataset.json"


def _known(out: Path, record: dict[str, Any]) -> dict[str, Any]:
    """The record of the dataset that is there, if it is the one that is asked for."""
    try:
        there: dict[str, Any] = json.loads((out / RECORD).read_text("utf-8"))
        same = all(there[part] == record[part] for part in _SAME)
    except (OSError, ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise UsageError(
            f"{out} holds another dataset than the study's: remove it, or choose another folder with --datasets"
        )
    return there
