"""Sources of training batches: an agent's own episodes, with or without demonstrations, or recorded episodes alone.

Both provide batches and a state to resume from; only the first plays.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mzprobe.config import RunConfig
from mzprobe.envs.core import Environment
from mzprobe.errors import UsageError
from mzprobe.records.stored import StoredTargets
from mzprobe.search.models import PlanningModel
from mzprobe.seeding import numpy_generator
from mzprobe.training.clock import Clock
from mzprobe.training.frames import Files, Read
from mzprobe.training.reanalyse import Reanalyser, TargetCounts
from mzprobe.training.recorded import Feed, cloned_targets, searched_targets
from mzprobe.training.replay import Replay
from mzprobe.training.selfplay import SelfPlay
from mzprobe.training.targets import Batch, joined
from mzprobe.values import whole

Arrays = dict[str, NDArray[Any]]
State = tuple[dict[str, Arrays], dict[str, Any]]  # arrays by part, and values for JSON

SHARE_ERROR = 0.005  # largest error of the reanalysed share of targets, over any 1,000 training steps


class Drawn(NamedTuple):
    """Positions of a training batch: a buffer and slots in it."""

    replay: Replay
    slots: NDArray[np.int64]


def prioritise(drawn: list[Drawn], errors: NDArray[Any]) -> None:
    """Sets the priorities of a batch's positions from their errors `[B]`, in environment units."""
    for replay, slots in drawn:
        replay.prioritise(slots, errors[: len(slots)])
        errors = errors[len(slots) :]


