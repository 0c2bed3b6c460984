"""Small matrix products whose bits depend on nothing but their numbers.

Every element of `out + a @ b` starts from `out` and takes its terms in the order of k, one fused multiply-add each.
No element meets another, so that neither the size of a batch, nor the width of a vector register, nor the kernels that
a BLAS picks for a processor decide how it is rounded. On the sizes of an `MLPNetwork` this is also faster than a BLAS,
whose calls are made for larger products.

Numba compiles loops well, but does not keep a block of sums in registers over k. A `tile` therefore says in LLVM's
own words what its registers hold.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from mzprobe._kernel import kernel

Float32 = NDArray[np.float32]

_FLOAT = ir.FloatType()
_BYTE = ir.IntType(8).as_pointer()
_INDEX = ir.IntType(64)
_LANE = ir.IntType(32)


class _Operand:
    """An array `[rows, columns]` of float32 as a tile reads and writes it."""

    def __init__(self, context: Any, builder: Any, array_type: Any, value: Any) -> None:
        array = context.make_array(array_type)(context, builder, value)
        self.builder = builder
        self.data = builder.bitcast(array.data, _BYTE)
        self.strides = cgutils.unpack_tuple(builder, array.strides)
        self.shape = cgutils.unpack_tuple(builder, array.shape)

    def turn(self) -> None:
        """Takes rows for columns."""
        self.strides, self.shape = self.strides[::-1], self.shape[::-1]

    def at(self, row: Any, column: Any, kind: Any) -> Any:
        """Where `kind` (a number or a vector of neighbours) lies."""
        offset = self.builder.add(self.builder.mul(row, self.strides[0]), self.builder.mul(column, self.strides[1]))
        return self.builder.bitcast(self.builder.gep(self.data, [offset]), kind.as_pointer())


class _Lines:
    """`columns` neighbouring numbers of an array, loaded, stored and multiplied as one vector.

    Args:
        builder: of the function that is written.
        columns: in a vector.
        count: how many of them there are, or None for all; no other memory is touched.
    """

    def __init__(self, builder: Any, columns: int, count: Any | None) -> None:
        self.builder = builder
        self.kind = ir.VectorType(_FLOAT, columns)
        self.suffix = f"v{columns}f32"
        self.mask = None
        if count is not None:
            numbers = ir.Constant(ir.VectorType(_INDEX, columns), list(range(columns)))
            self.mask = builder.icmp_signed("<", numbers, self.everywhere(count))

    def everywhere(self, number: Any) -> Any:
        """A vector of one number."""
        vector = ir.VectorType(number.type, self.kind.count)
        undefined = ir.Constant(vector, ir.Undefined)
        first = self.builder.insert_element(undefined, number, ir.Constant(_LANE, 0))
        lanes = ir.Constant(ir.VectorType(_LANE, self.kind.count), [0] * self.kind.count)
        return self.builder.shuffle_vector(first, undefined, lanes)

    def load(self, place: Any) -> Any:
        """The numbers at a place; 0 for those that are not there."""
        if self.mask is None:
            return self.builder.load(place, align=4)
        nothing = ir.Constant(self.kind, [0.0] * self.kind.count)
        return self._call("llvm.masked.load", self.kind, [place, ir.Constant(_LANE, 4), self.mask, nothing])

    def store(self, vector: Any, place: Any) -> None:
        """Writes those numbers that are there."""
        if self.mask is None:
            self.builder.store(vector, place, align=4)
        else:
            self._call("llvm.masked.store", ir.VoidType(), [vector, place, ir.Constant(_LANE, 4), self.mask])

    def multiply_add(self, x: Any, y: Any, z: Any) -> Any:
        """X y + z, rounded once."""
        return self._call("llvm.fma", self.kind, [x, y, z])

    def _call(self, name: str, returned: Any, values: list[Any]) -> Any:
        kind = ir.FunctionType(returned, [value.type for value in values])
        suffix = self.suffix + (".p0" if "masked" in name else "")
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"{name}.{suffix}")
        return self.builder.call(function, values)


def tile(rows: int, columns: int, *, part: bool = False, turned: bool = False) -> Callable[..., None]:
    """A function `(a, b, out, i, j)`: `out[i:i + rows, j:j + columns] += a[i:i + rows] @ b[:, j:j + columns]`.

    Its rows * columns sums stay in registers. `b` and `out` must have their columns side by side in memory, and the
    rows of the tile must lie inside `out`, its columns too unless it takes a `part` of them; k must run over at least
    one term. A `turned` one takes a' and out' for a and out.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        a, b, out = (
            _Operand(context, builder, kind, value) for kind, value in zip(signature.args[:3], values[:3], strict=True)
        )
        if turned:
            a.turn()
            out.turn()
        i, j = values[3:]
        line = _Lines(builder, columns, builder.sub(out.shape[1], j) if part else None)
        numbers = [builder.add(i, ir.Constant(_INDEX, r)) for r in range(rows)]
        places = [out.at(number, j, line.kind) for number in numbers]
        before = [line.load(place) for place in places]
        entry, body, end = builder.block, builder.append_basic_block("terms"), builder.append_basic_block("done")
        builder.branch(body)
        builder.position_at_end(body)
        k = builder.phi(_INDEX)
        sums = [builder.phi(line.kind) for _ in range(rows)]
        shared = line.load(b.at(k, j, line.kind))
        after = []
        for number, total in zip(numbers, sums, strict=True):
            factor = line.everywhere(builder.load(a.at(number, k, _FLOAT), align=4))
            after.append(line.multiply_add(factor, shared, total))
        following = builder.add(k, ir.Constant(_INDEX, 1))
        builder.cbranch(builder.icmp_signed("<", following, a.shape[1]), body, end)
        k.add_incoming(ir.Constant(_INDEX, 0), entry)
        k.add_incoming(following, body)
        for total, start, step in zip(sums, before, after, strict=True):
            total.add_incoming(start, entry)
            total.add_incoming(step, body)
        builder.position_at_end(end)
        for place, total in zip(places, after, strict=True):
            line.store(total, place)
        return context.get_dummy_value()

    def typed(_context: Any, a: Any, b: Any, out: Any, _i: Any, _j: Any) -> Any:
        return types.void(a, b, out, types.intp, types.intp), generate

    return cast(Callable[..., None], intrinsic(typed))


