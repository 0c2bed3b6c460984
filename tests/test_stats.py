"""Means, intervals and correlations over agents: against enumeration, definitions and scipy; and all refusals."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from chance import holds, monte_carlo, rng
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap, kendalltau, sem, spearmanr

from mzprobe import stats
from mzprobe.significance import holm, sign_flip, smallest_p
from mzprobe.stats import Interval, bootstrap_mean, bootstrap_over_agents, mean_interval, over_agents, rank_correlation

CORRELATE = {"spearman": spearmanr, "kendall": kendalltau}
moderate = st.floats(-1e3, 1e3, allow_subnormal=False)
small_integers = st.integers(-4, 4).map(float)
lists = st.lists(moderate, min_size=1, max_size=12)
nested = st.lists(st.lists(moderate, min_size=1, max_size=5), min_size=1, max_size=5)

# Mean and standard error


def test_an_agent_without_a_number_does_not_count_and_its_cell_keeps_its_row():
    frame = pd.DataFrame({"cell": [0, 0, 0, 1, 2], "seed": [0, 1, 2, 0, 0], "x": [1.0, 3.0, np.nan, np.nan, 5.0]})
    cells = over_agents(frame, by=["cell"], column="x")
    assert cells["agents"].tolist() == [2, 0, 1]
    np.testing.assert_array_equal(cells["mean"], [2.0, np.nan, 5.0])
    np.testing.assert_allclose(cells["standard_error"], [1.0, np.nan, np.nan])


def test_the_standard_error_is_that_of_scipy_on_agents_means():
    frame = pd.DataFrame({"cell": "a", "seed": np.repeat(np.arange(6), 4), "x": rng().normal(size=24)})
    means = frame.groupby("seed")["x"].mean()
    cell = over_agents(frame, by=["cell"], column="x").iloc[0]
    assert cell["mean"] == pytest.approx(means.mean())
    assert cell["standard_error"] == pytest.approx(sem(means))


# Student's interval


def test_the_interval_of_three_agents_by_hand():
    # Mean 2, sd 1, t(0.975, 2 degrees) = 4.302653: 2 -+ 4.302653 / sqrt(3).
    interval = mean_interval([1, 2, 3])
    assert (interval.estimate, interval.low, interval.high) == pytest.approx((2, -0.484138, 4.484138), abs=1e-6)
    # t(0.75, 2 degrees) = 0.816497 = sqrt(2 / 3), so the half at level 0.5 is sqrt(2) / 3.
    assert mean_interval([1, 2, 3], level=0.5).high == pytest.approx(2 + math.sqrt(2) / 3)


def test_one_agent_has_a_mean_and_no_interval():
    for interval in (mean_interval([4.0]), bootstrap_mean([[3.0, 5.0]], generator=rng())):
        assert interval.estimate == 4
        assert math.isnan(interval.low)
        assert math.isnan(interval.high)


@settings(max_examples=50, deadline=None)
@given(values=lists, scale=st.floats(-10, 10), shift=moderate, shuffle=st.randoms(use_true_random=False))
def test_the_interval_moves_and_scales_with_the_values_and_knows_no_order(values, scale, shift, shuffle):
    interval = mean_interval(values)
    shuffled = shuffle.sample(values, len(values))
    moved = mean_interval([scale * value + shift for value in shuffled])
    ends = sorted([scale * interval.low + shift, scale * interval.high + shift])
    tolerance = {"rel": 1e-9, "abs": 1e-6, "nan_ok": True}
    assert moved.estimate == pytest.approx(scale * interval.estimate + shift, **tolerance)
    assert [moved.low, moved.high] == pytest.approx(ends, **tolerance)
    assert len(values) == 1 or holds(interval, interval.estimate)


# Bootstrap


def every_mean(groups, states):
    """The bootstrap's distribution by enumeration: each value of the mean of means with its probability."""
    if states:
        within = [[np.mean(drawn) for drawn in itertools.product(group, repeat=len(group))] for group in groups]
    else:
        within = [[np.mean(group)] for group in groups]
    found = {}
    for chosen in itertools.product(within, repeat=len(groups)):
        probability = Fraction(1, len(groups) ** len(groups) * math.prod(map(len, chosen)))
        for means in itertools.product(*chosen):
            mean = round(float(np.mean(means)), 9)
            found[mean] = found.get(mean, 0) + probability
    return found


