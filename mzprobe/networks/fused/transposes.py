"""Transposes in vector registers: a row of a batch is a row in memory, and a column in the kernels."""

from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from mzprobe._kernel import borrowing
from mzprobe.networks.fused.registers import INDEX, LANE, Lines, operands

Float32 = NDArray[np.float32]

_SIDE = 8  # side of a square that fits the vector registers of every processor


@intrinsic
def _turn_square(_context: Any, a: Any, out: Any, _i: Any, _j: Any) -> Any:
    """Transposes `a[i:i + 8, j:j + 8]` into `out[j:j + 8, i:i + 8]`; columns of both are adjacent in memory."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        a, out = operands(context, builder, signature, values, 2)
        i, j = values[2:]
        line = Lines(builder, _SIDE, None)
        rows = [line.load(a.at(builder.add(i, ir.Constant(INDEX, r)), j, line.kind)) for r in range(_SIDE)]
        half = _SIDE // 2
        while half:  # halves, then quarters, then single numbers change places across the diagonal
            for r in range(_SIDE):
                if not r & half:
                    rows[r], rows[r + half] = _exchanged(builder, rows[r], rows[r + half], half)
            half //= 2
        for r, row in enumerate(rows):
            line.store(row, out.at(builder.add(j, ir.Constant(INDEX, r)), i, line.kind))
        return context.get_dummy_value()

    return types.void(a, out, types.intp, types.intp), generate


def _exchanged(builder: Any, upper: Any, lower: Any, size: int) -> tuple[Any, Any]:
    """Exchanges pieces of `size` numbers between two rows: the upper's right ones for the lower's left ones."""
    left = [k if not k & size else _SIDE + k - size for k in range(_SIDE)]
    right = [k + size if not k & size else _SIDE + k for k in range(_SIDE)]
    kind = ir.VectorType(LANE, _SIDE)
    first, second = (builder.shuffle_vector(upper, lower, ir.Constant(kind, order)) for order in (left, right))
    return first, second


_turn = cast(Any, _turn_square)


@borrowing
def transpose(a: Float32, out: Float32) -> None:
    """Sets out = a', `[n, m]` from `[m, n]`; columns of both are adjacent in memory, and they share no memory."""
    m, n = a.shape
    whole_rows, whole_columns = m - m % _SIDE, n - n % _SIDE
    for i in range(0, whole_rows, _SIDE):
        for j in range(0, whole_columns, _SIDE):
            _turn(a, out, i, j)
    for i in range(m):
        for j in range(whole_columns if i < whole_rows else 0, n):
            out[j, i] = a[i, j]


@borrowing
def copy(row: Float32, out: Float32) -> None:
    """Copies a row `[n]`; a function of its own because the compiler does not vectorise this within larger arrays."""
    for j in range(out.size):
        out[j] = row[j]
