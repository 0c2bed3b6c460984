"""Prioritised replay: whole episodes in flat arrays, sampled by a sum tree."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mzprobe._kernel import kernel
from mzprobe.config import TrainingConfig
from mzprobe.errors import MzprobeError
from mzprobe.training.targets import Batch, gather_targets, n_step_values, step_scales

Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

SMALLEST_PRIORITY = 1e-3  # environment units; what the model predicts perfectly is still seen now and then


@dataclass(frozen=True, kw_only=True)
class Episode:
    """A finished episode of T steps; the last state is recorded too."""

    observations: Float32  # [T + 1, *shape]
    actions: Int64  # [T]
    rewards: Float64  # [T], environment units
    policies: Float64  # [T + 1, A], the search's visit distribution; the last row counts only if truncated
    root_values: Float64  # [T + 1], of the search; 0 at a terminal last state
    terminated: bool  # else truncated


class Replay:
    """A ring of whole episodes; the oldest make room for the newest.

    Args:
        config: capacity, priorities, targets.
        observation_shape: of one observation.
        num_actions: A.
        gamma: discount.
    """

    def __init__(
        self, config: TrainingConfig, *, observation_shape: tuple[int, ...], num_actions: int, gamma: float
    ) -> None:
        capacity = config.replay_capacity
        self.config = config
        self.gamma = gamma
        self.head = 0  # slot of the next episode
        self.used = 0  # slots ever written
        self.positions = 0  # that can be sampled
        self.episodes: list[tuple[int, int]] = []  # (first slot, slots), oldest first
        self.observations = np.zeros((capacity, *observation_shape), np.float32)
        self.actions = np.zeros(capacity, np.int64)
        self.rewards = np.zeros(capacity, np.float32)
        self.policies = np.zeros((capacity, num_actions), np.float32)
        self.values = np.zeros(capacity, np.float32)
        self.left = np.zeros(capacity, np.int32)
        self.terminated = np.zeros(capacity, np.bool_)
        self.leaves = 1 << (capacity - 1).bit_length()
        self.sums = np.zeros(2 * self.leaves)

    def add(self, episode: Episode) -> None:
        """Stores an episode with its value targets; its priorities are |root value - target|.

        Raises:
            ValueError: if the episode is longer than the buffer.
            MzprobeError: if the environment gave a number that is not finite.
        """
        if not (np.isfinite(episode.observations).all() and np.isfinite(episode.rewards).all()):
            raise MzprobeError(
                "the environment gave an observation or a reward that is not finite: test it with mzprobe.check_env"
            )
        T = len(episode.actions)
        capacity = len(self.left)
        if capacity < T + 1:
            raise ValueError(f"an episode of {T} steps does not fit training.replay_capacity={capacity}")
        if self.head + T + 1 > capacity:
            self._evict(self.head, capacity)
            self.head = 0
        first, end = self.head, self.head + T + 1
        self._evict(first, end)
        slots = slice(first, end)
        values = n_step_values(episode.rewards, episode.root_values, n=self.config.n_step, gamma=self.gamma)
        self.observations[slots] = episode.observations
        self.actions[first : end - 1] = episode.actions
        self.rewards[first : end - 1] = episode.rewards
        self.policies[slots] = episode.policies
        self.values[slots] = values
        self.left[slots] = np.arange(T, -1, -1)
        self.terminated[slots] = episode.terminated
        self.prioritise(np.arange(first, end - 1), np.abs(episode.root_values - values)[:-1])
        self.episodes.append((first, T + 1))
        self.head = end
        self.used = max(self.used, end)
        self.positions += T

    def sample(self, generator: np.random.Generator) -> tuple[Int64, Batch]:
        """Draws a batch by priority: its slots `[B]`, for `prioritise`, and its targets."""
        config = self.config
        B, K = config.batch_size, config.unroll_steps
        total = self.sums[1]
        strata = (np.arange(B) + generator.random(B)) * (total / B)
        slots = find_slots(self.sums, strata)
        chance = self.sums[self.leaves + slots] / total
        importance = (self.positions * chance) ** -config.priority_beta
        importance /= importance.max()
        A = self.policies.shape[1]
        fillers = generator.integers(A, size=(K, B))
        batch = Batch(
            observations=self.observations[slots],
            actions=np.empty((K, B), np.int64),
            rewards=np.empty((K, B), np.float32),
            values=np.empty((K + 1, B), np.float32),
            policies=np.empty((K + 1, B, A), np.float32),
            reward_weights=np.empty((K, B), np.float32),
            value_weights=np.empty((K + 1, B), np.float32),
            policy_weights=np.empty((K + 1, B), np.float32),
        )
        gather_targets(
            slots,
            fillers,
            self.left,
            self.terminated,
            self.actions,
            self.rewards,
            self.values,
            self.policies,
            importance,
            step_scales(K),
            config.value_loss_weight,
            batch,
        )
        return slots, batch

    def prioritise(self, slots: Int64, errors: NDArray[Any]) -> None:
        """Sets priorities p = |error|^alpha of slots `[M]`, errors in environment units."""
        priorities = np.maximum(errors, SMALLEST_PRIORITY).astype(np.float64) ** self.config.priority_alpha
        set_leaves(self.sums, slots, priorities)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """All that is kept, as arrays and as JSON."""
        arrays = {name: getattr(self, name)[: self.used] for name in _PER_SLOT}
        arrays["priorities"] = self.sums[self.leaves : self.leaves + self.used]
        counts = {name: getattr(self, name) for name in ("head", "used", "positions", "episodes")}
        return arrays, counts

    def restore(self, arrays: dict[str, NDArray[Any]], counts: dict[str, Any]) -> None:
        """Takes back what `state` gave."""
        self.head, self.used, self.positions = counts["head"], counts["used"], counts["positions"]
        self.episodes = [(first, slots) for first, slots in counts["episodes"]]
        for name in _PER_SLOT:
            getattr(self, name)[: self.used] = arrays[name]
        set_leaves(self.sums, np.arange(self.used), arrays["priorities"])

    def _evict(self, first: int, end: int) -> None:
        """Drops the oldest episodes that overlap slots first..end - 1."""
        while self.episodes and first <= self.episodes[0][0] < end:
            start, slots = self.episodes.pop(0)
            set_leaves(self.sums, np.arange(start, start + slots), np.zeros(slots))
            self.positions -= slots - 1


_PER_SLOT = ("observations", "actions", "rewards", "policies", "values", "left", "terminated")


@kernel
def set_leaves(sums: Float64, slots: Int64, priorities: Float64) -> None:
    """Writes leaves of a sum tree (heap order, root at 1) and the sums above them.

    Each sum is of its two children, never an increment: no rounding error builds up.
    """
    leaves = sums.size // 2
    for i in range(slots.size):
        node = leaves + slots[i]
        sums[node] = priorities[i]
        while node > 1:
            node //= 2
            sums[node] = sums[2 * node] + sums[2 * node + 1]


@kernel
def find_slots(sums: Float64, masses: Float64) -> Int64:
    """The slots `[B]` at which the running sum of priorities passes each mass `[B]`."""
    leaves = sums.size // 2
    slots = np.empty(masses.size, np.int64)
    for i in range(masses.size):
        mass = masses[i]
        node = 1
        while node < leaves:
            node *= 2
            # An empty right side is never entered, whatever rounding did to the mass.
            if mass >= sums[node] and sums[node + 1] > 0:
                mass -= sums[node]
                node += 1
        slots[i] = node - leaves
    return slots
