"""Figures that compare any runs: one figure per question, with one line per run, each at its last training step."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mzprobe.errors import UsageError
from mzprobe.figures.comparison import joined, provenance, tables_alike
from mzprobe.figures.output import Drawn, title_of, write_figure
from mzprobe.figures.style import (
    PANEL_TITLE,
    StepFormatter,
    agents_in_words,
    draw_mean,
    figure_style,
    legend_below,
    panel_rows,
    simulations_axis,
    start_at_zero,
    thousands,
    variant_looks,
)
from mzprobe.figures.views import View, all_views, guessed
from mzprobe.locks import folder_held
from mzprobe.records.digests import section
from mzprobe.settings import OURS
from mzprobe.stats import over_agents
from mzprobe.tables import Table


class Run(NamedTuple):
    """Agents to compare with others: all agents of a run, or one of them."""

    name: str
    seed: int | None = None

    @property
    def label(self) -> str:
        """Name in legends and tables."""
        return self.name if self.seed is None else f"{self.name}, seed {self.seed}"


_POLICY_NAMES = {"behaviour": "search", "prior": "policy network,\nsampled", "greedy": "policy network,\ngreedy"}
_POLICIES = list(_POLICY_NAMES)
_STEPS = ("training_step", "policy_step")
_MARKED = 40  # largest number of points of a line with markers
_LABEL = 45  # characters of a label up to which the legend has two columns
_APART = 0.15  # distance of the marks of two runs, where policies are 1 apart
_UNITS = {"seed": "agents", "episode": "episodes"}
_OWN = {"gamma": "gamma {:g}", "time_limit": "{} steps"}  # settings of an environment, shown where runs differ in them


def draw_beside(runs: Sequence[Run], *, analyses: Path, folder: Path, step: int | None = None) -> list[Drawn]:
    """Draws every question for which two or more runs have tables, each as PNG, SVG and CSV.

    A run is shown at one training step of its table. Episodes of runs in the same environment begin in the same states,
    so questions about returns get a second figure, of each run's return minus that of the first run from the same
    start. Errors are not paired, because each policy visits states of its own.

    Args:
        runs: two or more; the others are compared with the first.
        analyses: folder of all tables.
        folder: folder of the figures.
        step: training step; by default the last of each table. A table without it is left out.

    Raises:
        UsageError: if no two runs have tables of the same question, or these were made in different ways or
            environments.
        InUse: if another command is writing there for more than a minute.
    """
    done, left_out = list[Drawn](), list[Drawn]()
    with folder_held(folder):
        for view in all_views():
            known = {run: table for run, table in _tables(runs, view.table, analyses).items() if table is not None}
            tables = {run: table for run, table in known.items() if step is None or step in _steps(table)}
            apart = _horizons(tables) if view.table == "cross" else ""
            if len(tables) > 1 and apart:
                remedy = f"mzprobe cross-matrix and the same --horizon for all ({apart})"
                left_out.append(Drawn(what="cross at one h", status="missing", remedy=remedy))
            elif len(tables) > 1:
                drawn = _draw_view(view, tables, folder, step)
                done += drawn
                lacking = [run for run in runs if run not in tables] if drawn else []
                left_out += [_left_out(run, view, known.get(run), step) for run in lacking]
    if not done:
        at = "" if step is None else f" with training step {step}"
        raise UsageError(
            f"no two of {', '.join(run.label for run in runs)} have a table of the same question{at} under {analyses}: "
            "ask them with the same probe, such as mzprobe eval-horizon"
        )
    return done + left_out


def paired_differences(view: View, frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Computes the differences between the returns of every run and those of the first, with equal seeds and starts.

    One row per run and cell, with the mean difference and its standard error over agents, or over episodes if there is
    only one agent; `over` names which. A run that shares no seed with the first has no row.

    Args:
        view: view of a question whose rows are episodes.
        frames: tables of the question by run; the others are compared with the first.
    """
    (first, of_first), *others = frames.items()
    keys = list(dict.fromkeys(key for panel in view.panels for key in panel.where))
    shown = [*keys, view.x]
    found = []
    if "simulations" in shown:  # the prior alone, which no figure shows, has a row per temperature
        of_first = of_first[of_first["simulations"] > 0]
    for label, frame in others:
        own = frame[frame["simulations"] > 0] if "simulations" in shown else frame
        both = own.merge(of_first, on=["seed", "episode", *shown], suffixes=("", "_of_first"), validate="one_to_one")
        both = both.assign(difference=both["return"] - both["return_of_first"])
        agents = len(both["seed"].unique())
        unit = "seed" if agents > 1 else "episode"
        cells = over_agents(both, by=shown, column="difference", agent=unit)
        cells = cells.rename(columns={"agents": "units"}).assign(over=_UNITS[unit], agents=agents, against=first)
        found.append(cells.assign(run=label))
    return pd.concat(found, ignore_index=True)


