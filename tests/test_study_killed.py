"""A study of two processes whose parent is killed at random moments: nothing runs on, nothing is lost, nothing is left.

`MZPROBE_TIMES` is how often.
"""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from forks import everything, is_gone
from killed import study_toml

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "killpg"), reason="processes are killed on POSIX only"),
]

SECONDS = 60  # until processes whose parent was killed must be gone, whatever else the machine has to do
TIMES = int(os.environ.get("MZPROBE_TIMES", "5"))
STUDY = study_toml(seeds=(0, 1), probes=("online", "horizon"))

DEAF = """
import multiprocessing, time
from dataclasses import dataclass
from mzprobe.execution.core import Needs, Report
from mzprobe.execution.local import Local


@dataclass(frozen=True)
class Deaf:
    label: str
    after = ()
    needs = Needs()

    @property
    def name(self):
        return self.label

    def run(self, report, _must_stop):
        report(Report(label=self.label, phase="sleep", done=0, total=1))
        time.sleep(600)


if __name__ == "__main__":
    tasks = [Deaf("seed 0"), Deaf("seed 1")]
    Local(processes=2).run(tasks, on_report=lambda said: print(said.label, flush=True))
"""


def begun(folder):
    """The study, started in a group of its own."""
    folder.mkdir(exist_ok=True)
    (folder / "twins.toml").write_text(STUDY)
    with (folder.parent / f"{folder.name}.said").open("w") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "mzprobe", "study", "twins.toml", "--processes", "2"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )


def finished(folder):
    """All that is there when the study has ended by itself."""
    process = begun(folder)
    assert process.wait(timeout=300) == 0, (folder.parent / f"{folder.name}.said").read_text()
    assert is_gone(process.pid, seconds=SECONDS)
    return everything(folder)


def killed(folder, seconds):
    """Whether the study was killed after so long, and had not ended before; seconds until all processes were gone."""
    process = begun(folder)
    try:
        code = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)  # the parent alone
        code = process.wait()
    ended = time.monotonic()
    assert is_gone(process.pid, seconds=SECONDS), f"processes outlive a parent killed after {seconds} s"
    assert code in (0, -signal.SIGKILL), (folder.parent / f"{folder.name}.said").read_text()
    return code != 0, time.monotonic() - ended


def test_a_study_killed_at_random_moments_ends_with_the_bytes_of_an_undisturbed_one(tmp_path):
    chance, kills, studies = random.Random(TIMES), 0, 0
    began = time.monotonic()
    whole = finished(tmp_path / "whole")
    duration = time.monotonic() - began
    print(f"\na study takes {duration:.0f} s")
    assert [path for path in whole if "/." in f"/{path}"] == []
    while kills < TIMES:
        studies, before = studies + 1, kills
        was_killed = True
        while kills < min(TIMES, before + 5) and was_killed:
            after = chance.uniform(0, duration / (1 + kills - before))  # a study that goes on has less to do
            was_killed, lingered = killed(tmp_path / str(studies), after)
            kills += was_killed
            if was_killed:
                print(f"kill {kills}, study {studies}, after {after:.1f} s: all gone {lingered:.1f} s later")
        assert finished(tmp_path / str(studies)) == whole


def test_a_process_that_is_in_the_middle_of_something_long_ends_with_its_parent_too(tmp_path):
    script = tmp_path / "deaf.py"
    script.write_text(DEAF)
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as parent:
        assert sorted(parent.stdout.readline() for _ in range(2)) == ["seed 0\n", "seed 1\n"]
        parent.kill()
        parent.wait()
        assert is_gone(parent.pid, seconds=SECONDS)
