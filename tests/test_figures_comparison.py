"""Figures that compare variants: numbers over agents worked by hand, what is drawn of them, and the study's folder."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from drawings import band, legend_of, points
from stored_tables import store

from mzprobe.errors import UsageError
from mzprobe.figures.acting import aggregate_acting, draw_acting
from mzprobe.figures.agents import aggregate_agents, draw_agents
from mzprobe.figures.comparison import draw_comparison
from mzprobe.figures.learning import aggregate_learning, draw_learning
from mzprobe.figures.style import rendered, variant_looks
from mzprobe.figures.targets import aggregate_oldest, draw_oldest
from mzprobe.tables import read_table, write_table

RUNS = {"b": "mine-b", "a": "mine-a", "a-few": "mine-a-few"}  # not in the order of the alphabet


def online_table(variant, *, steps=(0, 10)):
    """Two agents with two episodes of each policy a step."""
    level = {"b": 10.0, "a": 20.0, "a-few": 30.0}[variant]
    each = 8 if variant != "a-few" else 4
    return pd.DataFrame(
        [
            {
                "seed": seed,
                "training_step": step,
                "environment_steps": each * step,
                "policy": policy,
                "episode": episode,
                "return": level + step + 4 * seed + 2 * episode + 100 * (policy == "prior"),
            }
            for seed in (0, 1)
            for step in steps
            for policy in ("behaviour", "prior")
            for episode in (0, 1)
        ]
    )


def timing_table(variant, *, steps=(0, 10)):
    """Two agents; the second needs twice the time."""
    seconds = {"play": 1.0, "reanalyse": 0.5, "learn": 2.0, "evaluate": 50.0}
    return pd.DataFrame(
        [
            {"seed": seed, "training_step": step, "part": part, "core_seconds": step * seconds[part] * (1 + seed)}
            for seed in (0, 1)
            for step in steps
            for part in seconds
        ]
    )


def acting_table(variant):
    """Two agents, two steps, the last of which counts; `b` has no model."""
    cells = [
        ("none", "policy", 0, 1.0, 10.0),
        ("none", "policy", 0, 0.0, 20.0),
        ("learned", "none", 0, 0.0, 30.0),
        ("true", "none", 0, 0.0, 40.0),
        ("learned", "policy", 2, 0.0, 1000.0),
        ("learned", "policy", 8, 0.0, 50.0),
        ("learned", "uniform", 8, 0.0, 1000.0),
        ("true", "policy", 8, 0.0, 60.0),
    ]
    return pd.DataFrame(
        [
            {
                "seed": seed,
                "training_step": step,
                "model": model,
                "prior": prior,
                "prior_at": {"learned": "latent"}.get(model, "state") if prior == "policy" else "none",
                "simulations": N,
                "temperature": T,
                "episode": episode,
                "return": mean
                + 2 * seed
                + episode
                + (500 if step == 5 else 0)
                + {"b": 0, "a": 100, "a-few": 7}[variant],
            }
            for seed in (0, 1)
            for step in (5, 10)
            for model, prior, N, T, mean in cells
            if not (variant == "b" and model == "learned")
            for episode in (0, 1)
        ]
    )


def targets_table(variant):
    """Two agents with ten positions a step, the two oldest of which are too low by a number of the variant's own."""
    lag = {"b": 0.0, "a": 5.0, "a-few": 9.0}[variant]
    return pd.DataFrame(
        [
            {
                "seed": seed,
                "training_step": step,
                "position": position,
                "age": 10 * position,
                "target": 50.0 - (lag + 2 * seed) * (position >= 8),
                "value": 50.0,
            }
            for seed in (0, 1)
            for step in (5, 10)
            for position in range(10)
        ]
    )


def joined(table, variants=RUNS):
    """The tables of variants as a comparison has them."""
    return pd.concat([table(variant).assign(variant=variant) for variant in variants], ignore_index=True)


def in_order(cells):
    return cells.sort_values("variant", key=lambda names: names.map(list(RUNS).index), kind="stable", ignore_index=True)


# Learning


def test_learning_is_the_return_of_the_behaviour_policy_by_what_training_took():
    cells = aggregate_learning(joined(online_table), joined(timing_table)).set_index(["variant", "training_step"])
    # Agents' means at step 10 of a: (30 + 32) / 2 = 31 and 35. 3.5 and 7 core seconds a step, evaluations left out.
    assert cells.loc[("a", 10)].to_dict() == {
        "environment_steps": 80.0,
        "core_seconds": 52.5,
        "mean": 33.0,
        "standard_error": 2.0,
        "agents": 2,
    }
    assert cells.loc[("a-few", 10), "environment_steps"] == 40
    assert len(cells) == 6


