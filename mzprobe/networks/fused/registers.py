"""Arrays in LLVM code, for what numba does not keep in vector registers by itself."""

from typing import Any

from llvmlite import ir
from numba.core import cgutils

FLOAT = ir.FloatType()
INDEX = ir.IntType(64)
LANE = ir.IntType(32)
_BYTE = ir.IntType(8).as_pointer()


class Operand:
    """An array `[rows, columns]` of float32 as a tile reads and writes it."""

    def __init__(self, context: Any, builder: Any, array_type: Any, value: Any) -> None:
        array = context.make_array(array_type)(context, builder, value)
        self.builder = builder
        self.data = builder.bitcast(array.data, _BYTE)
        self.strides = cgutils.unpack_tuple(builder, array.strides)
        self.shape = cgutils.unpack_tuple(builder, array.shape)

    def at(self, row: Any, column: Any, kind: Any) -> Any:
        """Returns the address of `kind` (a number or a vector of neighbours) at a row and a column."""
        offset = self.builder.add(self.builder.mul(row, self.strides[0]), self.builder.mul(column, self.strides[1]))
        return self.builder.bitcast(self.builder.gep(self.data, [offset]), kind.as_pointer())


class Lines:
    """`columns` neighbouring numbers of an array, loaded, stored and multiplied as one vector.

    Args:
        builder: builder of the generated function.
        columns: numbers in a vector.
        count: how many of these exist, or None for all; no other memory is touched.
    """

    def __init__(self, builder: Any, columns: int, count: Any | None) -> None:
        self.builder = builder
        self.kind = ir.VectorType(FLOAT, columns)
        self.suffix = f"v{columns}f32"
        self.mask = None
        if count is not None:
            numbers = ir.Constant(ir.VectorType(INDEX, columns), list(range(columns)))
            self.mask = builder.icmp_signed("<", numbers, self.everywhere(count))

    def everywhere(self, number: Any) -> Any:
        """Returns a vector whose entries are all `number`."""
        vector = ir.VectorType(number.type, self.kind.count)
        undefined = ir.Constant(vector, ir.Undefined)
        first = self.builder.insert_element(undefined, number, ir.Constant(LANE, 0))
        lanes = ir.Constant(ir.VectorType(LANE, self.kind.count), [0] * self.kind.count)
        return self.builder.shuffle_vector(first, undefined, lanes)

    def load(self, place: Any) -> Any:
        """Loads the numbers at a place, with 0 for those that do not exist."""
        if self.mask is None:
            return self.builder.load(place, align=4)
        nothing = ir.Constant(self.kind, [0.0] * self.kind.count)
        return self._call("llvm.masked.load", self.kind, [place, ir.Constant(LANE, 4), self.mask, nothing])

    def store(self, vector: Any, place: Any) -> None:
        """Stores those numbers of a vector that exist."""
        if self.mask is None:
            self.builder.store(vector, place, align=4)
        else:
            self._call("llvm.masked.store", ir.VoidType(), [vector, place, ir.Constant(LANE, 4), self.mask])

    def multiply_add(self, x: Any, y: Any, z: Any) -> Any:
        """Returns x y + z, rounded once."""
        return self._call("llvm.fma", self.kind, [x, y, z])

    def _call(self, name: str, returned: Any, values: list[Any]) -> Any:
        kind = ir.FunctionType(returned, [value.type for value in values])
        suffix = self.suffix + (".p0" if "masked" in name else "")
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"{name}.{suffix}")
        return self.builder.call(function, values)


def operands(context: Any, builder: Any, signature: Any, values: Any, count: int) -> list[Operand]:
    """Returns the first `count` arguments of the generated function."""
    return [
        Operand(context, builder, kind, value)
        for kind, value in zip(signature.args[:count], values[:count], strict=True)
    ]
