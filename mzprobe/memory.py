"""Refuses what does not fit into memory before it is begun, in one sentence that says how much it would take."""

import os
import re
from contextlib import suppress
from pathlib import Path

from mzprobe.cgroups import memory_limits
from mzprobe.errors import UsageError

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_NOTHING_KNOWN = 1 << 50  # bytes; more than any machine has
_SMALL = 1 << 28  # bytes; what takes less is not looked at


def refuse_more_than_fits(size: int, *, what: str, there: int | None = None) -> None:
    """Refuses what takes more memory than the machine, the container or the limits of this process have.

    Args:
        size: bytes.
        what: takes it, with the key or option to lower, such as `training.batch_size=1000000`.
        there: bytes that there are, where that is not this machine's memory but a card's.

    Raises:
        UsageError: saying both numbers.
    """
    if size < _SMALL:
        return
    there = memory() if there is None else there
    if size > there:
        raise UsageError(f"{what} would take {spelled(size)} of memory, and there are {spelled(there)}: lower it")


def memory() -> int:
    """Bytes that this process can have at most, as far as the system tells; not what is free at the moment."""
    limits = [_NOTHING_KNOWN, *_physical(), *memory_limits()]
    if resource is not None:
        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        if soft != resource.RLIM_INFINITY:
            limits.append(soft)
    return min(limits)


def available() -> int:
    """Bytes that are free now, as far as the system tells, and no more than this process can have."""
    free = [memory()]
    with suppress(OSError, ValueError, IndexError, StopIteration):  # no such file but on Linux
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        free.append(next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")))
    return min(free)


def spelled(size: int) -> str:
    """Bytes in the unit that leaves few digits, each 1024 of the one before."""
    number = float(min(size, 10**30))
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1024
    return f"{number:.3g} EiB"


def size_of(text: str) -> int:
    """Bytes that a text says, such as 512MiB, 1.5 GB or 1000.

    Raises:
        UsageError: if it says none.
    """
    matched = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([KMGT]?)(i?)B?)?\s*", text, re.IGNORECASE)
    size = 0.0
    if matched:
        power = " KMGT".index(matched[2].upper() or " ")
        size = float(matched[1]) * (1024 if matched[3] else 1000) ** power
    if not 1 <= size <= _NOTHING_KNOWN:
        raise UsageError(f"{text} is no amount of memory: give one such as --memory 512MiB")
    return int(size)


def _physical() -> list[int]:
    """The machine's memory, where the system tells it."""
    try:
        return [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    except (AttributeError, OSError, ValueError):
        return []
