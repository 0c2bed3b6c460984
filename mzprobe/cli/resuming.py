"""What `mzprobe train` takes from the record of an agent that it goes on with."""

from collections.abc import Sequence
from pathlib import Path

from mzprobe.config import RunConfig


def taken_from_record(folder: Path, config: RunConfig, *, given: Sequence[str], allow: Sequence[str]) -> list[str]:
    """The `key=value` that an agent was begun with and that nobody has given otherwise; says so.

    Args:
        folder: of the agent.
        config: that it would go on with.
        given: overrides that are the user's own word.
        allow: modules whose code the record may name.

    Raises:
        UsageError: if the record names code that is not allowed.
    """
    from mzprobe.console import errors
    from mzprobe.toml import key_and_value
    from mzprobe.training.continuing import as_begun
    from mzprobe.trust import refuse_code

    begun = as_begun(folder, config, given=[key_and_value(one)[0] for one in given])
    if begun:
        taken = dict(map(key_and_value, begun))
        name = taken.get("environment.name", config.environment.name)
        named = "environment.name" in taken or name.startswith("gym:")
        code = {
            "environment": {"name": name, "options": taken.get("environment.options", {})} if named else {},
            "network": {"kind": taken.get("network.kind", "")},
        }
        refuse_code(code, allow=allow, source=folder)
        errors.print(f"{folder} goes on as it was begun, with {', '.join(begun)}")
    return begun
