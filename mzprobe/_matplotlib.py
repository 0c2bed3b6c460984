"""Imports matplotlib whatever MPLBACKEND says: figures are drawn into files and need no interactive backend.

Matplotlib cannot be imported where the variable names a backend that is not installed, such as the one that a notebook
sets for the commands it runs. A backend that matplotlib does find is selected as usual.
"""

import os
import sys
from contextlib import suppress


def import_matplotlib() -> None:
    """Imports matplotlib with the backend that MPLBACKEND names, if it exists; no-op if already imported."""
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
