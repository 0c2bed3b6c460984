"""Figures that compare variants: numbers over agents worked by hand, what is drawn of them, and the study's folder."""

import io

import numpy as np
import pandas as pd
import pytest
from drawings import band, legend_of, points
from variant_tables import RUNS, acting_table, in_order, joined, online_table, targets_table, timing_table

from mzprobe.errors import UsageError
from mzprobe.figures.acting import aggregate_acting, draw_acting
from mzprobe.figures.agents import aggregate_agents, draw_agents
from mzprobe.figures.learning import aggregate_learning, draw_learning
from mzprobe.figures.style import rendered
from mzprobe.figures.targets import aggregate_oldest, draw_oldest

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
    assert figure.get_suptitle() == "Golden, 2 agents, mean ± standard error"


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


def test_a_row_a_way_to_act_shows_agents_means_and_errors_and_says_where_there_is_no_model():
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
    assert axes.get_title() == "Golden, step 0.01K, 2 agents, mean ± standard error"
    drawn = {tuple(line.get_xdata()): line.get_ydata()[0] for line in axes.lines if len(line.get_xdata()) == 2}
    first = [drawn[x, x + 2] for x in (10.5, 110.5, 17.5)]  # in the order of the study, around the row
    assert first == sorted(first)
    assert first[1] == 0
    means = {container.lines[0].get_xdata()[0] for container in axes.containers}
    assert {11.5, 111.5, 18.5} <= means
    assert len(axes.containers) == 3 * 6 - 2
    absent = [text for text in axes.texts if text.get_text() == "learned no model"]
    assert sorted(round(text.xy[1]) for text in absent) == [2, 4]
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
    assert [axes.get_title() for axes in figure.axes] == ["b\n2 agents", "a\n2 agents", "a-few\n2 agents"]
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
    assert [axes.get_title() for axes in (longer, shorter)] == ["a\n2 agents, to 0.05K", "b\n2 agents"]


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
