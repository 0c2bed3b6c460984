"""What made an output: the versions of everything that decides its bits."""

import platform
from importlib import metadata

import mzprobe

PACKAGES = ("numpy", "numba", "scipy", "torch", "gymnasium")
ENGINES = {"lunarlander": ("box2d",), "gym": ("ale-py", "box2d", "mujoco")}  # by the environment's name, up to a colon


def versions(environment: str) -> dict[str, str]:
    """Versions of mzprobe, Python and the packages that numbers depend on in an environment, by its name."""
    found = {"mzprobe": mzprobe.__version__, "python": platform.python_version()}
    found |= {package: metadata.version(package) for package in PACKAGES}
    for engine in ENGINES.get(environment.partition(":")[0], ()):
        try:
            found[engine] = metadata.version(engine)
        except metadata.PackageNotFoundError:
            continue  # then it has decided nothing
    return found
