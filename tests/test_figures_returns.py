"""Figures 2 and 7, the returns: numbers over agents worked by hand, and the lines that show them."""

import pandas as pd
import pytest
from drawings import band, golden, legend_of, looks, numbers, points
from matplotlib.collections import LineCollection

from mzprobe.figures.online import aggregate_online, draw_online
from mzprobe.figures.planning import aggregate_planning, draw_planning
from mzprobe.figures.style import BLUE, GREEDY, GREEN, ORANGE, rendered
from mzprobe.figures.style import SAMPLED as SAMPLED_GREY

# Figure 2. Agents' means, for the behaviour policy at step 0: (10 + 20) / 2 and (20 + 25 + 30) / 3.
ONLINE = {
    ("behaviour", 0): (20.0, 5.0, 2),  # 15 and 25
    ("behaviour", 1000): (110.0, 10.0, 2),  # 100 and 120
    ("prior", 0): (13.0, 3.0, 2),  # 10 and 16
    ("prior", 1000): (60.0, 10.0, 2),  # 50 and 70
}
# Figure 7, at step 1000 and 2000. The first agent has two episodes of (learned, policy) and of the sampled prior.
PLANNING = {
    (1000, "learned", "policy", "latent", 2, 0.0): (30.0, 10.0, 2),  # (10 + 30) / 2 and 40
    (1000, "learned", "policy", "latent", 4, 0.0): (60.0, 10.0, 2),  # (40 + 60) / 2 and 70
    (1000, "learned", "policy", "state", 2, 0.0): (45.0, 5.0, 2),
    (1000, "learned", "policy", "state", 4, 0.0): (85.0, 5.0, 2),
    (1000, "learned", "uniform", "none", 2, 0.0): (15.0, 5.0, 2),
    (1000, "learned", "uniform", "none", 4, 0.0): (30.0, 10.0, 2),
    (1000, "none", "policy", "state", 0, 0.0): (50.0, 10.0, 2),
    (1000, "none", "policy", "state", 0, 1.0): (40.0, 10.0, 2),  # (25 + 35) / 2 and 50
    (1000, "true", "policy", "latent", 2, 0.0): (75.0, 5.0, 2),
    (1000, "true", "policy", "latent", 4, 0.0): (95.0, 5.0, 2),
    (1000, "true", "policy", "state", 2, 0.0): (80.0, 20.0, 2),
    (1000, "true", "policy", "state", 4, 0.0): (120.0, 20.0, 2),
    (1000, "true", "uniform", "none", 2, 0.0): (60.0, 10.0, 2),
    (1000, "true", "uniform", "none", 4, 0.0): (110.0, 20.0, 2),
    (2000, "learned", "policy", "latent", 2, 0.0): (90.0, 10.0, 2),
    (2000, "learned", "policy", "latent", 4, 0.0): (110.0, 10.0, 2),
    (2000, "none", "policy", "state", 0, 1.0): (70.0, 10.0, 2),
}
BY = ("training_step", "model", "prior", "prior_at", "simulations", "temperature")
LEARNED = ["learned model, policy prior", "learned model, prior at real states", "learned model, uniform prior"]
TRUE = ["true model, policy prior", "true model, prior at latents", "true model, uniform prior"]
ALONE = ["policy prior alone, sampled", "policy prior alone, greedy"]
LABELS = [*LEARNED, *TRUE, *ALONE]


SAMPLED = "policy prior, sampled"


@pytest.fixture
def online():
    return aggregate_online(golden("online").assign(temperature=1.0))


@pytest.fixture
def planning():
    return aggregate_planning(golden("planning"))


# Figure 2


def test_returns_by_policy_and_step_are_those_worked_by_hand(online):
    assert numbers(online, "policy", "training_step") == {key: pytest.approx(cell) for key, cell in ONLINE.items()}


