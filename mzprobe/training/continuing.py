"""Whether an agent's folder holds the agent that is to be trained on: its name, configuration, data and packages."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mzprobe.checkpoints import read_checkpoint, steps_of
from mzprobe.config import RunConfig
from mzprobe.errors import MzprobeError, UsageError
from mzprobe.recording import OWN
from mzprobe.training.recorded import Feed


def refuse_other_agent(folder: Path, *, found: tuple[str, int], expected: tuple[str, int]) -> None:
    """What was copied from another agent's folder would go on under the wrong name.

    Args:
        folder: of the agent.
        found: run and seed that what lies there was saved by.
        expected: those of the agent to be trained.

    Raises:
        UsageError: if they differ.
    """
    if found != expected:
        run, seed = found
        raise UsageError(
            f"{folder} holds an agent of run {run}, seed {seed}: give it a folder of that name again, or remove it"
        )


def refuse_other_versions(folder: Path, *, saved: Mapping[str, str], here: Mapping[str, str]) -> None:
    """The same bits are promised with the same packages alone.

    Raises:
        UsageError: if any differs.
    """
    kept = {name: said for name, said in here.items() if name in saved or not said.startswith(OWN)}  # not at first
    unlike = sorted(name for name in {*saved, *kept} if saved.get(name) != kept.get(name))
    if unlike:
        then = ", ".join(f"{name} {saved.get(name, 'none')}" for name in unlike)
        now = ", ".join(f"{name} {here.get(name, 'none')}" for name in unlike)
        raise UsageError(
            f"{folder} was trained with {then}, and here is {now}: install what it had, or go on all the same "
            "with mzprobe train's --any-version"
        )


def refuse_other_precision(folder: Path, *, saved: str | None, here: str) -> None:
    """Weights of two precisions are nobody's: the last checkpoint would name one of them.

    Raises:
        UsageError: if they differ, as far as it is known.
    """
    if saved not in (None, here):
        raise UsageError(
            f"{folder} was trained with --precision {saved}, and {here} gives other numbers: go on with that, or train "
            "under another --name"
        )


def as_begun(folder: Path, config: RunConfig, *, given: Collection[str]) -> list[str]:
    """What an agent was begun with and `config` has otherwise, as `key=value`, for keys that nobody has given now.

    Args:
        folder: of the agent; where none lies there, nothing.
        config: that it is to go on with.
        given: keys that are the user's own word.
    """
    kept = steps_of(folder)
    if not kept:
        return []
    try:
        before = read_checkpoint(kept[0]).config
    except MzprobeError:
        return []  # whoever goes on says what is wrong
    mine, theirs = config.model_dump(mode="json"), before.model_dump(mode="json")
    known = [f"{section}.{key}" for section in theirs for key in theirs[section]]  # of its kind of network
    return [
        key_is_value(key, theirs)
        for key in known
        if key != "training.steps"
        and _value(key, mine) != _value(key, theirs)
        and not any(one == key or one.startswith(f"{key}.") for one in given)
    ]


def key_is_value(key: str, values: Mapping[str, Any]) -> str:
    """A key of a configuration as `--set` takes it."""
    value = _value(key, values)
    return f"{key}={value if isinstance(value, str) else json.dumps(value)}"


def _value(key: str, values: Mapping[str, Any]) -> Any:
    section, _, name = key.partition(".")
    return values.get(section, {}).get(name)


def refuse_other_run(
    folder: Path, *, before: RunConfig, now: RunConfig, fed: Mapping[str, Any], feed: Feed | None
) -> None:
    """A run may be taken further, and its dataset moved; with another configuration or dataset it never goes on.

    Args:
        folder: of the agent.
        before: configuration that it began with.
        now: that it is to go on with.
        fed: the SHA-256 of the dataset that it began with as `sha256`, where it is known.
        feed: of the dataset that it is to go on with.

    Raises:
        UsageError: if the configurations differ.
        DatasetError: if the datasets do.
    """
    mine, theirs = now.model_dump(mode="json"), before.model_dump(mode="json")
    free = {("training", "steps")}
    if feed is not None and fed.get("sha256") == feed.dataset.sha256:
        free.add(("dataset", "path"))
    differing = [
        f"{section}.{key}"
        for section in mine
        for key in dict.fromkeys([*mine[section], *theirs[section]])  # kinds of networks have keys of their own
        if (section, key) not in free and theirs[section].get(key) != mine[section].get(key)
    ]
    if differing:
        kept = ", ".join(key_is_value(key, theirs) for key in differing)
        raise UsageError(
            f"{folder} holds an agent of another configuration ({', '.join(differing)}): go on with {kept}, "
            "choose another name or folder for the new one, or remove that folder"
        )
    if feed is not None and "sha256" in fed:
        feed.refuse_other(fed["sha256"])
