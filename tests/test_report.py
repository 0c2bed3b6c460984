"""The page of a run: its numbers are the figures' and claims' own, and whatever tables say stays text."""

import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawings import golden
from report_pages import Page, store_run, tables, unpacked
from stored_tables import store, table_of

from mzprobe.claims import CLAIMS, judge_run
from mzprobe.errors import UsageError
from mzprobe.figures import PLANS, draw_run
from mzprobe.figures.comparison import keys_of
from mzprobe.report import write_report
from mzprobe.report.catalogue import CHARTS, chart_of
from mzprobe.report.facts import spans
from mzprobe.report.numbers import agents_own, claim_numbers, figure_numbers, intervals
from mzprobe.tables import read_table, write_table

pytest.importorskip("plotly", reason="the extra `report` is not installed")

BY_NAME = {plan.name: plan for plan in PLANS}


def of_run(frame):
    """A table as it is read of all agents."""
    table = table_of(frame)
    return replace(table, record={"agents": [{**table.record, "seed": seed} for seed in frame["seed"].unique()]})


def written(analyses, *runs):
    """The page of runs."""
    drawn = write_report(runs, analyses=analyses, folder=analyses.parent / "out")
    with open(drawn.what, "rb") as file:
        return file.read()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Of a run with five tables."""
    folder = tmp_path_factory.mktemp("report") / "analyses"
    store_run(folder)
    return Page(written(folder, "made"))


@pytest.fixture(scope="module")
def analyses(tmp_path_factory):
    """One table each of two runs. Only for reading."""
    folder = tmp_path_factory.mktemp("reports") / "analyses"
    store(folder, tables()["online"], probe="online")
    store(folder, tables(-1.0, agents=7)["online"], probe="online", run="other")
    return folder


# Numbers


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
def test_the_mean_of_agents_own_numbers_is_the_one_that_is_drawn(plan):
    frame = golden(plan.probe.removesuffix("-value"))
    cells = plan.aggregate(frame)
    chart = chart_of(plan.name, cells)
    drawn = cells[chart.drawn(cells) & (cells["agents"] == frame["seed"].nunique())]
    own = agents_own(plan, frame, drawn)
    assert len(drawn)
    assert own.shape == (frame["seed"].nunique(), len(drawn))
    np.testing.assert_allclose(own.mean(axis=0), drawn["mean"], rtol=1e-12)


def test_agents_own_numbers_are_those_of_their_rows_by_hand():
    plan, frame = BY_NAME["fig3-horizon"], golden("horizon")
    cells = plan.aggregate(frame)
    wanted = cells[(cells["training_step"] == 500) & (cells["quantity"] == "error")]
    assert agents_own(plan, frame, wanted).tolist() == [[2.0, 3.0, 4.0], [4.0, 6.0, 7.0]]


def test_an_agent_without_a_number_has_none():
    plan, frame = BY_NAME["fig3-horizon"], golden("horizon")
    cells = plan.aggregate(frame)
    frame = frame[(frame["seed"] == 0) | (frame["h"] < 3)]
    own = agents_own(plan, frame, cells[(cells["training_step"] == 500) & (cells["quantity"] == "error")])
    np.testing.assert_array_equal(own, [[2.0, 3.0, 4.0], [4.0, 6.0, np.nan]])


def test_the_bootstrap_of_two_agents_spans_both_and_of_one_there_is_none():
    own = np.array([[1.0, 5.0, np.nan], [3.0, 5.0, 2.0]])
    low, high = intervals(own, number=0)
    # A resample is twice the one, twice the other, or both: a quarter, a quarter and a half.
    np.testing.assert_array_equal(low, [1.0, 5.0, np.nan])
    np.testing.assert_array_equal(high, [3.0, 5.0, np.nan])


def test_the_page_holds_the_text_of_the_csv_beside_the_figure(tmp_path, page):
    figures = {figure["name"]: figure["runs"][0]["csv"] for figure in page.numbers()["figures"]}
    assert set(figures) == {"fig2-online", "fig3-horizon", "fig5-cross", "fig6-search", "fig7-planning"}
    store(tmp_path / "analyses", tables()["online"], probe="online")  # one alone: drawing takes its time
    draw_run("made", analyses=tmp_path / "analyses", figures=tmp_path)
    assert figures["fig2-online"] == (tmp_path / "made" / "fig2-online.csv").read_text("utf-8")


def test_what_is_packed_is_aligned_with_the_rows_of_the_csv():
    plan, frame = BY_NAME["fig3-horizon"], golden("horizon")
    record = figure_numbers(plan, {"golden": of_run(frame)}, number=1)["runs"][0]
    cells = plan.aggregate(frame)
    own = unpacked(record["own"]).reshape(2, -1)
    assert record["seeds"] == [0, 1]
    np.testing.assert_allclose(own.mean(axis=0), cells["mean"].iloc[record["rows"]])
    low, high = (unpacked(record[name]) for name in ("low", "high"))
    assert ((low <= own.mean(axis=0)) & (own.mean(axis=0) <= high)).all()


def test_effects_of_agents_are_those_that_a_claim_was_judged_by():
    given = {name: table_of(frame, probe=name) for name, frame in tables(agents=6).items()}
    findings = judge_run(given)
    frames = {"made": {name: table.frame for name, table in given.items()}}
    (effects,) = claim_numbers({"made": findings}, frames)
    known = 0
    for finding, of_claim in zip(findings, effects, strict=True):
        if of_claim is None:
            assert finding.verdict == "no data"
            continue
        own = unpacked(of_claim["own"]).reshape(len(of_claim["seeds"]), len(finding.cells))
        np.testing.assert_allclose(np.nanmean(own, axis=0), [cell.effect.estimate for cell in finding.cells])
        overall = unpacked(of_claim["overall"])
        assert (overall > 0).sum() == finding.agreeing
        if not finding.claim.every:
            assert overall.mean() == pytest.approx(finding.effect.estimate)
        known += 1
    assert known > 20  # of all


# Charts


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
def test_a_chart_names_columns_that_the_aggregate_has(plan):
    cells = plan.aggregate(golden(plan.probe.removesuffix("-value")))
    chart = CHARTS[plan.name]
    for part in chart.parts:
        named = {part.x, *part.same, *part.where, *([part.by] if part.by else [])}
        named |= {column for line in part.lines for column in line.where} - {"quantity"}
        assert named - {"quantity"} <= set(cells.columns)
        assert bool(part.by) != bool(part.lines)
    assert chart.without_empty([cells]).parts


def test_a_figure_of_another_package_has_a_chart_too():
    cells = pd.DataFrame({"kind": list("abab"), "training_step": [0, 0, 5, 5], "mean": 1.0, "agents": 2})
    (part,) = chart_of("theirs", cells.assign(constant=1)).parts
    assert (part.x, part.by, part.choose) == ("training_step", "kind", ())
    assert chart_of("theirs", cells).drawn(cells).all()
    words = cells[["kind", "mean", "agents"]].drop_duplicates()
    assert [part.x for part in chart_of("theirs", words).parts] == ["kind"]
    assert [part.x for part in chart_of("theirs", words.assign(size=3)).parts] == ["size"]
    assert [part.x for part in chart_of("theirs", words[["mean", "agents"]]).parts] == ["agents"]
    (alone,) = chart_of("theirs", cells[cells["kind"] == "a"]).parts
    assert (alone.x, alone.by, [line.label for line in alone.lines]) == ("training_step", "", ["mean"])


def test_what_a_cell_is_leaves_out_what_is_so_of_it():
    cells = BY_NAME["fig2-online"].aggregate(golden("online"))
    assert keys_of(cells) == ["policy", "training_step", "temperature"]


# The page


def test_every_claim_has_a_row_with_its_verdict_and_its_figure(page):
    rows = page.of("tbody", **{"class": "claim"})
    assert [row["data-claim"] for row in rows] == [str(number) for number in range(len(CLAIMS))]
    assert {row["data-verdict"] for row in rows} == {"holds", "no data"}
    for claim in CLAIMS:
        assert claim.sentence in page.texts
    links = {link["href"] for link in page.of("a", **{"class": "button"})}
    ids = [found["id"] for _, found in page.elements if "id" in found]
    assert len(ids) == len(set(ids))
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert "#figure-fig3-horizon" in links


def test_the_head_says_what_the_run_is(page):
    said = " ".join(page.texts)
    assert "cartpole (nobody's): observations 4, 2 actions, gamma 0.99, at most 500 steps an episode" in said
    assert "8 (seeds 0 to 7)" in said
    assert "asked at 0, 500, 1,000, 2,000, 4,000" in said
    assert "mzprobe made" in page.texts
    assert "mzprobe eval-sequences checkpoints/made" in page.texts  # of a figure that is missing


def test_compute_and_versions_are_said_as_recorded(tmp_path):
    frame, timing = tables()["online"], pd.DataFrame({"seed": [0, 0], "training_step": [1, 2], "part": "play"})
    recorded = {"compute": {"device": "cuda", "precision": "high"}, "machine": {"device": "A card"}}
    store(tmp_path / "analyses", frame, probe="online", config={"training": {"threads": 2}}, **recorded)
    seen = pd.DataFrame({"seed": [0], "training_step": [2], "part": "evaluate"})
    timing = pd.concat([timing.assign(core_seconds=[1800.0, 7200.0]), seen.assign(core_seconds=3600.0)])
    store(tmp_path / "analyses", timing, probe="timing")
    said = Page(written(tmp_path / "analyses", "made")).texts
    assert "device cuda, precision high, 2 threads in training, A card, training took 2 core hours" in said
    assert "mzprobe 0" in said


@pytest.mark.parametrize(
    ("numbers", "said"), [([0], "0"), ([0, 1], "0, 1"), ([0, 1, 2, 7], "0 to 2, 7"), ([3, 5, 6, 7], "3, 5 to 7")]
)
def test_numbers_in_words(numbers, said):
    assert spans(numbers) == said


def test_nothing_is_fetched_from_elsewhere(page):
    for tag, found in page.elements:
        assert "src" not in found, tag
        assert found.get("href", "#").startswith("#")
    (policy,) = page.of("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none';")


def test_two_runs_stand_side_by_side(analyses):
    page = Page(written(analyses, "made", "other"))
    rows = page.of("tbody", **{"class": "claim"})
    assert [row["data-run"] for row in rows[:4]] == ["made", "other", "made", "other"]
    assert {row["data-verdict"] for row in rows if row["data-run"] == "other"} == {"fails", "no data"}
    numbers = page.numbers()
    assert numbers["runs"] == ["made", "other"]
    assert [[run["run"] for run in figure["runs"]] for figure in numbers["figures"]] == [["made", "other"]]
    assert len(page.of("div", **{"class": "plot"})) == 2


def test_runs_that_were_asked_in_other_ways_are_not(tmp_path):
    store(tmp_path / "analyses", tables()["online"], probe="online", run="one", settings={"episodes": 5})
    store(tmp_path / "analyses", tables()["online"], probe="online", run="two", settings={"episodes": 6})
    with pytest.raises(UsageError, match=r"tables of one and two were made with other settings \(episodes\)"):
        written(tmp_path / "analyses", "one", "two")


def test_the_same_tables_give_the_same_bytes(analyses):
    assert written(analyses, "made") == written(analyses, "made")


# Text of tables


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7 * 7 }}"


def test_text_of_tables_stays_text(tmp_path, page):
    run, frame = "<script>alert(1)<script>", tables()["online"]
    frame = pd.concat([frame, frame[frame["policy"] == "prior"].assign(policy=HOSTILE)])
    steps = {str(step): f"mzprobe {HOSTILE}" for step in frame["training_step"].unique()}
    spec = {"name": HOSTILE, "source": HOSTILE, "observation_shape": [4], "num_actions": 2, "gamma": 0.9}
    told = {"commands": steps, "environment": spec | {"time_limit": 5}, "settings": {HOSTILE: HOSTILE}}
    told |= {"versions": {"mzprobe": HOSTILE}, "config": {"network": {"kind": HOSTILE}}}
    store(tmp_path / "analyses", frame, probe="online", run=run, **told)
    attacked = Page(written(tmp_path / "analyses", run))
    assert len(attacked.of("script")) == len(page.of("script"))
    assert not attacked.of("img")
    assert attacked.texts.count(run) >= 1
    assert f"mzprobe {HOSTILE}" in attacked.texts
    assert f"mzprobe report '{run}'" in attacked.texts
    numbers = attacked.numbers()
    assert numbers["runs"] == [run]
    assert HOSTILE in numbers["figures"][0]["runs"][0]["csv"]


def test_a_number_that_is_none_is_no_number_in_the_page(tmp_path):
    store(tmp_path / "analyses", tables(agents=1)["online"], probe="online")
    page = Page(written(tmp_path / "analyses", "made"))
    first = page.of("tbody", **{"class": "claim"})[0]
    assert math.isfinite(float(first["data-effect"]))
    assert page.numbers()["claims"][0][-1] is None


# The command


def test_the_command_writes_the_page_beside_the_figures(analyses, tmp_path, run_cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, said = run_cli("report", "made", "--analyses", analyses)
    assert (code, out) == (0, "figures/made/report.html written\n"), said
    code, out, _ = run_cli("report", "checkpoints/made", "--analyses", analyses)
    assert (code, out) == (0, "figures/made/report.html unchanged\n")
    assert [path.name for path in (tmp_path / "figures" / "made").iterdir()] == ["report.html"]


def test_several_runs_have_a_folder_of_their_names_or_one_that_is_named(analyses, tmp_path, run_cli):
    given = ("report", "made", "other", "--analyses", analyses, "--out", tmp_path)
    assert run_cli(*given)[1] == f"{tmp_path}/made-and-other/report.html written\n"
    code, _, said = run_cli(*given, "--name", "a/b")
    assert (code, "a folder of figures cannot be named 'a/b'" in said) == (2, True)


def test_the_runs_of_a_study_stand_side_by_side(analyses, tmp_path, run_cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for variant, run in (("a", "made"), ("b", "other")):
        shutil.copytree(analyses / run, tmp_path / "analyses" / f"two-{variant}")
        for path in (tmp_path / "analyses" / f"two-{variant}").rglob("*.parquet"):
            table = read_table(path)
            write_table(path, replace(table, record={**table.record, "run": f"two-{variant}"}))
    Path("two.toml").write_text('preset = "cartpole"\nseeds = [0]\n[online]\n[variants.a]\n[variants.b]\n')
    code, out, said = run_cli("report", "two.toml")
    assert (code, out) == (0, "figures/two/report.html written\n"), said
    shutil.rmtree(tmp_path / "analyses" / "two-b")
    code, out, said = run_cli("report", "two.toml")
    assert (code, out) == (0, "figures/two-a/report.html written\n"), said


def test_a_run_without_tables_is_one_sentence(analyses, tmp_path, run_cli):
    code, _, said = run_cli("report", "nobody", "--analyses", analyses, "--out", tmp_path)
    assert code == 2
    assert said == (
        f"error: there are no tables of run nobody under {analyses}: make one with mzprobe eval-online "
        "checkpoints/nobody, or give another --analyses\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_is_one_sentence(analyses, run_cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    code, _, said = run_cli("report", "made", "--analyses", analyses)
    assert (code, said) == (2, "error: a report needs Plotly and Jinja: pip install 'mzprobe[report]'\n")