def _left_out(run: Run, view: View, table: Table | None, step: int | None) -> Drawn:
    """Says that a figure of other runs leaves a run out, and how to put it in."""
    if table is None:
        asked = {question.question: question.command for question in OURS}
        remedy = f"mzprobe {asked.get(view.table, view.table)} for its checkpoints"
    else:
        remedy = f"--step {step} of that probe; it has steps up to {max(_steps(table)):,}"
    return Drawn(what=f"{view.name} of {run.label}", status="missing", remedy=remedy)


def _draw_view(view: View, tables: Mapping[Run, Table], folder: Path, step: int | None) -> list[Drawn]:
    frames = {run.label: _at(table.frame, step) for run, table in tables.items()}
    records = [table.record["agents"][0] for table in tables.values()]
    made, title = provenance({run.label: table for run, table in tables.items()}), title_of(next(iter(tables.values())))
    cells = joined({label: _at(view.aggregate(frame), step) for label, frame in frames.items()}, "run")
    labels = dict(zip(frames, _labels(cells, frames, records), strict=True))
    view = guessed(view, cells.drop(columns="run"))
    if not any(len(_rows(cells, panel.where)) for panel in view.panels):
        return []  # no panel has a number
    figure = _draw(view, cells, labels, title=title)
    done = write_figure(figure, cells, made=made, folder=folder, name=view.name)
    cells = paired_differences(view, frames) if view.paired and _begin_alike(records) else cells.iloc[:0]
    if len(cells):
        others = dict(zip(frames, _labels(cells, frames, records), strict=True))  # counts agents that both runs have
        paired = {label: others[label] for label in cells["run"].unique()}
        figure = _draw(view, cells, paired, title=title, against=f"minus {next(iter(frames))}")
        done += write_figure(figure, cells, made=made, folder=folder, name=f"{view.name}-paired")
    return done


def _draw(view: View, cells: pd.DataFrame, labels: Mapping[str, str], *, title: str, against: str = "") -> Figure:
    looks = variant_looks(labels, kin=False)
    with figure_style():
        shown = [panel for panel in view.panels if len(_rows(cells, panel.where))]
        alike = len({panel.ylabel for panel in shown}) == 1
        columns = 3 if len(shown) % 3 == 0 else 2
        figure, panels = panel_rows(len(shown), xlabel=view.xlabel, columns=columns, height=2.2, sharey=alike)
        for panel, axes in zip(shown, panels, strict=True):
            _draw_runs(axes, _rows(cells, panel.where), view, looks, labels, log=panel.log)
            axes.set_title(panel.title, fontsize=PANEL_TITLE)
            axes.set_ylabel(f"{panel.ylabel}\n{against}".strip(), fontsize=8)
            axes.grid(axis="y")
            if against:
                axes.axhline(0, color="0.6", linewidth=0.6)
        together = pd.concat([_rows(cells, panel.where) for panel in shown])
        for panel, axes in zip(shown, panels, strict=True):  # after all are drawn, since axes may be shared
            if panel.log:
                axes.set_yscale("log")
            else:
                start_at_zero(axes, together if alike else _rows(cells, panel.where))
        for label in dict.fromkeys(panel.ylabel for panel in shown):  # panels of one quantity share a scale
            kin = [axes for panel, axes in zip(shown, panels, strict=True) if panel.ylabel == label]
            ends = min(axes.get_ylim()[0] for axes in kin), max(axes.get_ylim()[1] for axes in kin)
            for axes in kin:
                axes.set_ylim(ends)
        _tick(panels[0], view, cells)
        figure.suptitle(f"{title}, {view.name.replace('_', ' ')}{_spread(together)}", fontsize=10)
        legend_below(figure, labels.values(), title="Run", columns=2 if max(map(len, labels.values())) <= _LABEL else 1)
    return figure


def _draw_runs(
    axes: Axes,
    rows: pd.DataFrame,
    view: View,
    looks: Mapping[str, Mapping[str, Any]],
    labels: Mapping[str, str],
    *,
    log: bool,
) -> None:
    """Draws the rows of a panel: a line per run, or for policies a mark per run beside those of the others."""
    for place, (run, look) in enumerate(looks.items()):
        own, named = rows[rows["run"] == run], {**look, "label": labels[run]}
        if view.x == "policy":
            _draw_categories(axes, own, named, shift=_APART * (place - (len(looks) - 1) / 2))
            continue
        marks = {"marker": ""} if len(own) > _MARKED else {}
        draw_mean(axes, own[own["mean"] > 0] if log else own, view.x, **named | marks)


