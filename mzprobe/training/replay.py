"""Prioritised replay buffer: the latest or the best episodes, whole, in flat arrays, sampled by a sum tree."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mzprobe import libm
from mzprobe.config import TrainingConfig
from mzprobe.envs.core import Environment, ObservationType, is_masked, stack_of
from mzprobe.errors import MzprobeError
from mzprobe.records.stored import StoredTargets
from mzprobe.system.memory import refuse_more_than_fits
from mzprobe.training.arrays import fill
from mzprobe.training.episodes import Episode, Kept, first_gap, kept_of, leaving_for_a_better
from mzprobe.training.frames import (
    Files,
    PackedObservations,
    PlainObservations,
    Read,
    bytes_of_one,
    nothing,
    packing_of,
)
from mzprobe.training.renewal import TargetAges
from mzprobe.training.sum_tree import find_slots, set_leaves
from mzprobe.training.targets import (
    Batch,
    gather_targets,
    n_step_values,
    next_targets,
    rebootstrap,
    renew_values,
    step_scales,
    values_of_age,
)
from mzprobe.values import whole

Bool = NDArray[np.bool_]
Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

SMALLEST_PRIORITY = 1e-3  # environment units; positions without error are still drawn now and then


def bytes_of_buffer(environment: Environment, config: TrainingConfig) -> int:
    """Returns roughly how many bytes a full replay buffer takes."""
    spec = environment.spec
    seen = bytes_of_one(spec.observation_shape, spec.observation_dtype, stack_of(environment))
    return _bytes(config.replay_capacity, seen, spec.num_actions, masked=is_masked(environment))


def _bytes(capacity: int, seen: int, num_actions: int, *, masked: bool) -> int:
    return capacity * (seen + 56 + (4 + masked) * num_actions)


class Replay:
    """Replay buffer of whole episodes: a ring of the latest, or with `keep_best` those with the highest return.

    Args:
        config: capacity, episodes to keep, priorities and targets.
        observation_shape: shape of one observation.
        observation_dtype: dtype of its entries.
        num_actions: A.
        gamma: discount.
        masked: whether the legal actions of each position are stored.
        stack: number of frames that an observation shows, see `stack_of`.

    Raises:
        UsageError: if the buffer does not fit into memory.
    """

    def __init__(
        self,
        config: TrainingConfig,
        *,
        observation_shape: tuple[int, ...],
        observation_dtype: ObservationType = "float32",
        num_actions: int,
        gamma: float,
        masked: bool = False,
        stack: int = 1,
    ) -> None:
        capacity = config.replay_capacity
        packing = packing_of(observation_shape, observation_dtype, stack)
        what = f"training.replay_capacity={capacity} with observations of {list(observation_shape)} {observation_dtype}"
        seen = bytes_of_one(observation_shape, observation_dtype, stack)
        refuse_more_than_fits(_bytes(capacity, seen, num_actions, masked=masked), what=what)
        self.config = config
        self.gamma = gamma
        self.head = 0  # slot of the next episode
        self.used = 0  # slots ever written
        self.positions = 0  # number of positions that can be sampled
        self.cursor = 0  # slot after the last one that `stale` returned
        self.episodes: list[Kept] = []  # oldest first
        self.observations = (
            PlainObservations(capacity, observation_shape, observation_dtype)
            if packing is None
            else PackedObservations(capacity, packing)
        )
        self.actions = np.zeros(capacity, np.int64)
        self.rewards = np.zeros(capacity, np.float32)
        self.policies = np.zeros((capacity, num_actions), np.float32)
        self.values = np.zeros(capacity, np.float32)
        self.left = np.full(capacity, -1, np.int32)  # steps to the last state of the episode; -1 in free slots
        self.terminated = np.zeros(capacity, np.bool_)
        self.root_values = np.zeros(capacity, np.float32)  # latest root values, environment units; 0 at a terminal end
        self.stored_steps = np.zeros(capacity, np.int32)  # training step at which the episode was stored
        self.ages = TargetAges(capacity)
        self.legal = np.ones((capacity if masked else 0, num_actions), np.bool_)
        self._per_slot = (*_PER_SLOT, "legal") if masked else _PER_SLOT
        self.leaves = 1 << (capacity - 1).bit_length()
        self.sums = np.zeros(2 * self.leaves)

    @classmethod
    def of(cls, environment: Environment, config: TrainingConfig) -> Self:
        """Creates a buffer for episodes of an environment.

        Raises:
            UsageError: if the buffer does not fit into memory.
        """
        spec = environment.spec
        return cls(
            config,
            observation_shape=spec.observation_shape,
            observation_dtype=spec.observation_dtype,
            num_actions=spec.num_actions,
            gamma=spec.gamma,
            masked=is_masked(environment),
            stack=stack_of(environment),
        )

    def add(self, episode: Episode, *, step: int = 0) -> None:
        """Stores an episode at training step `step`, with value targets, and priorities from |root value - target|.

        With `keep_best`, the episode is left out if it would replace one with a higher return.

        Raises:
            ValueError: if the episode is longer than the buffer.
            MzprobeError: if an observation or a reward is not finite.
        """
        seen = episode.observations
        if not (np.isfinite(episode.rewards).all() and (isinstance(seen, list) or np.isfinite(seen).all())):
            raise MzprobeError(
                "the environment gave an observation or a reward that is not finite: test it with mzprobe.check_env"
            )
        T = len(episode.actions)
        capacity = len(self.left)
        if capacity < T + 1:
            raise ValueError(f"an episode of {T} steps does not fit training.replay_capacity={capacity}")
        ret = float(episode.rewards.sum())
        first = self._room_at_head(T + 1) if self.config.keep_best is None else self._room_among_best(T + 1, ret)
        if first is None:
            return
        kept = Kept(first, T + 1, ret, episode.seed, step)
        end, slots = first + T + 1, kept.place
        values = n_step_values(episode.rewards, episode.root_values, n=self.config.n_step, gamma=self.gamma)
        self.observations.put(kept, seen)
        self.actions[first : end - 1] = episode.actions
        self.rewards[first : end - 1] = episode.rewards
        self.policies[slots] = episode.policies
        self.values[slots] = values
        self.left[slots] = np.arange(T, -1, -1)
        self.terminated[slots] = episode.terminated
        self.root_values[slots] = episode.root_values
        self.stored_steps[slots] = step
        if len(self.legal):
            self.legal[slots] = True if episode.legal is None else episode.legal
        self.ages.note(np.arange(first, end))
        self.prioritise(np.arange(first, end - 1), np.abs(episode.root_values - values)[:-1])
        self.episodes.append(kept)
        self.head = end
        self.used = max(self.used, end)
        self.positions += T

    def stale(self, count: int) -> Int64:
        """Returns the next slots `[M]`, M <= count, to renew when all slots with targets take turns.

        The last state of an episode takes part if the episode was truncated; a terminal state has no target.
        """
        slots, self.cursor = next_targets(self.left[: self.used], self.terminated, self.cursor, count)
        return slots

    def oldest(self, count: int) -> Int64:
        """Returns the slots `[M]`, M <= count, with the oldest targets, whenever their episodes were stored."""
        return self.ages.oldest(count, self.left[: self.used], self.terminated)

    def with_ends(self, slots: Int64) -> Int64:
        """Returns the slots, plus the truncated last states within reach of their n-step targets or unroll.

        Last states are never sampled, so targets that bootstrap from one would otherwise keep its old value.
        """
        reach = max(self.config.n_step, self.config.unroll_steps)
        near = slots[(self.left[slots] <= reach) & ~self.terminated[slots]]
        return np.union1d(slots, near + self.left[near])

    def origins(self, slots: Int64) -> tuple[Int64, Int64]:
        """Returns the first slots of the episodes of slots `[M]` and the seeds of their starts, `[M]` each.

        Raises:
            ValueError: if an episode was recorded, not played here.
        """
        kept = sorted(self.episodes)
        firsts = np.array([one.first for one in kept])
        which = np.searchsorted(firsts, slots, side="right") - 1
        seeds = [kept[one].seed for one in which]
        if None in seeds:
            raise ValueError("a recorded episode does not say how it began")
        return firsts[which], np.array(seeds, np.int64)

    def legal_at(self, slots: Int64) -> Bool | None:
        """Returns the legal actions `[M, A]` of slots `[M]`; None if they are not stored."""
        return self.legal[slots] if len(self.legal) else None

    def take_targets(self, slots: Int64, root_values: Float64, policies: Float64 | None = None) -> None:
        """Sets root values `[M]` and policies `[M, A]` of slots `[M]`, and updates the value targets that use them.

        Without `policies`, the policy targets stay. Priorities stay until a position is sampled again.
        """
        if policies is not None:
            self.policies[slots] = policies
        self.root_values[slots] = root_values
        rebootstrap(slots, root_values, self.left, self.rewards, self.values, n=self.config.n_step, gamma=self.gamma)
        self.ages.note(slots)

    def draw(self, generator: np.random.Generator, B: int) -> Int64:
        """Draws slots `[B]` in proportion to priority, one per stratum and so in ascending order."""
        total = self.sums[1]
        return find_slots(self.sums, (np.arange(B) + generator.random(B)) * (total / B))

    def batch(self, slots: Int64, generator: np.random.Generator, *, step: int = 0) -> Batch:
        """Returns the training batch of drawn slots `[B]`, with the targets of training step `step`."""
        config = self.config
        B, K, A = len(slots), config.unroll_steps, self.policies.shape[1]
        chance = self.sums[self.leaves + slots] / self.sums[1]
        importance = libm.power(self.positions * chance, -config.priority_beta)
        importance /= importance.max()
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
            batch,
        )
        if config.n_step_by_age:
            n = self._other_n(slots, step)
            renew_values(slots, n, self.left, self.terminated, self.rewards, self.root_values, self.gamma, batch)
        return batch

    def targets(self, slots: Int64, *, step: int) -> Float32:
        """Returns the value targets `[M]` that a batch of training step `step` has for slots `[M]`."""
        values = self.values[slots]
        if self.config.n_step_by_age:
            n = self._other_n(slots, step)
            old = np.flatnonzero(n)
            renewed = np.empty(len(old), np.float32)
            values_of_age(slots[old], n[old], self.left, self.rewards, self.root_values, self.gamma, renewed)
            values[old] = renewed
        return values

    def _other_n(self, slots: Int64, step: int) -> Int64:
        """Returns n `[M]` of the n-step targets of slots `[M]` at a training step; 0 where the stored target holds."""
        n = self.config.n_at(step - self.stored_steps[slots].astype(np.int64))
        return np.where(n == self.config.n_step, 0, n)

    def prioritise(self, slots: Int64, errors: NDArray[Any]) -> None:
        """Sets priorities of slots `[M]` to max(error, `SMALLEST_PRIORITY`)^alpha, with errors in environment units."""
        priorities = libm.power(np.maximum(errors, SMALLEST_PRIORITY), self.config.priority_alpha)
        set_leaves(self.sums, slots, priorities)

    def stored_targets(self, count: int, generator: np.random.Generator, *, step: int = 0) -> StoredTargets | None:
        """Samples up to `count` positions of episodes that were played here, uniformly without replacement.

        Their targets are those of training step `step`. Returns None if there is no such episode or `count` is 0.
        """
        known = [kept for kept in self.episodes if kept.seed is not None]
        if not known or count == 0:
            return None
        lengths = np.array([kept.slots - 1 for kept in known])
        ends = lengths.cumsum()
        chosen = np.sort(generator.choice(ends[-1], size=min(count, ends[-1]), replace=False))
        which = np.searchsorted(ends, chosen, side="right")
        times = chosen - (ends - lengths)[which]
        firsts = np.array([kept.first for kept in known])[which]
        slots = firsts + times
        return StoredTargets(
            seeds=np.array([kept.seed for kept in known], np.int64)[which],
            times=times,
            actions=np.concatenate([self.actions[a:b] for a, b in zip(firsts, slots, strict=True)]),
            stored_steps=np.array([kept.step for kept in known])[which],
            targets=self.targets(slots, step=step).astype(np.float64),
            priorities=self.sums[self.leaves + slots] / self.sums[1] * self.positions,
        )

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Returns the state, except for the content of `files`, as arrays and as JSON."""
        arrays, counts = self.observations.state(self.used, self.episodes)
        arrays |= {name: getattr(self, name)[: self.used] for name in self._per_slot}
        arrays["made"] = self.ages.made[: self.used]
        arrays["priorities"] = self.sums[self.leaves : self.leaves + self.used]
        counts |= {name: getattr(self, name) for name in ("head", "used", "positions", "cursor", "episodes")}
        counts["made"] = self.ages.count
        return arrays, counts

    def files(self) -> Files:
        """Returns the files of the stored episodes, which never change, by digest; see `Files`."""
        return self.observations.files(self.episodes)

    def restore(self, arrays: dict[str, NDArray[Any]], counts: dict[str, Any], read: Read = nothing) -> None:
        """Restores the result of `state`; `read` returns the content of one of `files` by its digest.

        Raises:
            ValueError: if it is of another buffer or is inconsistent (kernels would read or write out of bounds).
        """
        names = ("head", "used", "positions", "cursor")
        self.head, self.used, self.positions, self.cursor = (whole(counts[x], most=len(self.left)) for x in names)
        self.episodes = [kept_of(kept, used=self.used) for kept in counts["episodes"]]
        self.observations.restore((arrays, counts), self.used, self.episodes, read)
        for name in self._per_slot:
            if name in arrays or name not in _BY_AGE or self.config.n_step_by_age:  # missing in older states
                fill(getattr(self, name)[: self.used], arrays[name])
        if "made" in arrays:  # missing in older states, whose positions took turns
            fill(self.ages.made[: self.used], arrays["made"])
            self.ages.count = whole(counts["made"])
        priorities = arrays["priorities"]
        if len(priorities) != self.used or not self.positions == sum(kept.slots - 1 for kept in self.episodes):
            raise ValueError("what is said of the replay buffer does not agree with what it holds")
        if (self.left[: self.used] > 0).sum() != self.positions:
            raise ValueError("the replay buffer holds other positions than is said of it")
        set_leaves(self.sums, np.arange(self.used), priorities)

    def _room_at_head(self, slots: int) -> int:
        """Returns the first of the next `slots` slots in the ring, after dropping the episodes that overlap them."""
        capacity = len(self.left)
        if self.head + slots > capacity:
            self._drop_oldest(self.head, capacity)
            self.head = 0
        self._drop_oldest(self.head, self.head + slots)
        return self.head

    def _drop_oldest(self, first: int, end: int) -> None:
        """Drops the oldest episodes that overlap slots first..end - 1."""
        while self.episodes and first <= self.episodes[0].first < end:
            self._drop(self.episodes[0])

    def _room_among_best(self, slots: int, ret: float) -> int | None:
        """Makes room among the best and returns its first slot; None if a better episode would have to go."""
        assert self.config.keep_best is not None
        leaving = leaving_for_a_better(self.episodes, slots, ret, most=self.config.keep_best, capacity=len(self.left))
        if leaving is None:
            return None
        for kept in leaving:
            self._drop(kept)
        start = first_gap(self.episodes, slots, capacity=len(self.left))
        return self._compact() if start is None else start

    def _compact(self) -> int:
        """Moves all episodes to the front, in the order of their slots; returns the first slot behind them."""
        end = 0
        moved = dict[Kept, Kept]()
        for kept in sorted(self.episodes):
            if kept.first > end:
                there = kept._replace(first=end)
                old, new = kept.place, there.place
                self.observations.move(kept, there)
                for name in self._per_slot:
                    getattr(self, name)[new] = getattr(self, name)[old].copy()
                self.ages.made[new] = self.ages.made[old].copy()
                priorities = self.sums[self.leaves :][old].copy()
                self._clear(kept.first, kept.first + kept.slots, keep_until=end + kept.slots)
                set_leaves(self.sums, np.arange(new.start, new.stop), priorities)
            moved[kept] = kept._replace(first=end)
            end += kept.slots
        self.episodes = [moved[kept] for kept in self.episodes]
        self.ages.forget_order()
        return end

    def _drop(self, kept: Kept) -> None:
        self.episodes.remove(kept)
        self.observations.clear(kept)
        self._clear(kept.first, kept.first + kept.slots)
        self.positions -= kept.slots - 1

    def _clear(self, first: int, end: int, keep_until: int = 0) -> None:
        """Marks slots first..end - 1 as free, except those before `keep_until`, which hold a moved episode."""
        first = max(first, keep_until)
        if first < end:
            self.left[first:end] = -1
            set_leaves(self.sums, np.arange(first, end), np.zeros(end - first))


_BY_AGE = ("root_values", "stored_steps")
_PER_SLOT = (
    "actions",
    "rewards",
    "policies",
    "values",
    "left",
    "terminated",
    *_BY_AGE,
)
