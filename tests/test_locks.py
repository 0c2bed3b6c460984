"""One command at a time: who is refused, who waits, what a killed holder leaves, and where there are no locks."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from filelock import FileLock

from mzprobe.errors import Interrupted, InUse, MzprobeError, MzprobeWarning
from mzprobe.files import remove_leftovers
from mzprobe.locks import all_held, folder_held, held, tidy

HOLDER = """
import sys, time
from pathlib import Path
from mzprobe.locks import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of `agent`; killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "agent")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_is_told_who_holds_it(tmp_path, holder):
    with pytest.raises(InUse) as refused, held(tmp_path / "agent"):
        pass
    said = str(refused.value)
    assert said.startswith(f"{tmp_path / 'agent'} is in use by process {holder.pid} on ")
    assert said.endswith(f"(-c {tmp_path / 'agent'}): wait until it is done, or stop it")


def test_what_a_killed_process_held_is_free(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with held(tmp_path / "agent"):
        said = json.loads((tmp_path / ".agent.lock").read_text("utf-8"))
    assert said["process"] == os.getpid()


def test_what_does_not_name_its_holder_is_held_all_the_same(tmp_path, holder):
    (tmp_path / ".agent.lock").write_text("[1", "utf-8")
    with pytest.raises(InUse, match="is in use by another command"), held(tmp_path / "agent"):
        pass


def test_a_lock_is_of_its_own_path_and_released_at_the_end(tmp_path):
    with held(tmp_path / "a"), held(tmp_path / "b"), pytest.raises(InUse), held(tmp_path / "a"):
        pass
    with held(tmp_path / "a"):
        pass
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RuntimeError), held(tmp_path / "a"):
        raise RuntimeError
    with held(tmp_path / "a"):
        pass


def test_a_lock_whose_file_was_removed_on_the_way_is_taken_anew(tmp_path, monkeypatch):
    file, acquire = tmp_path / ".a.lock", FileLock.acquire
    calls = []

    def late(self, **how):  # the first time, a holder that ends removes what was opened
        taken = acquire(self, **how)
        calls.append(self)
        if len(calls) == 1:
            file.unlink()
        return taken

    monkeypatch.setattr(FileLock, "acquire", late)
    with held(tmp_path / "a"):
        monkeypatch.undo()
        assert file.exists()
        with pytest.raises(InUse), held(tmp_path / "a"):
            pass
    assert len(calls) == 3  # the lost one, its name, and what is held; the fourth was refused


def test_locks_that_keep_nobody_out_are_said_to_be_none(tmp_path, monkeypatch):
    monkeypatch.setattr(FileLock, "acquire", lambda *_, **__: None)
    monkeypatch.setattr(FileLock, "release", lambda *_, **__: None)
    with pytest.warns(MzprobeWarning, match=r"cannot be locked \(locks keep nobody out"), held(tmp_path / "agent"):
        pass


def test_all_or_none(tmp_path):
    paths = [tmp_path / name for name in "abc"]
    with held(paths[1]):
        with pytest.raises(InUse), all_held(paths):
            pass
        with held(paths[0]), held(paths[2]):
            pass
    with all_held(paths), pytest.raises(InUse), held(paths[2]):
        pass


def test_who_writes_for_moments_is_waited_for(tmp_path):
    holding, order = threading.Event(), []

    def first():
        with held(tmp_path / "figures"):
            holding.set()
            time.sleep(0.3)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    holding.wait()
    with folder_held(tmp_path / "figures"):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]


