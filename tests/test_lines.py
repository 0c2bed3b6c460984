"""Texts and numbers as lines show them."""

import pytest

from mzprobe.lines import in_digits


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "-"), (0.667, "0.667"), (-0.0, "0"), (-0.004, "-0.004"), (9.5, "9.5"), (99.94, "99.9"), (1234.5, "1234")],
)
def test_returns_have_three_digits_or_are_whole(value, said):
    assert in_digits(value) == said