def test_a_line_a_policy_shows_the_returns_and_a_band_their_errors(online):
    (axes,) = draw_online(online, title="Golden").axes
    assert [line.get_label() for line in axes.lines] == ["MCTS (behaviour policy)", SAMPLED]
    assert [points(line) for line in axes.lines] == [{0: 20, 1000: 110}, {0: 13, 1000: 60}]
    assert band(axes, 0) == {0: (15, 25), 1000: (100, 120)}
    assert band(axes, 1) == {0: (10, 16), 1000: (50, 70)}


def test_the_policies_differ_in_colour_dashes_and_marker(online):
    (axes,) = draw_online(online, title="Golden").axes
    assert looks(axes) == {"MCTS (behaviour policy)": (BLUE, "-", "o"), SAMPLED: (SAMPLED_GREY, "-.", "s")}


def test_figure_2_names_its_axes_agents_and_lines(online):
    figure = draw_online(online, title="Golden")
    (axes,) = figure.axes
    assert (axes.get_title(), axes.get_xlabel()) == ("Golden, 2 agents, mean ± standard error", "Training steps")
    assert axes.get_ylabel() == "Return (undiscounted reward)"
    assert axes.xaxis.get_major_formatter()(500, 0) == "0.5K"
    assert legend_of(figure) == ["MCTS (behaviour policy)", SAMPLED, "MCTS, each agent"]


def test_the_axis_of_returns_starts_at_0_unless_one_lies_below(online):
    bottom = {
        shift: draw_online(online.assign(mean=online["mean"] - shift), title="Golden").axes[0].get_ylim()[0]
        for shift in (0, 13, 14)
    }
    assert bottom[0] == bottom[13] == 0
    assert bottom[14] < -1


def test_thin_lines_are_agents_and_a_new_temperature_has_its_line(online):
    (axes,) = draw_online(online, title="Golden").axes
    (lines,) = [one for one in axes.collections if isinstance(one, LineCollection)]
    assert [segment.tolist() for segment in lines.get_segments()] == [[[0, 15], [1000, 100]], [[0, 25], [1000, 120]]]
    assert not axes.texts
    colder = online.assign(temperature=online["temperature"].mask(online["training_step"] == 1000, 0.25))
    (axes,) = draw_online(colder, title="Golden").axes
    assert [text.get_text() for text in axes.texts] == ["T = 0.25"]
    assert axes.lines[-1].get_xdata() == [1000, 1000]


def test_a_greedy_prior_has_a_line_of_its_own(online):
    greedy = online[online["policy"] == "prior"].assign(policy="greedy", mean=[30.0, 90.0])
    (axes,) = draw_online(pd.concat([online, greedy]), title="Golden").axes
    assert points({line.get_label(): line for line in axes.lines}["policy prior, greedy"]) == {0: 30, 1000: 90}


def test_a_policy_that_was_not_measured_has_no_line(online):
    figure = draw_online(online[online["policy"] == "prior"], title="Golden")
    assert legend_of(figure) == [line.get_label() for line in figure.axes[0].lines] == [SAMPLED]


# Figure 7


def test_returns_of_planning_are_those_worked_by_hand(planning):
    assert numbers(planning, *BY) == {key: pytest.approx(cell) for key, cell in PLANNING.items()}
    assert set(planning.loc[planning["model"] == "none", "leaf"]) == {"none"}
    assert set(planning.loc[planning["model"] != "none", "leaf"]) == {"rollout"}


def test_a_panel_a_step_shows_a_line_a_model_and_prior(planning):
    first, second = draw_planning(planning, title="Golden").axes
    assert (first.get_title(), second.get_title()) == ("Step 1K", "Step 2K")
    assert [line.get_label() for line in first.lines] == LABELS
    lines = [{2: 30, 4: 60}, {2: 45, 4: 85}, {2: 15, 4: 30}, {2: 80, 4: 120}, {2: 75, 4: 95}, {2: 60, 4: 110}]
    assert [points(line) for line in first.lines[:6]] == lines
    assert band(first, 0) == {2: (20, 40), 4: (50, 70)}
    assert band(first, 1) == {2: (40, 50), 4: (80, 90)}
    assert band(first, 2) == {2: (10, 20), 4: (20, 40)}
    assert band(first, 3) == {2: (60, 100), 4: (100, 140)}
    assert band(first, 5) == {2: (50, 70), 4: (90, 130)}
    assert points(second.lines[0]) == {2: 90, 4: 110}


