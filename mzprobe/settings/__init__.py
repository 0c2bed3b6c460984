"""What probes and studies are told: typed, frozen, documented."""

from mzprobe.settings.probes import (
    OURS,
    QUESTIONS,
    CrossConfig,
    EquivalenceConfig,
    HorizonConfig,
    ImprovementConfig,
    OnlineConfig,
    OperatorsConfig,
    PlanningConfig,
    ProbeConfig,
    SearchErrorConfig,
    SequencesConfig,
    StatesConfig,
    TargetsConfig,
    simulation_counts,
)
from mzprobe.settings.study import StepsConfig, StudyConfig, StudyDataset, StudyRun, load_study, study_runs

__all__ = [
    "OURS",
    "QUESTIONS",
    "CrossConfig",
    "EquivalenceConfig",
    "HorizonConfig",
    "ImprovementConfig",
    "OnlineConfig",
    "OperatorsConfig",
    "PlanningConfig",
    "ProbeConfig",
    "SearchErrorConfig",
    "SequencesConfig",
    "StatesConfig",
    "StepsConfig",
    "StudyConfig",
    "StudyDataset",
    "StudyRun",
    "TargetsConfig",
    "load_study",
    "simulation_counts",
    "study_runs",
]
