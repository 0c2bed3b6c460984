"""What is shipped fits together: figures' numbers and verdicts come from the tables beside them, by this code."""

import io
from pathlib import Path

import pandas as pd
import pytest

from mzprobe.claims import judge_run, read_tables
from mzprobe.claims.report import as_markdown
from mzprobe.config import RunConfig, validated
from mzprobe.figures import PLANS
from mzprobe.probes.tables import read_run
from mzprobe.settings import load_study

ROOT = Path(__file__).parent.parent
RUN = "cartpole-quick"
DRAWN = [plan for plan in PLANS if (ROOT / "figures" / RUN / f"{plan.name}.csv").exists()]


def test_every_probe_of_the_study_has_its_figure():
    study, _ = load_study(RUN)
    assert [plan.probe for plan in DRAWN] == list(study.probes())


@pytest.mark.parametrize("plan", DRAWN, ids=lambda plan: plan.name)
def test_the_numbers_of_a_figure_are_those_of_the_tables(plan):
    table = read_run(ROOT / "analyses", RUN, plan.probe)
    study, config = load_study(RUN)
    settings, _ = study.probes()[plan.probe]
    for record in table.record["agents"]:
        assert record["settings"] == settings.model_dump(mode="json")
        assert validated(RunConfig, record["config"], RUN) == config
    text = (ROOT / "figures" / RUN / f"{plan.name}.csv").read_text("utf-8")
    cells = plan.aggregate(table.frame)
    drawn = pd.read_csv(io.StringIO(text), comment="#").astype(cells.dtypes)
    pd.testing.assert_frame_equal(drawn, cells, rtol=1e-9)


def test_the_verdicts_are_those_of_the_tables():
    tables = read_tables(RUN, analyses=ROOT / "analyses")
    page = (ROOT / "figures" / RUN / "claims.md").read_text("utf-8")
    assert as_markdown(RUN, judge_run(tables), tables) == page
