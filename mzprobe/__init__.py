"""Probes what a MuZero model has learned, and whether it helps planning.

The names that most work needs are available here and are imported on first use, so that `import mzprobe` itself is
quick. The rest is in its own module: settings in `mzprobe.settings`, searches in `mzprobe.search`, statistics in
`mzprobe.stats`.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Environment": "mzprobe.envs",
    "EnvironmentSpec": "mzprobe.envs",
    "Outcome": "mzprobe.envs",
    "make": "mzprobe.envs",
    "check_env": "mzprobe.envs",
    "MuZeroNetwork": "mzprobe.networks",
    "TrainableNetwork": "mzprobe.networks",
    "check_network": "mzprobe.networks",
    "Agent": "mzprobe.agents",
    "Origin": "mzprobe.agents",
    "Compute": "mzprobe.compute",
    "open_agent": "mzprobe.sources",
    "read_checkpoint": "mzprobe.checkpoints",
    "Trainer": "mzprobe.training.trainer",
    "load_preset": "mzprobe.config",
    "open_dataset": "mzprobe.datasets",
    "Question": "mzprobe.probes.question",
    "measure": "mzprobe.probes.registry",
    "ask": "mzprobe.probes.asking",
    "read_run": "mzprobe.tables",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mzprobe' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