def _tick(axes: Axes, view: View, cells: pd.DataFrame) -> None:
    """Sets the ticks of the x axis, which all panels share."""
    if view.x == "simulations":
        simulations_axis(axes, cells[cells["simulations"] > 0]["simulations"].to_numpy())
    elif view.x in _STEPS:
        axes.xaxis.set_major_formatter(StepFormatter())
    elif view.x != "policy":
        axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))


def _spread(cells: pd.DataFrame) -> str:
    """Describes the bands and bars; empty for a single agent, which has none."""
    if "over" in cells:
        return f", mean ± standard error over {' or '.join(cells['over'].unique())}"
    return ", mean ± standard error over agents" if cells["agents"].max() > 1 else ""


def _draw_categories(axes: Axes, cells: pd.DataFrame, look: Mapping[str, Any], *, shift: float) -> None:
    """Draws a run's mean for each policy, with bars of one standard error, shifted so that runs stand side by side."""
    places = np.array([_POLICIES.index(policy) for policy in cells["policy"]]) + shift
    style = {"color": look["colour"], "marker": look["marker"], "label": look["label"], "markersize": 4}
    style |= {"clip_on": False}  # many are at the largest possible return, where the panel ends
    axes.errorbar(places, cells["mean"], yerr=cells["standard_error"], linestyle="", capsize=2, **style)
    axes.set_xticks(range(len(_POLICIES)), [_POLICY_NAMES[policy] for policy in _POLICIES])


def _tables(runs: Sequence[Run], name: str, analyses: Path) -> dict[Run, Table | None]:
    """Reads the table of each run, with only the agents that are shown; None where there is none."""
    by_label = {run.label: run.name for run in runs}
    found = tables_alike(analyses, by_label, name, remedy="ask one of them again with --overwrite")
    tables = {run: found.get(run.label) for run in runs}
    return {run: table if table is None or run.seed is None else _of_seed(table, run) for run, table in tables.items()}


def _of_seed(table: Table, run: Run) -> Table | None:
    agents = [record for record in table.record["agents"] if record["seed"] == run.seed]
    frame = table.frame[table.frame["seed"] == run.seed]
    return replace(table, frame=frame, record={"agents": agents}) if agents else None


def _horizons(tables: Mapping[Run, Table]) -> str:
    """Describes the largest h of cross tables if they differ, so that errors do not compare; empty otherwise.

    By default h is the unroll length of a run's own agents.
    """
    found = {run.label: int(table.frame["h"].max()) for run, table in tables.items() if "h" in table.frame}
    return ", ".join(f"{label} at h = {h}" for label, h in found.items()) if len(set(found.values())) > 1 else ""


def _steps(table: Table) -> set[int]:
    return set(table.frame["training_step"])


def _at(frame: pd.DataFrame, step: int | None) -> pd.DataFrame:
    """Returns the rows of a training step, by default the last, and of the model's own value head."""
    if "training_step" not in frame:
        return frame  # an installed package's aggregate over steps
    chosen = frame["training_step"].max() if step is None else step
    shown: pd.DataFrame = frame[frame["training_step"] == chosen]
    return shown[shown["value_step"] == shown["training_step"]] if "value_step" in shown else shown


def _rows(cells: pd.DataFrame, where: Mapping[str, Any]) -> pd.DataFrame:
    """Returns the rows with these entries and a mean; without rows of 0 simulations."""
    kept: pd.DataFrame = cells[cells["mean"].notna()]
    for column, entry in where.items():
        kept = kept[kept[column] == entry]
    return kept[kept["simulations"] > 0] if "simulations" in kept else kept


def _labels(
    cells: pd.DataFrame, frames: Mapping[str, pd.DataFrame], records: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """Yields the legend's label of each run: its step, its agents, and settings of its environment that differ."""
    specs = [record["environment"] for record in records]
    several = [key for key in _OWN if len({spec[key] for spec in specs}) > 1]
    for (label, frame), spec in zip(frames.items(), specs, strict=True):
        own = [_OWN[key].format(spec[key]) for key in several]
        step = f"step {thousands(int(frame['training_step'].iloc[0]))}"
        shown = cells[cells["run"] == label]
        known = shown[shown["mean"].notna()]
        if shown.empty:  # the first run in paired differences
            yield label
            continue
        agents = agents_in_words(shown if known.empty else known)
        yield f"{label} ({', '.join([step, agents, *own])})"


def _begin_alike(records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether episodes with the same number begin in the same state and have the same time limit in all runs."""

    def of(record: Mapping[str, Any]) -> tuple[Any, ...]:
        options = dict(section(section(record["config"], "environment"), "options"))
        for said_elsewhere in ("gamma", "time_limit"):
            options.pop(said_elsewhere, None)
        return record["environment"]["time_limit"], sorted(options.items())

    return all(of(record) == of(records[0]) for record in records)
