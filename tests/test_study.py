"""A study whose processes fail, are killed or are interrupted says so, and goes on when it is run again."""

import contextlib
import itertools
import multiprocessing
import os
import pickle
import re
import signal
import threading
import warnings
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from studies import HORIZON, study_of_all_probes
from tasks import Alone, done_at_once, done_here

from mzprobe.errors import Interrupted, MzprobeError, MzprobeWarning, UsageError, said_of_unexpected
from mzprobe.execution import local
from mzprobe.execution.core import Failure, Needs, Report
from mzprobe.execution.local import Ended, Local
from mzprobe.probes.registry import PROBES
from mzprobe.settings import PlanningConfig, SearchErrorConfig, StepsConfig, StudyConfig, StudyRun, load_study
from mzprobe.study.plan import refuse_missing_steps
from mzprobe.study.tasks import ProbeTask
from mzprobe.tables import read_table

STUDY = StudyConfig(preset="cartpole", seeds=(0, 1), horizon=HORIZON)
ALL = study_of_all_probes(0)


@pytest.fixture
def run(tmp_path, tiny_config):
    """Runs the study with overrides of the tiny configuration; gives the folder of its tables."""

    def start(*overrides, study=STUDY, on_report=lambda _: None):
        runs = [StudyRun(name="tiny", variant="", config=tiny_config(*overrides))]
        done_at_once(study, runs, tmp_path, on_report=on_report)
        return sorted(path.name for path in (tmp_path / "analyses" / "tiny" / "horizon").iterdir())

    return start


@pytest.fixture
def work(tmp_path, tiny_config):
    """Does what is left of the only agent of the study with all probes, in this process."""
    runs = [StudyRun(name="tiny", variant="", config=tiny_config())]
    return lambda report, must_stop: done_here(ALL, runs, tmp_path, report, must_stop)


def tables_of(folder):
    """The bytes of all tables, by path, but for those of times, which do not repeat."""
    paths = sorted(path for path in folder.rglob("*.parquet") if path.parent.name != "timing")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


# One agent


def test_an_agent_is_trained_and_asked_all_questions_of_the_study(work, tmp_path):
    reports = []
    work(reports.append, lambda: False)
    phases = list(dict.fromkeys(report.phase for report in reports))
    assert phases == ["train", *PROBES]
    assert all(report.label == "seed 0" and 0 <= report.done <= report.total for report in reports)
    last = {report.phase: (report.done, report.total) for report in reports}
    assert last == {
        "train": (40, 40),
        **dict.fromkeys(PROBES, (3, 3)),
        "search_error": (1, 1),
        "planning": (2, 2),
        "targets": (2, 2),
    }
    steps = {
        name: set(read_table(tmp_path / "analyses" / "tiny" / name / "seed-0.parquet").frame["training_step"])
        for name in PROBES
    }
    assert steps == {
        **{name: {0, 20, 40} for name in PROBES},
        "search_error": {20},
        "planning": {0, 40},
        "targets": {20, 40},
    }


def test_a_probe_reports_each_checkpoint_and_now_and_then_between(monkeypatch):
    said = []

    def run_probe(_run, *, on_progress):
        for share in [0.0] * 500 + [0.5] * 500 + [1.0] * 3 + [1.2] * 500 + [2.0]:
            on_progress(share, 2)

    monkeypatch.setattr("mzprobe.study.tasks.run_probe", run_probe)
    run = SimpleNamespace(probe=PROBES["online"])
    task = ProbeTask(run_of=run, name="seed 0 online", label="seed 0")
    task.run(lambda report: said.append(report.done), lambda: False)
    assert len(said) < 20
    assert list(dict.fromkeys(done for done in said if done == int(done))) == [0, 1, 2]


