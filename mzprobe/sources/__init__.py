"""Sources of agents: one file per code base, recognised by what lies at a path."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mzprobe._plugins import load_attribute, nearest, plugged
from mzprobe.agents import Agent
from mzprobe.compute import Compute
from mzprobe.errors import UsageError
from mzprobe.files import NO_AGENT, refuse_absent
from mzprobe.sources.archives import refuse_cut_off
from mzprobe.sources.core import Source
from mzprobe.sources.foreign import Adapter, FileSource
from mzprobe.sources.jimohman import JimOhman
from mzprobe.sources.lightzero import EARLIER, LightZero
from mzprobe.sources.michaelnny import MichaelNny
from mzprobe.sources.mujax import Mujax, RunFolders
from mzprobe.sources.muzero_general import MuZeroGeneral
from mzprobe.sources.own import Own

AnySource = str | Source | Adapter | type[Source] | type[Adapter] | None  # name of a source, or a source itself

GROUP = "mzprobe.sources"  # group of entry points: a Source, or an Adapter of files


def sources() -> dict[str, Source]:
    """Returns all sources by name: ours, then those of installed packages."""
    found: dict[str, Source] = {"own": Own()}
    for adapter in (MuZeroGeneral(), MichaelNny(), JimOhman(), LightZero(), EARLIER):
        found[adapter.name] = FileSource(adapter)
    found["mujax"] = FileSource(Mujax(), layout=RunFolders())
    for made in map(_source_of, plugged(GROUP)):
        found[made.name] = made
    return found


def find_source(
    path: Path, *, source: AnySource = None, given: Sequence[str] = (), allow: Sequence[str] = ()
) -> Source:
    """Returns the source of the agents at a path.

    Args:
        path: path of a checkpoint, an agent or a run.
        source: name of a source, `module:attribute` of a Source or an Adapter of your own, or one itself; by default
            the first source that recognises what lies there.
        given: `KEY=VALUE`, facts of `sources.foreign.Facts` that take precedence over the file and its authors.
        allow: modules whose code the checkpoint may name.

    Raises:
        UsageError: if nothing is there, no source knows it, or facts are given to a source that takes none.
    """
    found = _found(path, source)
    if isinstance(found, FileSource):
        return replace(found, given=(*found.given, *given), allow=(*found.allow, *allow))
    if given:
        raise UsageError(f"agents of the source {found.name} say all of it themselves: leave --agent out")
    return found


def _found(path: Path, source: AnySource) -> Source:
    if source is not None and not isinstance(source, str):
        return _source_of(source)
    if source is not None and ":" in source:
        return _source_of(load_attribute(source))
    known = sources()
    if source is not None:
        if source not in known:
            raise UsageError(f"there is no source {source}{nearest(source, known)}: the sources are {', '.join(known)}")
        return known[source]
    refuse_absent(path, remedy=NO_AGENT)
    for one in known.values():
        if one.recognises(path):
            return one
    if path.is_dir():
        return known["own"]  # its errors say what is missing
    refuse_cut_off(path)
    raise UsageError(
        f"{path} is no checkpoint that mzprobe knows (mzprobe sources lists them): give another path, or write an "
        "adapter and name it with --source"
    )


def open_agent(
    path: Path | str,
    *,
    step: int | None = None,
    source: AnySource = None,
    given: Sequence[str] = (),
    compute: Compute | None = None,
    allow: Sequence[str] = (),
) -> Agent:
    """Opens the agent at a path, whatever code trained it.

    Args:
        path: path of a checkpoint, or of the only agent whose checkpoints lie there.
        step: training step of the checkpoint; by default the latest.
        source: see `find_source`.
        given: see `find_source`.
        compute: device, precision, threads and memory of its computations.
        allow: modules whose code the checkpoint may name.

    Raises:
        MzprobeError: if there is no such agent, or several, or it cannot be read.
    """
    place = Path(path)
    found = find_source(place, source=source, given=given, allow=allow)
    if not (isinstance(found, Own) and found.is_checkpoint(place)):
        agents = found.agents(place)
        if len(agents) > 1:
            raise UsageError(f"{place} holds {len(agents)} agents: give one of them, such as {agents[0]}")
        by_step = found.checkpoints(agents[0])
        if step is not None and step not in by_step:
            raise UsageError(f"{place} has no checkpoint at step {step}: choose among {', '.join(map(str, by_step))}")
        place = by_step[max(by_step) if step is None else step]
    return found.load(place, compute=compute or Compute(), allow=allow)


def _source_of(made: Any) -> Source:
    """Returns the source that a package or a user names, by a Source or an Adapter, or a class of either."""
    one: Any = made() if isinstance(made, type) else made
    if hasattr(one, "network") and hasattr(one, "describe"):
        return FileSource(one)
    if all(hasattr(one, part) for part in ("name", "recognises", "agents", "checkpoints", "origin", "load")):
        source: Source = one
        return source
    raise UsageError(f"{made!r} is neither a Source nor an Adapter: see docs/adapters.md")
