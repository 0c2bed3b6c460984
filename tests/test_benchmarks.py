"""Every benchmark runs to its end; what it measures is another matter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
OPTIONS = {
    "env_speed": ["--repetitions", "1"],
    "minatar_speed": ["--repetitions", "1"],
    "convolution": ["--repetitions", "1"],
    "atari_speed": ["--repetitions", "1"],
    "search_speed": [],
    "search_rules": [],
    "search_visits": [],
    "reward_floor": [],
    "experience": [],
    "gpu": ["--device", "cpu"],
    "training_speed": [],
    "reanalyse_speed": [],
    "probe_speed": [],
    "lunarlander_search": [],
    "learning": ["--seeds", "0-0", "--steps", "20", "--first", "20", "--episodes", "2", "--processes", "1"],
    "time_to_return": ["--seeds", "0-0", "--target", "5"],
    "study_tasks": [],
}


def test_every_benchmark_is_run():
    assert sorted(OPTIONS) == sorted(path.stem for path in BENCHMARKS.glob("[!_]*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_a_benchmark_runs_to_its_end(name, tmp_path):
    if name in ("env_speed", "lunarlander_search", "reward_floor"):
        pytest.importorskip("Box2D")
    if name in ("atari_speed", "experience", "gpu"):
        pytest.importorskip("ale_py")
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / f"{name}.py"), *OPTIONS[name]],
        cwd=tmp_path,
        env={**os.environ, "MZPROBE_BENCHMARKS": "smallest"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip()
