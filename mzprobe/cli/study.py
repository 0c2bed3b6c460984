"""`mzprobe study`: agents, probes, figures and claims with one command."""

import platform
import shlex
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mzprobe.cli.drawing import draw, draw_variants, judge
from mzprobe.cli.options import (
    Allow,
    Analyses,
    Checkpoints,
    Datasets,
    Device,
    DryRun,
    Figures,
    Precision,
    Under,
    allowed,
    check_device,
    device_options,
    shipped_names,
)
from mzprobe.errors import Interrupted, UsageError
from mzprobe.locks import held, holder
from mzprobe.records.digests import portable

if TYPE_CHECKING:
    from mzprobe.execution.core import Executor, Needs, Task
    from mzprobe.settings import StudyConfig, StudyRun
    from mzprobe.study.plan import Prices
    from mzprobe.study.prepare import Prepared


def study(
    name: Annotated[
        str, typer.Argument(help=f"A shipped study ({shipped_names('presets/studies')}), or the path of a TOML file.")
    ] = "cartpole-quick",
    checkpoints: Checkpoints = Path("checkpoints"),
    analyses: Analyses = Path("analyses"),
    out: Figures = Path("figures"),
    datasets: Datasets = Path("datasets"),
    under: Under = None,
    processes: Annotated[int | None, typer.Option(min=1, help="Tasks at a time; one per core by default.")] = None,
    executor: Annotated[
        Literal["local", "ray"], typer.Option("--executor", help="Where tasks run: this machine, or a Ray cluster.")
    ] = "local",
    device: Device = "cpu",
    precision: Precision = "highest",
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace tables, and put aside agents and the dataset, that were made with other settings.",
        ),
    ] = False,
    allow: Allow = None,
    dry_run: DryRun = False,
) -> None:
    """Train several agents side by side, probe their checkpoints, draw the figures and judge the paper's claims.

    A study with variants compares their agents instead. Finished work is not done again: run the same command after an
    interruption, or after removing a table or an agent. Where a setting has changed, --overwrite redoes what depends on
    it, and nothing else.
    """
    from mzprobe.settings import load_study, study_runs
    from mzprobe.trust import refuse_code

    if under is not None:
        checkpoints, analyses, out, datasets = (under / one for one in (checkpoints, analyses, out, datasets))
    settings, config = load_study(name)
    runs = study_runs(name, settings, datasets=datasets)
    for one in runs:
        refuse_code(one.config.model_dump(), allow=allow or (), source=name)
    if executor == "local":  # the machines of a cluster may have other devices
        check_device(device)
    # Mistyped arguments are reported before the imports below, which take seconds.
    from mzprobe.compute import Compute
    from mzprobe.console import compiling, errors
    from mzprobe.study.prepare import prepare
    from mzprobe.study.tasks import Recipe

    compute = Compute(device="cpu" if device == "cpu" else "cuda", precision=precision)  # a process sees one card
    command = command_of_study(name, device, precision, allow)
    recipe = Recipe(checkpoints=checkpoints, analyses=analyses, command=command, compute=compute, overwrite=overwrite)
    here = compute if executor == "local" else Compute()  # a cluster's cards cannot be measured here
    prepared = prepare(Path(name).stem, settings, runs, config=config, recipe=recipe, datasets=datasets, priced_on=here)
    refused = prepared.refused
    if refused and not dry_run:
        raise UsageError(refused)
    doer = make_executor(executor, processes, device)
    total, most = doer.total(), doer.most()
    with compiling():
        print_plan(prepared)
        tasks = prepared.tasks(total, most)
        needed = print_total_time(tasks, prepared.prices, total)
    if dry_run:
        if refused:
            errors.print(f"warning: {refused}")
        return
    run_prepared(prepared, tasks, doer, needed=needed)
    asked = {table.path.parent.name for agent in prepared.todo for table in agent.tables}
    draw_results(name, settings, runs, asked, analyses, out)


def run_prepared(prepared: "Prepared", tasks: "Sequence[Task]", doer: "Executor", *, needed: float) -> None:
    """Runs the tasks of a study under its lock, with progress bars.

    Args:
        prepared: the study.
        tasks: its tasks that are not done.
        doer: executor that runs the tasks.
        needed: approximate seconds from start to end.

    Raises:
        InUse: if another command is running the study.
        UsageError: if another command has changed the study since it was prepared, or the recorded dataset differs from
            the one that its agents have learned from.
        MzprobeError: see `run_study`.
    """
    from mzprobe.cli.bars import TaskBars
    from mzprobe.console import stopping
    from mzprobe.study import refusal, run_study

    def interrupt() -> None:
        raise Interrupted("stopped")

    lock, overwrite = prepared.lock, prepared.recipe.overwrite
    bars = TaskBars(prepared.prices.by_task(), in_all=needed)
    with bars if tasks else nullcontext(), stopping(interrupt), held(lock, wait=lock_timeout(doer, lock)):
        if overwrite:  # must not put aside what another command has just made
            now = prepared.look_again(renewed=bool(prepared.others))
            if [(one.other, one.step, one.trained) for one in now] != [
                (one.other, one.step, one.trained) for one in prepared.todo
            ]:
                raise UsageError(f"another command has changed {lock} meanwhile: run the same command again")
        run_study(
            prepared.todo,
            tasks,
            executor=doer,
            dataset=prepared.others,
            overwrite=overwrite,
            on_report=bars.show,
            on_state=bars.change,
        )
    if prepared.dataset:
        refused = refusal(prepared.look_again(), overwrite=False)
        if refused:
            raise UsageError(refused)


