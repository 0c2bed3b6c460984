"""Small matrix products whose bits depend on nothing but their numbers.

Every element of `out + a @ b` starts from `out` and takes its terms in the order of k, one fused multiply-add each.
Elements are independent of each other, so that neither the size of a batch, nor the width of a vector register, nor the
kernels that a BLAS picks for a processor decide how one is rounded. On the sizes of an `MLPNetwork` this is also faster
than a BLAS, whose calls are made for larger products.

Numba compiles loops well, but does not keep a block of sums in registers over k. A `tile` is therefore written in LLVM
code, which says what its registers hold.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from mzprobe._kernel import borrowing
from mzprobe.networks.fused.registers import FLOAT, INDEX, Lines, operands

Float32 = NDArray[np.float32]


def tile(rows: int, columns: int, *, part: bool = False) -> Callable[..., None]:
    """Returns a function of `(a, b, out, i, j)` that adds a product to a block of `out`.

    It computes `out[i:i + rows, j:j + columns] += a[i:i + rows] @ b[:, j:j + columns]`, with its rows * columns sums in
    registers. Columns of `b` and of `out` must be adjacent in memory. The rows of the block must lie inside `out`, and
    so must its columns unless it takes a `part` of them; k must run over at least one term.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        a, b, out = operands(context, builder, signature, values, 3)
        i, j = values[3:]
        line = Lines(builder, columns, builder.sub(out.shape[1], j) if part else None)
        numbers = [builder.add(i, ir.Constant(INDEX, r)) for r in range(rows)]
        places = [out.at(number, j, line.kind) for number in numbers]

        def add(k: Any, sums: list[Any]) -> list[Any]:
            shared = line.load(b.at(k, j, line.kind))
            return [
                line.multiply_add(line.everywhere(builder.load(a.at(number, k, FLOAT), align=4)), shared, total)
                for number, total in zip(numbers, sums, strict=True)
            ]

        sums = _over_terms(builder, a.shape[1], [line.load(place) for place in places], add)
        for place, total in zip(places, sums, strict=True):
            line.store(total, place)
        return context.get_dummy_value()

    def typed(_context: Any, a: Any, b: Any, out: Any, _i: Any, _j: Any) -> Any:
        return types.void(a, b, out, types.intp, types.intp), generate

    return cast(Callable[..., None], intrinsic(typed))


