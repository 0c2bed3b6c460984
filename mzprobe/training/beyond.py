"""Targets that lie beyond the support: counted in every training batch, and reported once per run.

They are learned as the end of the support. Counting only reads the batches and does not change training.
"""

import math
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mzprobe._kernel import kernel
from mzprobe.envs.core import EnvironmentSpec
from mzprobe.errors import MzprobeWarning
from mzprobe.networks.support import Support
from mzprobe.training.replay import Replay
from mzprobe.training.targets import Batch

Float32 = NDArray[np.float32]

_ROUNDING = 1e-5  # in units of the atom spacing; targets this close to an end count as inside


@dataclass(kw_only=True)
class Counts:
    """Counts of one kind of targets in the training batches so far, without those of weight 0 in the loss."""

    targets: int = 0
    outside: int = 0
    lowest: float = 0.0  # environment units; 0 if all are above 0
    highest: float = 0.0  # environment units; 0 if all are below 0

    @property
    def share(self) -> float | None:
        """Share of the targets that lie outside the support; None before the first target."""
        return self.outside / self.targets if self.targets else None

    @property
    def largest(self) -> float:
        """The target of the largest magnitude, with its sign."""
        return max(self.highest, self.lowest, key=abs)

    def add(self, targets: Float32, weights: Float32, ends: tuple[float, float]) -> None:
        """Counts targets `[K, B]` with weights `[K, B]` in the loss; `ends` are the two ends of the support."""
        counted, outside, lowest, highest = count_outside(targets, weights, *ends)
        self.targets += counted
        self.outside += outside
        self.lowest, self.highest = min(self.lowest, lowest), max(self.highest, highest)

    def record(self) -> dict[str, Any]:
        """Returns the counts as saved with a checkpoint."""
        return {"targets": self.targets, "outside": self.outside, "share": self.share, "largest": self.largest}


@kernel
def count_outside(targets: Float32, weights: Float32, low: float, high: float) -> tuple[int, int, float, float]:
    """Counts targets of positive weight and those among them below `low` or above `high`.

    Args:
        targets: `[K, B]`, environment units.
        weights: `[K, B]`, weights in the loss.
        low: lower end of the support, environment units.
        high: upper end of the support, environment units.

    Returns:
        Both counts, and the lowest and the highest number among the counted targets and 0.
    """
    counted, outside, lowest, highest = 0, 0, 0.0, 0.0
    for k in range(targets.shape[0]):
        for b in range(targets.shape[1]):
            if weights[k, b] > 0:
                x = float(targets[k, b])
                counted += 1
                outside += x < low or x > high
                lowest, highest = min(lowest, x), max(highest, x)
    return counted, outside, lowest, highest


