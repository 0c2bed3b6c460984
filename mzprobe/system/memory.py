"""Amounts of memory: what there is, and refusal of work that would not fit before it begins."""

import os
import re
from contextlib import suppress
from pathlib import Path

from mzprobe.errors import UsageError
from mzprobe.system.cgroups import memory_limits

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_NOTHING_KNOWN = 1 << 50  # bytes; more than any machine has
_SMALL = 1 << 28  # bytes; smaller requests are not checked


def refuse_more_than_fits(size: int, *, what: str, there: int | None = None) -> None:
    """Refuses work that takes more memory than the machine, the container or the limits of this process allow.

    Args:
        size: bytes that the work takes.
        what: subject of the error message, with the key or option to lower, such as `training.batch_size=1000000`.
        there: bytes available, for memory other than this process's, such as a graphics card's.

    Raises:
        UsageError: if it does not fit; the message states both numbers.
    """
    if size < _SMALL:
        return
    there = memory() if there is None else there
    if size > there:
        raise UsageError(f"{what} would take {spelled(size)} of memory, and there are {spelled(there)}: lower it")


def memory() -> int:
    """Returns the most bytes that this process can have, as far as the system tells; not what is free now."""
    limits = [_NOTHING_KNOWN, *_physical(), *memory_limits()]
    if resource is not None:
        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        if soft != resource.RLIM_INFINITY:
            limits.append(soft)
    return min(limits)


def available() -> int:
    """Returns the bytes that are free now, as far as the system tells, but at most `memory()`."""
    free = [memory()]
    with suppress(OSError, ValueError, IndexError, StopIteration):  # the file exists on Linux only
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        free.append(next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")))
    return min(free)


def spelled(size: int) -> str:
    """Formats a number of bytes with three digits, in a unit from bytes and KiB to EiB."""
    number = float(min(size, 10**30))
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1024
    return f"{number:.3g} EiB"


def size_of(text: str) -> int:
    """Parses an amount of memory such as 512MiB, 1.5 GB or 1000; returns bytes.

    Raises:
        UsageError: if the text is no such amount, or it is below one byte or above any machine's memory.
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
    """Returns the machine's memory in bytes as a list of one number, empty where the system does not tell it."""
    try:
        return [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    except (AttributeError, OSError, ValueError):
        return []
