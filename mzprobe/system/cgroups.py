"""Memory and cores that a batch job or container may use: limits of this process's control group and its parents."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# Mount points of control groups, unified (version 2) and per resource (version 1): see cgroups(7).
_ROOTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpu")
_OWN = Path("/proc/self/cgroup")


def memory_limits() -> Iterator[int]:
    """Yields the memory limit in bytes of every group that has one."""
    for group in _groups():
        for name in ("memory.max", "memory.limit_in_bytes"):
            with suppress(OSError, ValueError):  # no such file, or the word max
                yield int((group / name).read_text("ascii"))


def usable_cores() -> int:
    """Returns how many cores this process may use: those it is bound to, but no more than its CPU quota is worth."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([bound, *_shares_of_time()])))


def _shares_of_time() -> Iterator[float]:
    """Yields the CPU quota of every group that has one, in cores."""
    for group in _groups():
        with suppress(OSError, ValueError):  # no such file, or the word max
            quota, period = (group / "cpu.max").read_text("ascii").split()
            yield int(quota) / int(period)
        with suppress(OSError, ValueError):
            quota, period = ((group / f"cpu.cfs_{what}_us").read_text("ascii") for what in ("quota", "period"))
            if int(quota) > 0:  # -1 means unlimited
                yield int(quota) / int(period)


def _groups() -> Iterator[Path]:
    own = {Path("/")}
    with suppress(OSError, ValueError):
        paths = [line.split(":", 2)[2] for line in _OWN.read_text("utf-8").splitlines() if line.count(":") > 1]
        own |= {above for path in paths for above in (Path(path), *Path(path).parents)}
    for root in _ROOTS:
        for group in sorted(own):
            yield Path(root) / group.relative_to("/")
