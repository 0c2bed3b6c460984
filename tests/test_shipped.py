"""What is shipped fits together: figures' numbers and verdicts come from the tables beside them, by this code."""

import io
from pathlib import Path

import pandas as pd
import pytest

from mzprobe.claims import judge_run, read_tables
from mzprobe.claims.report import as_markdown, counted, shown, shown_agents, shown_interval, shown_last
from mzprobe.config import of_record
from mzprobe.figures import PLANS
from mzprobe.figures.comparison import COMPARISONS
from mzprobe.settings import load_study, study_runs
from mzprobe.tables import find_run

ROOT = Path(__file__).parent.parent
RUNS = ("cartpole-ten", "lunarlander", "minatar-breakout")
DRAWN = [(run, plan) for run in RUNS for plan in PLANS if (ROOT / "figures" / run / f"{plan.name}.csv").exists()]


@pytest.mark.parametrize("run", RUNS)
def test_every_probe_of_a_study_has_its_figure(run):
    study, _ = load_study(run)
    # States that are looked into have none.
    assert [plan.probe for name, plan in DRAWN if name == run] == [p.probe for p in PLANS if p.probe in study.probes()]


@pytest.mark.parametrize(("run", "plan"), DRAWN, ids=lambda one: getattr(one, "name", one))
def test_the_numbers_of_a_figure_are_those_of_the_tables(run, plan):
    table = find_run(ROOT / "analyses", run, plan.probe)
    study, config = load_study(run)
    settings, _ = study.probes()[plan.probe]
    for record in table.record["agents"]:
        assert record["settings"] == settings.model_dump(mode="json")
        assert of_record(record["config"], run) == config
    text = (ROOT / "figures" / run / f"{plan.name}.csv").read_text("utf-8")
    cells = plan.aggregate(table.frame)
    drawn = pd.read_csv(io.StringIO(text), comment="#").astype(cells.dtypes)
    pd.testing.assert_frame_equal(drawn, cells, rtol=1e-9)


COMPARED = [
    (study, comparison)
    for study in ("cartpole-noise", "cartpole-reanalyse", "cartpole-unplugged")
    for comparison in COMPARISONS
]
COMPARED = [(s, c) for s, c in COMPARED if (ROOT / "figures" / s / f"{c.name}.csv").exists()]


def test_every_comparison_is_shipped():
    assert [(study, comparison.name) for study, comparison in COMPARED] == [
        ("cartpole-noise", "learning"),
        ("cartpole-reanalyse", "learning"),
        ("cartpole-unplugged", "acting"),
    ]


@pytest.mark.parametrize(("study", "comparison"), COMPARED, ids=lambda one: getattr(one, "name", one))
def test_the_numbers_of_a_comparison_are_those_of_the_tables(study, comparison):
    settings, _ = load_study(study)
    runs = study_runs(study, settings)
    frames = []
    for name in (comparison.table, comparison.other):
        tables = [] if name is None else [(run, find_run(ROOT / "analyses", run.name, name)) for run in runs]
        for run, table in tables:
            assert [record["seed"] for record in table.record["agents"]] == list(settings.seeds)
            for record in table.record["agents"]:
                assert of_record(record["config"], study) == run.config
        parts = [table.frame.assign(variant=run.variant) for run, table in tables]
        frames.append(pd.concat(parts, ignore_index=True) if parts else None)
    cells = comparison.aggregate(*frames[: 1 + (comparison.other is not None)])
    text = (ROOT / "figures" / study / f"{comparison.name}.csv").read_text("utf-8")
    drawn = pd.read_csv(io.StringIO(text), comment="#", dtype={"variant": str})
    keys = [name for name in ("variant", "training_step", "model", "act") if name in cells]
    drawn, cells = (frame.sort_values(keys, ignore_index=True) for frame in (drawn, cells))
    pd.testing.assert_frame_equal(drawn, cells, rtol=1e-9, check_dtype=False)


@pytest.mark.parametrize("run", RUNS)
def test_the_verdicts_are_those_of_the_tables(run):
    tables = read_tables(run, analyses=ROOT / "analyses")
    page = (ROOT / "figures" / run / "claims.md").read_text("utf-8")
    assert as_markdown(run, judge_run(tables), tables, judge_run(tables, ends=False)) == page


def test_the_quick_study_asks_what_the_ten_agents_were_asked():
    """So that `make study` gives the shipped numbers of its seeds, and states to look into besides."""
    (quick, config), (ten, other) = (load_study(name) for name in ("cartpole-quick", "cartpole-ten"))
    assert quick.seeds == ten.seeds[: len(quick.seeds)]
    assert config == other
    assert {name: asked for name, asked in quick.probes().items() if name != "inspect"} == ten.probes()


def row_of(finding, calm):
    """A claim in the table of results: its numbers, and its verdict without states near an end."""
    effect = f"{shown(finding.effect.estimate)} ({shown_interval(finding.effect)})"
    other = calm.verdict if calm.verdict != "no data" else "-"
    said = [finding.claim.sentence, effect, shown_last(finding), shown_agents(finding), finding.verdict, other]
    return f"| {' | '.join(said)} |"


def test_the_table_of_claims_in_the_results_is_that_of_the_tables():
    tables = read_tables("cartpole-ten", analyses=ROOT / "analyses")
    found, calm = judge_run(tables), judge_run(tables, ends=False)
    section = (ROOT / "docs" / "results" / "cartpole.md").read_text("utf-8").split("## Do the paper's claims hold?")[1]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    assert rows[2:] == [row_of(*both) for both in zip(found, calm, strict=True)]
    for page in (section, (ROOT / "README.md").read_text("utf-8")):
        assert counted(found) in " ".join(page.split()).replace("**", "")
