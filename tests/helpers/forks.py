"""Commands in processes that are forked from one in which all is imported: killed at a file operation, or two at once.

As a program it is that process, which takes a JSON line a request; `Forks` starts it and asks it. A forked process
counts what it does to files below its folder, and can be told to kill itself before a certain operation.
"""

import json
import mmap
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_COUNTED = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.link", "os.symlink", "shutil.rmtree"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_FILES = ("said", "operations")  # of a command, beside its folder


@dataclass(frozen=True)
class Ended:
    """What became of a command."""

    code: int  # -9 where it was killed
    said: str  # on both streams
    operations: tuple[str, ...]  # what it did to files, in order; before the last it was killed
    left: bool  # whether a process of it went on without it


class Forks:
    """The process from which commands are forked."""

    def __init__(self):
        alone = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **alone},
        )

    def run(self, folder, *commands, kill_at=None, order="free"):
        """Runs commands in a folder until all have ended.

        Args:
            folder: where they work.
            commands: arguments of each.
            kill_at: number of the operation, from 1, before which it is killed; none by default.
            order: `free`; `together`: all wait at their first lock for the others; or `late`: so they do, and the
                second goes on when the first has ended.
        """
        scratch = folder.parent / f"{folder.name}.said"
        scratch.mkdir(exist_ok=True)
        asked = {"folder": folder, "scratch": scratch, "commands": commands, "kill_at": kill_at, "order": order}
        self.process.stdin.write(json.dumps(asked, default=str) + "\n")
        self.process.stdin.flush()
        ended = []
        for number, (code, left) in enumerate(json.loads(self.process.stdout.readline())):
            said, done = ((scratch / f"{number}.{name}").read_text() for name in _FILES)
            ended.append(Ended(code=code, said=said, operations=tuple(done.splitlines()), left=left))
        return ended

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def everything(folder):
    """Every path below a folder with its bytes, but those that hold times of the clock, which do not repeat."""
    paths = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*"))}
    return {
        name: path.read_bytes() if path.is_file() and not re.search(r"timing|/learning\.", name) else None
        for name, path in paths.items()
    }


def is_gone(group, *, seconds):
    """Whether all processes of a group have ended before so long; those that have not are killed then."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    os.killpg(group, signal.SIGKILL)
    return False


# In the process from which commands are forked


def _serve():
    _import_all()
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(_run_all(**asked)), flush=True)


def _import_all():
    """What commands import when they are called, and torch's threads, which no fork would survive, are left out."""
    import importlib

    import torch

    torch.set_num_threads(1)
    for name in (
        *("cli", "console", "claims", "claims.report", "figures", "records.versions"),
        *("study", "study.dataset", "study.plan", "training.trainer"),
        *("probes.registry", "probes.runner", "verify"),
    ):
        importlib.import_module(f"mzprobe.{name}")
    try:
        importlib.import_module("minari")
        importlib.import_module("mzprobe.datasets.collect")
    except ImportError:
        pass


def _run_all(*, folder, scratch, commands, kill_at, order):
    started = []
    for number, arguments in enumerate(commands):
        tell, hear = os.pipe(), os.pipe()  # it has come to its lock; it may go on
        pid = os.fork()
        if not pid:
            os.close(tell[0])
            os.close(hear[1])
            gate = None if order == "free" else (tell[1], hear[0])
            _live(arguments, folder=folder, scratch=Path(scratch) / str(number), kill_at=kill_at, gate=gate)
        os.close(tell[1])
        os.close(hear[0])
        started.append((pid, tell[0], hear[1]))
    if order != "free":
        for _, arrived, _ in started:
            os.read(arrived, 1)  # or it has ended
    ends = []
    for pid, _, go in started:
        _allow(go)
        if order == "late":
            ends.append(_end_of(pid))
    ends += [] if order == "late" else [_end_of(pid) for pid, _, _ in started]
    for _, arrived, go in started:
        os.close(arrived)
        os.close(go)
    return ends


def _allow(go):
    with suppress(BrokenPipeError):  # it ended without a lock
        os.write(go, b".")


def _end_of(pid):
    """Exit code of a command, and whether a process of its group is there seconds later."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code, not is_gone(pid, seconds=5)


def _live(arguments, *, folder, scratch, kill_at, gate):
    """The life of a command, which leaves the streams of the process that it comes from alone."""
    os.setpgid(0, 0)
    said, done = (os.open(f"{scratch}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND) for name in _FILES)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(said, 1)
    os.dup2(said, 2)
    os.chdir(folder)
    sys.argv = ["mzprobe", *arguments]
    code = 70
    try:
        _watch(Watch(folder, done, kill_at, gate))
        from mzprobe import cli

        with _forked_tasks():
            cli.main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # tearing down what was imported would take seconds


class Watch:
    """Counts operations, also those of processes that are forked further on, and kills before one of them."""

    def __init__(self, folder, done, kill_at, gate):
        self.folder, self.done, self.kill_at, self.gate = os.path.realpath(folder), done, kill_at, gate
        self.count = mmap.mmap(-1, 8)  # shared with forked processes

    def see(self, event, args):
        if event == "open":
            path, _, flags = args
            if not isinstance(path, str | bytes | os.PathLike) or not flags & _WRITES:
                return
        elif event in _COUNTED:
            path = args[0]
        else:
            return
        path = os.path.abspath(os.fsdecode(path))
        if path == self.folder or not path.startswith(self.folder + os.sep):
            return
        if self.gate and path.endswith(".lock"):
            (arrived, go), self.gate = self.gate, None
            os.write(arrived, b".")
            os.read(go, 1)
        self.operation(f"{event} {os.path.relpath(path, self.folder)}")

    def operation(self, what):
        number = int.from_bytes(self.count[:8], "little") + 1
        self.count[:8] = number.to_bytes(8, "little")
        os.write(self.done, f"{what}\n".encode())
        if number == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def _watch(watch):
    """Sees what the interpreter tells of, and beyond that writes, of which half is done, and waits for the disk."""
    from mzprobe import files

    sys.addaudithook(watch.see)

    def waits(name):
        own = getattr(os, name)

        def waiting(*args):
            watch.operation(name)
            return own(*args)

        setattr(os, name, waiting)

    waits("fsync")
    waits("sync")

    def halves(file, data):
        data = data if isinstance(data, bytes) else b"".join(data)
        file.write(data[: len(data) // 2])
        file.flush()
        watch.operation("write")
        file.write(data[len(data) // 2 :])

    def write_through(file, data):
        halves(file, data)
        file.flush()
        os.fsync(file.fileno())

    def write_bytes(path, data):
        with path.open("wb") as file:
            halves(file, data)

    files._write_through = write_through
    Path.write_bytes = write_bytes
    Path.write_text = lambda path, text, encoding: path.write_bytes(text.encode(encoding))


@contextmanager
def _forked_tasks():
    """A study's processes are forked like itself, not spawned, which would import everything again."""
    import multiprocessing

    forked = multiprocessing.get_context("fork")
    real, multiprocessing.get_context = multiprocessing.get_context, lambda _method=None: forked
    yield
    multiprocessing.get_context = real


if __name__ == "__main__":
    _serve()
