"""Shared implementation of the `States` protocol for states that are arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from mzprobe.envs.validation import integers


@dataclass(frozen=True, eq=False)
class ArrayStates:
    """Batch of states kept as arrays, one row per state.

    A subclass is a frozen dataclass whose fields are arrays `[B, ...]`. The arrays become read-only, since `step` must
    not change the states that it is given.
    """

    def __post_init__(self) -> None:
        for array in self.__dict__.values():  # the fields in order; a frozen dataclass holds nothing else
            array.setflags(write=False)

    def __len__(self) -> int:
        for array in self.__dict__.values():
            return len(array)
        return 0

    def take(self, indices: ArrayLike) -> Self:
        """Selects, repeats or reorders states: integer indices `[M]` yield `M` states."""
        rows = integers(indices, "indices")
        return type(self)(*[array.take(rows, 0) for array in self.__dict__.values()])  # twice as fast as array[rows]

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Joins batches in order."""
        columns = zip(*[part.__dict__.values() for part in parts], strict=True)
        return cls(*[np.concatenate(arrays) for arrays in columns])