def test_learning_without_times_has_one_panel():
    cells = aggregate_learning(joined(online_table), None)
    assert cells["core_seconds"].isna().all()
    figure = draw_learning(cells, title="Golden")
    assert [axes.get_xlabel() for axes in figure.axes] == ["Environment steps"]


def test_agents_whose_times_were_not_kept_are_left_out_of_the_times_alone():
    times = joined(timing_table)
    cells = aggregate_learning(joined(online_table), times[(times["seed"] == 0) & (times["variant"] != "b")])
    cells = cells.set_index(["variant", "training_step"])
    assert cells.loc[("a", 10), ["core_seconds", "agents"]].tolist() == [35.0, 2]
    assert np.isnan(cells.loc[("b", 10), "core_seconds"])


def test_what_never_played_lies_over_training_steps():
    cells = aggregate_learning(joined(online_table).assign(environment_steps=0), None)
    (axes,) = draw_learning(cells, title="Golden").axes
    assert axes.get_xlabel() == "Training steps"
    assert points(axes.lines[0]) == {0: 23, 10: 33}


def test_tables_without_environment_steps_are_refused_with_a_remedy():
    with pytest.raises(UsageError, match="have no environment steps: make them again"):
        aggregate_learning(joined(online_table).drop(columns="environment_steps"), None)


def test_a_line_a_variant_shows_the_same_returns_twice():
    cells = in_order(aggregate_learning(joined(online_table), joined(timing_table)))
    figure = draw_learning(cells, title="Golden")
    steps, time = figure.axes
    assert [line.get_label() for line in steps.lines] == list(RUNS)
    assert [points(line) for line in steps.lines] == [{0: 13, 80: 23}, {0: 23, 80: 33}, {0: 33, 40: 43}]
    assert [points(line) for line in time.lines] == [{0: 13, 52.5: 23}, {0: 23, 52.5: 33}, {0: 33, 52.5: 43}]
    assert band(steps, 0) == {0: (11, 15), 80: (21, 25)}
    assert (steps.get_ylim(), steps.get_ylim()[0]) == (time.get_ylim(), 0)
    assert [axes.get_xlabel() for axes in figure.axes] == ["Environment steps", "Core seconds of training"]
    assert legend_of(figure) == list(RUNS)
    assert figure.get_suptitle() == "Golden, 2 agents"


def test_learning_shows_the_return_of_the_dataset_where_there_is_one():
    cells = aggregate_learning(joined(online_table), None)
    figure = draw_learning(cells, title="Golden", reference=17.0)
    assert set(figure.axes[0].lines[-1].get_ydata()) == {17.0}
    assert legend_of(figure)[-1] == "the dataset's episodes"


def test_an_axis_is_logarithmic_where_a_variant_ends_far_earlier(tmp_path):
    cells = aggregate_learning(joined(online_table, ["b", "a"]), None)
    (axes,) = draw_learning(cells, title="Golden").axes
    assert (axes.get_xscale(), axes.get_xlim()[0]) == ("linear", 0)
    few = cells["environment_steps"].where(cells["variant"] == "b", cells["environment_steps"] / 10)
    figure = draw_learning(cells.assign(environment_steps=few), title="Golden")
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert [points(line) for line in axes.lines] == [{8: 33}, {80: 23}]
    assert rendered(figure, "png").startswith(b"\x89PNG")


# Acting


def test_ways_to_act_are_compared_at_the_last_step_with_the_most_simulations():
    cells = aggregate_acting(joined(acting_table))
    own = cells[cells["variant"] == "a"]
    assert own[["act", "model", "simulations", "mean"]].to_numpy().tolist() == [
        ["policy, sampled", "none", 0, 111.5],
        ["policy, greedy", "none", 0, 121.5],
        ["one-step value", "learned", 0, 131.5],
        ["one-step value", "true", 0, 141.5],
        ["MCTS", "learned", 8, 151.5],
        ["MCTS", "true", 8, 161.5],
    ]
    assert set(cells["training_step"]) == {10}
    assert set(cells["standard_error"]) == {1.0}
    assert own["returns"].iloc[0] == "110.5 112.5"
    assert cells.loc[cells["variant"] == "b", "model"].tolist() == ["none", "none", "true", "true"]


