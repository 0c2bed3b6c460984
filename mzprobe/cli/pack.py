"""`mzprobe pack`: rounded copies of a run's tables, to publish with a paper."""

from pathlib import Path
from typing import Annotated

import typer

from mzprobe.cli.options import Analyses


def pack(
    run: Annotated[str, typer.Argument(help="Name of the run.")],
    out: Annotated[Path, typer.Option(help="Folder for the rounded tables; not the same as --analyses.")],
    analyses: Analyses = Path("analyses"),
    bits: Annotated[int, typer.Option(min=2, max=52, help="Significant binary digits that numbers keep.")] = 14,
) -> None:
    """Copy a run's tables with rounded numbers, a third of the size: 14 bits are four decimal digits.

    Figures and claims made from the copies agree to as many digits; a probe cannot add to a copy.
    """
    from mzprobe.console import console
    from mzprobe.errors import UsageError
    from mzprobe.files import remove_leftovers, replace_file
    from mzprobe.locks import all_held
    from mzprobe.names import check_name
    from mzprobe.tables import read_table, rounded, table_bytes, tables_in

    check_name(run, "a run", "give the name of one")
    paths = [path for folder in sorted((analyses / run).glob("*")) for path in tables_in(folder)]
    if not paths:
        raise UsageError(f"there are no tables of run {run} under {analyses}: name the run and give its --analyses")
    packed = {}  # all tables are rounded before any is written
    for path in paths:
        try:
            packed[out / path.relative_to(analyses)] = table_bytes(rounded(read_table(path), bits))
        except UsageError as reason:
            raise UsageError(f"{path}: {reason}") from None
    with all_held(list(packed)):
        for target, data in packed.items():
            if target.exists() and not (target.is_file() and target.read_bytes() == data):
                raise UsageError(f"{target} is there already, with other content: choose another --out, or remove it")
        for target, data in packed.items():
            replace_file(target, data)
            remove_leftovers(target.parent, target.name)
    before, after = (sum(path.stat().st_size for path in some) for some in (paths, packed))
    console.print(f"{len(paths)} tables, {before / 1e6:.1f} MB, rounded to {after / 1e6:.1f} MB in {out / run}")
