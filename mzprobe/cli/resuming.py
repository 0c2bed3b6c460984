"""Settings that `mzprobe train` takes from the record of an agent whose training it continues."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from mzprobe.config import RunConfig
from mzprobe.errors import UsageError
from mzprobe.names import GYM


def taken_from_record(
    folder: Path, config: RunConfig, *, preset: str | None, given: Sequence[str], allow: Sequence[str]
) -> list[str]:
    """Returns, and prints, the `key=value` settings that an agent was begun with and that the user has not overridden.

    Args:
        folder: folder of the agent.
        config: configuration that it would continue with.
        preset: preset that the user named, or None; refuses an agent begun with another one in another environment.
        given: overrides that the user gave.
        allow: modules whose code the record may name.

    Raises:
        UsageError: if the record names code that is not allowed, or the agent was begun with another preset.
    """
    from mzprobe.console import errors
    from mzprobe.toml import key_and_value
    from mzprobe.training.continuing import as_begun
    from mzprobe.trust import refuse_code

    begun = as_begun(folder, config, given=[key_and_value(one)[0] for one in given])
    if begun:
        taken = dict(map(key_and_value, begun))
        if preset is not None and "environment.name" in taken:
            _refuse_another_preset(folder, preset, str(taken["environment.name"]))
        name = taken.get("environment.name", config.environment.name)
        named = "environment.name" in taken or name.startswith(GYM)
        code = {
            "environment": {"name": name, "options": taken.get("environment.options", {})} if named else {},
            "network": {"kind": taken.get("network.kind", "")},
        }
        refuse_code(code, allow=allow, source=folder)
        errors.print(f"{folder} goes on as it was begun, with {', '.join(begun)}")
    return begun


def _refuse_another_preset(folder: Path, preset: str, environment: str) -> None:
    from mzprobe.checkpoints import read_checkpoint, steps_of

    words = shlex.split(read_checkpoint(steps_of(folder)[0]).command)
    begun = " ".join(words[:3])
    if words[:2] != ["mzprobe", "train"] or Path(words[2] if len(words) > 2 else "").stem != Path(preset).stem:
        raise UsageError(
            f"{folder} was begun by {begun}, in {environment}: name that preset or none, or give another --name"
        )