def test_a_row_a_way_to_act_shows_agents_means_and_errors_and_a_dash_for_none():
    cells = in_order(aggregate_acting(joined(acting_table)))
    figure = draw_acting(cells, title="Golden", reference=42.0)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        "policy, sampled",
        "policy, greedy",
        "one-step value,\nlearned model",
        "one-step value,\ntrue model",
        "MCTS (N = 8),\nlearned model",
        "MCTS (N = 8),\ntrue model",
    ]
    assert axes.get_title() == "Golden, step 0.01K, 2 agents"
    drawn = {tuple(line.get_xdata()): line.get_ydata()[0] for line in axes.lines if len(line.get_xdata()) == 2}
    first = [drawn[x, x + 2] for x in (10.5, 110.5, 17.5)]  # in the order of the study, around the row
    assert first == sorted(first)
    assert first[1] == 0
    means = {container.lines[0].get_xdata()[0] for container in axes.containers}
    assert {11.5, 111.5, 18.5} <= means
    assert len(axes.containers) == 3 * 6 - 2
    dashes = [text for text in axes.texts if text.get_text() == "\N{EN DASH}"]
    assert sorted(round(text.xy[1]) for text in dashes) == [2, 4]
    assert legend_of(figure) == [*RUNS, "mean return of the dataset"]
    assert axes.get_xlim()[0] == 0


def test_the_aggregate_can_be_drawn_from_its_csv():
    cells = aggregate_acting(joined(acting_table))
    again = pd.read_csv(io.StringIO(cells.to_csv(index=False)))
    figures = [rendered(draw_acting(frame, title="Golden"), "svg") for frame in (cells, again)]
    assert figures[0] == figures[1]


def test_a_single_agent_is_drawn_without_a_warning():
    table = joined(acting_table)
    figure = draw_acting(aggregate_acting(table[table["seed"] == 0]), title="Golden")
    assert rendered(figure, "png").startswith(b"\x89PNG")


# Every agent, and the oldest targets


def test_every_agent_has_its_mean_of_the_behaviour_policy():
    cells = aggregate_agents(joined(online_table)).set_index(["variant", "training_step", "seed"])
    assert cells.loc[("a", 10, 0)].to_dict() == {"mean": 31.0, "episodes": 2}
    assert cells.loc[("a", 10, 1), "mean"] == 35.0
    assert len(cells) == 3 * 2 * 2


def test_a_panel_has_a_line_of_each_agent_and_a_thick_one_of_their_median():
    cells = in_order(aggregate_agents(joined(online_table)))
    figure = draw_agents(cells, title="Golden")
    assert [axes.get_title() for axes in figure.axes] == ["b, 2 agents", "a, 2 agents", "a-few, 2 agents"]
    lines = figure.axes[1].get_lines()
    assert [line.get_ydata().tolist() for line in lines] == [[21, 31], [25, 35], [23, 33]]
    assert lines[2].get_linewidth() > 2 * lines[0].get_linewidth()
    assert rendered(figure, "png").startswith(b"\x89PNG")


def test_variants_that_were_trained_further_have_an_axis_of_their_own():
    tables = {"b": online_table("b"), "a": online_table("a", steps=(0, 10, 50))}
    joint = pd.concat([table.assign(variant=name) for name, table in tables.items()], ignore_index=True)
    longer, shorter = draw_agents(aggregate_agents(joint), title="Golden").axes
    assert shorter.get_xlim()[1] < 20 < longer.get_xlim()[1]
    assert shorter.get_ylim() == longer.get_ylim()


def test_the_oldest_fifth_of_targets_is_compared_with_the_truth():
    cells = aggregate_oldest(joined(targets_table)).set_index(["variant", "training_step"])
    # Agents are too low by 5 and 7; ages of the two oldest are 80 and 90.
    assert cells.loc[("a", 10)].to_dict() == {"age": 85.0, "mean": -6.0, "standard_error": 1.0, "agents": 2}
    assert cells.loc[("b", 5), "mean"] == -1.0


def test_where_most_positions_are_of_one_age_the_oldest_are_those():
    table = joined(targets_table).assign(age=lambda own: own["position"].clip(upper=4))  # six of the oldest
    cells = aggregate_oldest(table).set_index(["variant", "training_step"])
    assert cells.loc[("b", 10)].to_dict() == {"age": 4.0, "mean": -1 / 3, "standard_error": 1 / 3, "agents": 2}
    alike = aggregate_oldest(table.assign(age=0))
    assert alike["mean"].notna().all()


