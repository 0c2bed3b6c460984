"""Statistics over agents, Figure 3, the same bytes for the same table, and the folder of a run's figures."""

import dataclasses
import io
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from drawings import golden
from matplotlib.collections import PolyCollection
from stored_tables import table_of

from mzprobe.errors import UsageError
from mzprobe.figures import PLANS, draw_run, how_to_make
from mzprobe.figures.horizon import aggregate_horizon, draw_horizon
from mzprobe.figures.style import rendered
from mzprobe.stats import over_agents
from mzprobe.tables import find_run, table_path, write_table

# The table of Figure 3 is written by hand: two agents, the second with a state more; two training steps; h = 1, 2, 3.
# Each agent's mean at (step 500, h = 1) is 2 and 4; at the same step h = 2: 3 and 6; and so on.
MEANS = {(500, 1): (2.0, 4.0), (500, 2): (3.0, 6.0), (500, 3): (4.0, 7.0)}
MEANS |= {(1000, 1): (0.5, 2.0), (1000, 2): (1.5, 2.5), (1000, 3): (2.0, 4.0)}
HORIZON = [f"fig3-horizon.{suffix}" for suffix in ("png", "svg", "csv")]
# The others, in order, with what makes their tables.
OPTIONAL = ("fig7-planning-value", "equivalence", "improvement", "operators", "targets")
MISSING = [
    ("fig2-online", "mzprobe eval-online checkpoints/golden"),
    ("fig4-sequences", "mzprobe eval-sequences checkpoints/golden"),
    ("fig5-cross", "mzprobe cross-matrix checkpoints/golden"),
    ("fig6-search", "mzprobe eval-search-error checkpoints/golden"),
    ("fig7-planning", "mzprobe eval-planning checkpoints/golden"),
    *((name, f"mzprobe eval-{name} checkpoints/golden") for name in OPTIONAL[1:]),
]


@pytest.fixture
def frame():
    return golden("horizon")


# Numbers


def test_an_agent_with_more_states_weighs_no_more_than_another():
    frame = pd.DataFrame({"seed": [0, 1, 1, 1], "x": [1.0, 4.0, 5.0, 6.0], "cell": 0})
    cells = over_agents(frame, by=["cell"], column="x")
    # Agents' means 1 and 5: mean 3, sd sqrt(8), standard error sqrt(8) / sqrt(2) = 2.
    assert cells.to_dict("records") == [{"cell": 0, "mean": 3.0, "standard_error": pytest.approx(2.0), "agents": 2}]


def test_a_single_agent_has_no_standard_error():
    cells = over_agents(pd.DataFrame({"seed": [7, 7], "x": [1.0, 3.0], "cell": 0}), by=["cell"], column="x")
    assert cells["mean"].tolist() == [2.0]
    assert cells["standard_error"].isna().all()
    assert cells["agents"].tolist() == [1]


def test_a_cell_counts_the_agents_that_are_in_it():
    frame = pd.DataFrame({"seed": [0, 1, 2, 0], "x": [1.0, 2.0, 3.0, 9.0], "cell": [0, 0, 0, 1]})
    cells = over_agents(frame, by=["cell"], column="x")
    assert cells["agents"].tolist() == [3, 1]
    assert cells["standard_error"].iloc[0] == pytest.approx(1 / np.sqrt(3))


def test_the_golden_table_has_the_means_and_errors_worked_by_hand(frame):
    cells = aggregate_horizon(frame)
    assert set(cells["quantity"]) == {"error", "median"}  # a table of before, that has no errors of steps
    cells = cells[cells["quantity"] == "error"]
    assert len(cells) == len(MEANS)
    for row in cells.itertuples():
        first, second = MEANS[row.training_step, row.h]
        assert row.mean == pytest.approx((first + second) / 2, abs=1e-12)
        assert row.standard_error == pytest.approx(abs(first - second) / 2, abs=1e-12)
        assert row.agents == 2


# Drawing


