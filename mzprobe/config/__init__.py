"""Typed, frozen, documented configuration: from presets, with overrides by key, and recorded with every result."""

from mzprobe.config.base import MOST, Config, NonNegative, NonNegativeInt, PositiveInt, keys, set_key, validated
from mzprobe.config.network import FactoryConfig, MLPConfig, NetworkConfig, ResNetConfig, VectorsConfig
from mzprobe.config.presets import load_preset, preset_with, with_overrides
from mzprobe.config.run import (
    FREE_KEYS,
    DatasetConfig,
    EnvironmentConfig,
    Model,
    ReanalyseConfig,
    Rule,
    RunConfig,
    SearchConfig,
    Ties,
    TrainingConfig,
    of_record,
)

__all__ = [
    "FREE_KEYS",
    "MOST",
    "Config",
    "DatasetConfig",
    "EnvironmentConfig",
    "FactoryConfig",
    "MLPConfig",
    "Model",
    "NetworkConfig",
    "NonNegative",
    "NonNegativeInt",
    "PositiveInt",
    "ReanalyseConfig",
    "ResNetConfig",
    "Rule",
    "RunConfig",
    "SearchConfig",
    "Ties",
    "TrainingConfig",
    "VectorsConfig",
    "keys",
    "load_preset",
    "of_record",
    "preset_with",
    "set_key",
    "validated",
    "with_overrides",
]
