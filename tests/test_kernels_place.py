"""Where compiled kernels are kept when numba finds no place, and that nobody else's code is run from there."""

import hashlib
import importlib.util
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numba
import pytest
from numba.core import caching

import mzprobe
from mzprobe import _kernel
from mzprobe.errors import MzprobeWarning

NOTHING = {"training__steps": 0, "training__evaluation_episodes": 0}
ROOT = hasattr(os, "getuid") and os.getuid() == 0


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """An empty folder of temporary files, and what is known of the old one forgotten."""
    place = tmp_path / "temporary"
    place.mkdir(mode=0o700)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(place))
    for known in (_kernel.temporary_cache, _kernel._say_uncached):
        known.cache_clear()
    yield place
    for known in (_kernel.temporary_cache, _kernel._say_uncached):
        known.cache_clear()


@pytest.fixture
def read_only(monkeypatch):
    """Neither the installation nor a home can be written to."""

    def refuse(_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(_kernel.settings, "CACHE_DIR", "")
    for locator in (caching.InTreeCacheLocator, caching.UserWideCacheLocator):
        monkeypatch.setattr(locator, "ensure_cache_path", refuse)


def doubled(x):
    return 2 * x


def compiled_in_all_ways():
    """A kernel of each kind, used."""
    kinds = (_kernel.kernel, _kernel.borrowing, _kernel.inlined, _kernel.elementwise(1))
    assert [float(kind(doubled)(4.0)) for kind in kinds] == [8.0] * 4


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


# A folder of our own


def test_the_folder_is_ours_alone_whatever_the_umask(temporary):
    before = os.umask(0)
    try:
        folder = _kernel.temporary_cache()
    finally:
        os.umask(before)
    assert folder.parent == temporary
    assert folder.stat().st_mode & 0o777 == 0o700
    _kernel.temporary_cache.cache_clear()
    assert _kernel.temporary_cache() == folder  # taken again


def _open_to_all(folder):
    folder.mkdir()
    folder.chmod(0o777)


def _open_to_the_group(folder):
    folder.mkdir()
    folder.chmod(0o720)


def _link(folder):
    real = folder.with_name("real")
    real.mkdir(mode=0o700)
    folder.symlink_to(real)


def _file(folder):
    folder.write_bytes(b"")


def _of_another_user(folder):
    if not ROOT:
        pytest.skip("only root can give a folder away")
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)


@pytest.mark.parametrize("plant", [_open_to_all, _open_to_the_group, _link, _file, _of_another_user])
def test_a_folder_that_another_could_have_planted_is_not_used(temporary, read_only, plant):
    plant(temporary / f"mzprobe-kernels-{os.getuid()}")
    assert _kernel.temporary_cache() is None
    with pytest.warns(MzprobeWarning, match="NUMBA_CACHE_DIR"):
        compiled_in_all_ways()
    assert [path for path in files_in(temporary) if path.stat().st_size] == []


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_where_others_may_rename_it_no_folder_is_made(temporary, mode):
    temporary.chmod(mode)
    assert _kernel.temporary_cache() is None
    assert list(temporary.iterdir()) == []
    temporary.chmod(mode | 0o1000)  # sticky, as /tmp is
    _kernel.temporary_cache.cache_clear()
    assert _kernel.temporary_cache() is not None


def test_no_folder_at_all_is_no_exception(temporary, read_only):
    temporary.rmdir()
    with pytest.warns(MzprobeWarning):
        compiled_in_all_ways()


# Compiled


def test_kernels_are_cached_there_without_a_word_and_those_of_others_are_not(temporary, read_only):
    compiled_in_all_ways()
    folder = _kernel.temporary_cache()
    assert any(path.suffix == ".nbi" for path in files_in(folder))
    assert _kernel.settings.CACHE_DIR == ""
    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(cache=True)(doubled)


def test_in_memory_it_is_said_once(temporary, read_only):
    temporary.chmod(0o777)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        compiled_in_all_ways()
        compiled_in_all_ways()
    assert len(said) == 1
    assert "set NUMBA_CACHE_DIR to a folder of your own" in str(said[0].message)


