"""Imports matplotlib whatever MPLBACKEND says: figures are drawn into files, and need no backend.

Matplotlib refuses to be imported where the variable names a backend that it does not find, as a notebook's for its
commands. One that it does find is left as it would be without us.
"""

import os
import sys
from contextlib import suppress


def import_matplotlib() -> None:
    """Imports it, with the backend that MPLBACKEND names if there is such a one; nothing if it is imported already."""
    if "matplotlib" in sys.modules:
        return
    named = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib as mpl
    finally:
        if named is not None:
            os.environ["MPLBACKEND"] = named
    if named:
        with suppress(ValueError):
            mpl.rcParams["backend"] = named


import_matplotlib()
