"""Figures 4 and 6, errors of sequences and of searches: numbers over agents worked by hand, and their lines."""

import numpy as np
import pandas as pd
import pytest
from drawings import band, golden, legend_of, looks, numbers, points
from matplotlib.colors import to_hex

from mzprobe.figures.search_error import QUANTITIES, aggregate_search_error, draw_search_error
from mzprobe.figures.sequences import aggregate_sequences, draw_sequences
from mzprobe.figures.style import BLUE, ORANGE, rendered

# Figure 4, by step, quantity and rank: each agent has two states, and rank_error is the mean over ties in a state.
SEQUENCES = {
    (0, "probability", 1): (0.25, 0.05, 2),  # 0.3 and 0.2
    (0, "probability", 2): (0.3, 0.0, 2),
    (0, "probability", 3): (0.45, 0.05, 2),
    (0, "rank_error", 1): (12.0, 1.0, 2),  # (10 + 12) / 2 and (14 + 12) / 2
    (0, "rank_error", 2): (11.5, 0.5, 2),  # (10 + 12) / 2 and (13 + 11) / 2
    (0, "rank_error", 3): (9.0, 0.0, 2),
    (1000, "probability", 1): (0.1, 0.0, 2),
    (1000, "probability", 2): (0.15, 0.05, 2),  # (0.3 + 0.1) / 2 and (0.2 + 0) / 2
    (1000, "probability", 3): (0.75, 0.05, 2),
    (1000, "rank_error", 1): (3.5, 0.5, 2),  # (3 + 5) / 2 and (2 + 4) / 2
    (1000, "rank_error", 2): (3.25, 0.25, 2),  # (2 + 5) / 2 and (2 + 4) / 2
    (1000, "rank_error", 3): (0.75, 0.25, 2),
}
RHO = {0: (-0.2, np.nan, 1), 1000: (-0.7, 0.1, 2)}  # undefined in the second agent at step 0
# Figure 6, by prior and N, in the order of QUANTITIES; each agent has two states.
SEARCH = {
    ("policy", 1): [(3.0, 1.0), (3.0, 1.0), (4.5, 1.5), (1.0, 0.0), (0.3, 0.1), (0.4, 0.1)],
    ("policy", 2): [(4.0, 1.0), (3.0, 1.0), (6.0, 1.0), (1.75, 0.25), (0.25, 0.05), (0.5, 0.0)],
    ("uniform", 1): [(4.0, 1.0), (4.0, 1.0), (6.0, 1.0), (1.0, 0.0), (0.4, 0.1), (0.75, 0.25)],
    ("uniform", 2): [(8.0, 1.0), (5.5, 0.5), (10.5, 1.5), (1.5, 0.5), (0.7, 0.1), (2.0, 0.5)],
}


@pytest.fixture
def sequences():
    return aggregate_sequences(golden("sequences"))


@pytest.fixture
def search():
    return aggregate_search_error(golden("search_error"))


# Figure 4


def test_probabilities_and_errors_by_rank_are_those_worked_by_hand(sequences):
    ranked = sequences[sequences["quantity"].isin(["probability", "rank_error"])]
    expected = {key: pytest.approx(cell) for key, cell in SEQUENCES.items()}
    assert numbers(ranked, "training_step", "quantity", "rank") == expected


def test_ranks_are_written_as_whole_numbers_and_rho_without_one(sequences):
    lines = sequences.to_csv(index=False).splitlines()
    assert lines[1].startswith("0,impossible,1,0.0,")
    assert lines[-1].startswith("1000,rho,,")


def test_rho_is_averaged_over_the_agents_in_which_it_is_defined(sequences):
    rho = sequences[sequences["quantity"] == "rho"]
    expected = {(step,): pytest.approx(cell, nan_ok=True) for step, cell in RHO.items()}
    assert numbers(rho, "training_step") == expected
    assert rho["rank"].isna().all()


def pairs(figure):
    """Left and right axes of each panel of Figure 4."""
    count = len(figure.axes) // 2  # the twins come last
    return list(zip(figure.axes[:count], figure.axes[count:], strict=True))