@dataclass(kw_only=True)
class Beyond:
    """Record of the targets in a run's training batches that lie beyond the support."""

    support: Support
    learned: frozenset[str] = frozenset({"reward", "value"})  # kinds of targets to count
    values: Counts = field(default_factory=Counts)
    rewards: Counts = field(default_factory=Counts)
    told: bool = False

    def __post_init__(self) -> None:
        slack = _ROUNDING * self.support.spacing
        self._ends = self._decoded(self.support.minimum - slack), self._decoded(self.support.maximum + slack)

    def add(self, batch: Batch) -> None:
        """Counts the targets of a training batch."""
        if "value" in self.learned:
            self.values.add(batch.values, batch.value_weights, self._ends)
        if "reward" in self.learned:
            self.rewards.add(batch.rewards, batch.reward_weights, self._ends)

    def tell(self, warmup: "Reach | None" = None) -> None:
        """Warns, once per run, of targets outside the support or of values that the warm-up suggests will lie there."""
        reached = warmup is not None and self._outside(warmup.value)
        if self.told or not (reached or self.values.outside or self.rewards.outside):
            return
        self.told = True
        warnings.warn(self._sentence(warmup if reached else None), MzprobeWarning, stacklevel=4)

    def record(self) -> dict[str, Any]:
        """Returns the counts as saved with a checkpoint, and shown in tables."""
        return {"values": self.values.record(), "rewards": self.rewards.record()}

    def state(self) -> dict[str, Any]:
        """Returns the state, as JSON."""
        return {"values": dict(vars(self.values)), "rewards": dict(vars(self.rewards)), "told": self.told}

    def restore(self, state: dict[str, Any]) -> None:
        """Restores the result of `state`."""
        self.values, self.rewards = Counts(**state["values"]), Counts(**state["rewards"])
        self.told = state["told"]

    def _sentence(self, warmup: "Reach | None") -> str:
        parts, seen = [], [0.0]
        for name, counts in (("value", self.values), ("reward", self.rewards)):
            if counts.outside:
                parts.append(f"{_percent(counts.outside, counts.targets)} of the {name} targets")
                seen += filter(self._outside, (counts.lowest, counts.highest))
        largest = max(seen, key=abs)
        said = f"{' and '.join(parts)} so far lie beyond the support, the largest {largest:.6g}" if parts else ""
        if warmup is not None:
            seen.append(warmup.value)
            also = ", and " if parts else ""
            said += f"{also}{warmup} is worth {warmup.value:.6g}" + ("" if parts else ", beyond the support")
        low, high = (f"{self._decoded(end):.6g}" for end in (self.support.minimum, self.support.maximum))
        return (
            f"{said}: it ends at {low} and {high} (environment units) and what lies outside is learned as its end; "
            f"set {self._remedy(min(seen), max(seen))}"
        )

    def _remedy(self, lowest: float, highest: float) -> str:
        """Returns the keys to set, with values that cover the targets from `lowest` to `highest`."""
        keys, factors = [], []
        low, high = self._ends
        for name, seen, bound in (("minimum", lowest, "less"), ("maximum", highest, "more")):
            if not (seen < low if name == "minimum" else seen > high):
                continue
            needed = float(self.support.transformed(_one(seen * self.support.reward_scale)))
            outward = math.ceil(needed) if bound == "more" else math.floor(needed)
            keys.append(f"network.support_{name} to {outward} or {bound}")
            factors.append(self._decoded(getattr(self.support, name)) / seen if seen else 0.0)  # scaling keeps a 0
        scale = self.support.reward_scale * min(factors)
        also = f", or network.reward_scale to {_rounded_down(scale):g} or less" if scale > 0 else ""
        return f"{' and '.join(keys)} (with more network.atoms){also}"

    def _outside(self, x: float) -> bool:
        return x < self._ends[0] or x > self._ends[1]

    def _decoded(self, y: float) -> float:
        """Converts transformed units to environment units."""
        return float(self.support.decoded(_one(y)))


def _one(number: float) -> torch.Tensor:
    return torch.tensor(number, dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class Reach:
    """Return of a full-length episode that earns the mean stored reward at every step."""

    reward: float  # mean over steps that did not terminate their episode, environment units
    gamma: float
    time_limit: int

    @property
    def value(self) -> float:
        """The discounted return, environment units."""
        T = self.time_limit
        return self.reward * (T if self.gamma == 1 else (1 - self.gamma**T) / (1 - self.gamma))

    def __str__(self) -> str:
        return (
            f"an episode of {self.time_limit} steps at the mean reward of the warm-up, {self.reward:.4g}, "
            f"and gamma {self.gamma:g}"
        )


def reach(replay: Replay, spec: EnvironmentSpec) -> Reach:
    """Estimates `Reach` from stored episodes, without terminal rewards, which an episode gets only once."""
    left, terminated = replay.left[: replay.used], replay.terminated[: replay.used]
    going_on = (left > 1) | ((left == 1) & ~terminated)
    rewards = replay.rewards[: replay.used][going_on].astype(np.float64)
    return Reach(reward=float(rewards.mean()) if rewards.size else 0.0, gamma=spec.gamma, time_limit=spec.time_limit)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2g} %" if part < whole else "100 %"


def _rounded_down(x: float) -> float:
    """Rounds x > 0 down to two significant digits."""
    unit = 10.0 ** (math.floor(math.log10(x)) - 1)
    return math.floor(x / unit) * unit
