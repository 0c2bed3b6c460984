"""States in a report: the table's numbers to four digits, few enough for a page, and text that stays text."""

import base64
import gzip
import json
import math

import pytest
from report_pages import Page, states_of, tables
from stored_tables import store, table_of

from mzprobe.report import states, write_report
from mzprobe.report.states import kept_states, short

pytest.importorskip("plotly", reason="the extra `report` is not installed")
SEQUENCES = {"likeliest", "best", "worst"}


@pytest.fixture(scope="module")
def frame():
    """Of two agents at the steps of a made run. Only for reading."""
    return states_of(tables(agents=2)["online"])


def unpacked(text):
    """What the page reads."""
    return json.loads(gzip.decompress(base64.b64decode(text)))


def same(shown, number):
    """Whether what is shown is the number to four digits."""
    return shown is None if math.isnan(number) else shown == pytest.approx(number, rel=5.1e-4)


def test_every_agent_and_step_has_its_states_with_the_numbers_of_the_table(frame):
    kept = kept_states(table_of(frame, probe="inspect"))
    assert kept["at"] == sorted(map(list, frame[["seed", "training_step"]].drop_duplicates().to_numpy().tolist()))
    for (seed, step), text in zip(kept["at"], kept["packed"], strict=True):
        own = frame[(frame["seed"] == seed) & (frame["training_step"] == step)]
        for state, (name, rows) in zip(unpacked(text), own.groupby("state", sort=False), strict=True):
            assert (state["state"], state["chosen"]) == (name, rows["chosen"].iloc[0])
            assert same(state["error"], rows["error"].iloc[0])
            assert same(state["true_return"], rows["true_return"].iloc[0])
            assert [part["name"] for part in state["parts"]] == list(rows["part"].unique())
            for part in state["parts"]:
                of = rows[rows["part"] == part["name"]]
                assert part["tree"] == (part["name"] not in SEQUENCES)
                wanted = {"parent", "visits", "q", "prior", "true_return"} if part["tree"] else {"value", "probability"}
                assert wanted <= part.keys()
                assert part["meaning"] == of["meaning"].tolist()
                for column in wanted | {"reward", "predicted_reward", "latent_distance"}:
                    assert all(map(same, part[column], of[column])), column
                assert part["ends"] == [i for i, end in enumerate(of["terminal"]) if end]


def test_too_many_states_leave_out_training_steps_but_never_the_last(frame, monkeypatch):
    table = table_of(frame, probe="inspect")
    whole = kept_states(table)
    assert whole["left_out"] == []
    monkeypatch.setattr(states, "LARGEST", sum(map(len, whole["packed"])) // 2)
    fewer = kept_states(table)
    assert {step for _, step in fewer["at"]} == {0, 4000}  # of 0, 500, 1000, 2000, 4000: three are too many
    assert fewer["left_out"] == [500, 1000, 2000]
    monkeypatch.setattr(states, "LARGEST", 0)
    assert {step for _, step in kept_states(table)["at"]} == {frame["training_step"].max()}


@pytest.mark.parametrize(
    ("number", "kept"), [(1.23456, 1.235), (12345.0, 12345), (0.00012345, 0.0001234), (math.nan, None), (7, 7)]
)
def test_numbers_have_the_digits_that_are_shown(number, kept):
    assert short(number) == kept


def test_the_section_is_there_where_the_table_is(frame, tmp_path):
    online = tables(agents=2)["online"]
    for run in ("with", "without"):
        store(tmp_path / "analyses", online, probe="online", run=run)
    store(tmp_path / "analyses", frame, probe="inspect", run="with")
    for run, there in (("with", 1), ("without", 0)):
        drawn = write_report([run], analyses=tmp_path / "analyses", folder=tmp_path / run)
        with open(drawn.what, "rb") as file:
            page = Page(file.read())
        assert len(page.of("section", id="states")) == there
        assert ("mzprobe with" in page.texts) == bool(there)
        assert [one is not None for one in page.numbers()["states"]] == [bool(there)]