def test_a_line_a_horizon_shows_the_means_by_training_step(frame):
    axes = draw_horizon(aggregate_horizon(frame), title="Golden").axes[0]
    assert [line.get_label() for line in axes.lines] == ["1", "2", "3"]
    for line, h in zip(axes.lines, (1, 2, 3), strict=True):
        assert line.get_xdata().tolist() == [500, 1000]
        assert line.get_ydata().tolist() == [pytest.approx(np.mean(MEANS[step, h])) for step in (500, 1000)]


def test_a_band_a_horizon_spans_one_standard_error(frame):
    axes = draw_horizon(aggregate_horizon(frame), title="Golden").axes[0]
    bands = [band for band in axes.collections if isinstance(band, PolyCollection)]
    for band, h in zip(bands, (1, 2, 3), strict=True):
        vertices = band.get_paths()[0].vertices
        for step in (500, 1000):
            ends = vertices[vertices[:, 0] == step, 1]
            assert (ends.min(), ends.max()) == pytest.approx(sorted(MEANS[step, h]))


def test_an_untrained_model_is_said_in_words_where_there_are_trained_ones(frame):
    with_untrained = frame.assign(training_step=frame["training_step"].replace(500, 0))
    untrained = with_untrained["training_step"] == 0
    worse = with_untrained.assign(error=with_untrained["error"] + 2 * untrained)
    later = worse[~untrained].assign(training_step=2000)
    axes = draw_horizon(aggregate_horizon(pd.concat([worse, later])), title="Golden").axes[0]
    assert [line.get_xdata().tolist() for line in axes.lines] == [[1000, 2000]] * 3
    assert axes.get_title() == "By horizon\n(untrained: 5 to 7.5)"


def test_an_untrained_model_is_treated_alike_where_it_is_no_worse(frame):
    with_untrained = frame.assign(training_step=frame["training_step"].replace(500, 0))
    better = with_untrained.assign(error=with_untrained["error"] * (with_untrained["training_step"] > 0))
    axes = draw_horizon(aggregate_horizon(better), title="Golden").axes[0]
    assert [line.get_xdata().tolist() for line in axes.lines] == [[1, 2, 3]] * 2
    assert axes.get_title() == "By horizon, at training step 1K\n(untrained: 0 to 0)"


def steps_frame():
    """Two agents, three states: of the last one an end is near."""
    rows = []
    for seed in (0, 1):
        for step in (0, 500, 1000):
            for state, error in enumerate((1.0, 2.0, 9.0)):
                for h in (1, 2):
                    wrong = (-1) ** state * 0.1 * h * (1 + seed)
                    rows.append(
                        {
                            "seed": seed,
                            "training_step": step,
                            "state": state,
                            "h": h,
                            "error": error * h,
                            "end_within": state == 2 and h == 2,
                            "step_signed_error": wrong,
                            "grounded_signed_error": wrong / 2,
                        }
                    )
    return pd.DataFrame(rows)


