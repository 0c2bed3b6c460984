"""Does a test fail where a fault is planted? `python tests/mutations.py` plants them one by one in a copy and says.

A fault that no test catches (it survives) is a hole in the tests. `docs/testing.md` lists the faults.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import faults
import faults_report
import faults_search
import faults_study
import faults_training
from faults import Fault

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("mzprobe", "tests", "pyproject.toml")


FAULTS = (
    *faults.FAULTS,
    *faults_search.FAULTS,
    *faults_training.FAULTS,
    *faults_report.FAULTS,
    *faults_study.FAULTS,
)


def run_tests(copy: Path, tests: list[str], cache: Path) -> subprocess.CompletedProcess[str]:
    """Runs tests in the copy, importing the package from there, with compiled kernels kept in `cache`."""
    environment = os.environ | {
        "PYTHONPATH": str(copy),
        "PYTHONDONTWRITEBYTECODE": "1",
        "NUMBA_CACHE_DIR": str(cache),
    }
    imported = subprocess.run(
        [sys.executable, "-c", "import mzprobe; print(mzprobe.__file__)"],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    if Path(imported) != copy / "mzprobe" / "__init__.py":
        raise RuntimeError(f"the tests would import {imported}, not the copy")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)


def planted(fault: Fault, copy: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """Runs the fault's test with the fault in place, and takes it out again."""
    path = copy / fault.file
    text = path.read_text("utf-8")
    if text.count(fault.old) != 1:
        raise ValueError(f"{fault.old!r} must stand once in {fault.file}")
    # Kernels are compiled into those that call them, in other files too: none may come from the cache.
    if "mzprobe._kernel" in text:
        cache = Path(tempfile.mkdtemp(dir=cache.parent))
    path.write_text(text.replace(fault.old, fault.new), "utf-8")
    try:
        return run_tests(copy, [fault.test], cache)
    finally:
        path.write_text(text, "utf-8")


def main(asked: list[str]) -> int:
    """Plants the faults whose words hold one of `asked`, or all; 1 if a test does not fail where it must."""
    faults = [fault for fault in FAULTS if not asked or any(words in fault.what for words in asked)]
    if not faults:
        print("no such fault")
        return 2
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        copy, cache = Path(temporary).resolve() / "copy", Path(temporary).resolve() / "cache"
        copy.mkdir()
        cache.mkdir()
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.nb[ic]"))
            else:
                shutil.copy(ROOT / name, copy / name)
        unchanged = run_tests(copy, sorted({fault.test for fault in faults}), cache)
        if unchanged.returncode:
            print(unchanged.stdout[-4000:], "the tests must pass without a fault", sep="\n")
            return 1
        survived = 0
        for fault in faults:
            done = planted(fault, copy, cache)
            # 1: tests ran and failed. Anything else is no verdict of a test: an import that broke, a test not found.
            verdict = {0: "SURVIVED", 1: "caught"}.get(done.returncode, f"NOT RUN (pytest gave {done.returncode})")
            survived += done.returncode != 1
            print(f"{verdict:9} {fault.what} [{fault.file}; {fault.test}]", flush=True)
    print(f"{len(faults) - survived} of {len(faults)} faults caught in {time.monotonic() - began:.0f} s")
    return int(survived > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
