"""Figure 5, the cross matrix: numbers over agents worked by hand, and the cells that show them."""

import numpy as np
import pandas as pd
import pytest
from drawings import golden, legend_of, numbers
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_hex

from mzprobe.figures.cross import aggregate_cross, draw_cross
from mzprobe.figures.style import rendered

# By row X and column Y; the table has a smaller h too.
CROSS = {
    (500, 500): (2.5, 0.5, 2),  # (1 + 3) / 2 and (2 + 4) / 2
    (500, 1000): (7.5, 2.5, 2),  # 5 and 10
    (1000, 500): (2.0, 1.0, 2),  # 1 and (2 + 4) / 2
    (1000, 1000): (4.0, 0.0, 2),
}
RATIOS = {(500, 500): 1.0, (500, 1000): 3.0, (1000, 500): 0.5, (1000, 1000): 1.0}


@pytest.fixture
def cross():
    return aggregate_cross(golden("cross"))


def heat_maps(figure):
    """Axes of the errors and of the ratios, and what their cells hold: values and texts by row and column."""
    result = []
    for axes in figure.axes[:2]:
        (mesh,) = [one for one in axes.collections if isinstance(one, QuadMesh)]
        texts = {
            (int(text.get_position()[1]), int(text.get_position()[0])): text.get_text()
            for text in axes.texts
            if not beside(text)
        }
        result.append((axes, np.ma.filled(mesh.get_array(), np.nan), texts))
    return result


def beside(text):
    """Whether a text counts agents, beside a row or on top of these."""
    return "/" in text.get_text() or "own policy" in text.get_text()


def framed(axes):
    """Row and column of the cells with a black frame."""
    return [(patch.get_y(), patch.get_x()) for patch in axes.patches if to_hex(patch.get_edgecolor()) == "#000000"]


def test_errors_at_the_largest_horizon_are_those_worked_by_hand(cross):
    expected = {key: pytest.approx(cell) for key, cell in CROSS.items()}
    assert numbers(cross, "training_step", "policy_step") == expected
    assert set(cross["h"]) == {2}


def test_the_ratio_is_of_the_means_and_not_of_each_agents(cross):
    ratios = {(row.training_step, row.policy_step): row.ratio for row in cross.itertuples()}
    # By agents row 500 would be (5 / 2 + 10 / 3) / 2 = 2.92.
    assert ratios == {key: pytest.approx(ratio) for key, ratio in RATIOS.items()}


def test_cells_show_and_write_the_errors_and_the_ratios(cross):
    (_, means, means_written), (_, ratios, ratios_written) = heat_maps(draw_cross(cross, title="Golden"))
    assert means == pytest.approx(np.array([[2.5, 7.5], [2.0, 4.0]]))
    assert means_written == {(0, 0): "2.50", (0, 1): "7.50", (1, 0): "2.00", (1, 1): "4.00"}
    assert ratios == pytest.approx(np.array([[1.0, 3.0], [0.5, 1.0]]))
    assert ratios_written == {(0, 0): "1.00", (0, 1): "3.00", (1, 0): "0.50", (1, 1): "1.00"}


def test_the_smallest_error_of_each_row_is_framed_in_both_maps(cross):
    for axes, _, _ in heat_maps(draw_cross(cross, title="Golden")):
        assert framed(axes) == [(0, 0), (1, 0)]


def test_an_error_that_is_smallest_in_the_mean_alone_has_no_frame_and_rows_count_their_diagonals():
    # In row 500 both agents have theirs on the diagonal, in row 1000 none; then one of two: neither cell has most.
    figure = draw_cross(aggregate_cross(golden("cross")), title="Golden")
    counts = [text.get_text() for text in figure.axes[1].texts if beside(text)]
    assert counts == ["2/2", "0/2", "agents: smallest\nfor own policy"]
    frame = golden("cross")
    turned = frame.assign(error=frame["error"].mask((frame["seed"] == 0) & (frame["policy_step"] == 500), 100.0))
    figure = draw_cross(aggregate_cross(turned), title="Golden")
    assert [text.get_text() for text in figure.axes[1].texts if beside(text)][:2] == ["1/2", "1/2"]
    assert framed(figure.axes[0]) == []


def test_a_row_of_one_cell_counts_no_agents():
    frame = golden("cross")
    figure = draw_cross(aggregate_cross(frame[frame["policy_step"] == frame["training_step"]]), title="Golden")
    assert [text.get_text() for text in figure.axes[1].texts if beside(text)] == ["agents: smallest\nfor own policy"]
    assert framed(figure.axes[0]) == []


