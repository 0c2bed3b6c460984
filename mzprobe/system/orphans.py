"""Processes that end when their parent process ends, however it ends.

Nothing heavy is imported here, so that a child follows its parent before it begins to import much.
"""

import multiprocessing
import os
import pickle
import sys
import threading
import time
from typing import Any

from mzprobe.system.signals import ignore


def follow_parent(after: float = 0.0) -> None:
    """Makes this process ignore signals and end when its parent has ended.

    Args:
        after: seconds between the parent's end and its own, in which it can save its work.
    """
    ignore()
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            time.sleep(after)
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def run_pickled(called: bytes, *further: Any, after: float) -> None:
    """Calls a pickled function with its pickled and with further arguments, then ends the process.

    Unpickling imports what the function needs. The process follows its parent before that, as by `follow_parent`.

    Args:
        called: pickled sequence of the function and its first arguments.
        further: more arguments.
        after: as in `follow_parent`.
    """
    follow_parent(after)
    function, *arguments = pickle.loads(called)
    function(*arguments, *further)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # an ordinary exit with torch loaded takes seconds, in which the parent is no longer followed