# Eight vector registers of sums keep both multiply-add units of a core busy, and leave some of sixteen for a and b.
_tile_4x16, _tile_4x8, _part_4x8 = tile(4, 16), tile(4, 8), tile(4, 8, part=True)
_tile_1x64, _tile_1x32, _part_1x32 = tile(1, 64), tile(1, 32), tile(1, 32, part=True)
_one_64, _one_32, _one_8 = tile(1, 64, turned=True), tile(1, 32, turned=True), tile(1, 8, turned=True)
_part_32, _part_8 = tile(1, 32, part=True, turned=True), tile(1, 8, part=True, turned=True)


@kernel
def add_product(a: Float32, b: Float32, out: Float32) -> None:
    """Out += a @ b: `[m, K]`, `[K, n]`, `[m, n]`; columns of `b` and of `out` lie side by side in memory."""
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


@kernel
def add_product_of_one(a: Float32, b: Float32, out: Float32) -> None:
    """Out += b' a of a single column: `[K, 1]`, `[K, n]`, `[n, 1]`, the same bits as `add_product(b.T, a, out)`."""
    n = out.shape[0]
    if a.shape[0] == 0:
        return
    j = 0
    while j + 64 <= n:
        _one_64(a, b, out, 0, j)
        j += 64
    if j + 32 <= n:
        _one_32(a, b, out, 0, j)
        j += 32
    if j + 8 < n:
        _part_32(a, b, out, 0, j)
    elif j + 8 == n:
        _one_8(a, b, out, 0, j)
    elif j < n:
        _part_8(a, b, out, 0, j)
