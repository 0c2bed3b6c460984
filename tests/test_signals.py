"""Signals: every command stops in one sentence, with the exit code of the signal, and breaks no write."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from studies import variants_file

from mzprobe import files
from mzprobe.locks import all_held
from mzprobe.system.signals import STOPS, exit_code, heard, interrupting

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
COMMANDS = {  # and what each calls on its way
    "train": ("mzprobe.config.load_preset", ["train"]),
    "probe": ("mzprobe.sources.find_source", ["eval-horizon", "."]),
    "collect": ("mzprobe.datasets.collect.load_player", ["collect", "cartpole", "--policy", "random", "--out", "a-v0"]),
    "figures": ("mzprobe.figures.draw_run", ["figures", "run"]),
    "claims": ("mzprobe.claims.read_tables", ["claims", "run"]),
    "pack": ("mzprobe.locks.all_held", ["pack", "run", "--out", "shipped"]),
    "verify": ("mzprobe.verify.examine", ["verify", "."]),
    "seal": ("mzprobe.verify.tables_below", ["seal", "."]),
    "study": ("mzprobe.settings.study_runs", ["study", "cartpole-quick"]),
}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    """With a table in it; a signal that nobody takes fails the test and does not end the run of all tests."""

    def untaken(number, _frame):
        pytest.fail(f"nobody took signal {number}")

    table = tmp_path / "analyses" / "run" / "horizon" / "seed-0.parquet"
    table.parent.mkdir(parents=True)
    table.write_bytes(b"")
    monkeypatch.setattr("mzprobe.tables.read_table", lambda _path: None)
    monkeypatch.setattr("mzprobe.tables.rounded", lambda table, _bits: table)
    monkeypatch.setattr("mzprobe.tables.table_bytes", lambda _table: b"")
    monkeypatch.chdir(tmp_path)
    before = {number: signal.signal(number, untaken) for number in CODES}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def stop_by(number):
    """Stands for any function; a signal comes while it runs."""

    def run(*_arguments, **_options):
        os.kill(os.getpid(), number)
        time.sleep(60)

    return run


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_stops_in_one_sentence_and_its_exit_code_names_the_signal(run_cli, monkeypatch, command, number):
    inside, arguments = COMMANDS[command]
    monkeypatch.setattr(inside, stop_by(number))
    before = {sign: signal.getsignal(sign) for sign in STOPS}
    code, out, said = run_cli(*arguments)
    assert (code, out) == (CODES[number], "")
    assert said == "error: interrupted: run the same command again to resume\n"
    assert {sign: signal.getsignal(sign) for sign in STOPS} == before


@pytest.mark.parametrize("number", CODES)
def test_training_that_is_stopped_saves_and_its_exit_code_names_the_signal(
    run_cli, tiny_arguments, monkeypatch, number, tmp_path
):
    from mzprobe.training.trainer import Trainer

    own = Trainer.advance

    def advance(self):
        own(self)
        if self.step == 7:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Trainer, "advance", advance)
    code, _, said = run_cli("train", *tiny_arguments())
    assert code == CODES[number]
    assert f"{signal.Signals(number).name} received: finishing the step and saving" in said
    assert "error: stopped at step 7 of 40: run the same command again to resume" in said
    assert list((tmp_path / "checkpoints" / "cartpole" / "seed-0" / "resume").glob("00000007-*"))


# Within a write


@pytest.mark.parametrize("write", ["file", "new folder", "folder in the place of another", "folder that is filled"])
def test_a_write_is_finished_before_a_signal_is_heard(tmp_path, monkeypatch, write):
    real, path = os.replace, tmp_path / "a" / "written"
    if write == "folder in the place of another":
        files.write_directory(path, {"x": b"old"})

    def replace(old, new):
        os.kill(os.getpid(), signal.SIGTERM)
        real(old, new)

    monkeypatch.setattr("os.replace", replace)
    with pytest.raises(KeyboardInterrupt), interrupting():  # noqa: PT012 - what comes after the write is the point
        if write == "file":
            files.write_file(path, b"new")
        elif write == "folder that is filled":
            with files.new_directory(path) as folder:
                (folder / "x").write_bytes(b"new")
        else:
            files.write_directory(path, {"x": b"new"})
        pytest.fail("the signal was forgotten")
    assert exit_code() == 143
    assert [one.name for one in path.parent.iterdir()] == ["written"]
    assert (path if write == "file" else path / "x").read_bytes() == b"new"


def test_a_write_that_fails_is_still_interrupted(tmp_path, monkeypatch):
    def replace(_old, _new):
        os.kill(os.getpid(), signal.SIGHUP)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", replace)
    with pytest.raises(KeyboardInterrupt), interrupting():
        files.write_file(tmp_path / "a" / "written", b"new")
    assert exit_code() == 129
    assert list((tmp_path / "a").iterdir()) == []


def test_a_second_signal_finds_what_was_done_before():
    seen = []
    with heard(lambda _: seen.append("outer")), heard(lambda number: seen.append(number.name)):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
    assert seen == ["SIGTERM", "outer"]


def test_what_is_ignored_under_nohup_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with interrupting():
        os.kill(os.getpid(), signal.SIGHUP)


def test_memory_that_is_short_is_one_sentence(run_cli, monkeypatch):
    def short(*_arguments, **_options):
        raise MemoryError

    monkeypatch.setattr("mzprobe.figures.draw_run", short)
    code, out, said = run_cli("figures", "run")
    assert (code, out) == (1, "")
    assert said.startswith("error: there is not enough memory for this: ask for less at a time")
    assert said.count("\n") == 1


# A study


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_study_stops_with_all_its_processes_which_save_first(tmp_path, tiny_keys, number):
    never = dict.fromkeys(("training.steps", "training.checkpoint_interval", "training.resume_interval"), 100_000)
    keys = tiny_keys | never  # so that a state is saved at the start and where an agent is told to stop, never else
    variants_file(tmp_path / "mine.toml", keys, "")
    command = [sys.executable, "-m", "mzprobe", "study", "mine.toml", "--processes", "2"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=tmp_path, start_new_session=True, **pipes)
    agents = [tmp_path / "checkpoints" / "mine" / f"seed-{seed}" for seed in (0, 1)]
    end = time.monotonic() + 120
    while not all(states(agent) for agent in agents):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.05)
    begun = [states(agent) for agent in agents]
    time.sleep(1)
    os.killpg(process.pid, number)  # all of them, as from a terminal or a service manager
    _, said = process.communicate(timeout=60)
    assert process.returncode == CODES[number], said
    (sentence,) = [line for line in said.splitlines() if line.startswith("error:")]
    assert sentence == "error: stopped, every agent saved: run the same command again to resume"
    assert "Traceback" not in said
    with all_held(agents):  # by nobody any more
        pass
    assert all(states(agent) not in ([], first) for agent, first in zip(agents, begun, strict=True))


def states(agent):
    """The names of an agent's states, by training and environment steps."""
    return sorted(path.name for path in (agent / "resume").glob("0*"))