def test_a_panel_a_step_shows_probabilities_left_and_errors_right(sequences):
    panels = pairs(draw_sequences(sequences, title="Golden"))
    assert len(panels) == 2
    for step, panel in zip((0, 1000), panels, strict=True):
        for axes, quantity in zip(panel, ("probability", "rank_error"), strict=True):
            cells = {rank: SEQUENCES[step, quantity, rank] for rank in (1, 2, 3)}
            assert points(axes.lines[0]) == {rank: pytest.approx(mean) for rank, (mean, _, _) in cells.items()}
            assert band(axes, 0) == {rank: (mean - error, mean + error) for rank, (mean, error, _) in cells.items()}


def test_probability_is_blue_and_dashed_and_the_error_orange(sequences):
    left, right = pairs(draw_sequences(sequences, title="Golden"))[0]
    assert looks(left) == {"probability under the behaviour policy (left axis)": (BLUE, "--", "None")}
    assert looks(right) == {"value prediction error (right axis)": (ORANGE, "-", "None")}
    assert to_hex(left.yaxis.label.get_color()) == to_hex(BLUE)


def test_panels_say_their_step_and_rho_and_over_how_many_agents_where_fewer(sequences):
    (first, _), (second, _) = pairs(draw_sequences(sequences, title="Golden"))
    minus = "\N{MINUS SIGN}"
    assert first.get_title() == f"Step 0 (errors on their own axis)\nSpearman $\\rho$ = {minus}0.20 (1 agent)"
    assert second.get_title() == f"Step 1K\nSpearman $\\rho$ = {minus}0.70 ± 0.10"


def test_a_rho_that_no_agent_has_is_undefined():
    frame = golden("sequences").assign(rho=np.nan)
    cells = aggregate_sequences(frame)
    assert set(cells["quantity"]) == {"probability", "rank_error", "impossible"}
    titles = [left.get_title() for left, _ in pairs(draw_sequences(cells, title="Golden"))]
    assert [title.splitlines()[1] for title in titles] == ["Spearman $\\rho$ undefined"] * 2


def test_an_untrained_model_far_worse_than_the_others_has_its_own_error_axis(sequences):
    (_, untrained), (_, trained) = pairs(draw_sequences(sequences, title="Golden"))
    assert trained.get_ylim() == pytest.approx((0, 1.05 * 4))
    assert untrained.get_ylim()[1] > 13
    assert untrained.yaxis.get_tick_params()["labelright"]


def test_an_untrained_model_of_less_than_twice_the_error_shares_the_axis(sequences):
    near = sequences["mean"].mask((sequences["training_step"] == 0) & (sequences["quantity"] == "rank_error"), 7)
    figure = draw_sequences(sequences.assign(mean=near), title="Golden")
    for left, right in pairs(figure):
        assert right.get_ylim() == pytest.approx((0, 1.05 * 8))
        assert "own axis" not in left.get_title()
    assert not pairs(figure)[0][1].yaxis.get_tick_params()["labelright"]


def test_an_untrained_model_alone_needs_no_axis_of_its_own(sequences):
    ((left, right),) = pairs(draw_sequences(sequences[sequences["training_step"] == 0], title="Golden"))
    assert right.get_ylim() == pytest.approx((0, 1.05 * 13))
    assert left.get_title().startswith("Step 0\n")


def test_a_model_without_any_error_has_an_axis(sequences):
    perfect = sequences.assign(mean=sequences["mean"].mask(sequences["quantity"] == "rank_error", 0))
    figure = draw_sequences(perfect.assign(standard_error=0.0), title="Golden")
    assert [right.get_ylim() for _, right in pairs(figure)] == [(0, 1)] * 2


def test_figure_4_names_its_axes_and_shares_the_probability(sequences):
    figure = draw_sequences(sequences, title="Golden")
    (first, inner), (second, outer) = pairs(figure)
    assert figure.get_suptitle() == "Golden, 2 agents, mean ± standard error"
    assert (first.get_ylabel(), second.get_ylabel()) == ("Probability", "")
    assert (inner.get_ylabel(), outer.get_ylabel()) == ("", "Value prediction error\n(discounted reward)")
    assert first.get_xlabel() == "Rank (1: least probable)"
    assert first.get_xticks().tolist() == [1, 3]
    assert first.get_ylim() == second.get_ylim()
    assert first.get_yscale() == "log"
    assert first.get_ylim() == (pytest.approx(0.05), 1)
    assert len(legend_of(figure)) == 2