@pytest.mark.parametrize("numbers_at_once", [2**20, 100])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.98])
@pytest.mark.parametrize("states", [True, False])
@pytest.mark.parametrize("groups", [[[0, 3], [1, 5, 7]], [[0], [4, 5], [9, 10]], [[1, 2], [2, 8]]])
def test_the_bootstrap_has_the_quantiles_of_all_resamples(groups, states, level, numbers_at_once, monkeypatch):
    monkeypatch.setattr(stats, "_NUMBERS_AT_ONCE", numbers_at_once)
    resamples = 20_000
    interval = bootstrap_mean(groups, generator=rng(1), resamples=resamples, level=level, states=states)
    probabilities = every_mean(groups, states)
    assert sum(probabilities.values()) == 1
    assert interval.estimate == pytest.approx(np.mean([np.mean(group) for group in groups]))
    tail = (1 - level) / 2
    chance = monte_carlo(tail, resamples)
    for sign, end in ((1, interval.low), (-1, interval.high)):
        beyond = float(sum(p for mean, p in probabilities.items() if sign * mean < sign * end - 1e-6))
        up_to = float(sum(p for mean, p in probabilities.items() if sign * mean <= sign * end + 1e-6))
        assert beyond <= tail + chance
        assert up_to >= tail - chance


@pytest.mark.parametrize("resamples", [1, 9, 10, 11, 25])
def test_portions_are_small_and_make_up_the_resamples(resamples, monkeypatch):
    monkeypatch.setattr(stats, "_NUMBERS_AT_ONCE", 100)
    portions = stats._portions(resamples, numbers_each=10)
    assert sum(portions) == resamples
    assert max(portions) <= 10
    assert stats._portions(3, numbers_each=1000) == [1, 1, 1]


def test_the_bootstrap_of_agents_agrees_with_that_of_scipy():
    values = rng(2).exponential(size=12)
    ours = bootstrap_mean(values[:, None], generator=rng(3), resamples=50_000, states=False)
    theirs = bootstrap((values,), np.mean, n_resamples=50_000, method="percentile", rng=rng(4)).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02 * values.std())


def test_an_agent_with_more_states_weighs_no_more_than_another():
    groups = [np.zeros(1), np.ones(99)]
    interval = bootstrap_mean(groups, generator=rng(), states=True)
    assert interval == Interval(0.5, 0.0, 1.0)


@settings(max_examples=40, deadline=None)
@given(groups=nested, states=st.booleans(), scale=st.sampled_from([-4.0, -1.0, 0.5, 2.0]))
def test_the_bootstrap_scales_and_holds_its_estimate(groups, states, scale):
    def interval(numbers):
        return bootstrap_mean(numbers, generator=rng(), resamples=200, states=states)

    plain, scaled = interval(groups), interval([scale * np.array(group) for group in groups])
    ends = sorted([scale * plain.low, scale * plain.high])
    assert [scaled.estimate, scaled.low, scaled.high] == pytest.approx(
        [scale * plain.estimate, *ends], rel=1e-9, abs=1e-9, nan_ok=True
    )
    assert len(groups) == 1 or holds(plain, plain.estimate)


def test_the_order_of_agents_and_states_is_of_no_account():
    groups = [rng(5).normal(size=size) for size in (4, 9, 2, 6)]
    ends = [
        bootstrap_mean(numbers, generator=rng(6), resamples=100_000)
        for numbers in (groups, [group[::-1] for group in groups[::-1]])
    ]
    assert ends[0].estimate == pytest.approx(ends[1].estimate)
    assert (ends[0].low, ends[0].high) == pytest.approx((ends[1].low, ends[1].high), abs=0.02)


