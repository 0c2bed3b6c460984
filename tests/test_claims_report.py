"""What is shown of claims: on the terminal, as JSON and as a page."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from stored_tables import store, table_of
from synthetic import STEPS, World, a_claim, judged, made

from mzprobe.claims import CLAIMS, judge_run, read_tables
from mzprobe.claims.caveats import caveats
from mzprobe.claims.report import as_json, as_markdown, counted, shown, shown_last, undecidable
from mzprobe.errors import UsageError
from mzprobe.tables import Table


@pytest.fixture
def run(tmp_path):
    """Tables of a run on disk, in which everything is true, without that of the search."""
    for claim in CLAIMS:
        if claim.probe != "search_error":
            store(tmp_path / "analyses", World(1.0).table(claim.probe), probe=claim.probe)
    return tmp_path


def test_the_command_prints_a_verdict_for_each_claim_and_writes_a_page(run, run_cli, monkeypatch):
    monkeypatch.chdir(run)
    code, out, said = run_cli("claims", "made")
    assert code == 0
    verdicts = [line.split()[0] for line in out.splitlines() if line[:1].strip()]
    assert verdicts.count("holds") == len(CLAIMS) - 4
    assert out.count("no data") == 5
    counts = "Of 29 claims of the paper 25 hold, 0 fail, 0 are undecided, 4 have no data; of 7 beyond it 7 hold"
    assert counts in " ".join(out.split())
    missing = "prior-lowers-tv: there is no table of search_error, mzprobe eval-search-error makes it"
    assert missing in " ".join(out.split())
    assert said.splitlines() == ["figures/made/claims.md written"]
    page = (run / "figures" / "made" / "claims.md").read_text()
    for claim in CLAIMS:
        assert f"| {claim.sentence} | {claim.section} | " in page
    assert "- online: `mzprobe made`; seeds 0, 1, 2, 3, 4, 5, 6, 7; mzprobe 0" in page
    assert "| step 500 |" in page
    assert run_cli("claims", "made")[2].splitlines() == ["figures/made/claims.md unchanged"]


def test_it_says_what_a_table_lacks(tmp_path, run_cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store(tmp_path / "analyses", World(1.0).table("cross").drop(columns="tv"), probe="cross")
    _, out, _ = run_cli("claims", "made")
    assert "error-rises-with-distance: the table of cross lacks what it compares" in " ".join(out.split())


def test_tables_are_read_from_the_folder_given_and_the_page_is_written_to_the_other(run, run_cli, monkeypatch):
    monkeypatch.chdir(run)
    (run / "analyses").rename(run / "tables")
    code, _, said = run_cli("claims", "made", "--analyses", "tables", "--out", "drawn")
    assert (code, said.splitlines()) == (0, ["drawn/made/claims.md written"])
    assert sorted(path.name for path in run.iterdir()) == ["drawn", "tables"]


def test_json_holds_all_of_it_and_nothing_else_is_printed(run, run_cli, monkeypatch):
    monkeypatch.chdir(run)
    code, out, _ = run_cli("claims", "made", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["run"] == "made"
    assert [claim["name"] for claim in found["claims"]] == [claim.name for claim in CLAIMS]
    first = found["claims"][0]
    assert (first["verdict"], first["agents"], first["section"]) == ("holds", 8, "3.1")
    assert [cell["label"] for cell in first["cells"]] == [f"step {step:,}" for step in STEPS]
    assert all(claim["estimate"] is None for claim in found["claims"] if claim["verdict"] == "no data")


def test_the_numbers_of_a_finding_stand_where_they_belong():
    # Six agents: two cells, whose p are 2 and 6 of 64 patterns of signs; the smaller is doubled by Holm. At 95 %
    # not one pattern on a side can be left out: intervals end at the smallest and the largest effect.
    rows = [("a", agent, 1.0 + agent) for agent in range(6)] + [
        ("b", agent, x) for agent, x in enumerate([-2, 1, 3, 4, 5, 6])
    ]
    found = judged(a_claim(), made(rows))
    (shown,) = json.loads(as_json("made", [found]))["claims"]
    first, second = shown["cells"]
    assert first == {
        "label": "a",
        "estimate": 3.5,
        "low": 1.0,
        "high": 6.0,
        "p": 0.03125,
        "p_holm": 0.0625,
        "agents": 6,
    }
    assert (second["label"], second["low"], second["p"], second["p_holm"]) == ("b", -2.0, 0.09375, 0.09375)
    # Means over cells: -0.5, 1.5, 3, 4, 5, 6. Five of six agents agree.
    assert shown["estimate"] == pytest.approx(19 / 6)
    assert (shown["p"], shown["agents"], shown["agreeing"]) == (0.0625, 6, 5)
    assert shown["verdict"] == "undecided"
    page = as_markdown("made", [found], {})
    assert "| a | 3.5 | 1 to 6 | 0.0312 | 0.0625 | 6 |" in page
    assert "| 0.0625 | - | 5 of 6 | none |" in page
    assert shown["last_step"] is None


def test_the_last_step_stands_beside_the_average():
    rows = [
        (label, agent, x)
        for label, size in (("step 5", 4.0), ("step 10, N = 2", 1.0), ("step 10, N = 8", 2.0))
        for agent, x in enumerate(size + 0.1 * np.arange(6))
    ]
    found = judged(a_claim(), made(rows))
    (told,) = json.loads(as_json("made", [found]))["claims"]
    assert (told["last_step"]["label"], told["last_step"]["estimate"]) == ("step 10", pytest.approx(1.75))
    assert "| 1.75 (1.5 to 2) | 6 of 6 |" in as_markdown("made", [found], {})
    few = judged(a_claim(), made([row for row in rows if row[1] < 2]))
    assert shown_last(few) == "1.55"  # two agents have no interval
    assert judged(a_claim(), made(rows[:12])).last.label == "step 10"
    assert judged(a_claim(), made(rows[6:])).last is None  # of one step alone it is what stands there already
    one_cell = judged(a_claim(), made([row for row in rows if row[0] != "step 10, N = 2"]))
    assert one_cell.last.effect.estimate == pytest.approx(2.25)


def test_claims_of_the_paper_and_others_are_counted_apart():
    names = ["holds", "holds", "fails", "undecided", "no data"]
    rows = [("a", agent, 1.0) for agent in range(6)]
    paper = [replace(judged(a_claim(), made(rows)), verdict=verdict) for verdict in names]
    paper = [replace(found, claim=replace(found.claim, section="3.1")) for found in paper]
    own = replace(paper[0], claim=replace(paper[0].claim, section="beyond"))
    said = "Of 5 claims of the paper 2 hold, 1 fails, 1 is undecided, 1 has no data"
    assert counted([*paper, own]) == f"{said}; of 1 beyond it 1 holds, 0 fail, 0 are undecided."


def test_what_is_left_of_a_sum_is_shown_as_nothing():
    assert [shown(x) for x in (-1.1e-17, 0.0, -1e-6, float("nan"))] == ["0", "0", "-1e-06", "-"]


def of_run(frame):
    table = table_of(frame)
    return replace(table, record={"agents": [table.record]})


def test_what_limits_all_claims_is_said_on_the_page():
    online = World(1.0).table("online")
    last = online["training_step"].max()
    cut = online[(online["seed"] != 3) | (online["training_step"] < last)]
    cross = pd.DataFrame({"seed": 0, "training_step": 5, "state": [0, 0, 1, 1], "value": [1.0, 1.0, 2.0, 2.0]})
    tables = {name: of_run(frame) for name, frame in (("online", cut), ("cross", cross))}
    said = [
        f"online: training step {last:,} is left out, which not all agents have (seed 3)",
        "cross: at none of the states do policies differ in true value, so that errors differ by what the model "
        "predicts alone",
    ]
    assert caveats(tables) == said
    assert caveats({"online": of_run(online), "cross": of_run(cross.assign(value=[1.0, 1.0, 2.0, 3.0]))}) == []
    found = judged(CLAIMS[0], None)
    page = as_markdown("made", [found], tables)
    assert all(f"\n{sentence}.\n" in page for sentence in said)
    assert json.loads(as_json("made", [found], limits=said))["limits"] == said


def test_without_data_json_has_nulls_and_the_page_dashes():
    found = judged(CLAIMS[0], None)
    (shown,) = json.loads(as_json("made", [found]))["claims"]
    assert [shown[name] for name in ("estimate", "low", "high", "p", "cells")] == [None, None, None, None, []]
    assert "| **no data** | - | - | - | - | - | online |" in as_markdown("made", [found], {})


def test_which_run_is_the_newest_is_not_said_into_the_json(run, run_cli, monkeypatch):
    monkeypatch.chdir(run)
    (run / "checkpoints" / "made" / "seed-0" / "step-0000020").mkdir(parents=True)
    code, out, said = run_cli("claims", "--json")
    assert (code, json.loads(out)["run"]) == (0, "made")
    assert said.splitlines()[0] == "run made, the newest under checkpoints"


def test_a_wrong_run_is_refused(run, run_cli, monkeypatch):
    monkeypatch.chdir(run)
    code, _, said = run_cli("claims", "nowhere")
    assert code == 2
    assert "there are no tables of run nowhere under analyses: make one with" in said
    assert not (run / "figures" / "nowhere").exists()
    with pytest.raises(UsageError):
        read_tables("nowhere", analyses=run / "analyses")


def test_few_agents_are_told_that_they_are_few():
    frames = {claim.probe: World(1.0, agents=3).table(claim.probe) for claim in CLAIMS}
    findings = judge_run({name: Table(frame=frame, units={}, record={"agents": []}) for name, frame in frames.items()})
    assert undecidable(findings).startswith("3 agents cannot decide a claim: even where all agree, p is 0.25;")
    six, nothing = judged(CLAIMS[0], World(1.0, agents=6).table("online")), judged(CLAIMS[0], None)
    assert undecidable([six]) == undecidable([nothing]) == undecidable([six, nothing]) == ""
    assert '"low": null' in as_json("made", [judged(CLAIMS[0], World(1.0, agents=1).table("online"))])
    assert "3 agents cannot decide" in as_markdown("made", findings, {})


def test_every_claim_has_a_name_of_its_own_and_a_section_that_makes_claims():
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS)
    assert {claim.section.split(".")[0] for claim in CLAIMS} == {"abstract", "3", "4", "beyond"}