def some_of(slots: NDArray[np.int64], count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Picks up to `count` of drawn slots `[B]`, each once, at random so that no stratum of the draw is favoured."""
    return np.unique(generator.choice(slots, size=min(count, len(slots)), replace=False))


class Online:
    """The agent's own episodes, stored and reanalysed, plus demonstrations, whose share of the batches decreases.

    Args:
        config: configuration of the run.
        environment: environment to play in.
        model: model to search in.
        replay: buffer for the agent's own episodes.
        reanalyser: renews targets.
        seed: seed of the agent.
        clock: counts the time of playing and of reanalysing.
        demonstrations: feed of demonstrations, which have a buffer of their own; None without demonstrations.
    """

    def __init__(
        self,
        config: RunConfig,
        environment: Environment,
        *,
        model: PlanningModel,
        replay: Replay,
        reanalyser: Reanalyser,
        seed: int,
        clock: Clock,
        demonstrations: Feed | None = None,
    ) -> None:
        self.config = config
        self.seed = seed
        self.model = model
        self.replay = replay
        self.reanalyser = reanalyser
        self.clock = clock
        self.demonstrations = demonstrations
        self.counts = TargetCounts()
        self.waited = 0  # environment steps before the first episode was stored
        fraction, ratio = config.reanalyse.fraction, config.training.training_ratio
        made = 1000 / (ratio * (1 - fraction))  # targets in 1,000 training steps
        # One batch of reanalysed targets more or less changes their share of all by (1 - fraction) batch / made.
        most = math.floor(SHARE_ERROR * made / (1 - fraction))
        self.reanalysed_at_once = max(1, min(config.reanalyse.batch_size, most))
        self.credit = 0.0  # reanalysis searches owed to demonstrations
        self.generator = numpy_generator(seed, "replay")
        self.play = SelfPlay(
            environment,
            search=config.search,
            environments=config.training.environments,
            generator=numpy_generator(seed, "play"),
        )

    def begin(self) -> None:
        """Feeds the demonstrations that fit into their buffer."""
        if self.demonstrations is not None:
            with self.clock.part("reanalyse"):
                self.demonstrations.fill(cloned_targets(self.reanalyser))

    def may_train(self, environment_steps: int, training_steps: int) -> bool:
        """Whether a training step is due, by the ratio to environment steps since the warm-up and the first episode."""
        training = self.config.training
        played = environment_steps - max(training.warmup_environment_steps, self.waited)
        return self.replay.positions > 0 and training_steps < math.floor(played * training.training_ratio)

    def play_step(self, step: int) -> list[float]:
        """Plays one step of every episode, then reanalyses stored positions as the reanalyse fraction requires.

        Positions drawn for a batch are reanalysed in `sample` instead.

        Returns:
            Undiscounted returns of the episodes that this step finished.
        """
        training = self.config.training
        with self.clock.part("play"):
            episodes = self.play.step(self.model, self._temperature(step), uniform_share=training.uniform_share)
            for episode in episodes:
                self.replay.add(episode, step=step)
        if not self.replay.positions:
            self.waited += len(self.play.lengths)
        else:
            self.counts.fresh += len(self.play.lengths) + sum(not episode.terminated for episode in episodes)
        with self.clock.part("reanalyse"):
            size = self.reanalysed_at_once
            apart = self.config.reanalyse.positions != "drawn"  # apart from the positions drawn for a batch
            while apart and self.counts.due(self.config.reanalyse.fraction) >= size:
                self.counts.reanalysed += self.reanalyser.renew_next(self._turn(step, size), size)
        return [float(episode.rewards.sum()) for episode in episodes]

    def sample(self, step: int) -> tuple[list[Drawn], Batch]:
        """Draws a batch by priority, with the agent's own positions before the demonstrations."""
        if self.demonstrations is not None and self.config.dataset.share_at(step) > 0:
            self._follow_demonstrations(self.demonstrations, step)
        B, shown = self.config.training.batch_size, self._demonstrations_in_batch(step)
        due = self.counts.due(self.config.reanalyse.fraction)
        drawn, batches = [], []
        for replay, count in ((self.replay, B - shown), (self._demonstrated, shown)):
            if count:
                slots = replay.draw(self.generator, count)
                if self.config.reanalyse.positions == "drawn":
                    self._renew_drawn(replay, slots, due * count // B)
                batches.append(replay.batch(slots, self.generator, step=step))
                drawn.append(Drawn(replay, slots))
        return drawn, joined(batches)

    def stored_targets(self, step: int) -> StoredTargets | None:
        """Samples positions of the agent's own episodes for a checkpoint; see `Replay.stored_targets`."""
        generator = numpy_generator(self.seed, "audit", step)  # its own, so that sampling does not change the run
        return self.replay.stored_targets(self.config.training.audited_positions, generator, step=step)

    def state(self) -> State:
        """Returns the state, except for the content of `files`, as arrays by part and as JSON."""
        replay, counts = self.replay.state()
        play, generator = self.play.state()
        target, noise = self.reanalyser.state()
        parts = {"replay": replay, "play": play, "target": target}
        record = {
            "noise": noise,
            "replay": counts,
            "play": generator,
            "generator": self.generator.bit_generator.state,
            "counts": vars(self.counts),
            "credit": self.credit,
            "waited": self.waited,
        }
        if self.demonstrations is not None:
            parts["recorded"], record["recorded"] = self._demonstrated.state()
            record["feed"] = self.demonstrations.state()
        return parts, record

    def files(self) -> Files:
        """Returns the files of stored episodes, which never change, by digest."""
        return self.replay.files() | ({} if self.demonstrations is None else self._demonstrated.files())

    def restore(self, parts: dict[str, Arrays], record: dict[str, Any], read: Read) -> None:
        """Restores the result of `state`; `read` returns the content of one of `files` by its digest."""
        self.replay.restore(parts["replay"], record["replay"], read)
        self.play.restore(parts["play"], record["play"])
        self.reanalyser.restore(parts["target"], record["noise"])
        self.generator.bit_generator.state = record["generator"]
        self.counts = TargetCounts(**{name: whole(count) for name, count in record["counts"].items()})
        self.credit = float(record["credit"])
        self.waited = whole(record.get("waited", 0))  # missing in older states, which caught up on the wait at once
        if self.demonstrations is not None:
            self._demonstrated.restore(parts["recorded"], record["recorded"], read)
            self.demonstrations.restore(record["feed"])

    @property
    def _demonstrated(self) -> Replay:
        return self.replay if self.demonstrations is None else self.demonstrations.replay

    def _temperature(self, step: int) -> float | NDArray[np.float64]:
        """Returns the temperature of self-play at a training step, or one for each episode."""
        training = self.config.training
        if training.temperature_ladder:
            return np.resize(np.array(training.temperature_ladder), training.environments)
        return training.temperature(step)

    def _demonstrations_in_batch(self, step: int) -> int:
        """Returns the number of demonstrations in a batch, by their share; rounding carries over to the next batch."""
        if self.demonstrations is None:
            return 0
        B, shares = self.config.training.batch_size, self.config.dataset.share_until
        return math.floor(B * shares(step + 1)) - math.floor(B * shares(step))

    def _renew_drawn(self, replay: Replay, slots: NDArray[np.int64], due: int) -> None:
        """Reanalyses as many of the drawn positions as are due."""
        if due > 0:
            with self.clock.part("reanalyse"):
                chosen = replay.with_ends(some_of(slots, due, self.generator))
                self.counts.reanalysed += self.reanalyser.renew(replay, chosen)

    def _turn(self, step: int, size: int) -> Replay:
        """Returns the buffer to reanalyse next; demonstrations get turns by their share of the batches."""
        if self.demonstrations is None:
            return self.replay
        self.credit += size * self.config.dataset.share_at(step)
        if self.credit < size:
            return self.replay
        self.credit -= size
        return self._demonstrated

    def _follow_demonstrations(self, demonstrations: Feed, step: int) -> None:
        """Streams in demonstrations; if all are resident and none are reanalysed, renews their values instead."""
        count = self.config.dataset.targets_per_step
        with self.clock.part("reanalyse"):
            if not demonstrations.resident:
                demonstrations.advance(count, cloned_targets(self.reanalyser), step=step)
            elif self.config.reanalyse.fraction == 0:
                self.reanalyser.renew_next(demonstrations.replay, count, searched=False)


class Offline:
    """Recorded episodes alone; no step is ever played.

    Args:
        config: configuration of the run. With a reanalyse fraction of 1 all targets come from searches; with 0 the
            recorded actions are cloned.
        reanalyser: renews targets.
        seed: seed of the agent.
        clock: counts the time of making targets.
        feed: feed of the dataset.

    Raises:
        UsageError: if drawn positions are to be reanalysed and the episodes stream through the buffer.
    """

    def __init__(self, config: RunConfig, *, reanalyser: Reanalyser, seed: int, clock: Clock, feed: Feed) -> None:
        self.config = config
        self.reanalyser = reanalyser
        if config.reanalyse.positions == "drawn" and not feed.resident:
            raise UsageError(
                "reanalyse.positions=drawn needs all recorded episodes in the buffer, and they are more than "
                f"training.replay_capacity={config.training.replay_capacity}: raise it, or take positions in turn"
            )
        self.clock = clock
        self.feed = feed
        self.replay = feed.replay
        self.searched = config.reanalyse.fraction == 1
        self.counts = TargetCounts()
        self.generator = numpy_generator(seed, "replay")

    def begin(self) -> None:
        """Feeds the episodes that fit into the buffer."""
        with self.clock.part("reanalyse"):
            if self.searched and not self.config.dataset.warm_start:
                self.counts.reanalysed += self.feed.fill(searched_targets(self.reanalyser))
            else:
                self.feed.fill(cloned_targets(self.reanalyser))

    def sample(self, step: int) -> tuple[list[Drawn], Batch]:
        """Draws a batch by priority, after about `dataset.targets_per_step` positions got new targets."""
        made = 0 if self.feed.resident else self._streamed(step)
        slots = self.replay.draw(self.generator, self.config.training.batch_size)
        if self.feed.resident:
            made = self._renewed(slots)
        self.counts.reanalysed += made if self.searched else 0
        return [Drawn(self.replay, slots)], self.replay.batch(slots, self.generator, step=step)

    def _streamed(self, step: int) -> int:
        """Streams in episodes from disk with fresh targets; returns the number of these targets."""
        targets = searched_targets if self.searched else cloned_targets
        with self.clock.part("reanalyse"):
            return self.feed.advance(self.config.dataset.targets_per_step, targets(self.reanalyser), step=step)

    def _renewed(self, slots: NDArray[np.int64]) -> int:
        """Renews the targets of stored positions or of those drawn for a batch; returns their number."""
        count = self.config.dataset.targets_per_step
        with self.clock.part("reanalyse"):
            if self.config.reanalyse.positions != "drawn":
                return self.reanalyser.renew_next(self.replay, count, searched=self.searched)
            drawn = self.replay.with_ends(some_of(slots, count, self.generator))
            return self.reanalyser.renew(self.replay, drawn, searched=self.searched)

    def stored_targets(self, step: int) -> None:
        """Returns None, since datasets do not record the seeds of episodes."""

    def state(self) -> State:
        """Returns the state, except for the content of `files`, as arrays by part and as JSON."""
        replay, counts = self.replay.state()
        target, noise = self.reanalyser.state()
        record = {
            "noise": noise,
            "replay": counts,
            "feed": self.feed.state(),
            "generator": self.generator.bit_generator.state,
            "counts": vars(self.counts),
        }
        return {"replay": replay, "target": target}, record

    def files(self) -> Files:
        """Returns the files of stored episodes, which never change, by digest."""
        return self.replay.files()

    def restore(self, parts: dict[str, Arrays], record: dict[str, Any], read: Read) -> None:
        """Restores the result of `state`; `read` returns the content of one of `files` by its digest."""
        self.feed.restore(record["feed"])
        self.replay.restore(parts["replay"], record["replay"], read)
        self.reanalyser.restore(parts["target"], record["noise"])
        self.generator.bit_generator.state = record["generator"]
        self.counts = TargetCounts(**{name: whole(count) for name, count in record["counts"].items()})
