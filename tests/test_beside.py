"""Any runs beside each other: what is drawn is each run's own aggregate, and pairs are paired by their starts."""

import pandas as pd
import pytest
from drawings import golden, legend_of
from stored_tables import store, table_of

from mzprobe.errors import UsageError
from mzprobe.figures.beside import Run, draw_beside, paired_differences
from mzprobe.figures.inspect import aggregate_inspect
from mzprobe.figures.output import write_figure
from mzprobe.figures.views import VIEWS, View
from mzprobe.settings import OURS
from mzprobe.tables import write_table

BY_TABLE = {view.table: view for view in VIEWS}
CARTPOLE = {
    "name": "cartpole",
    "source": "s",
    "observation_shape": [4],
    "num_actions": 2,
    "gamma": 0.9,
    "time_limit": 9,
}


def returns_of(*rows):
    """An online table: (seed, episode, return) of the search."""
    frame = pd.DataFrame(rows, columns=["seed", "episode", "return"])
    return frame.assign(policy="behaviour", training_step=5, temperature=1.0, length=1, terminated=True)


@pytest.fixture
def drawn(tmp_path):
    """Draws two stored runs; gives the CSVs that came of it by name."""

    def draw(*runs):
        given = [Run(run) if isinstance(run, str) else run for run in runs]
        draw_beside(given, analyses=tmp_path, folder=tmp_path / "out")
        return {path.stem: pd.read_csv(path, comment="#") for path in (tmp_path / "out").glob("*.csv")}

    return draw


@pytest.mark.parametrize("name", [view.table for view in VIEWS])
def test_a_run_beside_itself_is_its_own_aggregate_twice(tmp_path, drawn, name):
    probe = name.removesuffix("-value")
    for run in ("one", "other"):
        store(tmp_path, golden(probe), probe=probe, run=run, folder=name)
    cells = drawn("one", "other")[name]
    alone = BY_TABLE[name].aggregate(golden(probe))
    alone = alone[alone["training_step"] == alone["training_step"].max()]
    if name == "equivalence":  # the model's own value head
        alone = alone[alone["value_step"] == alone["training_step"]]
    for run in ("one", "other"):
        own = cells[cells["run"] == run]
        assert own["mean"].tolist() == pytest.approx(alone["mean"].tolist(), nan_ok=True)


def test_every_question_has_a_view():
    assert {settings.question for settings in OURS} <= {view.table for view in VIEWS}


def test_errors_along_a_sequence_are_those_of_its_sums_and_of_no_tree():
    cells = aggregate_inspect(golden("inspect")).set_index(["part", "depth"])
    assert cells["mean"].to_dict() == {
        ("best", 0): 0.0,
        ("best", 1): 1.0,
        ("likeliest", 0): 0.0,
        ("likeliest", 1): 0.5,  # of agents 0.75, of its states 0.5 and 1, and 0.25
    }
    assert cells.loc[("likeliest", 1), "agents"] == 2


def test_a_question_of_another_package_is_drawn_along_what_varies(tmp_path, drawn, monkeypatch):
    frame = pd.DataFrame(
        [(0, 5, kind, depth, depth * 2.0) for kind in ("one", "other") for depth in (1, 2, 3)],
        columns=["seed", "training_step", "kind", "depth", "mean"],
    )

    def aggregate(frame):
        return frame.groupby(["training_step", "kind", "depth"])["mean"].mean().reset_index().assign(agents=1)

    theirs = View(table="theirs", aggregate=lambda frame: aggregate(frame).assign(standard_error=float("nan")))
    monkeypatch.setattr("mzprobe.figures.beside.all_views", lambda: (theirs,))
    for run in ("a", "b"):
        store(tmp_path, frame, probe="theirs", run=run)
    figures = []
    monkeypatch.setattr("mzprobe.figures.beside.write_figure", lambda figure, *_, **__: figures.append(figure) or [1])
    drawn("a", "b")
    assert [axes.get_title() for axes in figures[0].axes] == ["kind one", "kind other"]
    assert [line.get_xdata().tolist() for line in figures[0].axes[0].lines] == [[1, 2, 3]] * 2


