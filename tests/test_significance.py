"""The sign-flip tests and Holm's correction equal their definitions."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from chance import monte_carlo, rng
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test

from mzprobe import significance
from mzprobe.significance import (
    holm,
    sign_flip,
    sign_flip_interval,
    sign_flip_least,
    smallest_p,
    worst_sign_flip,
)

moderate = st.floats(-1e3, 1e3, allow_subnormal=False)
small_integers = st.integers(-4, 4).map(float)

# The sign-flip test


def flipped(differences, alternative):
    """p by the definition, in fractions, so that ties are ties."""
    exact = [Fraction(str(difference)) for difference in differences]
    patterns = itertools.product((1, -1), repeat=len(exact))
    sums = [sum(sign * size for sign, size in zip(signs, exact, strict=True)) for signs in patterns]
    seen = sum(exact)
    greater = Fraction(sum(total >= seen for total in sums), len(sums))
    less = Fraction(sum(total <= seen for total in sums), len(sums))
    return float({"greater": greater, "less": less, "two-sided": min(1, 2 * min(greater, less))}[alternative])


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
@pytest.mark.parametrize(
    "differences",
    [
        [1.0],
        [-2.5],
        [0.0, 0.0, 0.0],
        [0.1, 0.2, -0.3],  # the sum is 0 but for rounding
        [0.1] * 7 + [-0.1] * 2,  # magnitudes are equal: a sign test
        [0.1, 0.1, 0.2, 0.3, -0.4, 0.7, -1.1],
        [1e6, 0.3, -0.1, 0.1, -0.3, -1e6],
        [0.7, 1.3, -0.2, 0.9, 0.0, 2.1, -0.4, 0.35],
    ],
)
def test_p_is_that_of_all_patterns_of_signs(differences, alternative):
    assert sign_flip(differences, generator=rng(), alternative=alternative) == flipped(differences, alternative)


@settings(max_examples=60, deadline=None)
@given(
    differences=st.lists(st.one_of(small_integers, moderate), min_size=1, max_size=7),
    scale=st.sampled_from([0.1, 3.0, 1e4]),
    shuffle=st.randoms(use_true_random=False),
)
def test_p_knows_no_order_and_no_scale_and_mirrors(differences, scale, shuffle):
    p = {name: sign_flip(differences, generator=rng(), alternative=name) for name in ("two-sided", "greater", "less")}
    assert p["two-sided"] == min(1, 2 * min(p["greater"], p["less"]))
    other = -np.array(shuffle.sample(differences, len(differences)))
    assert sign_flip(other, generator=rng(), alternative="greater") == p["less"]
    assert sign_flip(other, generator=rng()) == p["two-sided"]
    assert sign_flip(scale * other, generator=rng()) == p["two-sided"]
    assert p["two-sided"] >= smallest_p(len(differences))


def test_beyond_fifteen_agents_patterns_are_sampled():
    differences = rng(8).normal(0.25, 1.0, size=18)
    p = sign_flip(differences, generator=rng(9))
    assert p != sign_flip(differences, generator=rng(10))
    signs = 1 - 2 * ((np.arange(2**18)[:, None] >> np.arange(18)) & 1)
    exact = np.mean(np.abs(signs @ differences) >= abs(differences.sum()) - 1e-9)
    assert p == pytest.approx(exact, abs=2 * monte_carlo(exact / 2, significance.SIGN_PATTERNS))


def test_the_mean_as_scipys_statistic_gives_the_same_p():
    differences = rng(11).normal(0.5, 1.0, size=9)
    theirs = permutation_test((differences,), lambda x, axis: x.mean(axis=axis), permutation_type="samples", rng=rng())
    assert sign_flip(differences, generator=rng()) == theirs.pvalue


# The interval that belongs to it


@settings(max_examples=60, deadline=None)
@given(
    differences=st.lists(st.one_of(small_integers, moderate), min_size=6, max_size=9),
    level=st.sampled_from([0.5, 0.8, 0.95]),
    mean=st.one_of(small_integers, moderate),
)
def test_the_interval_holds_exactly_the_means_that_are_not_rejected(differences, level, mean):
    interval = sign_flip_interval(differences, generator=rng(), level=level)
    assert interval.estimate == pytest.approx(np.mean(differences))
    size = np.abs(differences).max() + abs(mean) + 1
    for tried in (mean, interval.low - 1e-6 * size, interval.low + 1e-6 * size, interval.high + 1e-6 * size):
        if min(abs(tried - interval.low), abs(tried - interval.high)) < 1e-7 * size:
            continue  # on an end, where rounding decides
        p = flipped([difference - tried for difference in differences], "two-sided")
        assert (interval.low <= tried <= interval.high) == (p > 1 - level + 1e-12)


@pytest.mark.parametrize("agents", [3, 5, 6, 12, 20])
def test_an_interval_and_its_p_agree_about_0_and_stay_where_the_differences_lie(agents):
    generator = np.random.default_rng(0)
    for _ in range(40):
        taus = np.clip(generator.normal(0.5, 0.7, size=agents), -1, 1)
        interval, p = sign_flip_interval(taus, generator=rng(3)), sign_flip(taus, generator=rng(3))
        if agents < 6:
            assert np.isnan([interval.low, interval.high]).all()
            continue
        assert (interval.low <= 0 <= interval.high) == (p > 0.05)
        assert taus.min() <= interval.low <= interval.estimate <= interval.high <= taus.max()


def test_the_interval_covers_what_it_says():
    generator = np.random.default_rng(5)
    samples = 1 + generator.standard_normal((1000, 8))
    found = [sign_flip_interval(sample, generator=rng()) for sample in samples]
    covered = np.mean([interval.low <= 1 <= interval.high for interval in found])
    assert covered == pytest.approx(0.95, abs=0.03)


# Few and many agents


@pytest.mark.parametrize("agents", [1, 2, 5, 15, 16])
def test_like_signs_reach_the_smallest_p(agents):
    assert smallest_p(agents) == (2 / 2**agents if agents <= 15 else 2 / (2**15 + 1))
    # The pattern that was seen may come up again among those sampled; with 30 agents it does once in 30,000 times.
    differences = np.arange(1, agents + 1 if agents <= 15 else 31)
    assert sign_flip(differences, generator=rng()) == smallest_p(agents)
    assert sign_flip([0.0] * agents, generator=rng()) == 1


# Holm


def stepped_down(p):
    """The definition: the p-values in order, each times the number of tests not yet rejected, never below the last."""
    left, last, adjusted = sorted(range(len(p)), key=p.__getitem__), 0.0, {}
    while left:
        last = adjusted[left[0]] = min(1.0, max(last, len(left) * p[left[0]]))
        left = left[1:]
    return [adjusted[index] for index in range(len(p))]


probabilities = st.lists(st.floats(0, 1), max_size=12)


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1: 0.04, 0.06, 0.06, then 0.04 raised to 0.06.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(holm([0.02, np.nan, 0.5, 0.9]), [0.06, np.nan, 1, 1])
    assert holm([]).shape == (0,)


@settings(max_examples=100, deadline=None)
@given(p=probabilities, shuffle=st.randoms(use_true_random=False))
def test_holm_is_its_definition_in_any_order(p, shuffle):
    adjusted = holm(p)
    np.testing.assert_array_equal(adjusted, stepped_down(p))
    assert np.all((adjusted >= p) & (adjusted <= 1))
    order = np.argsort(p)
    assert np.all(np.diff(adjusted[order]) >= 0)
    moved = shuffle.sample(range(len(p)), len(p))
    np.testing.assert_array_equal(holm(np.array(p)[moved]), adjusted[moved])
    np.testing.assert_array_equal(holm([*p, np.nan])[:-1], adjusted)


# The worst of several cells


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), agents=st.integers(1, 7), cells=st.integers(1, 4))
def test_the_worst_cell_is_judged_by_flipping_whole_agents(seed, agents, cells):
    numbers = np.random.default_rng(seed).standard_normal((agents, cells))
    scale = np.sqrt((numbers**2).sum(axis=0))
    worst, p = worst_sign_flip(numbers, generator=np.random.default_rng(0))
    smallest = [
        ((numbers * np.array(signs)[:, None]).sum(axis=0) / scale).min()
        for signs in itertools.product([-1, 1], repeat=agents)
    ]
    seen = numbers.sum(axis=0) / scale
    assert worst == seen.argmin()
    assert p == pytest.approx(min(1.0, 2 * np.mean(np.array(smallest) <= seen.min() + 1e-9)))


def test_one_cell_is_the_sign_flip_test_and_a_copy_of_it_changes_nothing():
    generator = np.random.default_rng(3)
    numbers = generator.standard_normal(8) - 0.5
    p = sign_flip(numbers, generator=generator, alternative="less")
    for copies in (1, 3):
        found = worst_sign_flip(np.tile(numbers[:, None], copies), generator=generator)
        assert found == (0, pytest.approx(min(1.0, 2 * p)))


def test_many_agents_are_flipped_by_lot_and_all_against_give_the_smallest_p():
    numbers = -1 - np.random.default_rng(1).random((20, 5))
    _, p = worst_sign_flip(numbers, generator=np.random.default_rng(2))
    assert p == pytest.approx(smallest_p(20))


def test_cells_that_are_all_0_are_not_worst():
    numbers = np.column_stack([np.zeros(6), -np.ones(6)])
    assert worst_sign_flip(numbers, generator=np.random.default_rng(0)) == (1, pytest.approx(2 / 2**6))
    assert worst_sign_flip(numbers[:, :1], generator=np.random.default_rng(0)) == (0, 1.0)


@pytest.mark.slow
def test_without_an_effect_the_worst_of_many_cells_is_rarely_found():
    generator = np.random.default_rng(5)
    ps = [worst_sign_flip(generator.standard_normal((8, 20)), generator=generator)[1] for _ in range(1000)]
    # One side of a two-sided test: 2.5 % at most, and 6 of 256 patterns can reach it.
    assert np.mean(np.array(ps) <= 0.05) <= 0.025 + 4 * np.sqrt(0.025 * 0.975 / 1000)
    assert np.mean(np.array(ps) <= 0.05) >= 6 / 256 - 4 * np.sqrt(0.025 * 0.975 / 1000)


@pytest.mark.parametrize("effects", [np.zeros(3), np.zeros((0, 2)), [[np.nan]], [[np.inf, 1.0]]])
def test_effects_that_are_no_matrix_of_numbers_are_refused(effects):
    with pytest.raises(ValueError, match="agents, cells"):
        worst_sign_flip(effects, generator=np.random.default_rng(0))


# The rival with the smallest effect


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), agents=st.integers(1, 7), shape=st.lists(st.integers(1, 3), min_size=1, max_size=3))
def test_sets_of_agents_choose_their_own_rivals(seed, agents, shape):
    rows = [np.random.default_rng(seed).standard_normal((agents, rivals)) + 0.5 for rivals in shape]
    interval, p = sign_flip_least(rows, generator=rng())
    assert interval.estimate == pytest.approx(np.mean([row.mean(axis=0).min() for row in rows]))
    sets = [list(chosen) for n in range(1, agents + 1) for chosen in itertools.combinations(range(agents), n)]
    least = np.array([np.mean([row[some].mean(axis=0).min() for row in rows]) for some in sets])
    of_choices = [
        np.mean([row[:, rival] for row, rival in zip(rows, choice, strict=True)], axis=0)
        for choice in itertools.product(*map(range, shape))
    ]
    if interval.estimate > 0:
        assert p == pytest.approx(min(1.0, 2 * (1 + np.sum(least <= 0)) / 2**agents))
        assert p >= max(sign_flip(numbers, generator=rng()) for numbers in of_choices) - 1e-12
    if agents >= 6:
        assert interval.low in least
        assert min(sign_flip_interval(numbers, generator=rng()).low for numbers in of_choices) >= interval.low - 1e-12
        assert (interval.low <= 0 <= interval.high) == (p > 0.05)
        assert interval.low <= interval.estimate <= interval.high


@pytest.mark.parametrize("agents", [3, 8, 20])
def test_of_one_rival_it_is_the_sign_flip_test(agents):
    numbers = np.random.default_rng(4).normal(0.3, 1, size=agents)
    interval, p = sign_flip_least([numbers[:, None]], generator=rng(2))
    assert p == sign_flip(numbers, generator=rng(2))
    np.testing.assert_array_equal(interval, sign_flip_interval(numbers, generator=rng(2)))


def test_a_steady_rival_does_not_hide_a_noisy_one_of_no_effect():
    generator = np.random.default_rng(0)
    tables = [generator.normal([0.0, 0.5], [2.0, 0.2], size=(10, 2)) for _ in range(200)]  # truly the first, of 0
    assert np.mean([sign_flip_least([table], generator=rng())[1] <= 0.05 for table in tables]) <= 0.06
    alone = [sign_flip(table[:, table.mean(axis=0).argmin()], generator=rng()) for table in tables]
    assert np.mean(np.array(alone) <= 0.05) > 0.1  # as it was tested before


@pytest.mark.parametrize("rows", [[], [[1.0, 2.0]], [[[1.0], [np.nan]]], [[[1.0]], [[1.0], [2.0]]], [np.empty((2, 0))]])
def test_rivals_of_no_agents_or_of_different_ones_are_refused(rows):
    with pytest.raises(ValueError, match="must"):
        sign_flip_least(rows, generator=rng())
