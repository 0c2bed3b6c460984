"""A Ray cluster of several raylets on this machine: nodes that are killed lose nothing, and no byte differs."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from forks import everything
from tasks import done_at_once

from mzprobe.errors import Interrupted
from mzprobe.execution.core import Needs
from mzprobe.execution.on_ray import _RETRIES, Mailbox, OnRay, _Driver, _run_there
from mzprobe.execution.schedule import Schedule
from mzprobe.records.digests import code
from mzprobe.settings import load_study, study_runs

SCRIPT = Path(__file__).parent / "helpers" / "ray_cluster.py"
KEYS = {
    "environment.options.time_limit": 60,
    "network.hidden": 16,
    "network.latent": 8,
    "search.simulations": 8,
    "training.batch_size": 16,
    "training.unroll_steps": 2,
    "training.n_step": 5,
    "training.environments": 2,
    "training.warmup_environment_steps": 60,
    "training.replay_capacity": 600,
    "training.evaluation_episodes": 1,
    "training.evaluation_interval": 100,
    "training.checkpoint_interval": 100,
    "training.resume_interval": 20,
    "training.steps": 300,
}
STUDY = "\n".join(
    [
        'preset = "cartpole"\nseeds = [0, 1, 2]\n[overrides]',
        *(f'"{key}" = {value}' for key, value in KEYS.items()),
        "[online]\nepisodes = 4\n[horizon]\nepisodes = 2\nstates = 10\nhorizon = 3",
    ]
)


def results(folder):
    """All that a study has made, but for what its training took, which does not repeat."""
    return {path: data for path, data in everything(folder).items() if "timing" not in path}


def on_cluster(folder, *arguments):
    """Runs the script; what it has said."""
    folder.mkdir(exist_ok=True)
    (folder / "twins.toml").write_text(STUDY)
    root = str(SCRIPT.parent.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, str(SCRIPT.parent)])}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), "twins.toml", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_a_node_that_is_killed_loses_nothing_and_bytes_are_those_of_processes(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    said = on_cluster(tmp_path / "there", "--kill-node", "train").splitlines()
    ours = [line for line in said if line.startswith(("killed", "done"))]  # Ray says something between, or not
    assert ours == ["killed a node", "done ['horizon', 'online', 'train']"]
    here = tmp_path / "here"
    here.mkdir()
    (here / "twins.toml").write_text(STUDY)
    monkeypatch.chdir(here)
    settings, _ = load_study("twins.toml")
    runs = study_runs("twins.toml", settings)
    done_at_once(settings, runs, Path(), command="mzprobe study twins.toml")
    assert results(tmp_path / "there") == results(here)
    assert [path for path in results(here) if "/." in f"/{path}"] == []


def test_what_tasks_say_is_taken_once(tmp_path):
    box = Mailbox()
    box.say("a", "first")
    box.say("b", "second")
    assert (box.taken(), box.taken()) == ([("a", "first"), ("b", "second")], [])
    assert not box.stopping()
    box.stop()
    assert box.stopping()


class LostError(Exception):
    """As Ray's errors of what is lost."""


class RaisedError(LostError):
    """As Ray's error of a task that has raised."""

    def __init__(self, cause):
        super().__init__(f"the task raised {cause!r}")
        self.cause = cause


class Gives:
    """As Ray, asked for what a task said: it raises that, or gives it."""

    exceptions = SimpleNamespace(RayError=LostError, RayTaskError=RaisedError)

    def __init__(self, said):
        self.said = said

    def get(self, _):
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


def driver_of(said, states):
    """The driver of one task of which that is heard."""
    task = SimpleNamespace(name="seed 0 train", label="seed 0", after=(), needs=Needs())
    schedule = Schedule([task], Needs())
    schedule.next()
    on_state = lambda _, state, sentence: states.append((state, sentence))  # noqa: E731 - as short as it is said
    return task, _Driver(Gives(said), [task], schedule, lambda: None, lambda _: None, on_state)


