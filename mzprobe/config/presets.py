"""Makes configurations from presets, with overrides."""

from collections.abc import Mapping, Sequence
from typing import Any

from mzprobe.config.base import AnyConfig, keys, set_key, validated
from mzprobe.config.network import keys_for_kind, network_kind
from mzprobe.config.run import RunConfig
from mzprobe.errors import UsageError
from mzprobe.names import GYM
from mzprobe.toml import key_and_value, read_toml
from mzprobe.trust import refuse_code

_MOST_SEARCHES = 1000  # searches of reanalyse per search of play; the presets have up to 99


def load_preset(name: str, overrides: Sequence[str] = (), *, allow: Sequence[str] = ()) -> RunConfig:
    """Loads the configuration of a preset (a shipped name or a path of a TOML file), with `key=value` overrides.

    The preset's options are for its own environment, so overriding the environment's name drops them. Overriding the
    kind of network drops the keys that the other kind does not have.

    Args:
        name: name or path of the preset.
        overrides: given by the user, and so allowed to name any code.
        allow: modules whose code the file may name.

    Raises:
        UsageError: if the preset, a key or a value is wrong, or it names code that is not allowed.
    """
    return preset_with(name, [key_and_value(override) for override in overrides], name, allow=allow)


def preset_with(
    preset: str, overrides: Sequence[tuple[str, Any]], source: str, *, allow: Sequence[str] | None = None
) -> RunConfig:
    """Loads the configuration of a preset, with keys and values that override it.

    Args:
        preset: name or path of the preset.
        overrides: dotted keys and their values.
        source: name for error messages.
        allow: modules whose code the preset itself may name. With None any code is accepted, and trust in it is up to
            the caller.

    Raises:
        UsageError: if the preset, a key or a value is wrong, or it names code that is not allowed.
    """
    values = read_toml(preset, "presets")
    if not values:
        raise UsageError(f"{preset} is empty: write a section such as [environment] or [training] into it")
    if "preset" in values and "seeds" in values:
        raise UsageError(f"{preset} is a study of agents, not a preset: run it with mzprobe study {preset}")
    if allow is not None:
        refuse_code(_own_of(values, dict(overrides)), allow=allow, source=preset)
    environment = values.get("environment")
    if isinstance(environment, dict):
        named = environment.get("name")
        if dict(overrides).get("environment.name", named) != named:
            environment.pop("options", None)
    network, kind = values.get("network"), dict(overrides).get("network.kind")
    if isinstance(network, dict) and kind not in (None, network_kind(network)):
        values["network"] = keys_for_kind(network, kind)
    for key, value in overrides:
        set_key(RunConfig, values, key, value)
    config = validated(RunConfig, values, source)
    _refuse_idle_keys(config, source)
    return config


def _own_of(values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the sections of a file that may name code, without values that overrides replace."""
    own = {name: values[name] for name in ("environment", "network") if name in values}
    if "network.kind" in given:
        own.pop("network", None)
    file = own.get("environment")
    if "environment.name" in given and isinstance(file, dict):
        stay = given["environment.name"] == file.get("name")  # then the file's options stay in use
        gym = str(file.get("name")).startswith(GYM)
        own["environment"] = {"name": GYM, "options": file.get("options")} if stay and gym else {}
    return own


def _refuse_idle_keys(config: RunConfig, source: str) -> None:
    """Refuses combinations of keys in which one has no effect.

    This applies to new configurations only: older records with such keys can still be read.
    """
    if config.search.rule == "gumbel" and config.training.temperature_ladder:
        raise UsageError(
            f"{source}: training.temperature_ladder does nothing with search.rule=gumbel, which collects data by its "
            "own noise and not at a temperature: leave one of them out"
        )
    training, fraction = config.training, config.reanalyse.fraction
    searched = fraction == 1 if config.offline else True
    if training.unroll_steps == 0 and training.plan_in == "learned" and searched:
        raise UsageError(
            f"{source}: training.unroll_steps=0 learns no model, and all targets would come from searches in one: give "
            "training.plan_in=true, or unroll_steps of 1 or more"
        )
    if config.dataset.path is None and config.dataset.use == "demonstrations":
        raise UsageError(f"{source}: dataset.use=demonstrations needs dataset.path, or --demonstrations PATH")
    due = 0 if config.offline else fraction / (1 - fraction)
    if due > _MOST_SEARCHES:
        raise UsageError(
            f"{source}: reanalyse.fraction={fraction:g} calls for {due:,.0f} searches for each of play, with nothing "
            "learned between them: lower it"
        )


def with_overrides(config: AnyConfig, overrides: Sequence[str], *, option: str = "--set") -> AnyConfig:
    """Returns a copy of a configuration with `key=value` overrides.

    Args:
        config: configuration to change.
        overrides: `key=value` texts.
        option: option of the command line that gave them, for error messages.

    Raises:
        UsageError: if a key or a value is wrong.
    """
    values = config.model_dump()
    first, _ = next(keys(type(config)))
    for override in overrides:
        key, value = key_and_value(override, example=f"{first}={values.get(first)}")
        set_key(type(config), values, key, value)
    return validated(type(config), values, option)
