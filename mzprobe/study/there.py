"""What the checkpoints of an agent say about it, without reading their weights."""

import json
import re
from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from mzprobe.checkpoints import RECORD, step_of, steps_of
from mzprobe.recording import without_places
from mzprobe.tables import differing

_WEIGHTS = re.compile(rb'"weights_sha256": "([0-9a-f]{64})"')  # as a record has it; to read all of each takes longer


class Records:
    """The records of an agent's checkpoints, each read when it is asked for.

    They are not verified: whoever goes on with the agent does that.
    """

    def __init__(self, kept: Mapping[int, Path]) -> None:
        self.kept = kept  # by training step
        self._read = lru_cache(maxsize=None)(self._bytes)

    @classmethod
    def of(cls, folder: Path) -> "Records":
        """Those of an agent's folder, which need not be there."""
        return cls({step_of(path): path for path in steps_of(folder)})

    def _bytes(self, step: int) -> bytes:
        try:
            return (self.kept[step] / RECORD).read_bytes()
        except OSError:
            return b""

    def weights(self, step: int) -> str | None:
        """SHA-256 of the weights of a training step."""
        found = _WEIGHTS.search(self._read(step)) if step in self.kept else None
        return found[1].decode() if found else None

    @cached_property
    def made_with(self) -> dict[str, Any]:
        """Configuration and dataset of the agent, as far as there is one."""
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
        """What the agent was begun with otherwise, in one clause; nothing where it is the same, or there is none.

        Args:
            config: of the agent as it would be begun now, without places.
            dataset: SHA-256 of the study's that it would learn from, which is empty where that is to be recorded anew;
                of one that is nobody's study's, its training finds out.
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
    """The path of a configuration's dataset, which may have been moved."""
    section = config.get("dataset")
    return {"path": section["path"]} if isinstance(section, dict) and "path" in section else {}
