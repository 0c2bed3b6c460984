"""Provenance of an output: the versions of all packages that affect its bits, and the machine where it does too."""

import platform
from importlib import metadata

import torch
from threadpoolctl import threadpool_info

import mzprobe

PACKAGES = ("numpy", "numba", "scipy", "torch", "gymnasium")
EXACT = ("cartpole",)  # environments that use only our own arithmetic
ENGINES = {"lunarlander": ("box2d",), "gym": ("ale-py", "box2d", "mujoco")}  # packages, by name up to a colon


def versions(environment: str) -> dict[str, str]:
    """Returns the versions of mzprobe, Python and the packages that results in an environment depend on.

    Args:
        environment: name of the environment.
    """
    found = {"mzprobe": mzprobe.__version__, "python": platform.python_version()}
    found |= {package: metadata.version(package) for package in PACKAGES}
    for engine in ENGINES.get(environment.partition(":")[0], ()):
        try:
            found[engine] = metadata.version(engine)
        except metadata.PackageNotFoundError:
            continue  # not installed, so it affects nothing
    return found


def machine(environment: str, *, network: str, device: str = "cpu", threads: int = 1) -> dict[str, str]:
    """Returns the facts of this machine that bits depend on, beside versions.

    Empty where our own kernels run the network in an environment of our own arithmetic.

    Args:
        environment: name of the environment.
        network: kind of the network in the configuration.
        device: device of the network.
        threads: number of threads of torch's kernels and the BLAS.
    """
    found: dict[str, str] = {}
    if device != "cpu" or network != "mlp":
        found = {"device": device, "torch_kernels": torch.backends.cpu.get_cpu_capability()}
        found |= {"blas_kernels": _blas_kernels(), "threads": str(threads)}
        if torch.device(device).type == "cuda":
            found["device"] = torch.cuda.get_device_name(device)
    if found or environment.partition(":")[0] not in EXACT:
        found["processor"] = _processor()
        found["libc"] = " ".join(platform.libc_ver())
    return found


def _blas_kernels() -> str:
    """Returns the processor family that the loaded BLAS has chosen its kernels for, such as `openblas SkylakeX`."""
    loaded = [library for library in threadpool_info() if library["user_api"] == "blas"]
    return ", ".join(dict.fromkeys(f"{one['internal_api']} {one.get('architecture', '')}".strip() for one in loaded))


def _processor() -> str:
    """Returns the processor's name where the system tells it, else its architecture."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
