"""The figure of order-k equivalence: magnitudes over agents worked by hand, and their lines."""

import pytest
from drawings import golden, legend_of, looks, numbers, points

from mzprobe.figures.equivalence import aggregate_equivalence, draw_equivalence


@pytest.fixture
def cells():
    return aggregate_equivalence(golden("equivalence"))


def test_magnitudes_are_taken_by_state_and_averaged_over_agents(cells):
    found = numbers(cells[cells["training_step"] == 1000], "value_step", "k", "quantity")
    assert found[1000, 1, "error"] == pytest.approx((2.5, 0.5, 2))  # (1 + 3) / 2 and (4 + 2) / 2
    assert found[1000, 1, "reward_part"] == pytest.approx((1.25, 0.25, 2))  # (1 + 1) / 2 and (3 + 0) / 2
    assert found[1000, 1, "bootstrap_part"] == pytest.approx((1.75, 0.25, 2))
    assert found[0, 0, "bootstrap_part"] == pytest.approx((6.0, 1.0, 2))
    assert len(found) == 2 * 2 * 3


def test_a_panel_shows_the_models_own_head_and_no_untrained_model(cells):
    (panel,) = draw_equivalence(cells, title="Golden").axes
    assert panel.get_title() == "Step 1K"
    drawn = {line.get_label(): points(line) for line in panel.lines}
    assert drawn == {
        "order-k Bellman error": {1: 2.5},
        "its part of rewards": {1: 1.25},
        "its part of the bootstrap": {1: 1.75},
    }
    assert [len(line.get_xdata()) for line in panel.lines] == [1, 1, 1]  # no other head's numbers among them
    assert panel.get_ylim()[0] == 0


def test_an_untrained_model_alone_is_drawn(cells):
    (panel,) = draw_equivalence(cells[cells["training_step"] == 0], title="Golden").axes
    assert panel.get_title() == "Step 0"
    assert points(panel.lines[0]) == {1: 8}


def test_lines_differ_in_colour_and_dashes_and_are_named_below(cells):
    figure = draw_equivalence(cells, title="Golden")
    assert legend_of(figure) == ["order-k Bellman error", "its part of rewards", "its part of the bootstrap"]
    kinds = looks(figure.axes[0]).values()
    assert len({colour for colour, _, _ in kinds}) == len({dashes for _, dashes, _ in kinds}) == 3
    assert figure.get_suptitle() == "Golden, 2 agents, mean ± standard error"
