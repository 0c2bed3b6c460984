"""A study on Ray whose driver, workers and nodes are killed at random, or all at once: the same bytes in the end.

`MZPROBE_RAY_TIMES` is how often.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from forks import everything
from killed import study_toml

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes where Linux shows them"),
]

TIMES = int(os.environ.get("MZPROBE_RAY_TIMES", "4"))
VICTIMS = ("driver", "worker", "node", "all")
SECONDS = 300  # until a cluster must be there, or a study done, whatever else the machine has to do
SCRIPT = Path(__file__).parent / "helpers" / "ray_cluster.py"
STUDY = study_toml(seeds=(0, 1), probes=("online", "horizon"))


def results(folder):
    """All that a study has made, but for what its training took."""
    return {path: data for path, data in everything(folder).items() if "timing" not in path}


def begun(arguments, folder, said, **environment):
    """A process in a session of its own."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=said,
        start_new_session=True,
        env={**os.environ, **environment},
    )


class Cluster:
    """A cluster of three raylets, two of which have a core."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self.said = (folder / "said").open("w")
        self.start()

    def start(self):
        (self.folder / "cluster.json").unlink(missing_ok=True)
        self.process = begun([str(SCRIPT), str(self.folder), "--serve"], self.folder, self.said)
        until = time.monotonic() + SECONDS
        while not (self.folder / "cluster.json").exists():
            assert self.process.poll() is None, (self.folder / "said").read_text()
            assert time.monotonic() < until
            time.sleep(0.1)

    def now(self):
        return json.loads((self.folder / "cluster.json").read_text())

    def workers(self):
        """Processes that are at a task."""
        found = []
        for pid in of_session(self.process.pid):
            with contextlib.suppress(OSError):
                called = Path(f"/proc/{pid}/cmdline").read_bytes()
                if called.startswith(b"ray::") and not called.startswith((b"ray::IDLE", b"ray::Mailbox")):
                    found.append(pid)
        return found

    def kill(self):
        """All of it at once."""
        for pid in of_session(self.process.pid):
            kill(pid)
        self.process.wait()

    def close(self):
        self.kill()
        self.said.close()


def of_session(leader):
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text("utf-8").rpartition(")")[2].split()[3]) == leader:
                found.append(int(stat.parent.name))
    return found


def kill(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def cluster(tmp_path):
    pytest.importorskip("ray")
    made = Cluster(tmp_path / "cluster")
    yield made
    made.close()


class Study:
    """A study in a folder, which is begun again and again."""

    def __init__(self, folder, cluster=None):
        self.folder, self.cluster, self.process = folder, cluster, None
        folder.mkdir()
        (folder / "twins.toml").write_text(STUDY)
        self.path = folder.with_suffix(".said")

    def begin(self):
        words = ["-m", "mzprobe", "study", "twins.toml", "--processes", "2"]
        there = {}
        if self.cluster:
            words += ["--executor", "ray"]
            there = {"RAY_ADDRESS": self.cluster.now()["address"]}
        with self.path.open("a") as said:
            self.process = begun(words, self.folder, said, **there)

    def ended(self, seconds):
        """Whether it has ended by itself after so long; well, if so."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        assert code == 0, self.path.read_text()[-3000:]
        return True

    def finished(self):
        self.begin()
        assert self.ended(SECONDS), self.path.read_text()[-3000:]
        return results(self.folder)


def strike(victim, study, cluster, chance):
    """Kills; what it was."""
    workers = cluster.workers()
    if victim == "worker" and workers:
        kill(chance.choice(workers))
        return victim
    if victim == "node":
        kill(chance.choice(cluster.now()["raylets"]))
        return victim
    kill(study.process.pid)
    study.process.wait()
    if victim != "all":
        return "driver"
    cluster.kill()
    cluster.start()
    return victim


def test_what_is_killed_on_a_cluster_changes_no_byte(cluster, tmp_path):
    chance, kills, studies = random.Random(TIMES), 0, 0
    whole = Study(tmp_path / "here").finished()
    began = time.monotonic()
    assert Study(tmp_path / "there", cluster).finished() == whole
    duration = time.monotonic() - began
    print(f"\na study takes {duration:.0f} s")
    while kills < TIMES:
        studies += 1
        study = Study(tmp_path / str(studies), cluster)
        study.begin()
        for _ in range(len(VICTIMS)):
            after = chance.uniform(0, duration)
            if kills == TIMES or study.ended(after):
                break
            killed = strike(VICTIMS[kills % len(VICTIMS)], study, cluster, chance)
            kills += 1
            print(f"kill {kills}, {killed}, study {studies}, after {after:.1f} s", flush=True)
            if study.process.poll() is not None:
                study.begin()
        assert study.ended(SECONDS), study.path.read_text()[-3000:]
        assert study.finished() == whole
