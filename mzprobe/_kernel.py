"""The one place where functions are compiled: options, cache and types of numba kernels."""

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

settings: Any = numba.config  # which has no types


def kernel(function: F) -> F:
    """Compiles an exact kernel: IEEE arithmetic in the order written, released GIL, cached on disk."""
    return cast(F, _cached(numba.njit, nogil=True, error_model="numpy")(function))


def borrowing(function: F) -> F:
    """Compiles an exact kernel that allocates no array, and so counts no references to any.

    A count takes 10 to 20 ns, as an atomic operation, where the product of a row takes 60. The switch is numba's own,
    for kernels that own nothing; one that allocates does not compile.
    """
    uncounted: dict[str, Any] = {"_nrt": False}  # which numba's type stubs leave out
    return cast(F, _cached(numba.njit, nogil=True, error_model="numpy", **uncounted)(function))


def elementwise(arguments: int) -> Callable[[F], F]:
    """Compiles an exact function of so many float64 numbers to one of arrays, element by element, as numpy's are."""
    signature = numba.float64(*[numba.float64] * arguments)
    return cast(Callable[[F], F], _cached(numba.vectorize, [signature]))


def inlined(function: F) -> F:
    """Compiles an exact kernel that is inlined into the kernels that call it."""
    return cast(F, _cached(numba.njit, nogil=True, error_model="numpy", inline="always")(function))


def _cached(compiler: Callable[..., Any], *arguments: Any, **options: Any) -> Callable[[F], Any]:
    """A decorator that compiles with a cache, where numba finds a place for one or we do; else in memory."""

    def compiled(function: F) -> Any:
        # Without a home numba would take a folder of that name, ~, in the working directory.
        if settings.CACHE_DIR or os.path.isabs(os.path.expanduser("~")):
            with suppress(RuntimeError, OSError):  # no place, or a full one; all else is raised again below
                return _renewed(compiler(*arguments, cache=True, **options)(function))
        place = temporary_cache()
        if place is not None:
            with _cache_in(place), suppress(RuntimeError, OSError):
                return _renewed(compiler(*arguments, cache=True, **options)(function))
        _say_uncached()
        return compiler(*arguments, **options)(function)

    return compiled


def _renewed(compiled: Any) -> Any:
    """The kernel, which a cache keeps for as long as no source of any kernel changes.

    Numba looks at a kernel's own file alone, and would go on with what it calls as that was before a `git pull`.
    """
    file = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    stamp = getattr(file, "_source_stamp", None)
    if file is not None and stamp is not None:
        file._source_stamp = stamp, sources_digest()
    return compiled


@cache
def sources_digest() -> str:
    """SHA-256 of the sources of all kernels, of what makes their code, and of the modules that they import from."""
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
    """Tells once that a kernel of mzprobe is compiled; one that a cache has is not."""

    def __init__(self, tell: Callable[[], Any]) -> None:
        self.tell: Callable[[], Any] | None = tell

    def on_start(self, event: Any) -> None:
        """Numba begins to compile."""
        of = str(getattr(event.data["dispatcher"].py_func, "__module__", ""))
        if self.tell is not None and of.startswith("mzprobe."):
            tell, self.tell = self.tell, None
            tell()

    def on_end(self, event: Any) -> None:
        """Nothing more is to be told."""


@contextmanager
def compiling_told(tell: Callable[[], Any]) -> Iterator[None]:
    """Within it, `tell` is called when the first kernel has to be compiled: whoever waits half a minute knows why."""
    with event.install_listener("numba:compile", _Compiling(tell)):
        yield


@cache
def temporary_cache() -> Path | None:
    """A folder for compiled kernels among the temporary files that nobody else can write to, or None.

    What is cached is run, so that a folder there is taken only if it is ours alone and nobody can put another in its
    place.
    """
    if not hasattr(os, "getuid"):
        return None  # Windows: there is always a home
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
    """Within it, numba decides to cache in a folder; kernels of others keep their place."""
    before = settings.CACHE_DIR
    settings.CACHE_DIR = str(place)
    try:
        yield
    finally:
        settings.CACHE_DIR = before


@cache
def _say_uncached() -> None:
    """Once, and not again in every process that this one starts; while it imports, that knows no parent yet."""
    if multiprocessing.current_process().name == "MainProcess":
        warnings.warn(
            "no place can be written to where compiled kernels are kept, every process compiles them anew: set "
            "NUMBA_CACHE_DIR to a folder of your own",
            MzprobeWarning,
            stacklevel=2,
        )