def test_a_question_without_a_number_to_compare_is_left_out(tmp_path, drawn):
    for run in ("one", "other"):
        store(tmp_path, golden("operators").assign(rule="of nobody"), probe="operators", run=run)
        store(tmp_path, golden("online"), probe="online", run=run)
    assert "operators" not in drawn("one", "other")


def test_every_rule_has_its_panels(tmp_path, drawn):
    for run in ("one", "other"):
        table = pd.concat([golden("operators").assign(rule=rule) for rule in ("puct", "gumbel")])
        store(tmp_path, table, probe="operators", run=run)
    assert set(drawn("one", "other")["operators"]["rule"]) == {"puct", "gumbel"}


def test_differences_are_of_the_same_agent_and_start_worked_by_hand():
    first = returns_of((0, 0, 10.0), (0, 1, 20.0), (1, 0, 30.0), (1, 1, 40.0))
    other = returns_of((0, 0, 11.0), (0, 1, 23.0), (1, 0, 34.0), (1, 1, 40.0), (2, 0, 99.0))
    cell = paired_differences(BY_TABLE["online"], {"a": first, "b": other}).iloc[0]
    assert cell["mean"] == 2.0  # agents 2 and 2: (1 + 3) / 2 and (4 + 0) / 2
    assert cell["standard_error"] == 0.0
    assert (cell["units"], cell["over"], cell["agents"], cell["against"], cell["run"]) == (2, "agents", 2, "a", "b")


def test_of_one_agent_the_error_is_over_its_episodes():
    first, other = returns_of((0, 0, 10.0), (0, 1, 20.0)), returns_of((0, 0, 12.0), (0, 1, 26.0))
    cell = paired_differences(BY_TABLE["online"], {"a": first, "b": other}).iloc[0]
    assert (cell["mean"], cell["standard_error"], cell["over"], cell["agents"]) == (4.0, 2.0, "episodes", 1)


def test_the_prior_alone_which_has_a_row_per_temperature_is_not_paired():
    rows = golden("planning")
    rows = rows[(rows["seed"] == rows["seed"].min()) & (rows["training_step"] == rows["training_step"].max())]
    alone = rows[rows["simulations"] == 0]
    sampled = alone.assign(temperature=alone["temperature"] + 1, **{"return": alone["return"] - 30})
    rows = pd.concat([rows, sampled])
    cells = paired_differences(BY_TABLE["planning"], {"a": rows, "b": rows.assign(**{"return": rows["return"] + 2})})
    assert (cells["simulations"] > 0).all()
    assert (cells["mean"] == 2.0).all()


def test_a_run_that_a_figure_leaves_out_is_named(tmp_path):
    early, late = returns_of((0, 0, 1.0)), returns_of((0, 0, 3.0)).assign(training_step=9)
    for run, table in (("one", pd.concat([early, late])), ("other", late), ("third", early)):
        store(tmp_path, table, probe="online", run=run)
    for run in ("one", "other"):
        store(tmp_path, golden("operators").assign(training_step=9), probe="operators", run=run)
    told = draw_beside([*map(Run, ("one", "other", "third"))], analyses=tmp_path, folder=tmp_path / "out", step=9)
    assert {one.what: one.remedy for one in told if one.status == "missing"} == {
        "online of third": "--step 9 of that probe; it has steps up to 5",
        "operators of third": "mzprobe eval-operators for its checkpoints",
    }


@pytest.mark.parametrize(
    ("spec", "config", "paired"),
    [
        ({}, {}, True),
        ({"gamma": 0.5}, {"environment": {"options": {"gamma": 0.5}}}, True),
        ({"time_limit": 8}, {}, False),
        ({}, {"environment": {"options": {"wind": 1}}}, False),
        ({}, {"environment": "as other code keeps it"}, True),
    ],
)
def test_only_runs_that_begin_alike_and_may_last_as_long_are_paired(tmp_path, drawn, spec, config, paired):
    store(tmp_path, returns_of((0, 0, 1.0)), probe="online", run="a", environment=CARTPOLE)
    store(tmp_path, returns_of((0, 0, 2.0)), probe="online", run="b", environment=CARTPOLE | spec, config=config)
    assert ("online-paired" in drawn("a", "b")) == paired