def test_a_constant_has_an_interval_of_no_width():
    interval = bootstrap_mean([[0.1] * 3] * 3, generator=rng())
    assert holds(interval, interval.estimate)
    assert (interval.estimate, interval.low, interval.high) == pytest.approx((0.1, 0.1, 0.1), rel=1e-15)


def test_a_cell_of_no_known_step_has_an_interval_too():
    frame = pd.DataFrame({"seed": [0, 0, 1, 1], "training_step": np.nan, "x": [1.0, 2.0, 3.0, 5.0]})
    (cell,) = bootstrap_over_agents(frame, by=["training_step"], column="x", generator=rng()).to_dict("records")
    assert (cell["mean"], cell["agents"]) == (2.75, 2)
    assert cell["low"] < cell["mean"] < cell["high"]


def test_a_table_has_a_row_a_cell():
    frame = pd.DataFrame(
        {
            "step": [1, 1, 1, 1, 1, 2, 2, 3],
            "policy": list("aaaaabbb"),
            "agent": [0, 0, 1, 1, 2, 0, 0, 0],
            "x": [1.0, 3.0, 5.0, np.nan, np.nan, 4.0, 6.0, np.nan],
        }
    )
    cells = bootstrap_over_agents(frame, by=["step", "policy"], column="x", generator=rng(7), agent="agent")
    assert cells.columns.tolist() == ["step", "policy", "mean", "low", "high", "agents"]
    expected = bootstrap_mean([[1.0, 3.0], [5.0]], generator=rng(7))
    assert cells.iloc[0].tolist() == [1, "a", expected.estimate, expected.low, expected.high, 2]
    assert cells["agents"].tolist() == [2, 1, 0]
    np.testing.assert_array_equal(cells["mean"], [3.5, 5.0, np.nan])
    assert cells.loc[1:, ["low", "high"]].isna().all(axis=None)
    plain = over_agents(frame, by=["step", "policy"], column="x", agent="agent")
    pd.testing.assert_frame_equal(cells.drop(columns=["low", "high"]), plain.drop(columns="standard_error"))


# Rank correlation


@pytest.mark.parametrize("kind", CORRELATE)
@settings(max_examples=60, deadline=None)
@given(pairs=st.lists(st.tuples(st.one_of(small_integers, moderate), small_integers), min_size=2, max_size=15))
def test_the_estimate_is_that_of_scipy_ties_and_all(kind, pairs):
    x, y = map(list, zip(*pairs, strict=True))
    interval = rank_correlation(x, y, kind=kind, generator=rng(), resamples=50)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert all(map(math.isnan, (interval.estimate, interval.low, interval.high)))
        return
    assert interval.estimate == pytest.approx(CORRELATE[kind](x, y).statistic, abs=1e-12)
    assert -1 <= interval.low <= interval.estimate <= interval.high <= 1
    mirrored = rank_correlation(x, [-value for value in y], kind=kind, generator=rng(), resamples=50)
    assert [mirrored.estimate, mirrored.low, mirrored.high] == pytest.approx(
        [-interval.estimate, -interval.high, -interval.low], abs=1e-12
    )


@pytest.mark.parametrize("kind", CORRELATE)
def test_the_interval_of_pairs_agrees_with_that_of_scipy(kind):
    x = rng(12).normal(size=25).round(1)  # with ties
    y = (x + rng(13).normal(size=25)).round(1)
    ours = rank_correlation(x, y, kind=kind, generator=rng(14))

    def statistic(x, y):
        return CORRELATE[kind](x, y).statistic

    theirs = bootstrap((x, y), statistic, paired=True, n_resamples=2000, method="percentile", rng=rng(15))
    low, high = theirs.confidence_interval
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.04)


@pytest.mark.parametrize("kind", CORRELATE)
@pytest.mark.parametrize(("y", "expected"), [([1, 4, 9], 1.0), ([3, 2, 1], -1.0)])
def test_a_perfect_order_has_no_other_in_any_resample(kind, y, expected):
    # Of three pairs, a ninth of the resamples holds one pair thrice: no correlation, and no warning.
    interval = rank_correlation([1, 2, 3], y, kind=kind, generator=rng())
    assert interval == Interval(expected, expected, expected)


