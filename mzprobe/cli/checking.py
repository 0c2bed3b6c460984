"""`mzprobe verify` and `mzprobe seal`: whether files are still as they were written."""

from pathlib import Path
from typing import Annotated

import typer

from mzprobe.files import refuse_absent

Paths = Annotated[list[Path], typer.Argument(help="Folders of anything that mzprobe wrote, or single tables.")]


def verify(
    paths: Paths,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say only what is wrong.")] = False,
) -> None:
    """Check checkpoints, states of training, tables and datasets against the digests they carry.

    Everything below the folders is examined, and nothing is changed. Exits with 1 if anything is damaged, or lies where
    files of another agent belong.
    """
    for path in paths:
        refuse_absent(path, remedy="give a folder, or a table")
    from mzprobe.console import console, errors
    from mzprobe.verify import examine

    counts: dict[str, int] = {}
    wrong = unsealed = 0
    for found in examine(paths):
        counts[found.kind] = counts.get(found.kind, 0) + 1
        if found.problem:
            wrong += 1
            errors.print(f"{found.kind} {found.problem}")
        elif not found.sealed:
            unsealed += 1
            said = "mzprobe seal" if found.kind == "table" else "nothing does that for others' datasets"
            errors.print(f"{found.kind} {found.path} has no digest to compare with: {said}")
        elif not quiet:
            console.print(f"{found.kind} {found.path} is whole")
    looked = ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in sorted(counts.items()))
    console.print(f"{looked or 'nothing of mzprobe'}: {wrong} wrong, {unsealed} without a digest")
    if wrong:
        raise typer.Exit(1)


def seal(
    paths: Paths,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sealed; change nothing.")] = False,
) -> None:
    """Seal tables of an older mzprobe, which carry no digest, after saying what each holds.

    Look first, with --dry-run: a seal says that a table is as it was when it was sealed, not that it was right. Sealed
    tables are left as they are; a damaged one is refused.
    """
    from mzprobe.console import console
    from mzprobe.files import remove_leftovers
    from mzprobe.locks import held
    from mzprobe.tables import look_at, write_table
    from mzprobe.verify import tables_below

    for path in tables_below(paths):
        with held(path):
            table, sealed = look_at(path)
            record, frame = table.record, table.frame
            steps = frame["training_step"]
            said = (
                f"{path}: {record['probe']} of run {record['run']}, seed {record['seed']}, {len(frame):,} rows of "
                f"{steps.nunique()} training steps from {steps.min()} to {steps.max()}"
            )
            if not sealed and not dry_run:
                write_table(path, table)
            if not dry_run:
                remove_leftovers(path.parent, path.name)
            console.print(f"{said}; {_became(sealed, dry_run)}")


def _became(sealed: bool, dry_run: bool) -> str:
    if sealed:
        return "sealed before"
    return "not sealed" if dry_run else "sealed now"