def test_the_latest_step_of_each_is_shown_and_said(tmp_path, drawn, monkeypatch):
    early = returns_of((0, 0, 1.0)).assign(training_step=500)
    store(tmp_path, early, probe="online", run="a", environment=CARTPOLE)
    late = pd.concat([early, returns_of((0, 0, 3.0)).assign(training_step=2000)])
    store(tmp_path, late, probe="online", run="b", environment=CARTPOLE | {"gamma": 0.5})
    figures = []
    monkeypatch.setattr("mzprobe.figures.beside.write_figure", lambda figure, *_, **__: figures.append(figure) or [1])
    drawn("a", "b")
    assert legend_of(figures[0]) == ["a (step 0.5K, 1 agent, gamma 0.9)", "b (step 2K, 1 agent, gamma 0.5)"]


def test_another_step_is_shown_where_it_is_asked_for(tmp_path):
    both = pd.concat([returns_of((0, 0, 1.0)), returns_of((0, 0, 2.0)).assign(training_step=9)])
    for run in ("one", "other"):
        store(tmp_path, both, probe="online", run=run)
    for step, mean in ((None, 2.0), (5, 1.0)):
        draw_beside([Run("one"), Run("other")], analyses=tmp_path, folder=tmp_path / "out", step=step)
        assert pd.read_csv(tmp_path / "out" / "online.csv", comment="#")["mean"].tolist() == [mean, mean]
    with pytest.raises(UsageError, match="no two of one, other have a table of the same question with training step 7"):
        draw_beside([Run("one"), Run("other")], analyses=tmp_path, folder=tmp_path / "out", step=7)


def test_matrices_of_several_horizons_do_not_compare(tmp_path, drawn):
    for run, h in (("one", 1), ("other", 5)):
        store(tmp_path, golden("cross").assign(h=h), probe="cross", run=run)
        store(tmp_path, returns_of((0, 0, 1.0)), probe="online", run=run)
    assert {*drawn("one", "other")} == {"online", "online-paired"}
    told = draw_beside([Run("one"), Run("other")], analyses=tmp_path, folder=tmp_path / "out")
    (cross,) = [one for one in told if one.status == "missing"]
    assert cross.what == "cross at one h"
    assert cross.remedy.endswith("the same --horizon for all (one at h = 1, other at h = 5)")