@pytest.mark.parametrize("phase", ["online", "horizon", "sequences", "cross", "search_error", "planning"])
def test_an_agent_that_is_stopped_in_a_probe_goes_on_to_the_same_tables(
    work, tmp_path, phase, whole_tables, monkeypatch
):
    monkeypatch.setattr("mzprobe.study.tasks.SECONDS", 0)  # between reports: it is stopped within a checkpoint
    stop = threading.Event()

    def report(said):
        if said.phase == phase and said.done > 0:
            stop.set()

    with pytest.raises(Interrupted, match="the checkpoints that are done are kept"):
        work(report, stop.is_set)
    done = tables_of(tmp_path / "analyses")
    earlier = list(PROBES)[: list(PROBES).index(phase)]
    assert {name for name in PROBES if f"tiny/{name}/seed-0.parquet" in done} - {phase} == set(earlier)
    assert done != whole_tables
    phases = []
    work(lambda said: phases.append(said.phase), lambda: False)
    later = {*PROBES} - {*earlier}  # what is done is not even looked at
    assert later - {phase} <= set(phases) <= later
    assert tables_of(tmp_path / "analyses") == whole_tables


@pytest.fixture(scope="module")
def whole_tables(tmp_path_factory, tiny_config):
    """The tables of that agent, made without a stop."""
    folder = tmp_path_factory.mktemp("whole")
    done_here(ALL, [StudyRun(name="tiny", variant="", config=tiny_config())], folder)
    return tables_of(folder / "analyses")


# What cannot be


@pytest.mark.parametrize(
    ("changes", "step", "probe"),
    [
        ({"steps": StepsConfig(horizon=(20, 30))}, 30, "horizon"),
        ({"steps": StepsConfig(horizon=(60,))}, 60, "horizon"),
        ({"search_error": SearchErrorConfig()}, 2000, "search_error"),
        ({"planning": PlanningConfig(), "steps": StepsConfig(planning=(41,))}, 41, "planning"),
    ],
)
def test_a_study_that_looks_where_there_will_be_no_checkpoint_is_refused(tiny_config, changes, step, probe):
    with pytest.raises(UsageError) as reason:
        refuse_missing_steps(STUDY.model_copy(update=changes), tiny_config())
    assert str(reason.value) == (
        f"the study's probe {probe} looks at step {step}, where there will be no checkpoint: add it to "
        f"training.checkpoint_steps, or choose others with steps.{probe}"
    )


def test_two_behaviour_policies_in_a_study_are_refused_before_anything_runs(run_cli, tmp_path):
    mixed = tmp_path / "mixed.toml"
    mixed.write_text('preset = "cartpole"\nseeds = [0]\n[online.acting]\ntemperature = 0\n[horizon]\nstates = 5\n')
    for more in ((), ("--dry-run",)):
        code, out, said = run_cli("study", mixed, "--under", tmp_path / "runs", *more)
        assert (code, out) == (2, "")
        assert said.endswith(
            "online and horizon ask about behaviour policies with other acting.temperature, whose tables cannot share "
            "a folder: give all sections the same acting, or make a study of each\n"
        )
    assert not (tmp_path / "runs").exists()
    mixed.write_text(mixed.read_text() + "[horizon.acting]\ntemperature = 0\n")
    assert load_study(str(mixed))[0].horizon.acting.temperature == 0


# Processes