def test_the_oldest_targets_are_a_line_a_variant():
    cells = in_order(aggregate_oldest(joined(targets_table)))
    figure = draw_oldest(cells, title="Golden")
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.lines}
    assert points(lines["a-few"]) == {5: -10, 10: -10}
    assert legend_of(figure) == list(RUNS)
    assert rendered(figure, "png").startswith(b"\x89PNG")


# Both


def test_a_variant_with_a_word_more_has_the_colour_of_the_other_and_dashes():
    looks = variant_looks(["0", "0.5", "0.8", "0.5-fewer", "0.8-fewer", "0.8-fewer-still", "other-fewer"])
    colours = [look["colour"] for look in looks.values()]
    assert colours[3:6] == [colours[1], colours[2], colours[2]]
    assert len(set(colours)) == 4
    assert [look["linestyle"] for look in looks.values()] == ["-", "-", "-", "--", "--", ":", "-"]
    assert len({(str(look["colour"]), look["linestyle"]) for look in looks.values()}) == 7


@pytest.fixture
def write(tmp_path):
    """Writes a table of a variant, an agent a file."""

    def to(name, variant, frame, **changes):
        said = {"settings": {"episodes": 2}, "config": {"training": {"n_step": len(variant)}}, **changes}
        steps = {"commands": {str(step): "mzprobe study mine" for step in frame["training_step"].unique()}}
        store(tmp_path / "analyses", frame, probe=name, run=RUNS[variant], **steps, **said)

    return to


@pytest.fixture
def draw(tmp_path):
    return lambda **options: draw_comparison(
        "mine", RUNS, analyses=tmp_path / "analyses", figures=tmp_path / "figures", **options
    )


def test_a_study_has_its_figures_in_its_folder_and_the_same_bytes_again(write, draw, tmp_path):
    for variant in RUNS:
        write("online", variant, online_table(variant))
        write("timing", variant, timing_table(variant))
        write("planning-value", variant, acting_table(variant))
    names = [
        str(tmp_path / "figures" / "mine" / f"{name}.{suffix}")
        for name in ("learning", "agents", "acting")
        for suffix in ("png", "svg", "csv")
    ]
    assert [(drawn.what, drawn.status) for drawn in draw()] == [(name, "written") for name in names]
    assert {drawn.status for drawn in draw()} == {"unchanged"}
    assert "replaced" in {drawn.status for drawn in draw(reference=20.0)}
    text = (tmp_path / "figures" / "mine" / "learning.csv").read_text("utf-8")
    assert text.startswith("# command: mzprobe study mine\n# b: seeds: 0, 1\n# b: config: ")
    cells = pd.read_csv(io.StringIO(text), comment="#")
    assert list(cells.columns) == [
        "variant",
        "training_step",
        "environment_steps",
        "core_seconds",
        "mean",
        "standard_error",
        "agents",
    ]
    assert list(dict.fromkeys(cells["variant"])) == list(RUNS)


def test_a_variant_without_a_table_is_said_and_the_others_are_drawn(write, draw):
    write("online", "a", online_table("a"))
    said = [(drawn.what, drawn.remedy) for drawn in draw() if drawn.status == "missing"]
    remedy = "mzprobe study mine"
    lacking = [f"{figure}, variant {variant}" for figure in ("learning", "agents") for variant in ("b", "a-few")]
    assert said == [(what, remedy) for what in lacking]
    assert len(draw()) == 2 * (2 + 3)


def test_a_study_without_any_table_is_refused_with_the_command_that_makes_them(draw):
    with pytest.raises(UsageError, match=r"no tables of the runs of study mine under .*: make them with mzprobe study"):
        draw()


def test_variants_that_were_measured_in_other_ways_are_not_compared(write, draw):
    write("online", "b", online_table("b"))
    write("online", "a", online_table("a"), settings={"episodes": 3})
    with pytest.raises(UsageError, match=r"online tables of b and a were made with other settings \(episodes\)"):
        draw()


def test_variants_may_have_learned_from_other_datasets_but_the_agents_of_one_may_not(write, draw, tmp_path):
    write("online", "b", online_table("b"))
    for variant in ("a", "a-few"):
        write("online", variant, online_table(variant), dataset={"sha256": variant})
    assert len(draw()) == 6  # two figures
    path = tmp_path / "analyses" / RUNS["a"] / "online" / "seed-1.parquet"
    table = read_table(path)
    write_table(path, replace(table, record={**table.record, "dataset": {"sha256": "other"}}))
    with pytest.raises(UsageError, match=r"were made with other dataset \(sha256\)"):
        draw()