def test_without_a_home_no_folder_of_that_name_is_made(temporary, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_kernel.settings, "CACHE_DIR", "")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as for a user whom the system does not know
    compiled_in_all_ways()
    assert not (tmp_path / "~").exists()
    assert files_in(_kernel.temporary_cache())


def test_a_fault_of_the_function_is_still_raised(temporary):
    with pytest.raises(numba.TypingError, match="nothing"):
        _kernel.kernel(lambda x: x.nothing)(1.0)


@pytest.mark.slow
@pytest.mark.skipif(not ROOT or not Path("/usr/bin/unshare").exists(), reason="mounts the package read-only")
def test_a_read_only_installation_writes_the_same_bytes(tmp_path, tiny_arguments):
    package = Path(mzprobe.__file__).parent
    # With a step or an episode it would compile for two minutes.
    train = [sys.executable, "-m", "mzprobe", "train", "cartpole", *tiny_arguments(**NOTHING)]
    place = {"PATH": os.environ["PATH"], "PYTHONPATH": str(package.parent), "OMP_NUM_THREADS": "1"}
    subprocess.run(train, cwd=tmp_path, env={**os.environ, **place}, check=True, capture_output=True)
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "temporary").mkdir(parents=True)
    bare = place | {"HOME": "/proc/nowhere", "TMPDIR": str(elsewhere / "temporary"), "PYTHONDONTWRITEBYTECODE": "1"}
    mount = f'mount --bind "{package}" "{package}" && mount -o remount,ro,bind "{package}" && exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", mount, "bash", *train], cwd=elsewhere, env=bare, capture_output=True, text=True
    )
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"this machine mounts nothing: {done.stderr}")
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    assert files_in(elsewhere / "temporary")
    paths = sorted(path.relative_to(tmp_path) for path in (tmp_path / "checkpoints").rglob("step-*/*"))
    assert paths
    assert all((tmp_path / path).read_bytes() == (elsewhere / path).read_bytes() for path in paths)


# What a kernel calls


def module_of(file):
    """The file as a module of its own, imported anew."""
    spec = importlib.util.spec_from_file_location("of_a_file", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_kernel_is_compiled_anew_once_a_source_of_any_kernel_has_changed(tmp_path, monkeypatch):
    file = tmp_path / "of_a_file.py"
    file.write_text("from mzprobe._kernel import kernel\n\n\n@kernel\ndef f(x):\n    return x + 1\n")
    found = []
    for digest in ("before", "before", "after"):
        monkeypatch.setattr(_kernel, "sources_digest", lambda digest=digest: digest)
        f = module_of(file).f
        assert f(1.0) == 2.0
        found.append(sum(f.stats.cache_hits.values()))
    assert found == [0, 1, 0]


def test_the_sources_are_those_that_compile_by_their_content(tmp_path, monkeypatch):
    package = tmp_path / "mzprobe"
    (package / "search").mkdir(parents=True)
    monkeypatch.setattr(_kernel, "__file__", str(package / "_kernel.py"))
    kernels, other, kept = package / "search" / "tree.py", package / "other.py", package / "kept.py"
    found = []
    for content, beside, constant in (("1", "1", "1"), ("2", "1", "1"), ("2", "2", "1"), ("2", "2", "2")):
        kernels.write_text(f"from mzprobe._kernel import kernel\nfrom mzprobe.kept import K\nx = {content}\n")
        other.write_text(f"x = {beside}\n")
        kept.write_text(f"K = {constant}\n")
        _kernel.sources_digest.cache_clear()
        found.append(_kernel.sources_digest())
    _kernel.sources_digest.cache_clear()
    assert found[0] != found[1] == found[2] != found[3]


def test_what_makes_code_is_among_the_sources(monkeypatch):
    paths = []
    monkeypatch.setattr("hashlib.sha256", lambda *_: paths.append(_) or hashlib.md5())
    _kernel.sources_digest.cache_clear()
    _kernel.sources_digest()
    _kernel.sources_digest.cache_clear()
    read = {source for args in paths for source in args}
    package = Path(mzprobe.__file__).parent
    for name in ("networks/fused/registers.py", "networks/support.py", "networks/core.py", "search/tree.py"):
        assert (package / name).read_bytes() in read
    assert (package / "cli" / "status.py").read_bytes() not in read