@dataclass(frozen=True)
class Talker(Alone):
    """Reports as fast as it can, 300 times, or until it is killed in the middle of it."""

    label: str
    is_killed: bool

    def run(self, report, _must_stop):
        if self.is_killed:
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGKILL)).start()
        for done in itertools.count() if self.is_killed else range(300):
            report(Report(label=self.label, phase="talk" * 5000, done=done, total=300))


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_reports_holds_up_no_other():
    reports, raised = [], []

    def run():
        try:
            tasks = [Talker("seed 0", True), Talker("seed 1", False), Talker("seed 2", False)]
            Local(processes=2).run(tasks, on_report=reports.append)
        except MzprobeError as error:
            raised.append(str(error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout=120)
    stuck = multiprocessing.active_children()
    for child in stuck:
        child.kill()
    assert stuck == []
    assert raised == [
        "the process of seed 0 died: run the same command again to resume (the other agents are not affected)"
    ]
    for label in ("seed 1", "seed 2"):
        assert [report.done for report in reports if report.label == label] == list(range(300))


TOLD = []


@dataclass
class Listener(Alone):
    """Keeps what it is told, after a report of its own."""

    label: str = "seed 5"
    error: Exception | None = None

    def run(self, report, must_stop):
        report(Report(label=self.label, phase="listen", done=0, total=1))
        TOLD.append(must_stop())
        if self.error:
            raise self.error


@pytest.fixture
def pipe():
    """Both ends of a process's pipe, in this process."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(end) for end in multiprocessing.Pipe()]


def test_a_process_goes_on_until_it_is_told_to_stop(pipe):
    ours, theirs = pipe
    TOLD.clear()
    local._run(pickle.dumps(Listener()), local._Ear(theirs))
    ours.send_bytes(local._STOP)
    local._run(pickle.dumps(Listener()), local._Ear(theirs))
    assert TOLD == [False, True]
    assert ours.recv() == Report(label="seed 5", phase="listen", done=0, total=1)
    assert ours.recv() == Ended(True)


def test_a_process_whose_parent_is_gone_is_to_stop(pipe):
    ours, theirs = pipe
    ours.close()
    TOLD.clear()
    assert not local._run(pickle.dumps(Listener(error=Interrupted("stopped"))), local._Ear(theirs))
    assert TOLD == [True]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MzprobeError("no such thing"), "seed 5: no such thing"),
        (
            RuntimeError("by surprise"),
            "seed 5: code of your own, test_study.py line LINE, raised RuntimeError (by surprise): mend it, and try an "
            "environment with mzprobe.check_env, a network with mzprobe.check_network",
        ),
        (MemoryError(), f"seed 5: {said_of_unexpected(MemoryError())}"),
    ],
)
def test_a_process_says_why_it_fails(pipe, capfd, error, said):
    ours, theirs = pipe
    assert not local._run(pickle.dumps(Listener(error=error)), local._Ear(theirs))
    ours.recv()
    failure = ours.recv()
    assert isinstance(failure, Failure)
    assert re.sub(r"line \d+", "line LINE", failure.sentence) == said
    assert ("Traceback" in capfd.readouterr().err) == isinstance(error, RuntimeError)


@dataclass
class Warner(Listener):
    """Gives a warning of mzprobe's and one of Python's."""

    def run(self, _report, _must_stop):
        warnings.warn("beyond the support", MzprobeWarning, stacklevel=1)
        warnings.warn("of another kind", UserWarning, stacklevel=1)


def test_a_warning_is_given_by_the_parent_with_the_agents_label(pipe):
    ours, theirs = pipe
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        local._run(pickle.dumps(Warner()), local._Ear(theirs))
    pool = local._Pool([Warner()], Needs(), (), lambda _: None, lambda _task, _state, _said: None)
    worker = local._Worker(None, ours, None, task=pool.schedule.next())
    pool.workers[ours] = worker
    with pytest.warns(MzprobeWarning, match="^seed 5: beyond the support$"):
        pool._relay()
    pool._relay()
    assert not ours.poll()
    assert pool.schedule.over
    assert [str(warning.message) for warning in shown] == ["of another kind"]


# Several agents


@pytest.mark.slow
def test_the_failure_of_an_agent_is_said_with_its_seed(run):
    with pytest.raises(MzprobeError, match=r"^seed [01]: training step .* not finite"):
        run("training.learning_rate=1e12")


@pytest.mark.slow
def test_a_killed_process_is_said_and_the_study_goes_on_when_run_again(run):
    def kill_one(report):
        for child in multiprocessing.active_children():
            if child.name == "seed 1" and report.label == "seed 1":
                child.kill()

    with pytest.raises(MzprobeError, match="the process of seed 1 died: run the same command again"):
        run(on_report=kill_one)
    assert run() == ["seed-0.parquet", "seed-1.parquet"]


@pytest.mark.slow
def test_an_interrupted_study_leaves_no_process_and_goes_on_when_run_again(run):
    reports = []

    def interrupt(report):
        reports.append(report)
        if len(reports) == 1:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="every agent saved"):
        run(on_report=interrupt)
    assert multiprocessing.active_children() == []
    assert run() == ["seed-0.parquet", "seed-1.parquet"]
