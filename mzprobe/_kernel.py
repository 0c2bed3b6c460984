"""Decorators that compile functions with numba: options, cache and types of all kernels are decided here."""

import hashlib
import multiprocessing
import os
import re
import stat
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import event

from mzprobe.errors import MzprobeWarning

_COMPILES = re.compile(rb"mzprobe\._kernel|\bnumba\b|\bllvmlite\b")
_IMPORTED = re.compile(rb"^from (mzprobe[\w.]*) import", re.MULTILINE)
F = TypeVar("F", bound=Callable[..., Any])

settings: Any = numba.config  # untyped in numba


def kernel(function: F) -> F:
    """Compiles an exact kernel: IEEE arithmetic in the order written, released GIL, cached on disk."""
    return cast(F, _cached(numba.njit, nogil=True, error_model="numpy")(function))


def borrowing(function: F) -> F:
    """Compiles an exact kernel that allocates no array, without reference counting.

    Counting one reference is an atomic operation of 10 to 20 ns, where the product of a row takes 60. The option is
    numba's own, for kernels that own no memory; a kernel that allocates does not compile with it.
    """
    uncounted: dict[str, Any] = {"_nrt": False}  # missing from numba's type stubs
    return cast(F, _cached(numba.njit, nogil=True, error_model="numpy", **uncounted)(function))


def elementwise(arguments: int) -> Callable[[F], F]:
    """Compiles an exact function of `arguments` float64 numbers to a numpy ufunc, which works element by element."""
    signature = numba.float64(*[numba.float64] * arguments)
    return cast(Callable[[F], F], _cached(numba.vectorize, [signature]))


def inlined(function: F) -> F:
    """Compiles an exact kernel that is inlined into the kernels that call it."""
    return cast(F, _cached(numba.njit, nogil=True, error_model="numpy", inline="always")(function))


def _cached(compiler: Callable[..., Any], *arguments: Any, **options: Any) -> Callable[[F], Any]:
    """Returns a decorator that compiles with a cache on disk, or in memory where no folder for a cache is found."""

    def compiled(function: F) -> Any:
        # Without a home directory numba would cache in a folder named `~` in the working directory.
        if settings.CACHE_DIR or os.path.isabs(os.path.expanduser("~")):
            with suppress(RuntimeError, OSError):  # no folder, or a full disk; other failures are raised again below
                return _renewed(compiler(*arguments, cache=True, **options)(function))
        place = temporary_cache()
        if place is not None:
            with _cache_in(place), suppress(RuntimeError, OSError):
                return _renewed(compiler(*arguments, cache=True, **options)(function))
        _say_uncached()
        return compiler(*arguments, **options)(function)

    return compiled


def _renewed(compiled: Any) -> Any:
    """Makes a kernel's cache entry valid only while the sources of all kernels stay the same; returns the kernel.

    Numba itself checks only the kernel's own file. It would keep older code of the functions that the kernel calls,
    after a `git pull` for example.
    """
    file = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    stamp = getattr(file, "_source_stamp", None)
    if file is not None and stamp is not None:
        file._source_stamp = stamp, sources_digest()
    return compiled


@cache
def sources_digest() -> str:
    """Returns the SHA-256 of all modules that define kernels or generate their code, and of those they import from."""
    root = Path(__file__).parent
    sources = {path: path.read_bytes() for path in sorted(root.rglob("*.py"))}
    compiling = {path for path, source in sources.items() if _COMPILES.search(source)}
    named = {name.decode() for path in compiling for name in _IMPORTED.findall(sources[path])}
    places = {root.parent.joinpath(*name.split(".")) for name in named}
    imported = {place.with_suffix(".py") for place in places} | {place / "__init__.py" for place in places}
    found = hashlib.sha256()
    for path, source in sources.items():
        if path in compiling | imported:
            found.update(hashlib.sha256(source).digest())
    return found.hexdigest()


class _Compiling(event.Listener):
    """Calls `tell` once, when the first kernel of mzprobe is compiled; one loaded from the cache does not count."""

    def __init__(self, tell: Callable[[], Any]) -> None:
        self.tell: Callable[[], Any] | None = tell

    def on_start(self, event: Any) -> None:
        """Handles the start of a compilation."""
        of = str(getattr(event.data["dispatcher"].py_func, "__module__", ""))
        if self.tell is not None and of.startswith("mzprobe."):
            tell, self.tell = self.tell, None
            tell()

    def on_end(self, event: Any) -> None:
        """Does nothing."""


@contextmanager
def compiling_told(tell: Callable[[], Any]) -> Iterator[None]:
    """Calls `tell` once within the block, when the first kernel has to be compiled, which may take half a minute."""
    with event.install_listener("numba:compile", _Compiling(tell)):
        yield


@cache
def temporary_cache() -> Path | None:
    """Returns a folder for compiled kernels in the temporary directory, or None if none there is safe.

    Cached code is executed. The folder is therefore used only if it belongs to this user, no other user can access it,
    and no other user can replace it.
    """
    if not hasattr(os, "getuid"):
        return None  # Windows always has a home directory
    try:
        parent = Path(tempfile.gettempdir()).resolve()
        about = parent.stat()
        others = about.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not about.st_mode & stat.S_ISVTX
        if others or about.st_uid not in (0, os.getuid()):
            return None
        folder = parent / f"mzprobe-kernels-{os.getuid()}"
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        about = folder.lstat()
    except OSError:
        return None
    ours = stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid() and not about.st_mode & 0o077
    return folder if ours else None


@contextmanager
def _cache_in(place: Path) -> Iterator[None]:
    """Makes numba cache in a folder within the block; kernels of other packages keep their own cache."""
    before = settings.CACHE_DIR
    settings.CACHE_DIR = str(place)
    try:
        yield
    finally:
        settings.CACHE_DIR = before


@cache
def _say_uncached() -> None:
    """Warns once that kernels cannot be cached.

    Only the main process warns. It is recognised by its name, because a child process does not know its parent yet
    while it imports.
    """
    if multiprocessing.current_process().name == "MainProcess":
        warnings.warn(
            "no place can be written to where compiled kernels are kept, every process compiles them anew: set "
            "NUMBA_CACHE_DIR to a folder of your own",
            MzprobeWarning,
            stacklevel=2,
        )
