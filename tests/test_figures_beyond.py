"""The figures of improvement and of targets: aggregates worked by hand, and what a panel shows of them."""

import pytest
from drawings import golden, legend_of, looks, numbers, points

from mzprobe.figures.improvement import aggregate_improvement, draw_improvement
from mzprobe.figures.targets import aggregate_targets, draw_targets


@pytest.fixture
def improvement():
    return aggregate_improvement(golden("improvement"))


@pytest.fixture
def targets():
    return aggregate_targets(golden("targets"))


def test_improvement_is_averaged_over_agents_and_what_is_possible_counts_a_state_once(improvement):
    found = numbers(improvement, "training_step", "model", "prior", "leaf", "simulations")
    assert found[1000, "learned", "policy", "value", 4] == pytest.approx((1.5, 0.5, 2))  # 1 and 2
    assert found[1000, "true", "uniform", "value", 8] == pytest.approx((6.5, 0.5, 2))  # 6 and 7
    assert found[1000, "true", "uniform", "rollout", 8] == pytest.approx((-5.5, 0.5, 2))
    assert found[1000, "none", "none", "none", 0] == pytest.approx((7, 2, 2))  # (4 + 6) / 2 and (8 + 10) / 2
    assert len(found) == 2 * (1 + 4 * 2 * 2)


def test_a_panel_of_improvement_has_a_line_a_model_and_prior_of_value_leaves(improvement):
    figure = draw_improvement(improvement, title="Golden")
    panel = figure.axes[1]
    assert panel.get_title() == "Step 1K"
    drawn = {line.get_label(): line for line in panel.lines}
    assert points(drawn["learned model, policy prior"]) == {4: 1.5, 8: 2.5}
    assert points(drawn["true model, uniform prior"]) == {4: 3.5, 8: 6.5}
    assert set(drawn["best action of all"].get_ydata()) == {7}
    models = [f"{model} model, {prior} prior" for prior in ("policy", "uniform") for model in ("learned", "true")]
    assert legend_of(figure) == [*models, "best action of all"]
    kinds = looks(panel)
    assert len({kinds[name] for name in models}) == 4
    assert figure.get_suptitle() == "Golden, 2 agents, mean ± standard error\nleaf values by the value network"


def test_targets_are_averaged_by_fifths_of_their_age(targets):
    found = numbers(targets[targets["training_step"] == 2000], "quantity", "part")
    assert found["age", 1] == pytest.approx((300, 0, 2))  # 200 and 400
    assert found["age", 5] == pytest.approx((1900, 0, 2))
    assert found["target", 1] == pytest.approx((49, 1, 2))  # 50 and 46; 52 and 48
    assert found["value", 5] == pytest.approx((51.5, 0, 2))
    assert found["priority", 3] == pytest.approx((0.75, 0, 2))
    assert found["decode_bias", 2] == pytest.approx((-1, 0, 2))
    assert {part for _, part in found} == {1, 2, 3, 4, 5}


def test_positions_of_one_age_stay_together():
    frame = golden("targets").assign(age=lambda own: own["position"].clip(upper=4))  # six of the oldest
    parts = aggregate_targets(frame)
    ages = parts[parts["quantity"] == "age"]
    assert ages[ages["training_step"] == 1000].set_index("part")["mean"].to_dict() == {1: 0.5, 2: 2.5, 4: 4.0}


def test_a_panel_of_targets_is_drawn_against_age(targets):
    figure = draw_targets(targets, title="Golden")
    assert [panel.get_title() for panel in figure.axes] == ["Step 1K", "Step 2K"]
    drawn = {line.get_label(): points(line) for line in figure.axes[1].lines}
    assert drawn["stored target"] == {300: 49, 700: 41, 1100: 33, 1500: 25, 1900: 17}
    assert drawn["true value of the behaviour policy"][300] == 59.5
    assert drawn["value head"][1900] == 11
    assert legend_of(figure) == ["true value of the behaviour policy", "stored target", "value head"]
    assert len(set(looks(figure.axes[0]).values())) == 3
    assert figure.axes[0].get_ylim()[0] == 0
