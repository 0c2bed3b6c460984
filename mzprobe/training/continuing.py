"""Checks that an agent's folder holds the agent to resume: its name, configuration, data, precision and packages."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mzprobe.checkpoints import read_checkpoint, steps_of
from mzprobe.config import FREE_KEYS, RunConfig
from mzprobe.errors import MzprobeError, UsageError
from mzprobe.records.digests import OWN
from mzprobe.training.recorded import Feed


def refuse_other_agent(folder: Path, *, found: tuple[str, int], expected: tuple[str, int]) -> None:
    """Rejects a folder copied from another agent, which would continue under the wrong name.

    Args:
        folder: folder of the agent.
        found: run and seed in the folder's records.
        expected: run and seed of the agent to train.

    Raises:
        UsageError: if they differ.
    """
    if found != expected:
        run, seed = found
        raise UsageError(
            f"{folder} holds an agent of run {run}, seed {seed}: give it a folder of that name again, or remove it"
        )


def refuse_other_versions(folder: Path, *, saved: Mapping[str, str], here: Mapping[str, str]) -> None:
    """Rejects other package versions: results are bit-identical only with the same ones.

    Raises:
        UsageError: if any version differs.
    """
    # Older states lack the digests of the user's own code.
    kept = {name: said for name, said in here.items() if name in saved or not said.startswith(OWN)}
    unlike = sorted(name for name in {*saved, *kept} if saved.get(name) != kept.get(name))
    if unlike:
        then = ", ".join(f"{name} {saved.get(name, 'none')}" for name in unlike)
        now = ", ".join(f"{name} {here.get(name, 'none')}" for name in unlike)
        raise UsageError(
            f"{folder} was trained with {then}, and here is {now}: install what it had, or go on all the same "
            "with mzprobe train's --any-version"
        )


def refuse_other_precision(folder: Path, *, saved: str | None, here: str) -> None:
    """Rejects a change of precision within a run, since a checkpoint names a single one.

    Raises:
        UsageError: if the precisions differ; a saved one of None, from older states, is accepted.
    """
    if saved not in (None, here):
        raise UsageError(
            f"{folder} was trained with --precision {saved}, and {here} gives other numbers: go on with that, or train "
            "under another --name"
        )


def as_begun(folder: Path, config: RunConfig, *, given: Collection[str]) -> list[str]:
    """Returns the settings the agent was started with that differ from `config`, except those the user gave now.

    `training.steps` is left out, since a run may be extended.

    Args:
        folder: folder of the agent; without a readable first checkpoint in it, the result is empty.
        config: configuration to continue with.
        given: keys that the user gave; each also stands for the key that contains it.

    Returns:
        Settings as `key=value`.
    """
    kept = steps_of(folder)
    if not kept:
        return []
    try:
        before = read_checkpoint(kept[0]).config
    except MzprobeError:
        return []  # resuming reports what is wrong
    mine, theirs = config.model_dump(mode="json"), before.model_dump(mode="json")
    # Only keys that the agent's kind of network has.
    known = [f"{section}.{key}" for section in theirs for key in theirs[section]]
    return [
        key_is_value(key, theirs)
        for key in known
        if key != "training.steps"
        and _value(key, mine) != _value(key, theirs)
        and not any(one == key or one.startswith(f"{key}.") for one in given)
    ]


def key_is_value(key: str, values: Mapping[str, Any]) -> str:
    """Returns a key of a configuration and its value as `--set` takes them."""
    value = _value(key, values)
    return f"{key}={value if isinstance(value, str) else json.dumps(value)}"


def _value(key: str, values: Mapping[str, Any]) -> Any:
    section, _, name = key.partition(".")
    return values.get(section, {}).get(name)


def refuse_other_run(
    folder: Path, *, before: RunConfig, now: RunConfig, fed: Mapping[str, Any], feed: Feed | None
) -> None:
    """Rejects another configuration or dataset; only `FREE_KEYS` and the dataset's path may change.

    Args:
        folder: folder of the agent.
        before: configuration that the agent was started with.
        now: configuration to continue with.
        fed: the SHA-256 of the dataset that the agent was started with, under `sha256`, where it is known.
        feed: feed of the dataset to continue with; None without a dataset.

    Raises:
        UsageError: if the configurations differ.
        DatasetError: if the datasets differ.
    """
    mine, theirs = now.model_dump(mode="json"), before.model_dump(mode="json")
    moved = feed is not None and fed.get("sha256") == feed.dataset.sha256
    free = FREE_KEYS | {"dataset.path"} if moved else FREE_KEYS
    differing = [
        f"{section}.{key}"
        for section in mine
        for key in dict.fromkeys([*mine[section], *theirs[section]])  # kinds of networks differ in their keys
        if f"{section}.{key}" not in free and theirs[section].get(key) != mine[section].get(key)
    ]
    if differing:
        kept = ", ".join(key_is_value(key, theirs) for key in differing)
        raise UsageError(
            f"{folder} holds an agent of another configuration ({', '.join(differing)}): go on with {kept}, "
            "choose another name or folder for the new one, or remove that folder"
        )
    if feed is not None and "sha256" in fed:
        feed.refuse_other(fed["sha256"])