@pytest.mark.parametrize("kind", CORRELATE)
def test_an_interval_is_undefined_where_no_resample_has_a_correlation(kind):
    ends = [rank_correlation([1, 2], [1, 2], kind=kind, generator=rng(seed), resamples=1).low for seed in range(20)]
    assert 1.0 in ends
    assert any(map(math.isnan, ends))


@pytest.mark.parametrize("kind", CORRELATE)
def test_nothing_overflows_between_huge_numbers(kind):
    interval = rank_correlation([-1e308, 0, 1e308], [5e-324, 0, 1e308], kind=kind, generator=rng(), resamples=10)
    assert interval.estimate == pytest.approx({"spearman": 0.5, "kendall": 1 / 3}[kind])


# Refusals and randomness


@pytest.mark.parametrize("wrong", [[], [1.0, np.nan], [np.inf, 1.0], [[1.0, 2.0]], 3.0])
@pytest.mark.parametrize(
    "function",
    [
        mean_interval,
        lambda values: bootstrap_mean([[1.0], values], generator=rng()),
        lambda values: sign_flip(values, generator=rng()),
        lambda values: rank_correlation(values, [1.0, 2.0], kind="kendall", generator=rng()),
    ],
)
def test_what_is_no_list_of_finite_numbers_is_refused(function, wrong):
    with pytest.raises(ValueError, match="finite"):
        function(wrong)


@pytest.mark.parametrize("options", [{"level": 0}, {"level": 1.0}, {"level": 95}, {"level": np.nan}, {"resamples": 0}])
def test_levels_and_resamples_that_make_no_sense_are_refused(options):
    frame = pd.DataFrame({"cell": 0, "seed": [0, 1], "x": [1.0, 2.0]})
    message = "level" if "level" in options else "resample"
    with pytest.raises(ValueError, match=message):
        bootstrap_mean([[1.0], [2.0]], generator=rng(), **options)
    with pytest.raises(ValueError, match=message):
        bootstrap_over_agents(frame, by=["cell"], column="x", generator=rng(), **options)
    with pytest.raises(ValueError, match=message):
        rank_correlation([1, 2], [1, 2], kind="kendall", generator=rng(), **options)
    if "level" in options:
        with pytest.raises(ValueError, match=message):
            mean_interval([1.0, 2.0], **options)


def test_other_refusals():
    with pytest.raises(ValueError, match="no agent"):
        bootstrap_mean([], generator=rng())
    with pytest.raises(ValueError, match="an agent, not 0"):
        smallest_p(0)
    for p in ([0.5, 1.5], [-0.1], [[0.5]], 0.5):
        with pytest.raises(ValueError, match="p-values"):
            holm(p)
    with pytest.raises(ValueError, match="not 2 and 3"):
        rank_correlation([1, 2], [1, 2, 3], kind="kendall", generator=rng())
    with pytest.raises(ValueError, match="not pearson"):
        rank_correlation([1, 2], [1, 2], kind="pearson", generator=rng())
    with pytest.raises(ValueError, match="alternative"):
        sign_flip([1, 2], generator=rng(), alternative="both")


def test_the_generator_is_the_only_source_of_randomness():
    values = rng(16).normal(size=20)
    frame = pd.DataFrame({"cell": 0, "seed": np.arange(20) // 2, "x": values})
    functions = [
        lambda generator: bootstrap_mean(values.reshape(5, 4), generator=generator),
        lambda generator: bootstrap_over_agents(frame, by=["cell"], column="x", generator=generator).to_dict(),
        lambda generator: sign_flip(values, generator=generator),
        lambda generator: rank_correlation(values, values**2, kind="spearman", generator=generator),
        lambda generator: rank_correlation(values, values**2, kind="kendall", generator=generator),
    ]
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    for function in functions:
        assert function(rng(17)) == function(rng(17))
        assert function(rng(17)) != function(rng(18))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
