import dataclasses
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mzprobe.claims import all_claims, judge_run, read_tables
from mzprobe.config import SearchConfig
from mzprobe.errors import MzprobeWarning, UsageError
from mzprobe.figures import draw_run
from mzprobe.probes.question import Question, resolved
from mzprobe.probes.registry import PROBES
from mzprobe.probes.runner import ProbeRun, run_probe
from mzprobe.settings import OURS, QUESTIONS, load_study, plugged_questions
from mzprobe.tables import read_table

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "question"


@pytest.fixture
def plugged(monkeypatch):
    """The example's question, as if its package were installed."""
    monkeypatch.syspath_prepend(EXAMPLE)
    import mzprobe_calibration

    point = SimpleNamespace(name="calibration", load=lambda: mzprobe_calibration.QUESTION)
    monkeypatch.setattr("mzprobe._plugins.entry_points", lambda group: [point] if group == QUESTIONS else [])
    yield mzprobe_calibration.QUESTION
    for name in [name for name in sys.modules if name.startswith("mzprobe_calibration")]:
        del sys.modules[name]


def test_a_package_that_is_broken_is_left_out_with_a_warning(monkeypatch):
    def broken():
        raise ModuleNotFoundError("No module named 'nmpy'")

    good = SimpleNamespace(name="good", command="eval-good")
    points = [
        SimpleNamespace(name="bad", value="bad:QUESTION", load=broken),
        SimpleNamespace(name="good", load=lambda: good),
    ]
    monkeypatch.setattr("mzprobe._plugins.entry_points", lambda group: points if group == QUESTIONS else [])
    with pytest.warns(
        MzprobeWarning, match=r"bad .* \(bad:QUESTION\) is left out .*No module named 'nmpy'.*uninstall it"
    ):
        assert plugged_questions() == [good]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (1, "int is no Question"),
        (SimpleNamespace(name="horizon", command="eval-mine"), "horizon has the name or the command of another"),
        (SimpleNamespace(name="mine", command="eval-horizon"), "mine has the name or the command of another"),
        (SimpleNamespace(name="first", command="eval-mine"), "first has the name or the command of another"),
    ],
)
def test_a_question_that_is_none_or_takes_another_s_name_is_left_out_with_a_warning(monkeypatch, made, said):
    first = SimpleNamespace(name="first", command="eval-first")
    points = [SimpleNamespace(name=name, load=lambda one=one: one) for name, one in (("a", first), ("b", made))]
    monkeypatch.setattr("mzprobe._plugins.entry_points", lambda group: points if group == QUESTIONS else [])
    with pytest.warns(MzprobeWarning, match=f"left out: {said}"):
        assert plugged_questions() == [first]


def test_every_question_of_ours_has_settings_that_name_it():
    assert {settings.question for settings in OURS} == set(PROBES)
    assert [PROBES[settings.question].config for settings in OURS] == list(OURS)
    assert len({settings.command for settings in OURS}) == len(OURS)


def test_every_option_of_a_command_is_a_documented_field():
    for settings in OURS:
        assert all(field.description for field in settings.model_fields.values())
        assert "\n" in settings.__doc__


@pytest.mark.parametrize("name", PROBES)
def test_questions_cross_to_other_processes(name):
    assert pickle.loads(pickle.dumps(PROBES[name])) == PROBES[name]


def test_what_is_named_is_imported_when_it_is_needed():
    assert resolved("mzprobe.config:SearchConfig") is SearchConfig
    assert resolved(len) is len


def test_a_question_of_another_package_is_asked_drawn_and_judged(plugged, agent, tmp_path):
    assert plugged_questions() == [plugged]
    config = plugged.config(states=6, episodes=2, rollouts=2, steps=20)
    run = ProbeRun(probe=plugged, agent=agent, config=config, analyses=tmp_path / "analyses")
    table = read_table(run_probe(run))
    assert list(table.frame.columns) == list(plugged.units)
    assert table.units == plugged.units
    assert table.record["probe"] == "calibration"
    assert set(table.frame["training_step"]) == {0, 20, 40}
    drawn = draw_run("tiny", analyses=tmp_path / "analyses", figures=tmp_path / "figures")
    assert sorted(Path(str(one.what)).name for one in drawn if one.status == "written") == [
        f"calibration.{kind}" for kind in ("csv", "png", "svg")
    ]
    assert all_claims()[-1].name == "value-beats-a-constant"
    (finding,) = (one for one in judge_run(read_tables("tiny", analyses=tmp_path / "analyses")) if one.cells)
    assert [cell.label for cell in finding.cells] == ["step 20", "step 40"]


def test_a_study_has_a_section_for_it(plugged, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('preset = "cartpole"\nseeds = [0]\n[steps]\ncalibration = [0]\n[calibration]\nrollouts = 3\n')
    study, _ = load_study(str(path))
    assert study.probes() == {"calibration": (plugged.config(rollouts=3), (0,))}
    path.write_text('preset = "cartpole"\nseeds = [0]\n[calibratoin]\nrollouts = 3\n')
    with pytest.raises(UsageError, match="calibratoin"):
        load_study(str(path))


def test_its_price_is_what_it_does_at_most(plugged, agent):
    from mzprobe.checkpoints import read_checkpoint, steps_of
    from mzprobe.sources.own import load_agent

    loaded = load_agent(read_checkpoint(steps_of(agent)[-1]))
    price = plugged.price(loaded, plugged.config(states=3, episodes=1, rollouts=2, steps=5), 1)
    limit, N = loaded.environment.spec.time_limit, loaded.search.simulations
    assert price.environment_steps == limit + 30
    assert sum(price.simulations.values()) == (limit + 30) * N


def test_a_question_may_be_changed_by_whoever_asks_it(agent, tmp_path):
    question = dataclasses.replace(PROBES["online"], plays=False)
    assert isinstance(question, Question)
    assert question.side_by_side(question.config()) == 64


@pytest.mark.parametrize(
    ("imported", "absent"), [("mzprobe.cli", ("torch", "numba", "pandas")), ("mzprobe.figures", ("torch", "numba"))]
)
def test_a_command_imports_what_it_needs_alone(imported, absent):
    code = f"import sys, {imported}; sys.exit(any(name in sys.modules for name in {absent}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