def test_the_policy_prior_alone_is_a_level_with_a_band_sampled_and_greedy(planning):
    first, second = draw_planning(planning, title="Golden").axes
    assert [set(line.get_ydata()) for line in first.lines[6:]] == [{40}, {50}]
    assert [(box.get_y(), box.get_height()) for box in first.patches] == [(30, 20), (40, 20)]
    assert [(line.get_label(), set(line.get_ydata())) for line in second.lines[1:]] == [(ALONE[0], {70})]


def test_colour_tells_the_model_and_dashes_the_prior(planning):
    first = draw_planning(planning, title="Golden").axes[0]
    assert list(looks(first).values()) == [
        (ORANGE, "-", "o"),
        (ORANGE, "--", "^"),
        (ORANGE, ":", "o"),
        (GREEN, "-", "s"),
        (GREEN, "--", "v"),
        (GREEN, ":", "s"),
        (SAMPLED_GREY, "-.", "None"),
        (GREEDY, "--", "None"),
    ]


def test_figure_7_names_its_axes_and_has_one_legend(planning):
    figure = draw_planning(planning, title="Golden")
    assert (
        figure.get_suptitle()
        == "Golden, 2 agents, mean ± standard error\nleaf values by random rollout, 16 steps from the root"
    )
    assert [axes.get_ylabel() for axes in figure.axes] == ["Return (undiscounted reward)", ""]
    assert [axes.get_xlabel() for axes in figure.axes] == ["Simulations per step, N"] * 2
    assert legend_of(figure) == LABELS
    assert [axes.get_legend() for axes in figure.axes] == [None, None]


def test_the_legend_keeps_its_order_whichever_lines_come_first(planning):
    later_first = planning.assign(training_step=3000 - planning["training_step"])
    figure = draw_planning(later_first, title="Golden")
    assert [line.get_label() for line in figure.axes[0].lines] == [LABELS[0], ALONE[0]]
    assert legend_of(figure) == LABELS


def test_panels_share_a_log2_axis_and_the_returns(planning):
    first, second = draw_planning(planning, title="Golden").axes
    for axes in (first, second):
        assert axes.get_xscale() == "log"
        assert axes.get_xticks().tolist() == [2, 4]
        assert [axes.xaxis.get_major_formatter()(n) for n in (2, 4)] == ["2", "4"]
        assert axes.get_ylim() == first.get_ylim()
    assert first.get_ylim()[0] == 0
    assert first.get_ylim()[1] >= 140


@pytest.mark.parametrize(
    ("count", "numbered", "others"), [(5, [1, 2, 4, 8, 16], []), (8, [2, 8, 32, 128], [1, 4, 16, 64])]
)
def test_every_n_has_a_tick_and_at_most_five_have_their_number(planning, count, numbered, others):
    one = planning[(planning["model"] == "true") & (planning["prior_at"] == "state")].head(1)
    figure = draw_planning(pd.concat([one.assign(simulations=2**power) for power in range(count)]), title="Golden")
    (axes,) = figure.axes
    assert (axes.get_xticks().tolist(), axes.get_xticks(minor=True).tolist()) == (numbered, others)
    figure.draw_without_rendering()
    assert [text.get_text() for text in axes.get_xticklabels(which="both") if text.get_text()] == [
        str(n) for n in numbered
    ]