def test_errors_that_are_equal_but_for_rounding_have_no_smallest():
    frame = golden("cross")
    first = frame["training_step"] == 500
    equal = frame.assign(error=frame["error"].mask(first, np.where(frame["policy_step"] == 500, 0.3, 0.1 + 0.2)))
    cells = aggregate_cross(equal)
    assert cells.loc[cells["training_step"] == 500, "smallest"].tolist() == [0, 0]
    figure = draw_cross(cells, title="Golden")
    assert framed(figure.axes[0]) == [(1, 0)]
    assert next(text.get_text() for text in figure.axes[1].texts if beside(text)) == "0/2"


def two_temperatures():
    """The golden table as of T = 1 at step 500 and T = 0.25 at 1,000, whose policy at T = 1 has ten times the error."""
    frame = golden("cross")
    late = frame["policy_step"] == 1000
    own = frame.assign(own_temperature=True, policy_temperature=np.where(late, 0.25, 1.0))
    return pd.concat([own, own[late].assign(own_temperature=False, policy_temperature=1.0, error=own["error"] * 10)])


def test_policies_at_their_own_temperature_and_at_1_are_matrices_of_their_own(cross):
    cells = aggregate_cross(two_temperatures())
    own, at_1 = (cells[cells["policies_at"] == kind].reset_index(drop=True) for kind in ("own", "1"))
    pd.testing.assert_frame_equal(own, cross)
    assert at_1["mean"].tolist() == pytest.approx([2.5, 75, 2, 40])
    assert at_1["ratio"].tolist() == pytest.approx([1, 30, 0.05, 1])  # of the own policy at T = 1 too
    assert at_1["smallest"].tolist() == [2, 0, 2, 0]


def test_the_matrix_at_1_is_drawn_below_in_the_same_colours():
    figure = draw_cross(aggregate_cross(two_temperatures()), title="Golden")
    top, bottom = figure.axes[:2], figure.axes[2:4]
    assert [axes.get_title(loc="left") for axes in (top[0], bottom[0])] == [
        "Policies at the T that collected data",
        "Policies at T = 1",
    ]
    for above, below in zip(top, bottom, strict=True):
        assert above.collections[0].norm is below.collections[0].norm
        assert (above.get_xlabel(), below.get_xlabel()) == ("", "Policy of training step Y")
    written = [[text.get_text() for text in axes.texts] for axes in (top[0], bottom[0])]
    assert written == [["2.50", "7.50", "2.00", "4.00"], ["2.50", "75.0", "2.00", "40.0"]]
    assert len(figure.axes) == 6  # one bar of colours a column
    assert rendered(figure, "png").startswith(b"\x89PNG")


def test_rows_are_models_downwards_and_columns_policies(cross):
    figure = draw_cross(cross, title="Golden")
    left = figure.axes[0]
    assert left.yaxis_inverted()
    assert [text.get_text() for text in left.get_yticklabels()] == ["0.5K", "1K"]
    assert [text.get_text() for text in left.get_xticklabels()] == ["0.5K", "1K"]
    assert left.get_ylabel() == "Model and states\nof training step X"
    assert left.get_xlabel() == "Policy of training step Y"
    assert figure.get_suptitle() == "Golden, mean of 2 agents"
    assert legend_of(figure) == ["smallest error of its row, in most agents too"]


def test_colour_bars_name_unit_and_scale(cross):
    errors, ratios = draw_cross(cross, title="Golden").axes[2:]
    assert errors.get_xlabel() == "Value prediction error at h = 2\n(discounted reward; square-root colour scale)"
    assert "ratio to the row's diagonal; log colour scale" in ratios.get_xlabel()
    for bar, ticks in ((errors, [0, 2, 4, 6]), (ratios, [0.5, 1, 2])):
        low, high = bar.get_xlim()
        assert [tick for tick in bar.get_xticks().tolist() if low <= tick <= high] == ticks
        assert [tick for tick in bar.get_xticks(minor=True).tolist() if low <= tick <= high] == []
    write = ratios.xaxis.get_major_formatter()
    assert [write(value, 0) for value in (0.25, 0.5, 1, 2, 4)] == ["1/4", "1/2", "1", "2", "4"]


def test_colours_of_errors_follow_the_root_and_those_of_ratios_are_centred_at_1(cross):
    left, right = (axes.collections[0] for axes in draw_cross(cross, title="Golden").axes[:2])
    assert left.norm([0, 7.5 / 4, 7.5]).tolist() == pytest.approx([0, 0.5, 1])
    assert right.norm([1 / 3, 1, 3]).tolist() == pytest.approx([0, 0.5, 1])


def test_ticks_of_the_errors_stay_apart_where_the_root_draws_them_together(cross):
    figure = draw_cross(cross.assign(mean=[0.31, 0.1, 0.1, 0.1]), title="Golden")
    figure.draw_without_rendering()  # ticks depend on the room that there is
    bar = figure.axes[2]
    assert [tick for tick in bar.get_xticks().tolist() if tick <= 0.31] == pytest.approx([0, 0.1, 0.2, 0.3])