def test_a_study_is_its_variants_that_have_tables(tmp_path, run_cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [f"{name} = 1" for name in ("a", "b", "c")]
    text = 'preset = "cartpole"\nseeds = [0]\n[online]\n[variants]\n'
    (tmp_path / "mine.toml").write_text(text + "\n".join(f'{n[0]}."training.n_step" = 1' for n in names))
    for run in ("mine-a", "mine-c"):
        store(tmp_path / "analyses", returns_of((0, 0, 1.0)), probe="online", run=run)
    code, out, said = run_cli("compare", "mine.toml")
    assert (code, said) == (0, "mine-b: no tables under analyses, left out\n")
    assert "figures/mine/online.png written" in out
    cells = pd.read_csv(tmp_path / "figures" / "mine" / "online.csv", comment="#")
    assert cells["run"].tolist() == ["mine-a", "mine-c"]


def test_a_pair_counts_the_agents_that_both_runs_have(tmp_path, monkeypatch, run_cli):
    monkeypatch.chdir(tmp_path)
    more = [(seed, 0, 1.0 + seed) for seed in range(4)]
    store(tmp_path / "analyses", returns_of(*more[:2]), probe="online", run="few", environment=CARTPOLE)
    store(tmp_path / "analyses", returns_of(*more), probe="online", run="many", environment=CARTPOLE)
    legends = []

    def kept(figure, *given, **named):
        legends.append(" ".join(legend_of(figure)))
        return write_figure(figure, *given, **named)

    monkeypatch.setattr("mzprobe.figures.beside.write_figure", kept)
    assert run_cli("compare", "analyses/few", "many")[0] == 0  # a run, or its folder of tables
    assert ["2 agents" in legends[-1], "4 agents" in legends[-1]] == [True, False]
    paired = pd.read_csv(tmp_path / "figures" / "few-and-many" / "online-paired.csv", comment="#")
    assert paired["agents"].tolist() == [2]


def test_one_agent_of_a_run_can_be_put_beside_another(tmp_path, drawn):
    store(tmp_path, returns_of((0, 0, 1.0), (1, 0, 3.0)), probe="online", run="a", environment=CARTPOLE)
    cells = drawn(Run("a", 0), Run("a", 1))["online"]
    assert dict(zip(cells["run"], cells["mean"], strict=True)) == {"a, seed 0": 1.0, "a, seed 1": 3.0}
    assert not (tmp_path / "out" / "online-paired.csv").exists()  # they begin in other states


def test_what_does_not_compare_is_refused(tmp_path, drawn):
    store(tmp_path, returns_of((0, 0, 1.0)), probe="online", run="a")
    with pytest.raises(UsageError, match="no two of a, b have a table of the same question"):
        drawn("a", "b")
    other = table_of(returns_of((0, 0, 1.0)), probe="online", run="b", settings={"episodes": 7})
    write_table(tmp_path / "b" / "online" / "seed-0.parquet", other)
    with pytest.raises(UsageError, match=r"online tables of a and b were made with other settings \(episodes\)"):
        drawn("a", "b")
    lander = table_of(returns_of((0, 0, 1.0)), probe="online", run="c", environment=CARTPOLE | {"name": "lunarlander"})
    write_table(tmp_path / "c" / "online" / "seed-0.parquet", lander)
    with pytest.raises(UsageError, match=r"different environments do not compare \(a in CartPole, c in Lunar Lander\)"):
        drawn("a", "c")


def test_the_command_takes_names_and_paths(tmp_path, run_cli, agent, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store(tmp_path / "analyses", returns_of((0, 0, 1.0)), probe="online", run="tiny")
    store(tmp_path / "analyses", returns_of((0, 0, 2.0)), probe="online", run="b")
    code, out, said = run_cli("compare", str(agent), "b", "--name", "two")
    assert code == 0, said
    assert "figures/two/online-paired.csv written" in out.replace("\\", "/")
    assert "tiny, seed 0" in (tmp_path / "figures" / "two" / "online.csv").read_text()
    for arguments, sentence in (
        (["b"], "one run compares with no other"),
        (["b", "b"], "one run compares with no other"),
        (["b", "c"], "there is no run c under analyses"),
        (["b", "tiny", "--name", "../x"], "give a name without slashes"),
    ):
        code, _, said = run_cli("compare", *arguments)
        assert (code, sentence in said) == (2, True), said


@pytest.fixture
def figure(tmp_path, drawn, monkeypatch):
    """Gives the figure that puts a golden table beside itself."""

    def draw(probe):
        for run in ("a", "b"):
            store(tmp_path, golden(probe), probe=probe, run=run)
        kept = []
        monkeypatch.setattr("mzprobe.figures.beside.write_figure", lambda figure, *_, **__: kept.append(figure) or [1])
        drawn("a", "b")
        return kept[0]

    return draw


def test_panels_that_share_an_axis_show_the_largest_number_of_all(figure):
    panels = figure("targets").axes
    largest = max(line.get_ydata().max() for axes in panels for line in axes.lines)
    assert all(axes.get_ylim()[0] == 0 and axes.get_ylim()[1] >= largest for axes in panels)


def test_panels_of_one_quantity_have_one_scale(figure):
    limits = {}
    for axes in figure("search_error").axes:
        limits.setdefault(axes.get_ylabel(), set()).add(axes.get_ylim())
    assert len(limits) > 1
    assert all(len(own) == 1 for own in limits.values())
