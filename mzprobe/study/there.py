"""Records of an agent's checkpoints, read without the weights."""

import json
import re
from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from mzprobe.checkpoints import RECORD, step_of, steps_of
from mzprobe.records.digests import without_places
from mzprobe.tables import differing

_WEIGHTS = re.compile(rb'"weights_sha256": "([0-9a-f]{64})"')  # in a record's bytes; parsing each is slower


class Records:
    """Records of an agent's checkpoints, each read when first needed.

    They are not verified here, but when the agent is continued or probed.

    Args:
        kept: folders of the checkpoints, by training step.
    """

    def __init__(self, kept: Mapping[int, Path]) -> None:
        self.kept = kept
        self._read = lru_cache(maxsize=None)(self._bytes)

    @classmethod
    def of(cls, folder: Path) -> "Records":
        """Returns the records of the checkpoints in an agent's folder; none if it does not exist."""
        return cls({step_of(path): path for path in steps_of(folder)})

    def _bytes(self, step: int) -> bytes:
        try:
            return (self.kept[step] / RECORD).read_bytes()
        except OSError:
            return b""

    def weights(self, step: int) -> str | None:
        """Returns the SHA-256 of the weights at a training step; None without a readable checkpoint there."""
        found = _WEIGHTS.search(self._read(step)) if step in self.kept else None
        return found[1].decode() if found else None

    @cached_property
    def made_with(self) -> dict[str, Any]:
        """Configuration of the agent and SHA-256 of its dataset, from its first checkpoint, as far as known."""
        try:
            first = json.loads(self._read(min(self.kept))) if self.kept else {}
        except (ValueError, RecursionError):
            first = {}
        first = first if isinstance(first, dict) else {}
        metrics = first.get("metrics")
        dataset = metrics.get("dataset") if isinstance(metrics, dict) else None
        sha = dataset.get("sha256") if isinstance(dataset, dict) else None
        return {
            **({"config": without_places(first["config"])} if isinstance(first.get("config"), dict) else {}),
            **({"dataset": {"sha256": sha}} if sha else {}),
        }

    def unlike(self, config: Mapping[str, Any], *, dataset: str | None = None) -> str:
        """Returns how the agent differs from one begun now, as a clause; empty if it does not, or there is none.

        Args:
            config: configuration of an agent begun now, from `without_places`.
            dataset: SHA-256 of the study's dataset if such an agent learns from it; empty if it will be recorded again.
                None compares no datasets; training then refuses a dataset that differs.
        """
        made = self.made_with
        learned_from = made.get("dataset", {}).get("sha256")
        if dataset is not None and learned_from and learned_from != dataset:
            return "holds an agent that learned from another dataset than the study's"
        if "config" not in made or made["config"] == config:
            return ""
        same = {**config, "dataset": {**config["dataset"], **_path_of(made["config"])}}
        found = differing({"config": made["config"]}, {"config": same})
        return f"holds an agent of another {found.replace('config', 'configuration', 1)}" if found else ""


def _path_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the dataset's path in a configuration, as an entry of its section; the dataset may have been moved."""
    section = config.get("dataset")
    return {"path": section["path"]} if isinstance(section, dict) and "path" in section else {}
