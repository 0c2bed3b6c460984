"""Signals that ask a command to stop: heard between writes and never within one, and named by the exit code."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# Windows has no SIGHUP.
STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class _Heard:
    """What this process has heard, and what it is busy with."""

    last: signal.Signals | None = None  # the signal of the newest stop
    writes = 0  # blocks that must not be broken, one inside the other
    waiting: Callable[[], Any] | None = None  # what to do when the outermost of them ends


def exit_code() -> int:
    """That of a command which a signal has stopped, as a shell gives it: 130, 143 or 129; 130 without any."""
    return 128 + (_Heard.last or signal.SIGINT)


@contextmanager
def heard(act: Callable[[signal.Signals], Any]) -> Iterator[None]:
    """Within it, Ctrl-C, SIGTERM and SIGHUP call `act`, but none of them before a write in progress is done.

    A second one finds what was done before. SIGHUP stays ignored where it is, as under nohup. A thread of its own hears
    no signal, there nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _frame: Any) -> None:
        def stop() -> None:
            restore()
            act(signal.Signals(number))

        _Heard.last = signal.Signals(number)
        if _Heard.writes:
            _Heard.waiting = stop
        else:
            stop()

    def restore() -> None:
        for sign, before in previous.items():
            signal.signal(sign, before)

    signs = [sign for sign in STOPS if sign == signal.SIGINT or signal.getsignal(sign) != signal.SIG_IGN]
    previous = {sign: signal.signal(sign, handle) for sign in signs}
    try:
        yield
    finally:
        restore()


@contextmanager
def interrupting() -> Iterator[None]:
    """Within it, SIGTERM and SIGHUP interrupt as Ctrl-C does; `exit_code` is of the block."""

    def interrupt(_number: signal.Signals) -> None:
        raise KeyboardInterrupt

    _Heard.last = None
    with heard(interrupt):
        yield


@contextmanager
def kept() -> Iterator[None]:
    """After it signals are heard as before it, whatever a library did in between that wants to hear them itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {sign: signal.getsignal(sign) for sign in STOPS}
    try:
        yield
    finally:
        for sign, handler in before.items():
            if handler is not None:  # else it was not set from Python
                signal.signal(sign, handler)


@contextmanager
def unbroken() -> Iterator[None]:
    """A write: a signal that comes within it is acted on when it is done, even if it fails."""
    if threading.current_thread() is not threading.main_thread():
        yield  # which hears no signal
        return
    _Heard.writes += 1
    try:
        yield
    finally:
        _Heard.writes -= 1
        if not _Heard.writes and _Heard.waiting:
            act, _Heard.waiting = _Heard.waiting, None
            act()


@contextmanager
def held_back() -> Iterator[None]:
    """Processes that are started within it are born deaf to these signals, until `ignore`; this one hears them after.

    Ctrl-C and a terminal's end reach all processes of a command, and only the first knows what is to be done.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # starting it would let signals through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore() -> None:
    """In a process that another one has started: only the parent acts on signals, and says when to stop."""
    for sign in STOPS:
        signal.signal(sign, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