def row_tile(columns: int, *, twice: bool = False) -> Callable[..., None]:
    """Returns a function of `(a, b, start, out, j)` for `columns` columns of a product of one row.

    It computes `out[0, j:] = start[0, j:] + a[0] @ b[:, j:]` in these columns. With `twice`, it also computes the last
    `columns` of the row (possibly overlapping), so that a row that is not a power of two needs no mask. Memory and
    terms are as in `tile`.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        a, b, start, out = operands(context, builder, signature, values, 4)
        line = Lines(builder, columns, None)
        row, last = ir.Constant(INDEX, 0), builder.sub(out.shape[1], ir.Constant(INDEX, columns))
        places = [values[4], last] if twice else [values[4]]

        def add(k: Any, sums: list[Any]) -> list[Any]:
            factor = line.everywhere(builder.load(a.at(row, k, FLOAT), align=4))
            return [
                line.multiply_add(factor, line.load(b.at(k, place, line.kind)), total)
                for place, total in zip(places, sums, strict=True)
            ]

        before = [line.load(start.at(row, place, line.kind)) for place in places]
        for place, total in zip(places, _over_terms(builder, a.shape[1], before, add), strict=True):
            line.store(total, out.at(row, place, line.kind))
        return context.get_dummy_value()

    def typed(_context: Any, a: Any, b: Any, start: Any, out: Any, _j: Any) -> Any:
        return types.void(a, b, start, out, types.intp), generate

    return cast(Callable[..., None], intrinsic(typed))


def _over_terms(builder: Any, K: Any, before: list[Any], add: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
    """Returns the sums after the terms k = 0 .. K - 1, K at least 1, each added by `add(k, sums)`."""
    entry, body, end = builder.block, builder.append_basic_block("terms"), builder.append_basic_block("done")
    builder.branch(body)
    builder.position_at_end(body)
    k = builder.phi(INDEX)
    sums = [builder.phi(start.type) for start in before]
    after = add(k, sums)
    following = builder.add(k, ir.Constant(INDEX, 1))
    builder.cbranch(builder.icmp_signed("<", following, K), body, end)
    k.add_incoming(ir.Constant(INDEX, 0), entry)
    k.add_incoming(following, body)
    for total, start, step in zip(sums, before, after, strict=True):
        total.add_incoming(start, entry)
        total.add_incoming(step, body)
    builder.position_at_end(end)
    return after


# Eight vector registers of sums keep both multiply-add units of a core busy, and leave some of sixteen for a and b.
_tile_4x16, _tile_4x8, _part_4x8 = tile(4, 16), tile(4, 8), tile(4, 8, part=True)
_tile_1x64, _tile_1x32, _part_1x32 = tile(1, 64), tile(1, 32), tile(1, 32, part=True)
_row_64, _row_32, _row_16, _row_8 = row_tile(64), row_tile(32), row_tile(16), row_tile(8)
_row_4, _row_2, _row_1 = row_tile(4), row_tile(2), row_tile(1)
_two_32, _two_16, _two_8 = row_tile(32, twice=True), row_tile(16, twice=True), row_tile(8, twice=True)
_two_4, _two_2 = row_tile(4, twice=True), row_tile(2, twice=True)


@borrowing
def add_product(a: Float32, b: Float32, out: Float32) -> None:
    """Adds a @ b, `[m, K]` by `[K, n]`, to out `[m, n]`; columns of b and of out are adjacent in memory."""
    m, n = out.shape
    if a.shape[1] == 0:
        return
    i = 0
    while i + 4 <= m:
        j = 0
        while j + 16 <= n:
            _tile_4x16(a, b, out, i, j)
            j += 16
        if j + 8 <= n:
            _tile_4x8(a, b, out, i, j)
            j += 8
        if j < n:
            _part_4x8(a, b, out, i, j)
        i += 4
    while i < m:
        j = 0
        while j + 64 <= n:
            _tile_1x64(a, b, out, i, j)
            j += 64
        if j + 32 <= n:
            _tile_1x32(a, b, out, i, j)
            j += 32
        if j < n:
            _part_1x32(a, b, out, i, j)
        i += 1


@borrowing
def product_of_one(a: Float32, b: Float32, start: Float32, out: Float32) -> None:
    """Sets out = start + a @ b for a single row: `[K]`, `[K, n]`, `[n]`, `[n]`, the same bits as `add_product`."""
    K, n = b.shape
    if K == 0 or n == 0:
        for j in range(n):
            out[j] = start[j]
        return
    x, first, row = a.reshape(1, K), start.reshape(1, n), out.reshape(1, n)
    if n < 64:
        _short_row(x, b, first, row)
        return
    j = 0
    while j + 64 <= n:
        _row_64(x, b, first, row, j)
        j += 64
    if j < n:
        _row_64(x, b, first, row, n - 64)


@borrowing
def _short_row(a: Float32, b: Float32, start: Float32, out: Float32) -> None:
    n = out.shape[1]
    if n > 32:
        _two_32(a, b, start, out, 0)
    elif n == 32:
        _row_32(a, b, start, out, 0)
    elif n > 16:
        _two_16(a, b, start, out, 0)
    elif n == 16:
        _row_16(a, b, start, out, 0)
    elif n > 8:
        _two_8(a, b, start, out, 0)
    elif n == 8:
        _row_8(a, b, start, out, 0)
    elif n > 4:
        _two_4(a, b, start, out, 0)
    elif n == 4:
        _row_4(a, b, start, out, 0)
    elif n == 3:
        _two_2(a, b, start, out, 0)
    elif n == 2:
        _row_2(a, b, start, out, 0)
    else:
        _row_1(a, b, start, out, 0)