def test_ranks_of_sequences_without_a_probability_are_shaded(sequences):
    impossible = sequences["quantity"] == "impossible"
    tied = sequences.assign(mean=sequences["mean"].mask(impossible & (sequences["rank"] < 3), 0.5))
    figure = draw_sequences(tied, title="Golden")
    for left, _ in pairs(figure):
        (shade,) = left.patches
        assert (shade.get_x(), shade.get_width()) == (0.5, 2.0)
    assert legend_of(figure)[-1].endswith("ties")


def test_other_ways_to_rank_have_their_rho_in_the_title():
    frame = golden("sequences")
    cells = aggregate_sequences(frame.assign(rho_at_1=-0.5, rho_smoothed=0.25, rho_prior=0.75))
    assert set(cells.loc[cells["quantity"] == "rho_prior", "mean"]) == {0.75}  # in the CSV alone
    titles = [left.get_title() for left, _ in pairs(draw_sequences(cells, title="Golden"))]
    said = ["at T = 1: \N{MINUS SIGN}0.50 ± 0.00", "of smoothed visits: 0.25 ± 0.00"]
    assert [title.splitlines()[-2:] for title in titles] == [said] * 2


def test_the_last_panel_of_a_short_row_has_numbers_on_its_right_axis(sequences):
    parts = [sequences[sequences["training_step"] == 1000].assign(training_step=1000 * i) for i in range(1, 6)]
    panels = pairs(draw_sequences(pd.concat(parts), title="Golden"))
    numbered = [right.yaxis.get_tick_params()["labelright"] for _, right in panels]
    assert numbered == [False, False, True, False, True]


# Figure 6


def test_quantities_of_the_search_are_those_worked_by_hand(search):
    expected = {
        (quantity, *key): pytest.approx((*cell, 2))
        for key, cells in SEARCH.items()
        for quantity, cell in zip(QUANTITIES, cells, strict=True)
    }
    assert numbers(search, "quantity", "prior", "simulations") == expected
    assert set(search["training_step"]) == {2000}


def test_a_panel_shows_each_quantity(search):
    panels = draw_search_error(search, title="Golden").axes
    for i, axes in zip(range(len(QUANTITIES)), panels, strict=True):
        for line, prior in zip(axes.lines, ("policy", "uniform"), strict=True):
            assert points(line) == {n: pytest.approx(SEARCH[prior, n][i][0]) for n in (1, 2)}
        for index, prior in enumerate(("policy", "uniform")):
            cells = {n: SEARCH[prior, n][i] for n in (1, 2)}
            assert band(axes, index) == {n: (mean - error, mean + error) for n, (mean, error) in cells.items()}


def test_the_priors_differ_in_colour_dashes_and_marker(search):
    for axes in draw_search_error(search, title="Golden").axes:
        assert looks(axes) == {"policy prior": (BLUE, "-", "o"), "uniform prior": (ORANGE, "--", "s")}


def test_figure_6_names_its_quantities_units_and_step(search):
    figure = draw_search_error(search, title="Golden")
    assert figure.get_suptitle() == "Golden, step 2K, 2 agents, mean ± standard error"
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:3] == ["Tree path", "Tree path, equal depth", "Tree path and rollout"]
    assert titles[3:] == ["Length of the tree path", *["Visits against the\npolicy network"] * 2]
    units = [axes.get_ylabel() for axes in figure.axes]
    assert units[:3] == ["Value prediction error\n(discounted reward)"] * 3
    assert units[3:] == ["Environment steps", "Total variation\n(0 to 1)", "Kullback-Leibler\ndivergence (nats)"]
    assert legend_of(figure) == ["policy prior", "uniform prior"]
    assert [axes.get_xlabel() for axes in figure.axes] == [""] * 3 + ["Simulations, N"] * 3
    for axes in figure.axes:
        assert (axes.get_xscale(), axes.get_ylim()[0]) == ("log", 0)
        assert axes.get_xticks().tolist() == [1, 2]


def grid_of(figure):
    """Row and column of every panel."""
    places = [axes.get_subplotspec() for axes in figure.axes]
    return [(place.rowspan.start, place.colspan.start) for place in places]


def test_errors_stand_above_where_the_search_goes(search):
    assert grid_of(draw_search_error(search, title="Golden")) == [
        (row, column) for row in (0, 1) for column in range(3)
    ]


def test_tree_paths_have_one_axis_of_errors_in_both_panels(search):
    path, matched, trajectory = draw_search_error(search, title="Golden").axes[:3]
    assert path.get_ylim() == matched.get_ylim() != trajectory.get_ylim()