@pytest.mark.parametrize(("ratio", "furthest"), [(1.01, 2), (0.99, 2), (5, 5), (0.25, 4)])
def test_colours_of_ratios_reach_as_far_below_1_as_above_and_a_double_at_least(cross, ratio, furthest):
    right = draw_cross(cross.assign(ratio=[1.0, ratio, 1.0, 1.0]), title="Golden").axes[1].collections[0]
    assert (right.norm.vmin, right.norm.vmax) == pytest.approx((1 / furthest, furthest))


def test_missing_cells_are_grey_and_a_row_without_a_diagonal_has_no_ratios():
    frame = golden("cross")
    partial = frame[(frame["training_step"] == 500) | (frame["policy_step"] == 500)]
    figure = draw_cross(aggregate_cross(partial), title="Golden")
    (left, means, written), (right, ratios, ratios_written) = heat_maps(figure)
    assert means == pytest.approx(np.array([[2.5, 7.5], [2.0, np.nan]]), nan_ok=True)
    assert ratios == pytest.approx(np.array([[1.0, 3.0], [np.nan, np.nan]]), nan_ok=True)
    assert sorted(written) == [(0, 0), (0, 1), (1, 0)]
    assert sorted(ratios_written) == [(0, 0), (0, 1)]
    assert (framed(left), framed(right)) == ([(0, 0)], [(0, 0)])  # a cell alone in its row is the smallest of nothing
    assert to_hex(left.get_facecolor()) == to_hex(right.get_facecolor()) == "#d9d9d9"
    assert legend_of(figure) == ["smallest error of its row, in most agents too", "not measured, or no ratio"]


def test_a_diagonal_of_0_has_no_ratios_and_an_error_of_0_has():
    frame = golden("cross")
    own = (frame["training_step"] == 500) & (frame["policy_step"] == 500)
    other = (frame["training_step"] == 1000) & (frame["policy_step"] == 500)
    cells = aggregate_cross(frame.assign(error=frame["error"].mask(own | other, 0)))
    figure = draw_cross(cells, title="Golden")
    (_, _, written), (right, ratios, ratios_written) = heat_maps(figure)
    assert ratios == pytest.approx(np.array([[np.nan, np.nan], [0, 1]]), nan_ok=True)
    assert (written[0, 0], ratios_written[1, 0]) == ("0", "0")
    assert right.collections[0].norm(0) == 0  # the colour of the least ratio, not of a missing one
    assert rendered(figure, "svg").startswith(b"<?xml")


def test_a_model_without_any_error_is_drawn():
    figure = draw_cross(aggregate_cross(golden("cross").assign(error=0.0)), title="Golden")
    assert set(heat_maps(figure)[0][2].values()) == {"0"}
    assert framed(figure.axes[0]) == []  # of equal errors none is the smallest
    norm = figure.axes[0].collections[0].norm
    assert (norm.vmin, norm.vmax) == (0, 1)
    assert rendered(figure, "png").startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("value", "text"),
    [(123.4, "123"), (12.34, "12.3"), (1.234, "1.23"), (0.1, "0.10"), (0.0123, "0.012"), (1e-4, "<.001"), (0, "0")],
)
def test_numbers_in_cells_are_short(cross, value, text):
    first = draw_cross(cross.head(1).assign(mean=value), title="Golden").axes[0]
    assert [one.get_text() for one in first.texts] == [text]


def test_numbers_can_be_read_on_dark_and_light_cells(cross):
    left = draw_cross(cross.assign(mean=[0.1, 8.0, 2.0, 0.1]), title="Golden").axes[0]
    assert [text.get_color() for text in left.texts] == ["black", "white", "black", "black"]


def test_a_larger_matrix_has_a_larger_figure_and_smaller_numbers(cross):
    steps = range(0, 12_000, 1000)
    many = [cross.head(1).assign(training_step=x, policy_step=y, ratio=1.0) for x in steps for y in steps]
    large, small = draw_cross(pd.concat(many), title="Golden"), draw_cross(cross, title="Golden")
    assert small.get_figwidth() == 7 < large.get_figwidth()
    assert small.get_figheight() < large.get_figheight()
    assert (small.axes[0].texts[0].get_fontsize(), large.axes[0].texts[0].get_fontsize()) == (7, 6)


def test_a_single_agent_is_drawn_without_a_warning():
    frame = golden("cross")
    cells = aggregate_cross(frame[frame["seed"] == 0])
    assert cells["standard_error"].isna().all()
    figure = draw_cross(cells, title="Golden")
    assert figure.get_suptitle() == "Golden, 1 agent"
    assert heat_maps(figure)[1][1] == pytest.approx(np.array([[1, 2.5], [0.25, 1]]))
    assert rendered(figure, "png").startswith(b"\x89PNG")
