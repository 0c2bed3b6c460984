"""The value transform and its inverse, supports, and the arithmetic of the kernels against torch."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import random_network

from mzprobe.networks import Support
from mzprobe.networks.core import minmax_scale
from mzprobe.networks.fused.mlp_kernels import exponentials, mean_atoms, minmax_lanes, perceptron, softmax_lanes
from mzprobe.networks.support import inverse_transform, transform

pytestmark = pytest.mark.usefixtures("one_thread")


# The value transform


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 2e-15), (torch.float32, 1e-6)])
@settings(max_examples=300, deadline=None)
@given(x=st.floats(-1e6, 1e6))
def test_the_transform_and_its_inverse_cancel(dtype, tolerance, x):
    scalar = torch.tensor(x, dtype=dtype)
    back = inverse_transform(transform(scalar))
    assert abs(float(back - scalar)) <= tolerance * (1 + abs(x))


@settings(max_examples=200, deadline=None)
@given(x=st.floats(-1e6, 1e6))
def test_the_transform_is_the_formula_of_the_paper(x):
    # The root of a number near 1 minus 1 carries a few roundings of 1.
    expected = math.copysign(math.sqrt(abs(x) + 1) - 1, x) + 0.001 * x
    assert float(transform(torch.tensor(x, dtype=torch.float64))) == pytest.approx(expected, rel=1e-14, abs=1e-15)


def test_the_transform_is_odd_and_increasing():
    x = torch.linspace(-1e4, 1e4, 10_001, dtype=torch.float64)
    y = transform(x)
    assert torch.equal(y, -transform(-x))
    assert (y.diff() > 0).all()
    assert float(transform(torch.tensor(0.0))) == 0


# Supports


SUPPORT = Support(minimum=-3.0, maximum=5.0, atoms=9)


@settings(max_examples=200, deadline=None)
@given(y=st.floats(-3, 5))
def test_the_mean_of_a_two_hot_is_the_transformed_scalar(y):
    x = inverse_transform(torch.tensor([y], dtype=torch.float64))
    probabilities = SUPPORT.two_hot(x)[0]
    assert float(probabilities.sum()) == pytest.approx(1, abs=1e-15)
    assert float(probabilities @ SUPPORT.points(probabilities)) == pytest.approx(y, abs=1e-14)
    around = probabilities.nonzero().flatten()
    assert len(around) <= 2
    assert int(around[-1] - around[0]) <= 1


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 3e-6)])
def test_scalars_come_back_from_their_two_hot_over_the_whole_support(dtype, tolerance):
    ends = inverse_transform(torch.tensor([-3.0, 5.0], dtype=torch.float64))
    x = torch.linspace(float(ends[0]), float(ends[1]), 4001, dtype=dtype)
    back = SUPPORT.scalar(torch.log(SUPPORT.two_hot(x)))
    assert ((back - x).abs() <= tolerance * (1 + x.abs())).all()


def test_what_lies_outside_a_support_is_moved_to_its_end():
    probabilities = SUPPORT.two_hot(torch.tensor([-1e6, 1e6], dtype=torch.float64))
    assert probabilities[0].tolist() == [1] + [0] * 8
    assert probabilities[1].tolist() == [0] * 8 + [1]


def test_atoms_are_evenly_spaced_from_end_to_end():
    assert SUPPORT.points(torch.zeros(1)).tolist() == [-3, -2, -1, 0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(("minimum", "maximum", "atoms"), [(0, 1, 1), (1, 1, 5), (2, 1, 5), (float("nan"), 1, 5)])
def test_an_impossible_support_is_refused(minimum, maximum, atoms):
    with pytest.raises(ValueError, match="two atoms or more"):
        Support(minimum=minimum, maximum=maximum, atoms=atoms)


@pytest.mark.parametrize("reward_scale", [0.0, -1.0, float("nan")])
def test_an_impossible_reward_scale_is_refused(reward_scale):
    with pytest.raises(ValueError, match="reward_scale > 0"):
        Support(minimum=-1, maximum=1, atoms=3, reward_scale=reward_scale)


SCALED = dataclasses.replace(SUPPORT, reward_scale=0.1)


def test_a_reward_scale_is_undone_where_the_support_is_read():
    x = torch.tensor([-37.5, -1.0, 0.0, 0.25, 80.0, 300.0], dtype=torch.float64)
    torch.testing.assert_close(SCALED.two_hot(x), SUPPORT.two_hot(0.1 * x))
    torch.testing.assert_close(SCALED.scalar(torch.log(SCALED.two_hot(x))), x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("atoms", [2, 3, 20, 21, 601])
@pytest.mark.parametrize("level", [0.0, 0.1, -7.3])
def test_a_head_that_says_nothing_says_exactly_0(atoms, level):
    support = Support(minimum=-10, maximum=10, atoms=atoms, reward_scale=0.3)
    for dtype in (torch.float32, torch.float64):
        assert support.scalar(torch.full((5, atoms), level, dtype=dtype)).tolist() == [0.0] * 5
    for rows in (1, 5):
        probabilities = np.full((atoms, rows), level, np.float32)
        softmax_lanes(probabilities, np.zeros(rows, np.float32), np.zeros(probabilities.size, np.int32))
        assert decoded_of(probabilities.T, support).tolist() == [0.0] * rows


@pytest.mark.parametrize("atoms", [2, 9, 20])
def test_a_mean_around_the_centre_is_the_mean_of_the_atoms(atoms):
    support = Support(minimum=-3, maximum=5, atoms=atoms)
    probabilities = torch.softmax(torch.from_numpy(random_rows(30, atoms)).double(), dim=1)
    expected = inverse_transform(probabilities @ support.points(probabilities))
    torch.testing.assert_close(support.scalar(torch.log(probabilities)), expected, atol=1e-12, rtol=1e-12)
    np.testing.assert_allclose(decoded_of(probabilities.numpy().astype(np.float32), support), expected, atol=1e-5)


# The fused arithmetic against torch


def random_rows(rows, columns, scale=3.0, seed=0):
    return (scale * np.random.default_rng(seed).standard_normal((rows, columns))).astype(np.float32)


def across(rows):
    """Rows as kernels take them, one a lane."""
    return np.ascontiguousarray(rows.T)


def decoded_of(probabilities, support):
    """Means of the rows `[B, atoms]`."""
    B, out = len(probabilities), np.zeros(len(probabilities))
    mean_atoms(across(probabilities), support.axis, np.zeros(B, np.float32), out)
    return out


LANES = pytest.mark.parametrize("lanes", [1, 2, 8, 13, 32])


@LANES
def test_the_fused_perceptron_equals_torch(lanes):
    body = random_network(5).reward_head
    x, hidden, out = random_rows(lanes, 8), np.zeros((16, lanes), np.float32), np.zeros((21, lanes), np.float32)
    perceptron(across(x), body.layers(), hidden, out)
    with torch.no_grad():
        expected = body(torch.from_numpy(x))
        activations = torch.relu(torch.from_numpy(x) @ body.w1 + body.b1)
    np.testing.assert_allclose(out.T, expected, atol=1e-5, rtol=1e-6)
    np.testing.assert_allclose(hidden.T, activations, atol=1e-5, rtol=1e-6)


@LANES
def test_a_number_that_is_not_finite_stays_one_in_its_lane_alone(lanes):
    body = random_network(5).reward_head
    x, hidden, out = random_rows(lanes, 8), np.zeros((16, lanes), np.float32), np.zeros((21, lanes), np.float32)
    x[0, 3] = np.nan
    perceptron(across(x), body.layers(), hidden, out)
    assert np.isnan(hidden[:, 0]).all()
    softmax_lanes(out, np.zeros(lanes, np.float32), np.zeros(out.size, np.int32))
    assert np.isnan(out[:, 0]).all()
    assert np.isfinite(out[:, 1:]).all()


def test_fused_exponentials_are_right_to_float32_over_their_whole_range():
    x = np.linspace(-87, 0, 300_001).astype(np.float32)
    y = x.copy()
    exponentials(y, np.zeros(x.size, np.int32))
    np.testing.assert_allclose(y, np.exp(x.astype(np.float64)), rtol=5e-7)
    assert y[-1] == 1


def test_fused_exponentials_far_below_their_range_are_nearly_zero():
    x = np.array([-88, -1e3, -1e30], np.float32)
    exponentials(x, np.zeros(3, np.int32))
    assert ((x >= 0) & (x < 2e-38)).all()


@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0])
def test_the_fused_softmax_equals_torch(scale):
    x = random_rows(9, 7, scale)
    y = across(x)
    softmax_lanes(y, np.zeros(9, np.float32), np.zeros(x.size, np.int32))
    np.testing.assert_allclose(y.T, torch.softmax(torch.from_numpy(x), dim=1), atol=1e-6, rtol=1e-6)


def test_the_fused_scaling_of_latents_equals_torch():
    x = random_rows(6, 5)
    y, scale = across(x), np.zeros(6, np.float32)
    minmax_lanes(y, scale, np.zeros(6, np.float32))
    np.testing.assert_allclose(y.T, minmax_scale(torch.from_numpy(x)), atol=1e-6)
    np.testing.assert_allclose(scale, 1 / (x.max(axis=1) - x.min(axis=1) + 1e-5), rtol=1e-5)


def test_the_fused_scaling_of_a_constant_latent_is_zero():
    x = np.full((5, 4), 1000, np.float32)
    minmax_lanes(x, np.zeros(4, np.float32), np.zeros(4, np.float32))
    np.testing.assert_array_equal(x, 0)


@pytest.mark.parametrize(("support", "atol"), [(SUPPORT, 1e-5), (SCALED, 1e-4)])
def test_the_fused_mean_of_atoms_equals_the_support_whose_reward_scale_it_undoes(support, atol):
    logits = random_rows(40, 9)
    probabilities = torch.softmax(torch.from_numpy(logits), dim=1).numpy()
    expected = support.scalar(torch.from_numpy(logits).double())
    np.testing.assert_allclose(decoded_of(probabilities, support), expected, atol=atol, rtol=1e-5)