def test_medians_states_without_ends_and_single_steps_have_their_lines():
    cells = aggregate_horizon(steps_frame())
    means = {(row.quantity, row.training_step, row.h): row.mean for row in cells.itertuples()}
    assert [means[name, 500, 2] for name in ("error", "median", "without_ends")] == pytest.approx([8.0, 4.0, 3.0])
    assert [means[name, 500, 2] for name in ("step_error", "grounded_error")] == pytest.approx([0.3, 0.15])
    _, typical, alone = draw_horizon(cells, title="Golden").axes
    drawn = {line.get_label(): dict(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in typical.lines}
    assert drawn == {
        "mean of all": {500: 8, 1000: 8},
        "median of all": {500: 4, 1000: 4},
        "mean of those with no end near": {500: 3, 1000: 3},
    }
    assert [line.get_label() for line in alone.lines] == ["0.5K", "1K", "1K, encoded anew every step"]
    assert alone.lines[0].get_ydata().tolist() == pytest.approx([0.15, 0.3])
    assert alone.lines[2].get_ydata().tolist() == pytest.approx([0.075, 0.15])
    assert alone.get_ylabel().endswith("(reward)")


def test_an_untrained_model_alone_is_drawn(frame):
    untrained = frame[frame["training_step"] == 500].assign(training_step=0)
    axes = draw_horizon(aggregate_horizon(untrained), title="Golden").axes[0]
    assert [line.get_xdata().tolist() for line in axes.lines] == [[1, 2, 3]] * 2
    assert axes.get_title() == "By horizon, at training step 0"


def test_one_training_step_alone_is_drawn_over_the_horizon():
    frame = steps_frame()
    by_horizon, alone = draw_horizon(aggregate_horizon(frame[frame["training_step"] == 500]), title="Golden").axes
    drawn = {line.get_label(): dict(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in by_horizon.lines}
    assert drawn == {
        "mean of all": {1: 4, 2: 8},
        "median of all": {1: 2, 2: 4},
        "mean of those with no end near": {1: 1.5, 2: 3},
    }
    assert by_horizon.get_xlabel() == "Horizon h (environment steps)"
    assert [line.get_label() for line in alone.lines] == ["0.5K", "0.5K, encoded anew every step"]


def test_title_axes_and_legend_name_what_is_drawn(frame):
    axes = draw_horizon(aggregate_horizon(frame), title="Golden").axes[0]
    assert axes.get_figure().get_suptitle() == "Golden, 2 agents, mean ± standard error"
    assert axes.get_xlabel() == "Training steps"
    assert axes.get_ylabel() == "Value prediction error\n(discounted reward)"
    assert axes.get_legend().get_title().get_text() == "Horizon h (environment steps)"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["1", "2", "3"]
    assert [axes.xaxis.get_major_formatter()(step, 0) for step in (0, 500, 20_000)] == ["0", "0.5K", "20K"]


@pytest.mark.parametrize(
    ("late", "scale", "lowest"), [(0.01, "log", 0.005 / 1.5), (0.5, "linear", 0.0), (0.0, "linear", 0.0)]
)
def test_errors_that_vanish_late_have_a_logarithmic_axis_unless_they_are_zero(late, scale, lowest):
    sizes = {500: 1.0, 1000: late}
    rows = [
        {"seed": seed, "training_step": step, "h": h, "error": size * h / 2}
        for seed in (0, 1)
        for step, size in sizes.items()
        for h in (1, 2)
    ]
    for axes in draw_horizon(aggregate_horizon(pd.DataFrame(rows)), title="Golden").axes:
        assert axes.get_yscale() == scale
        assert axes.get_ylim()[0] == pytest.approx(lowest)


def test_a_logarithmic_axis_does_not_go_down_to_rounding():
    sizes = {500: 2.0, 1000: 1e-13}
    rows = [
        {"seed": 0, "training_step": step, "h": 1, "error": size, "step_signed_error": size / 10}
        for step, size in sizes.items()
    ]
    panel = draw_horizon(aggregate_horizon(pd.DataFrame(rows)), title="Golden").axes[0]
    assert panel.get_ylim() == pytest.approx((2e-5, 2.4))
    assert [tick for tick in panel.get_yticks() if 1e-4 <= tick <= 1] == pytest.approx([1e-4, 1e-3, 0.01, 0.1, 1])


def test_a_single_agent_is_drawn_without_a_warning(frame):
    figure = draw_horizon(aggregate_horizon(frame[frame["seed"] == 0]), title="Golden")
    assert figure.get_suptitle() == "Golden, 1 agent"
    assert rendered(figure, "png").startswith(b"\x89PNG")


def test_colours_of_the_horizons_differ(frame):
    axes = draw_horizon(aggregate_horizon(frame), title="Golden").axes[0]
    assert len({tuple(line.get_color()) for line in axes.lines}) == 3


def test_drawing_leaves_the_settings_of_matplotlib(frame):
    before = dict(mpl.rcParams)
    rendered(draw_horizon(aggregate_horizon(frame), title="Golden"), "svg")
    assert dict(mpl.rcParams) == before


# A run's folder


def store(analyses, frame, probe="horizon", **changed_for_the_last):
    """Writes a golden table as its probe would: one file an agent, the last one's record changed where asked."""
    for seed, rows in frame.groupby("seed"):
        first, *later = sorted(rows["training_step"].unique())
        command = f"mzprobe eval-{probe} golden"
        record = {
            "commands": {str(first): command, **{str(step): f"{command} --step 1000" for step in later}},
            "settings": {"states": 3},
            "config": {"training": {"steps": 1000 + int(seed)}},
            "versions": {"mzprobe": "0.1.0"},
        }
        if seed == frame["seed"].max():
            record |= changed_for_the_last
        path = table_path(analyses, "golden", probe, int(seed))
        write_table(path, table_of(rows, probe=probe, run="golden", **record))


def statuses(root):
    """What became of every file of the run's figures."""
    drawn = draw_run("golden", analyses=root / "analyses", figures=root / "figures")
    return {Path(one.what).name: one.status for one in drawn if one.status != "missing"}


def test_files_are_written_left_alone_or_replaced_and_it_is_said(tmp_path, frame):
    names = HORIZON
    store(tmp_path / "analyses", frame)
    assert statuses(tmp_path) == dict.fromkeys(names, "written")
    before = {name: (tmp_path / "figures" / "golden" / name).stat().st_mtime_ns for name in names}
    assert statuses(tmp_path) == dict.fromkeys(names, "unchanged")
    assert {name: (tmp_path / "figures" / "golden" / name).stat().st_mtime_ns for name in names} == before
    store(tmp_path / "analyses", frame.assign(error=frame["error"] + 1))
    assert statuses(tmp_path) == dict.fromkeys(names, "replaced")
    (tmp_path / "figures" / "golden" / names[0]).unlink()
    assert statuses(tmp_path) == dict.fromkeys(names, "unchanged") | {names[0]: "written"}


def test_the_csv_holds_the_numbers_drawn_and_says_what_made_them(tmp_path, frame):
    store(tmp_path / "analyses", frame)
    statuses(tmp_path)
    text = (tmp_path / "figures" / "golden" / "fig3-horizon.csv").read_text("utf-8")
    assert text.splitlines()[:6] == [
        "# command: mzprobe eval-horizon golden",
        "# command: mzprobe eval-horizon golden --step 1000",
        "# seeds: 0, 1",
        '# settings: {"states": 3}',
        '# config: {"training": {"steps": 1000}}',
        '# versions: {"mzprobe": "0.1.0"}',
    ]
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(text), comment="#"), aggregate_horizon(frame))