@pytest.mark.slow
def test_a_process_of_a_study_hears_no_signal(tmp_path):
    code = (
        "import os, signal\nfrom mzprobe.execution.core import Needs\nfrom mzprobe.execution.local import Local\n"
        "class Task:\n    name = label = 'seed 0'\n    after, needs = (), Needs()\n"
        "    def run(self, report, must_stop):\n"
        "        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):\n"
        "            os.kill(os.getpid(), number)\n"
        "        open('done', 'w').close()\n"
        "if __name__ == '__main__':\n    Local().run([Task()])\n"
    )
    (tmp_path / "script.py").write_text(code)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert Path("done").exists()


ALONE = """
import sys, time
from pathlib import Path
from mzprobe.cli.saying import say
from mzprobe.console import stopping
from mzprobe.system.streams import flush_streams
stopped = []
with stopping(lambda: stopped.append(True)):
    print("ready", flush=True)
    while not stopped:
        time.sleep(0.01)
say("saved")
Path(sys.argv[1]).write_text("saved")
flush_streams()
"""


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="there are no terminals here")
def test_a_terminal_that_is_gone_loses_no_work(tmp_path):
    master, slave = os.openpty()
    command = [sys.executable, "-c", ALONE, str(tmp_path / "saved")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=slave, text=True)
    assert process.stdout.readline() == "ready\n"
    os.close(slave)
    os.close(master)  # from here on whoever writes there gets an error
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert (tmp_path / "saved").read_text() == "saved"