def test_what_a_node_raises_is_a_failure_and_what_is_lost_begins_again():
    states = []
    task, driver = driver_of(RaisedError(ModuleNotFoundError("No module named 'mine'")), states)
    driver._ended(task, None)
    ((state, said),) = states
    assert state == "failed"
    assert said.startswith("seed 0: ")
    assert "No module named 'mine'" in said
    for reason in (LostError("its node died"), RaisedError(LostError("its mailbox died")), "it was told to stop"):
        states.clear()
        task, driver = driver_of(reason, states)
        for _ in range(_RETRIES):
            driver._ended(task, None)
            assert driver.schedule.next() is task
        assert states == []
        driver._ended(task, None)
        ((state, said),) = states
        assert (state, driver.schedule.over) == ("failed", True)
        assert said.startswith(f"seed 0: seed 0 train was lost {_RETRIES} times with where it ran (it")


def test_a_task_can_have_what_one_node_has_and_not_the_most_of_any(monkeypatch):
    resources = [{"memory": 2e9}, {"CPU": 8.0, "memory": 16e9}, {"CPU": 2.0, "memory": 256e9, "GPU": 1.0}]
    nodes = [{"Resources": one, "Alive": True} for one in resources] + [{"Resources": {"CPU": 99.0}, "Alive": False}]
    monkeypatch.setattr("mzprobe.execution.on_ray._connected", lambda _: SimpleNamespace(nodes=lambda: nodes))
    assert OnRay().total() == Needs(cores=10, memory=274 * 10**9, cards=1)
    many, few = Needs(cores=8, memory=16 * 10**9), Needs(cores=2, memory=256 * 10**9, cards=1)
    assert OnRay().most() == (many, few)
    assert [one.cores for one in OnRay(tasks=3).most()] == [3, 2]
    nodes.clear()
    assert (OnRay().total(), OnRay().most()) == (Needs(), (Needs(),))


def test_a_signal_that_comes_as_an_error_of_ray_stops_all_the_same(monkeypatch):
    _, driver = driver_of(None, [])
    stopped = []
    driver.mailbox = driver.remote = None
    monkeypatch.setattr(driver, "_connect_tasks", lambda: None)
    monkeypatch.setattr(driver, "_stop", lambda: stopped.append(True))
    driver.ray.kill = lambda _: None
    for cause, error in ((Interrupted("stop"), Interrupted), (KeyboardInterrupt(), Interrupted), (None, SystemError)):
        reason = SystemError("returned a result with an exception set")
        reason.__cause__ = cause

        def raises(reason=reason):
            raise reason

        monkeypatch.setattr(driver, "_relay", raises)
        with pytest.raises(error):
            driver.run()
    assert stopped == [True, True]


def test_a_node_with_another_mzprobe_or_without_a_package_says_so(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    here = os.uname().nodename
    said = _run_there(b"", None, str(tmp_path), "another", False).sentence
    assert said == f"node {here} has another mzprobe than this one: install the same one on all nodes"
    called = b"cnot_there_at_all\nTask\n."  # a pickle that names a class of a module
    said = _run_there(called, None, str(tmp_path), code(), False).sentence
    assert said.startswith(f"node {here} lacks a package of this study (No module named 'not_there_at_all'): install")
    said = _run_there(b"", None, str(tmp_path / "gone"), code(), False).sentence
    assert said.endswith(f"is not there on node {here}: run the study in a folder that all nodes share")


def test_without_ray_and_without_a_cluster_a_study_says_what_is_missing(run_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, said = run_cli("study", "cartpole-quick", "--executor", "ray", "--device", "cuda:1")
    assert (code, said) == (2, "error: a cluster chooses cards itself: give --device cuda, not cuda:1\n")
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, said = run_cli("study", "cartpole-quick", "--executor", "ray")
    assert (code, said) == (2, "error: --executor ray needs Ray: pip install 'mzprobe[ray]'\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_where_no_cluster_is_that_is_one_sentence(tmp_path):
    pytest.importorskip("ray")
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parent.parent), "RAY_TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "mzprobe", "study", "cartpole-quick", "--executor", "ray"],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env=environment,
        cwd=tmp_path,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: there is no Ray cluster here: start one with ray start")
    assert "Traceback" not in done.stderr
