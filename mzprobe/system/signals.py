"""Signals that ask a command to stop: handled between writes, never within one, and reflected in the exit code."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# Windows has no SIGHUP.
STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class _Heard:
    """State of signal handling in this process."""

    last: signal.Signals | None = None  # most recent signal to stop
    writes = 0  # depth of nested `unbroken` blocks
    waiting: Callable[[], Any] | None = None  # action postponed to the end of the outermost block


def exit_code() -> int:
    """Returns the exit code of a command stopped by the last signal, as shells have it: 130, 143 or 129.

    Without a signal it is 130.
    """
    return 128 + (_Heard.last or signal.SIGINT)


@contextmanager
def heard(act: Callable[[signal.Signals], Any]) -> Iterator[None]:
    """Makes Ctrl-C, SIGTERM and SIGHUP call `act` within the block, after any write in progress is done.

    The first signal restores the previous handlers, which a second one meets. A SIGTERM or SIGHUP that is ignored, as
    under nohup, stays ignored. No-op outside the main thread, which alone receives signals.
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
    """Makes SIGTERM and SIGHUP raise KeyboardInterrupt within the block, as Ctrl-C does; resets `exit_code`."""

    def interrupt(_number: signal.Signals) -> None:
        raise KeyboardInterrupt

    _Heard.last = None
    with heard(interrupt):
        yield


@contextmanager
def kept() -> Iterator[None]:
    """Restores signal handlers on exit, whatever a library installed meanwhile."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {sign: signal.getsignal(sign) for sign in STOPS}
    try:
        yield
    finally:
        for sign, handler in before.items():
            if handler is not None:  # None if it was not installed from Python
                signal.signal(sign, handler)


@contextmanager
def unbroken() -> Iterator[None]:
    """Postpones the handling of signals to the end of the block, for writes; also if the block fails."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread handles signals
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
    """Blocks these signals within the block, so that processes started in it have them blocked until `ignore`.

    Ctrl-C and the closing of a terminal reach all processes of a command, but only the first should act on them. It
    receives those that arrived meanwhile at the end of the block.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # if it were started within the block, it would unblock the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore() -> None:
    """Makes a child process ignore the signals, since only its parent acts on them and tells it when to stop."""
    for sign in STOPS:
        signal.signal(sign, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
