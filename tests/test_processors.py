"""A seed gives the same bits whatever kernels BLAS, torch and the compiler would pick for a processor."""

import os
import platform
import subprocess
import sys

import pytest
from numpy._core import _multiarray_umath

FEATURES = _multiarray_umath.__cpu_features__

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="names kernels for x86-64 processors"
)

TRAINED = """
import hashlib, sys
from pathlib import Path

import mzprobe

folder, steps, *overrides = sys.argv[1:]
changes = [f"training.steps={steps}", f"training.checkpoint_interval={steps}", "training.evaluation_episodes=3"]
config = mzprobe.load_preset("cartpole", [*changes, *overrides])
trainer = mzprobe.Trainer(config, seed=0, run="bits", out=Path(folder), command="bits")
trainer.train()
checkpoint = mzprobe.read_checkpoint(trainer.folder / f"step-{int(steps):07d}")
print(checkpoint.weights_sha256)
agent = mzprobe.open_agent(trainer.folder, step=int(steps))
for rows in (
    mzprobe.measure(agent, "horizon", states=5, episodes=2),
    mzprobe.measure(agent, "equivalence", states=3, episodes=2, horizon=4),
    mzprobe.measure(agent, "search_error", states=5, episodes=2, simulations=(2, 30)),
):
    print(hashlib.sha256(rows.to_csv().encode()).hexdigest())
"""

# Named for processors that this one can stand in for; what it has of its own is what runs without a name.
BLAS = [{"OPENBLAS_CORETYPE": name} for name in ("Nehalem", "Sandybridge" if FEATURES["AVX"] else "Nehalem")]
BLAS += [{"OPENBLAS_CORETYPE": name} for name in ("Haswell", "Zen") if FEATURES["AVX2"]]
BLAS += [{"OPENBLAS_CORETYPE": "SkylakeX"}] if FEATURES["AVX512_SKX"] else []
COMPILED = [{"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}]
COMPILED += [{"NUMBA_CPU_NAME": name} for name in ("haswell",) if FEATURES["AVX2"] and FEATURES["FMA3"]]
COMPILED += [{"NUMBA_CPU_NAME": "nehalem", "NUMBA_CPU_FEATURES": ""}]


def hashes(folder, kernels, *arguments):
    """What a process with other kernels trains and measures."""
    plain = {name: value for name, value in os.environ.items() if name not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
    command = [sys.executable, "-W", "error", "-c", TRAINED, str(folder), *arguments]
    done = subprocess.run(command, env=plain | kernels, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.slow
def test_training_and_probes_hold_their_bits_with_the_oldest_kernels_of_blas(tmp_path):
    steps = ("300", "reanalyse.fraction=0.5")
    own = hashes(tmp_path / "own", {}, *steps)
    assert len(own) == 4
    assert hashes(tmp_path / "old", {"OPENBLAS_CORETYPE": "Nehalem"}, *steps) == own


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("300",), ("300", "reanalyse.fraction=0")], ids=str)
def test_training_and_probes_hold_their_bits_with_any_kernels(tmp_path, arguments):
    own = hashes(tmp_path / "own", {}, *arguments)
    found = {str(kernels): hashes(tmp_path / str(i), kernels, *arguments) for i, kernels in enumerate(BLAS + COMPILED)}
    assert found == dict.fromkeys(found, own)