@pytest.mark.parametrize(
    ("leaf", "horizon", "said"),
    [
        ("value", 0, "leaf values by the value network, unlimited planning horizon"),
        ("rollout", 8, "rollout, 8 steps from the root"),
    ],
)
def test_the_title_says_how_leaves_were_valued_and_how_far_it_was_planned(planning, leaf, horizon, said):
    searched = planning["model"] != "none"
    changed = planning.assign(
        leaf=planning["leaf"].mask(searched, leaf), horizon=planning["horizon"].mask(searched, horizon)
    )
    assert draw_planning(changed, title="Golden").get_suptitle().endswith(said)


def test_the_policy_prior_can_stand_alone(planning):
    figure = draw_planning(planning[planning["model"] == "none"], title="Golden")
    assert figure.get_suptitle() == "Golden, 2 agents, mean ± standard error"
    assert legend_of(figure) == ALONE
    assert rendered(figure, "png").startswith(b"\x89PNG")


def test_seven_steps_take_three_rows_and_only_the_lowest_panels_name_the_axis(planning):
    parts = [planning[planning["training_step"] == 2000].assign(training_step=1000 * i) for i in range(7)]
    figure = draw_planning(pd.concat(parts), title="Golden")
    assert [axes.get_title() for axes in figure.axes] == ["Step 0", *(f"Step {i}K" for i in range(1, 7))]
    assert [axes.get_subplotspec().rowspan.start for axes in figure.axes] == [0, 0, 0, 1, 1, 1, 2]
    assert [bool(axes.get_xlabel()) for axes in figure.axes] == [False] * 4 + [True] * 3
    figure.draw_without_rendering()
    labelled = [any(tick.label1.get_visible() for tick in axes.xaxis.get_major_ticks()) for axes in figure.axes]
    assert labelled == [False] * 4 + [True] * 3


def test_one_step_of_a_model_is_a_level_in_the_colour_of_its_model(planning):
    cell = {"training_step": 2000, "prior": "none", "prior_at": "none", "leaf": "value", "horizon": 1}
    cell |= {"counted_from": "none", "temperature": 0.0, "simulations": 0}
    agents = {"standard_error": 5.0, "agents": 2}
    stepped = pd.DataFrame([{**cell, **agents, "model": m, "mean": y} for m, y in (("learned", 60.0), ("true", 90.0))])
    figure = draw_planning(pd.concat([stepped, planning]), title="Golden")
    first, second = figure.axes
    assert len(first.lines) == 8
    said = ["one step of the learned model", "one step of the true model"]
    drawn = {line.get_label(): line for line in second.lines}
    assert [set(drawn[label].get_ydata()) for label in said] == [{60}, {90}]
    assert [drawn[label].get_color() for label in said] == [ORANGE, GREEN]
    assert [(box.get_y(), box.get_height()) for box in second.patches[1:]] == [(55, 10), (85, 10)]
    assert legend_of(figure) == [*LEARNED, *TRUE, *said, *ALONE]
    assert second.get_xticks().tolist() == [2, 4]
    assert figure.get_suptitle().endswith("leaf values by random rollout, 16 steps from the root")


# Both


@pytest.mark.parametrize(
    ("probe", "aggregate", "draw"),
    [("online", aggregate_online, draw_online), ("planning", aggregate_planning, draw_planning)],
)
def test_a_single_agent_is_drawn_without_a_band_or_a_warning(probe, aggregate, draw):
    frame = golden(probe)
    figure = draw(aggregate(frame[frame["seed"] == 0]), title="Golden")
    assert "1 agent" in (figure.get_suptitle() or figure.axes[0].get_title())
    for axes in figure.axes:
        assert len(axes.patches) == 0
        assert all(len(collection.get_paths()) == 0 for collection in axes.collections)
    assert rendered(figure, "png").startswith(b"\x89PNG")


def test_returns_of_fewer_agents_show_in_the_title():
    frame = golden("online")
    some = aggregate_online(frame[(frame["seed"] == 0) | (frame["policy"] == "prior")])
    assert draw_online(some, title="Golden").axes[0].get_title() == "Golden, 1 to 2 agents, mean ± standard error"