@pytest.mark.parametrize(
    ("part", "name"),
    [("settings", "states"), ("config", "search.simulations"), ("versions", "mzprobe")],
)
def test_agents_measured_otherwise_are_not_drawn_together(tmp_path, frame, part, name):
    changed = {"search": {"simulations": 9}} if part == "config" else {name: "4"}
    store(tmp_path / "analyses", frame, **{part: changed})
    with pytest.raises(
        UsageError, match=rf"seed-1.parquet and .*seed-0.parquet were made with other {part} \({name}\)"
    ):
        statuses(tmp_path)
    assert not (tmp_path / "figures").exists()


def test_cells_with_fewer_agents_show_in_the_title(frame):
    without_one = frame[(frame["seed"] == 0) | (frame["h"] < 3)]
    axes = draw_horizon(aggregate_horizon(without_one), title="Golden").axes[0]
    assert axes.get_figure().get_suptitle() == "Golden, 1 to 2 agents, mean ± standard error"


def test_the_title_is_the_environments(tmp_path, frame):
    store(tmp_path / "analyses", frame)
    statuses(tmp_path)
    drawing = ElementTree.parse(tmp_path / "figures" / "golden" / "fig3-horizon.svg")
    texts = {"".join(node.itertext()).strip() for node in drawing.iter("{http://www.w3.org/2000/svg}text")}
    assert "CartPole, 2 agents, mean ± standard error" in texts


