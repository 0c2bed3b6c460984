"""Arrays turned over in registers: every number where it belongs, and nothing beside them touched."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mzprobe.networks.fused.transposes import copy, transpose

SIZES = st.integers(0, 27)  # with and without whole squares of 8, and a rest


@given(m=SIZES, n=SIZES, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_every_number_finds_its_place(m, n, seed):
    a = np.random.default_rng(seed).standard_normal((m, n)).astype(np.float32)
    out = np.full((n, m), 7, np.float32)
    transpose(a, out)
    assert out.tobytes() == a.T.tobytes()


@given(m=SIZES, n=SIZES, i=st.integers(0, 9), j=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_parts_of_larger_arrays_are_read_and_written_alone(m, n, i, j):
    large = np.arange(40.0 * 40, dtype=np.float32).reshape(40, 40)
    room = np.full((40, 3, 40), -1, np.float32)
    transpose(large[i : i + m, j : j + n], room[j : j + n, 1, i : i + m])
    expected = np.full_like(room, -1)
    expected[j : j + n, 1, i : i + m] = large[i : i + m, j : j + n].T
    assert room.tobytes() == expected.tobytes()


def test_a_row_is_copied():
    row, out = np.arange(5, dtype=np.float32), np.zeros((2, 5), np.float32)
    copy(row, out[1])
    assert out.tolist() == [[0.0] * 5, [0.0, 1.0, 2.0, 3.0, 4.0]]
