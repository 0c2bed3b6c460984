"""Processes that end with the one that started them, however that ends.

Nothing heavy is imported here, so that a process that is killed with its parent need not import all of it before.
"""

import multiprocessing
import os
import pickle
import sys
import threading
import time
from typing import Any

from mzprobe.signals import ignore


def follow_parent(after: float = 0.0) -> None:
    """Leaves signals to the parent, and ends this process when the parent has ended.

    Args:
        after: seconds that are left to it then, to save what it has.
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
    """Calls what was pickled, a function and its arguments, with further arguments, and ends the process.

    It is unpickled, which imports what it needs, when the parent is followed already, as by `follow_parent`.
    """
    follow_parent(after)
    function, *arguments = pickle.loads(called)
    function(*arguments, *further)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # an interpreter with torch in it takes seconds to take itself down, and follows nobody meanwhile