def test_figures_without_a_table_are_missing_with_the_command_that_makes_it(tmp_path, frame):
    store(tmp_path / "analyses", frame)
    drawn = draw_run("golden", analyses=tmp_path / "analyses", figures=tmp_path / "figures")
    assert [one.what for one in drawn] == [
        "fig2-online",
        *(str(tmp_path / "figures" / "golden" / name) for name in HORIZON),
        *(name for name, _ in MISSING[1:]),  # and not the optional one
    ]
    assert [(one.what, one.remedy) for one in drawn if one.status == "missing"] == MISSING
    assert [one.status for one in drawn if one.what not in dict(MISSING)] == ["written"] * 3


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ("mzprobe eval-horizon checkpoints/golden --set states=3", "mzprobe eval-online checkpoints/golden"),
        ("mzprobe.ask(agents, 'horizon', states=3)", "mzprobe.ask(agents, 'online')"),
        (
            "mzprobe eval-horizon best.pth --set states=3 --source theirs --agent 'a={\"b\": 1}' --agent run=golden",
            "mzprobe eval-online best.pth --source theirs --agent 'a={\"b\": 1}' --agent run=golden",
        ),
    ],
)
def test_what_makes_a_missing_table_names_the_agents_of_the_others(tmp_path, frame, known, said):
    store(tmp_path / "analyses", frame)
    there = find_run(tmp_path / "analyses", "golden", "horizon")
    (record, *_) = there.record["agents"]
    told = dataclasses.replace(there, record={"agents": [{**record, "commands": {"0": known}}]})
    assert how_to_make(PLANS[0], "golden", [told]) == said
    assert how_to_make(PLANS[0], "golden", []) == "mzprobe eval-online checkpoints/golden"


def test_a_damaged_table_costs_its_own_figure_and_no_other(tmp_path, frame, run_cli):
    store(tmp_path / "analyses", frame)
    damaged = tmp_path / "analyses" / "golden" / "online" / "seed-0.parquet"
    damaged.parent.mkdir()
    damaged.write_bytes(b"spoilt")
    before = tmp_path / "figures" / "golden" / "fig2-online.csv"
    before.parent.mkdir(parents=True)
    before.write_text("what was drawn before")
    places = ("--analyses", tmp_path / "analyses", "--out", tmp_path / "figures")
    code, out, said = run_cli("figures", "golden", *places)
    assert code == 1
    assert [Path(line.split()[0]).name for line in out.splitlines() if "written" in line] == list(HORIZON)
    assert f"error: fig2-online is not drawn: {damaged} is truncated or not a table of mzprobe: " in said
    assert before.read_text() == "what was drawn before"


def test_every_figure_of_a_run_is_drawn_in_the_order_of_the_paper(tmp_path):
    tables = {plan.probe: golden(plan.probe.removesuffix("-value")) for plan in PLANS}
    for probe, table in tables.items():
        store(tmp_path / "analyses", table, probe)
    done = statuses(tmp_path)
    figures = ("fig2-online", "fig3-horizon", "fig4-sequences", "fig5-cross", "fig6-search", "fig7-planning")
    names = [f"{name}.{suffix}" for name in (*figures, *OPTIONAL) for suffix in ("png", "svg", "csv")]
    assert list(done.items()) == [(name, "written") for name in names]
    assert set(statuses(tmp_path).values()) == {"unchanged"}
    for plan in PLANS:
        text = (tmp_path / "figures" / "golden" / f"{plan.name}.csv").read_text("utf-8")
        assert text.startswith(f"# command: mzprobe eval-{plan.probe} golden\n")
        drawn, cells = pd.read_csv(io.StringIO(text), comment="#"), plan.aggregate(tables[plan.probe])
        pd.testing.assert_frame_equal(drawn.astype(cells.dtypes), cells)


def test_only_the_optional_figure_is_enough_for_a_run(tmp_path):
    store(tmp_path / "analyses", golden("planning"), "planning-value")
    assert statuses(tmp_path) == {f"fig7-planning-value.{suffix}": "written" for suffix in ("png", "svg", "csv")}


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_same_table_gives_the_same_bytes(plan, suffix):
    table = golden(plan.probe.removesuffix("-value"))
    once, again = (rendered(plan.draw(plan.aggregate(table), title="Golden"), suffix) for _ in range(2))
    other = rendered(plan.draw(plan.aggregate(table[table["seed"] == 0]), title="Golden"), suffix)
    assert once == again
    assert once != other


def test_a_run_without_any_table_is_a_usage_error_that_says_how_to_make_one(tmp_path):
    with pytest.raises(
        UsageError, match=r"no tables of run golden under .*: make one with mzprobe eval-online checkpoints/golden"
    ):
        statuses(tmp_path)
    assert list(tmp_path.iterdir()) == []
