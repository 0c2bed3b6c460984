"""`mzprobe study`: agents, probes, figures and claims by one command."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mzprobe.cli.drawing import draw, draw_variants, judge
from mzprobe.cli.options import Allow, Analyses, Checkpoints, Datasets, DryRun, Figures, allowed
from mzprobe.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from mzprobe.settings import StudyConfig, StudyRun


def study(
    name: Annotated[str, typer.Argument(help="A shipped study, or the path of a TOML file.")] = "cartpole-quick",
    checkpoints: Checkpoints = Path("checkpoints"),
    analyses: Analyses = Path("analyses"),
    out: Figures = Path("figures"),
    datasets: Datasets = Path("datasets"),
    under: Annotated[
        Path | None, typer.Option(help="One folder for all of these, in place of the working directory.")
    ] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="Agents at a time; one a core by default.")] = None,
    allow: Allow = None,
    dry_run: DryRun = False,
) -> None:
    """Train several agents side by side, probe their checkpoints, draw the figures and judge the paper's claims.

    A study with variants compares their agents instead. What is done already is not done again: run it again after an
    interruption, or after removing a table or an agent.
    """
    from mzprobe.settings import load_study, study_runs
    from mzprobe.trust import refuse_code

    if under is not None:
        checkpoints, analyses, out, datasets = (under / one for one in (checkpoints, analyses, out, datasets))
    settings, config = load_study(name)
    runs = study_runs(name, settings, datasets=datasets)
    for one in runs:
        refuse_code(one.config.model_dump(), allow=allow or (), source=name)
    # What is mistyped is refused before what takes seconds to import.
    from mzprobe.claims import all_claims
    from mzprobe.console import PhaseBars, compiling, errors, progress_bars, stopping, training_note
    from mzprobe.locks import held
    from mzprobe.recording import portable
    from mzprobe.study import agent_label, run_study
    from mzprobe.study.dataset import DatasetTask
    from mzprobe.study.meeting import foreign_table
    from mzprobe.study.processes import Report

    run, command = Path(name).stem, shlex.join(["mzprobe", "study", portable(name), *allowed(allow)])
    processes = processes or os.cpu_count() or 1
    met = foreign_table(settings, runs, checkpoints=checkpoints, analyses=analyses)
    refused = f"{met}: give this study a folder of its own, such as --under runs"
    if met and not dry_run:
        raise UsageError(refused)
    with compiling():
        _announce(settings, runs, processes)
    if dry_run:
        if met:
            errors.print(f"warning: {refused}")
        return
    dataset = None
    if settings.dataset:
        dataset = DatasetTask(
            study=run,
            settings=settings.dataset,
            config=config,
            datasets=datasets,
            checkpoints=checkpoints,
            analyses=analyses,
            command=command,
        )

    def interrupt() -> None:
        raise Interrupted("stopped")

    with progress_bars() as bars:
        labels = [agent_label(run.variant, seed) for seed in settings.seeds for run in runs]
        if dataset:
            labels.insert(0, dataset.label)
        phases = PhaseBars(bars, labels)

        def show(report: Report) -> None:
            note = training_note(report.training) if report.training else "checkpoints" if report.total else ""
            phases.show(report.label, report.phase, done=report.done, total=report.total, note=note)

        with stopping(interrupt), held(checkpoints / run):
            run_study(
                settings,
                runs,
                dataset=dataset,
                checkpoints=checkpoints,
                analyses=analyses,
                command=command,
                processes=processes,
                on_report=show,
            )
    if settings.variants:
        draw_variants(name, runs, analyses, out)
        return
    draw(run, analyses, out)
    if not {claim.probe for claim in all_claims()}.isdisjoint(settings.probes()):
        judge(run, analyses, out)


def _announce(study: "StudyConfig", runs: "Sequence[StudyRun]", processes: int) -> None:
    """Says what a study does that begins with nothing, and how long that takes."""
    from mzprobe.console import errors, spelled
    from mzprobe.study.plan import in_all, planned, training_needed, training_planned

    probes, training = list(planned(study, runs)), training_needed(study, runs)
    if study.dataset:
        errors.print(
            f"dataset: {study.dataset.episodes:,} episodes of an agent of {study.dataset.step:,} training steps"
        )
    errors.print(f"train: {training_planned(study, runs)}; about {spelled(training)} on one core")
    for name, count, cost, seconds in probes:
        errors.print(f"{name}: {count} checkpoints, at most {cost}; about {spelled(seconds)} on one core")
    agents, work = len(study.seeds) * len(runs), training + sum(seconds for *_, seconds in probes)
    at_once = min(processes, agents)
    errors.print(
        f"in all about {spelled(in_all(work, agents=agents, processes=at_once))} with {at_once} "
        f"process{'es' if at_once > 1 else ''}, as far as nothing is done yet: an estimate for this machine as busy as "
        "it is now, most of it as if no episode ended early"
    )