def lock_timeout(doer: "Executor", lock: Path) -> float:
    """Returns the seconds to wait for a lock; a file server releases that of a lost node only after a while."""
    from mzprobe.execution.on_ray import LOST, OnRay

    holding = holder(lock) if isinstance(doer, OnRay) else None
    return LOST if holding is not None and holding.host != platform.node() else 0.0


def draw_results(
    name: str, settings: "StudyConfig", runs: "Sequence[StudyRun]", asked: set[str], analyses: Path, out: Path
) -> None:
    """Draws the figures of a study's tables and, for a study without variants, judges the claims.

    Args:
        name: name or path of the study, as the user gave it.
        settings: settings of the study.
        runs: runs of the study.
        asked: names of its tables.
        analyses: folder of all tables.
        out: folder of all figures.
    """
    from mzprobe.claims import all_claims
    from mzprobe.console import errors
    from mzprobe.figures import all_plans
    from mzprobe.figures.comparison import COMPARISONS

    run = Path(name).stem
    if settings.variants and asked.isdisjoint({comparison.table for comparison in COMPARISONS}):
        errors.print(f"no figure of a study compares its variants by these probes: see mzprobe compare {name}")
    elif settings.variants:
        draw_variants(name, runs, analyses, out, asked)
    else:
        if not {plan.probe for plan in all_plans()}.isdisjoint(settings.probes()):  # some questions have no figure
            draw(run, analyses, out)
        if not {claim.probe for claim in all_claims()}.isdisjoint(settings.probes()):
            judge(run, analyses, out)


def command_of_study(name: str, device: str, precision: str, allow: list[str] | None) -> str:
    """Returns the command that the study's outputs record, without options that do not affect their content."""
    return shlex.join(["mzprobe", "study", portable(name), *device_options(device, precision), *allowed(allow)])


def print_plan(prepared: "Prepared") -> None:
    """Prints what of a study is done, what is left to do, and how long each part takes."""
    from mzprobe.console import duration, errors
    from mzprobe.study.plan import horizons_apart, training_planned

    study, prices = prepared.settings, prepared.prices
    note = horizons_apart(study, prepared.runs)
    if note:
        errors.print(note)
    if study.dataset:
        seconds = prices.recording
        about = f"; about {duration(seconds)} on one core, at most" if seconds else ", recorded"
        errors.print(
            f"dataset: {study.dataset.episodes:,} episodes of an agent of {study.dataset.step:,} training steps{about}"
        )
    training = sum(map(prices.training, prepared.todo))
    about = f"; about {duration(training)} on one core" if training else ""
    errors.print(f"train: {training_planned(study, prepared.todo)}{about}")
    for one in prices.planned():
        if not one.left:
            errors.print(f"{one.name}: done, {one.done} checkpoints")
            continue
        done = f"{one.done} checkpoints done, {one.left} to do" if one.done else f"{one.left} checkpoints"
        errors.print(f"{one.name}: {done}, at most {one.cost}; about {duration(one.seconds)} on one core")
    for path, why in prepared.beside.items():
        if not why:
            errors.print(f"note: figures and claims include {path}, of a seed that the study does not have")


def print_total_time(tasks: "Sequence[Task]", prices: "Prices", total: "Needs") -> float:
    """Prints how long all tasks take together; returns the seconds."""
    from mzprobe.console import duration, errors
    from mzprobe.study.plan import in_all

    if not tasks:
        errors.print("all of it is done")
        return 0.0
    seconds, at_once = in_all(tasks, prices.by_task(), total), min(total.cores, len(tasks))
    errors.print(
        f"in all about {duration(seconds)} with {at_once} process{'es' if at_once > 1 else ''}: an estimate for this "
        "machine while it is otherwise idle, and mostly as if no episode ended early"
    )
    return seconds


def make_executor(executor: str, processes: int | None, device: str) -> "Executor":
    """Returns the executor that runs the tasks.

    Raises:
        UsageError: if a card is chosen by number for a cluster.
    """
    from mzprobe.execution.local import Local
    from mzprobe.execution.on_ray import OnRay

    if executor == "ray":
        if device.partition(":")[2]:
            raise UsageError(f"a cluster chooses cards itself: give --device cuda, not {device}")
        return OnRay(tasks=processes)
    cards: tuple[int, ...] = ()
    if device != "cpu":
        import torch

        index = torch.device(device).index
        cards = tuple(range(torch.cuda.device_count())) if index is None else (index,)
    return Local(processes=processes, cards=cards)