@pytest.mark.parametrize(
    ("missing", "places"),
    [
        (["matched_error"], [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]),
        (["matched_error", "path_length"], [(0, 0), (0, 1), (1, 0), (1, 1)]),
        (["kl"], [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]),
        (["path_length", "tv", "kl"], [(0, 0), (0, 1), (0, 2)]),
    ],
)
def test_a_table_of_before_has_no_panel_of_what_it_did_not_measure(missing, places):
    cells = aggregate_search_error(golden("search_error").drop(columns=missing))
    known = [quantity for quantity in QUANTITIES if quantity not in missing]
    assert list(cells["quantity"].unique()) == known
    figure = draw_search_error(cells, title="Golden")
    assert grid_of(figure) == places
    for quantity, axes in zip(known, figure.axes, strict=True):
        i = QUANTITIES.index(quantity)
        assert points(axes.lines[0]) == {n: pytest.approx(SEARCH["policy", n][i][0]) for n in (1, 2)}
    lowest = [(max(row for row, other in places if other == column), column) for column in {c for _, c in places}]
    named = [place for place, axes in zip(places, figure.axes, strict=True) if axes.get_xlabel()]
    numbered = [axes.xaxis.get_tick_params()["labelbottom"] for axes in figure.axes]
    assert sorted(named) == sorted(lowest)
    assert numbered == [place in lowest for place in places]


def test_several_steps_have_two_rows_of_panels_each(search):
    later = search.assign(training_step=4000, mean=search["mean"] * 10)
    figure = draw_search_error(pd.concat([search, later]), title="Golden")
    assert figure.get_suptitle() == "Golden, 2 agents, mean ± standard error"
    assert [axes.get_title().splitlines()[0] for axes in figure.axes] == ["Step 2K"] * 6 + ["Step 4K"] * 6
    assert [bool(axes.get_xlabel()) for axes in figure.axes] == [False] * 9 + [True] * 3
    first, second = figure.axes[0], figure.axes[6]
    assert [points(first.lines[0]), points(second.lines[0])] == [{1: 3, 2: 4}, {1: 30, 2: 40}]
    assert first.get_ylim()[1] < 12 < second.get_ylim()[1]


def test_distances_from_the_regularised_policy_are_dotted_beside_those_from_the_visits():
    table = golden("search_error")
    cells = aggregate_search_error(table.assign(tv_regularised=table["tv"] / 2, kl_regularised=table["kl"] / 4))
    figure = draw_search_error(cells, title="Golden")
    panels = dict(zip(QUANTITIES, figure.axes, strict=True))
    for quantity, share in (("tv", 1 / 2), ("kl", 1 / 4)):
        plain, _, dotted, _ = panels[quantity].lines
        assert points(dotted) == {n: pytest.approx(share * y) for n, y in points(plain).items()}
        assert dotted.get_linestyle() == ":"
    assert len(panels["path_error"].lines) == 2
    dots = ", regularised policy for the visits"
    assert legend_of(figure) == ["policy prior", "uniform prior", f"policy prior{dots}", f"uniform prior{dots}"]


def test_a_prior_that_was_not_measured_has_no_line(search):
    figure = draw_search_error(search[search["prior"] == "uniform"], title="Golden")
    assert [len(axes.lines) for axes in figure.axes] == [1] * 6
    assert legend_of(figure) == ["uniform prior"]


def test_the_legend_names_a_prior_that_only_a_later_step_has(search):
    later = search.assign(training_step=4000)
    figure = draw_search_error(pd.concat([search[search["prior"] == "uniform"], later]), title="Golden")
    assert legend_of(figure) == ["policy prior", "uniform prior"]


# Both


@pytest.mark.parametrize(
    ("probe", "aggregate", "draw"),
    [
        ("sequences", aggregate_sequences, draw_sequences),
        ("search_error", aggregate_search_error, draw_search_error),
    ],
)
def test_a_single_agent_is_drawn_without_a_band_or_a_warning(probe, aggregate, draw):
    frame = golden(probe)
    cells = aggregate(frame[frame["seed"] == 0])
    assert cells["standard_error"].isna().all()
    figure = draw(cells, title="Golden")
    assert figure.get_suptitle().endswith(", 1 agent")
    assert all(len(one.get_paths()) == 0 for axes in figure.axes for one in axes.collections)
    assert rendered(figure, "png").startswith(b"\x89PNG")