def test_a_folder_that_is_held_ends_without_what_killed_commands_left(tmp_path):
    folder = tmp_path / "figures"
    folder.mkdir()
    for name in (".fig2.png.mzprobe-a1b2c3d4", ".fig2.png.original", "fig2.png"):
        (folder / name).write_bytes(b"x")
    with folder_held(folder):
        pass
    assert sorted(path.name for path in folder.iterdir()) == [".fig2.png.original", "fig2.png"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_where_there_are_no_locks_it_is_said_and_work_goes_on(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    done = []
    said = rf"agent cannot be locked \(.*{os.strerror(number)}\): let no other"
    for _ in range(2):  # a lock that a file stands for would outlive a killed holder
        with pytest.warns(MzprobeWarning, match=said), held(tmp_path / "agent"):
            done.append(True)
    assert len(done) == 2


def test_a_lock_that_cannot_be_made_is_not_taken_for_one_that_is_not_needed(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(MzprobeError, match="Too many open files"), held(tmp_path / "agent"):
        pass


def test_a_lock_of_another_user_is_held(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    (tmp_path / ".agent.lock").write_text(json.dumps({"process": 7, "host": "node", "command": "mzprobe train"}))
    monkeypatch.setattr(FileLock, "acquire", refuse)
    with (tmp_path / ".agent.lock").open("rb") as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        with pytest.raises(InUse, match=r"in use by process 7 on node \(mzprobe train\)"), held(tmp_path / "agent"):
            pass
    with pytest.raises(MzprobeError, match="Permission denied"), held(tmp_path / "agent"):
        pass  # they were killed, and left what cannot be locked
    (tmp_path / ".agent.lock").unlink()
    with pytest.raises(MzprobeError, match="Permission denied"), held(tmp_path / "agent"):
        pass


# Leftovers


def test_only_names_that_mzprobe_gives_are_leftovers(tmp_path):
    kept = (".notes", ".seed-0.parquet.original", ".step-0000010.backup", ".mzprobe-abcd", ".x.mzprobe-toolong12")
    (tmp_path / ".step-0000010.mzprobe-abcd1234").mkdir()
    (tmp_path / ".step-0000010.mzprobe-abcd1234" / "half").write_bytes(b"x")
    (tmp_path / ".timing.json.mzprobe-__0000__").write_bytes(b"x")
    for name in kept:
        (tmp_path / name).write_bytes(b"mine")
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
    remove_leftovers(tmp_path / "missing")


def test_leftovers_of_one_name_leave_those_of_others(tmp_path):
    for name in (".seed-0.parquet.mzprobe-abcd1234", ".seed-1.parquet.mzprobe-abcd1234", ".[x].mzprobe-abcd1234"):
        (tmp_path / name).write_bytes(b"x")
    remove_leftovers(tmp_path, "seed-0.parquet")
    remove_leftovers(tmp_path, "[x]")
    assert [path.name for path in tmp_path.iterdir()] == [".seed-1.parquet.mzprobe-abcd1234"]


def test_a_link_that_has_such_a_name_is_removed_and_not_what_it_leads_to(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / ".a.mzprobe-abcd1234").symlink_to(tmp_path / "mine")
    remove_leftovers(tmp_path / "folder")
    assert list((tmp_path / "folder").iterdir()) == []
    assert (tmp_path / "mine" / "file").exists()


@pytest.mark.parametrize("kind", ["a link", "a broken link", "a pipe", "a folder"])
def test_what_is_no_file_is_no_lock_and_stays_as_it_is(tmp_path, kind):
    mine, lock = tmp_path / "mine", tmp_path / ".seed-0.lock"
    mine.write_bytes(b"x")
    if kind == "a pipe":
        os.mkfifo(lock)
    elif kind == "a folder":
        lock.mkdir()
    else:
        lock.symlink_to("mine" if kind == "a link" else "nowhere")
    with pytest.raises(MzprobeError, match="seed-0 and is no file: remove it"), held(tmp_path / "seed-0"):
        pytest.fail("held")
    assert mine.read_bytes() == b"x"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".seed-0.lock", "mine"]


def test_what_lies_beside_finished_work_is_removed_unless_another_command_is_at_it(tmp_path, holder):
    kept = {".agent.lock", ".agent.mzprobe-abcd1234", ".other.lock"}
    for name in kept - {".agent.lock"}:
        (tmp_path / name).write_bytes(b"x")
    tidy(tmp_path / "agent")
    assert {path.name for path in tmp_path.iterdir()} == kept
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    tidy(tmp_path / "agent")
    assert [path.name for path in tmp_path.iterdir()] == [".other.lock"]
    tidy(tmp_path / "missing" / "agent")
    assert [path.name for path in tmp_path.iterdir()] == [".other.lock"]


# Agents


def test_an_agent_in_training_is_not_trained_twice_and_loses_nothing(tmp_path, tiny_config, make_trainer):
    first, second = (make_trainer(tiny_config(), tmp_path) for _ in range(2))
    seen = []

    def meanwhile(_):
        if not seen:
            with pytest.raises(InUse, match="seed-0 is in use by process"):
                second.train()
            seen.append(sorted(path.name for path in first.folder.rglob("*")))
        first.stop = True

    with pytest.raises(Interrupted):
        first.train(meanwhile)
    assert seen
    second.train()


def test_a_refused_training_leaves_the_users_files_and_a_finished_one_too(tmp_path, tiny_config, make_trainer):
    trainer = make_trainer(tiny_config(), tmp_path)
    trainer.folder.mkdir(parents=True)
    for name in (".notes", ".step-0000000.mzprobe-abcd1234"):
        (trainer.folder / name).write_bytes(b"x")
    with held(trainer.folder), pytest.raises(InUse):
        trainer.train()
    assert (trainer.folder / ".step-0000000.mzprobe-abcd1234").exists()
    trainer.train()
    assert [path.name for path in trainer.folder.iterdir() if path.name.startswith(".")] == [".notes"]
