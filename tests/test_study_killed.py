"""A study of two processes, parent or worker killed at random moments: nothing runs on, is lost, or is left.

`MZPROBE_TIMES` is how often.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

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


def workers(process):
    """The processes that do a study's tasks, where the system shows them."""
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("ascii").split()
        return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    except OSError:
        return []


def killed(folder, seconds, chance):
    """What was killed of the study after so long, if it had not ended before; seconds until all processes were gone."""
    process, victim = begun(folder), ""
    try:
        code = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        pids = workers(process)
        victim = chance.choice(["parent", *(["a worker"] if pids else [])])
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid if victim == "parent" else chance.choice(pids), signal.SIGKILL)
        code = process.wait(timeout=300)
    ended = time.monotonic()
    assert is_gone(process.pid, seconds=SECONDS), f"processes outlive a {victim} killed after {seconds} s"
    # Where a worker had a task its agent is named, and the study ends when the rest is done.
    expected = {"": {0}, "parent": {0, -signal.SIGKILL}, "a worker": {0, 1}}[victim]
    assert code in expected, (folder.parent / f"{folder.name}.said").read_text()
    return victim, time.monotonic() - ended


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
            was_killed, lingered = killed(tmp_path / str(studies), after, chance)
            kills += bool(was_killed)
            if was_killed:
                print(f"kill {kills}, {was_killed}, study {studies}, after {after:.1f} s: all gone {lingered:.1f} s on")
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
