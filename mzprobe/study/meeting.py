"""Tables that lie where a study would write, and are of other agents: said before anything is trained."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mzprobe.checkpoints import agent_folder, step_of, steps_of
from mzprobe.errors import MzprobeError
from mzprobe.probes.registry import PROBES
from mzprobe.settings import StudyConfig, StudyRun
from mzprobe.sources.own import Own
from mzprobe.tables import read_table, table_path


def foreign_table(study: StudyConfig, runs: Sequence[StudyRun], *, checkpoints: Path, analyses: Path) -> str | None:
    """The first table that the study could not go on with, and why, in a few words; None where there is none.

    It is rounded, as those are that are shipped, and the agent of its numbers is not here; or it is of other weights or
    other settings. A table whose agent was removed is none of them: trained again, that has the same weights.

    Args:
        study: its probes and seeds.
        runs: of it.
        checkpoints: folder of all checkpoints.
        analyses: folder of all tables.
    """
    for run in runs:
        for seed in study.seeds:
            agent = agent_folder(checkpoints, run.name, seed)
            weights: dict[str, str] = {}
            for name, (settings, _) in study.probes().items():
                path = table_path(analyses, run.name, PROBES[name].table(settings), seed)
                if path.exists():
                    weights = weights or _weights(agent)
                    said = _why(path, weights, settings.model_dump(mode="json"))
                    if said:
                        return f"{path} {said}"
    return None


def _why(path: Path, weights: dict[str, str], settings: dict[str, Any]) -> str:
    try:
        record = read_table(path).record
    except MzprobeError:
        return ""  # whoever reads it says what is wrong
    known: dict[str, str] = record.get("checkpoints", {})
    for step, digest in known.items():
        if weights.get(step, digest) != digest:
            return f"holds step {step} of other weights"
    if "bits" in record and not known.keys() <= weights.keys():
        return "is rounded, as results that are shipped, and its agent is not here"
    other = [key for key, value in record["settings"].items() if key in settings and settings[key] != value]
    return f"was made with other settings ({', '.join(other)})" if other else ""


def _weights(agent: Path) -> dict[str, str]:
    """SHA-256 of an agent's weights by training step."""
    try:
        return {str(step_of(path)): Own().origin(path).weights_sha256 for path in steps_of(agent)}
    except MzprobeError:
        return {}  # whoever goes on with it says what is wrong
