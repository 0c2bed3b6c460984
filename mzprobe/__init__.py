"""What has a MuZero model really learned, and does it help planning?

The names listed here are the public ones. They are imported when first used: `import mzprobe` itself is quick.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Environment": "mzprobe.envs",
    "EnvironmentSpec": "mzprobe.envs",
    "Outcome": "mzprobe.envs",
    "check_env": "mzprobe.envs",
    "make": "mzprobe.envs",
    "MuZeroNetwork": "mzprobe.networks",
    "TrainableNetwork": "mzprobe.networks",
    "check_network": "mzprobe.networks",
    "LearnedModel": "mzprobe.search",
    "PlanningModel": "mzprobe.search",
    "Rollout": "mzprobe.search",
    "SearchResult": "mzprobe.search",
    "TrueModel": "mzprobe.search",
    "BehaviourPolicy": "mzprobe.behaviour",
    "PriorPolicy": "mzprobe.behaviour",
    "Checkpoint": "mzprobe.checkpoints",
    "read_checkpoint": "mzprobe.checkpoints",
    "Dataset": "mzprobe.datasets",
    "Recorded": "mzprobe.datasets",
    "open_dataset": "mzprobe.datasets",
    "RunConfig": "mzprobe.config",
    "SearchConfig": "mzprobe.config",
    "load_preset": "mzprobe.config",
    "Trainer": "mzprobe.training.trainer",
    "Agent": "mzprobe.agents",
    "Compute": "mzprobe.compute",
    "Origin": "mzprobe.agents",
    "Question": "mzprobe.probes.question",
    "load_agent": "mzprobe.sources.own",
    "open_agent": "mzprobe.sources",
    "sample_states": "mzprobe.probes.sampling",
    "measure_cross": "mzprobe.probes.cross",
    "measure_equivalence": "mzprobe.probes.equivalence",
    "measure_horizon": "mzprobe.probes.horizon",
    "measure_improvement": "mzprobe.probes.improvement",
    "measure_inspect": "mzprobe.probes.inspect",
    "measure_operators": "mzprobe.probes.operators",
    "measure_online": "mzprobe.probes.online",
    "measure_planning": "mzprobe.probes.planning",
    "measure_search_error": "mzprobe.probes.search_error",
    "measure_sequences": "mzprobe.probes.sequences",
    "measure_targets": "mzprobe.probes.targets",
    "score_horizon": "mzprobe.probes.horizon",
    "score_sequences": "mzprobe.probes.sequences",
    "CrossConfig": "mzprobe.settings",
    "EquivalenceConfig": "mzprobe.settings",
    "HorizonConfig": "mzprobe.settings",
    "ImprovementConfig": "mzprobe.settings",
    "InspectConfig": "mzprobe.settings",
    "OperatorsConfig": "mzprobe.settings",
    "OnlineConfig": "mzprobe.settings",
    "PlanningConfig": "mzprobe.settings",
    "SearchErrorConfig": "mzprobe.settings",
    "SequencesConfig": "mzprobe.settings",
    "TargetsConfig": "mzprobe.settings",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mzprobe' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
