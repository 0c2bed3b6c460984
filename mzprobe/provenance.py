"""What made an output: the versions of everything that decides its bits."""

import platform
from importlib import metadata

import mzprobe

PACKAGES = ("numpy", "numba", "scipy", "torch", "gymnasium")


def versions() -> dict[str, str]:
    """Versions of mzprobe, Python and the packages that numbers depend on."""
    found = {"mzprobe": mzprobe.__version__, "python": platform.python_version()}
    return found | {package: metadata.version(package) for package in PACKAGES}
