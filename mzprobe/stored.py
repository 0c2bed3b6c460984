"""Positions of a replay buffer that a checkpoint keeps: what it learned from, to be compared with the truth later."""

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mzprobe.envs.core import Environment, replayed

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class StoredTargets:
    """P positions: how to get there again, and what was stored there."""

    seeds: Int64  # [P], of the starts of their episodes
    times: Int64  # [P], steps since the start
    actions: Int64  # [sum of times], that lead there, one position after the other
    stored_steps: Int64  # [P], training steps when the episode was stored
    targets: Float64  # [P], z, discounted reward
    priorities: Float64  # [P], chance to be drawn, over that of any position if all were alike

    def __len__(self) -> int:
        return len(self.seeds)

    def states(self, environment: Environment) -> Any:
        """The real states of the positions, P states: their episodes are played again."""
        P, longest = len(self), int(self.times.max(initial=0))
        actions = np.zeros((P, longest), np.int64)
        actions[np.arange(longest) < self.times[:, None]] = self.actions
        return replayed(environment, self.seeds, actions, self.times)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """As a file holds them: integers in as few bytes as they need."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: _narrow(array) if array.dtype == np.int64 else array for name, array in found.items()}

    @classmethod
    def of_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Self:
        """Takes back what `arrays` gave."""
        wide: dict[str, Any] = {
            name: array if array.dtype == np.float64 else array.astype(np.int64) for name, array in arrays.items()
        }
        return cls(**wide)


def _narrow(integers: Int64) -> NDArray[Any]:
    return integers.astype(np.min_scalar_type(int(integers.max(initial=0))))
