"""Products whose order is ours: every element against a plain loop of fused multiply-adds, bit for bit."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mzprobe.networks.fused.products import add_product, product_of_one


def numbers(generator, *shape):
    return generator.standard_normal(shape).astype(np.float32)


def fused(x, y, z):
    """X y + z, rounded once to float32, by exact fractions."""
    exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
    near = np.float32(float(exact))  # rounded twice: it may be off by one neighbour
    neighbours = (np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf)))
    distances = [abs(Fraction(float(n)) - exact) for n in neighbours]
    nearest = [n for n, d in zip(neighbours, distances, strict=True) if d == min(distances)]
    return nearest[0] if len(nearest) == 1 else next(n for n in nearest if n.view(np.int32) % 2 == 0)


def by_hand(a, b, out):
    result = out.copy()
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            for k in range(a.shape[1]):
                result[i, j] = fused(a[i, k], b[k, j], result[i, j])
    return result


@pytest.mark.parametrize(("m", "K", "n"), [(1, 3, 33), (5, 4, 21), (9, 2, 8), (2, 7, 1)])
def test_each_term_is_a_fused_multiply_add_in_the_order_of_k(m, K, n):
    generator = np.random.default_rng(0)
    a, b, out = numbers(generator, m, K), numbers(generator, K, n), numbers(generator, m, n)
    expected = by_hand(a, b, out)
    add_product(a, b, out)
    assert out.tobytes() == expected.tobytes()


@given(m=st.integers(1, 9), K=st.integers(0, 40), n=st.integers(1, 70), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_no_element_depends_on_what_stands_beside_it_or_on_the_side_it_stands_on(m, K, n, seed):
    generator = np.random.default_rng(seed)
    a, b, start = numbers(generator, m, K), numbers(generator, K, n), numbers(generator, m, n)
    whole = start.copy()
    add_product(a, b, whole)
    np.testing.assert_allclose(whole, start + a.astype(np.float64) @ b, atol=1e-4)
    turned = start.T.copy()
    add_product(b.T, np.ascontiguousarray(a.T), turned)
    assert turned.T.tobytes() == whole.tobytes()
    one = np.full(n, 7, np.float32)
    product_of_one(a[0].copy(), b, start[0].copy(), one)
    assert one.tobytes() == whole[0].tobytes()
    i, j = int(generator.integers(m)), int(generator.integers(n))
    alone = start[i : i + 1, j : j + 1].copy()
    add_product(a[i : i + 1], np.ascontiguousarray(b[:, j : j + 1]), alone)
    assert alone[0, 0] == whole[i, j]
    parts, half = start.copy(), K // 2
    add_product(a[:, :half], b[:half], parts)
    add_product(a[:, half:], b[half:], parts)
    assert parts.tobytes() == whole.tobytes()


@pytest.mark.parametrize("m", [1, 4, 6])
@pytest.mark.parametrize("n", [1, 5, 21, 40])
def test_nothing_beside_a_product_is_touched(m, n):
    generator = np.random.default_rng(1)
    a, b = numbers(generator, m, 6), numbers(generator, 6, n)
    room = np.full((m + 2, n + 80), 7, np.float32)
    inside = room[1 : m + 1, 40 : 40 + n]
    inside[:] = 0
    add_product(a, b, inside)
    np.testing.assert_allclose(inside, a @ b, atol=1e-5)
    kept = np.ones(room.shape, bool)
    kept[1 : m + 1, 40 : 40 + n] = False
    assert (room[kept] == 7).all()
