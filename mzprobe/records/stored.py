"""Positions of a replay buffer that a checkpoint keeps, so that training targets can be compared with true values."""

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mzprobe.envs.core import Environment, replayed

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class StoredTargets:
    """P positions of a replay buffer: how to reach them again, and what was stored there."""

    seeds: Int64  # [P], seeds of the start states of their episodes
    times: Int64  # [P], steps since the start
    actions: Int64  # [sum of times], actions that lead to each position, one position after the other
    stored_steps: Int64  # [P], training step when the episode was stored
    targets: Float64  # [P], value targets z, in units of discounted reward
    priorities: Float64  # [P], probability of being drawn, relative to uniform sampling

    def __len__(self) -> int:
        return len(self.seeds)

    def states(self, environment: Environment) -> Any:
        """Returns the P real states of the positions by replaying their episodes."""
        P, longest = len(self), int(self.times.max(initial=0))
        actions = np.zeros((P, longest), np.int64)
        actions[np.arange(longest) < self.times[:, None]] = self.actions
        return replayed(environment, self.seeds, actions, self.times)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Returns the fields as arrays to be saved, with integers in the smallest type that holds them."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: _narrow(array) if array.dtype == np.int64 else array for name, array in found.items()}

    @classmethod
    def of_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Self:
        """Restores the positions from the result of `arrays`."""
        wide: dict[str, Any] = {
            name: array if array.dtype == np.float64 else array.astype(np.int64) for name, array in arrays.items()
        }
        return cls(**wide)


def _narrow(integers: Int64) -> NDArray[Any]:
    return integers.astype(np.min_scalar_type(int(integers.max(initial=0))))
