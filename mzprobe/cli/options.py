"""Options that several commands share, and helpers to check and apply them."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from mzprobe.errors import UsageError

LAST_SEED = 2**63 - 1  # tables store seeds as 64-bit integers

Out = Annotated[Path, typer.Option("--out", help="Folder of the output.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a configuration key; may be given again."),
]
Setting = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a setting of this question, also by null or a list such as [1,2]; may be given again.",
    ),
]
Acting = Annotated[
    list[str] | None,
    typer.Option(
        "--acting",
        metavar="KEY=VALUE",
        help="How to play the behaviour policy, if not as in training: simulations, temperature, rule or noise; may be "
        "given again.",
    ),
]
Device = Annotated[str, typer.Option("--device", help="Device that the network runs on: cpu, cuda or cuda:1.")]
Precision = Annotated[
    Literal["highest", "high", "medium", "bfloat16"],
    typer.Option(
        "--precision",
        help="Precision of matrix products in torch; a lower one is faster on some GPUs, and gives other numbers.",
    ),
]
Checkpoints = Annotated[Path, typer.Option("--checkpoints", help="Folder of all checkpoints.")]
Analyses = Annotated[Path, typer.Option("--analyses", help="Folder of all tables.")]
Datasets = Annotated[Path, typer.Option("--datasets", help="Folder of all datasets.")]
Under = Annotated[Path | None, typer.Option(help="Folder of all these folders, in place of the working directory.")]
Figures = Annotated[Path, typer.Option("--figures", help="Folder of all figures.")]
AgentPath = Annotated[
    Path | None,
    typer.Argument(help="Folder of an agent or a run, or a checkpoint of other code; the newest run by default."),
]
SourceName = Annotated[
    str | None,
    typer.Option(
        "--source",
        help="Code that wrote the checkpoint (see mzprobe sources), or module:attribute of an adapter; recognised by "
        "default.",
    ),
]
Given = Annotated[
    list[str] | None,
    typer.Option("--agent", metavar="KEY=VALUE", help="A fact that other code's checkpoint omits, or gets wrong."),
]
Step = Annotated[list[int] | None, typer.Option(help="Only this training step; may be given again.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a table that was made with other settings.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what there is to do and how long it takes; do nothing.")]
Processes = Annotated[
    int,
    typer.Option(min=1, help="Agents at a time, one process each; planning uses twice as many, to share out episodes."),
]
Allow = Annotated[
    list[str] | None,
    typer.Option("--allow", metavar="MODULE", help="Run this module's code where a file names it; may be given again."),
]
Memory = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="SIZE",
        help="Memory for states, latents and trees, about, such as 1GiB; changes no number.  [default: 256MiB]",
    ),
]


def shipped_names(folder: str) -> str:
    """Returns the names of the TOML files in a folder of the package, for help texts."""
    found = Path(__file__).parent.parent / folder
    return ", ".join(sorted(path.stem for path in found.glob("*.toml")))


def allowed(modules: list[str] | None) -> list[str]:
    """Returns the --allow options as words of a recorded command."""
    return [part for module in modules or () for part in ("--allow", module)]


def device_options(device: str, precision: str) -> list[str]:
    """Returns --device and --precision as words of a recorded command, without those that have their default."""
    words = [] if device == "cpu" else ["--device", device]
    return words if precision == "highest" else [*words, "--precision", precision]


def check_device(device: str) -> None:
    """Refuses a device that does not exist or is not supported.

    Raises:
        UsageError: if so; names the device.
    """
    if device == "cpu":
        return  # saves the import of torch, which takes a second
    import torch

    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise UsageError(f"there is no device {device}: use cpu, cuda or cuda:1") from None
    if kind not in ("cpu", "cuda"):
        raise UsageError(f"device {device} is not supported: use cpu, cuda or cuda:1")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UsageError("this machine has no usable CUDA device: use --device cpu")
    if kind == "cuda" and (torch.device(device).index or 0) >= torch.cuda.device_count():
        raise UsageError(f"there is no device {device}: this machine has {torch.cuda.device_count()} CUDA devices")


def learn_from(offline: str | None, demonstrations: str | None) -> list[str]:
    """Returns the `key=value` overrides that make a run learn from a dataset; later ones take precedence.

    Args:
        offline: path or Minari id of a dataset to learn from without playing, or None.
        demonstrations: path or Minari id of a dataset to begin with before playing, or None.

    Raises:
        UsageError: if both are given.
    """
    if offline is not None and demonstrations is not None:
        raise UsageError("--offline never plays and --demonstrations does: give one of them")
    path = offline if offline is not None else demonstrations
    if path is None:
        return []
    use = "demonstrations" if offline is None else "offline"
    fraction = [] if offline is None else ["reanalyse.fraction=1"]
    return [f"dataset.path={json.dumps(path)}", f"dataset.use={use}", *fraction]
