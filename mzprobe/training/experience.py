"""What an agent learns from: its own episodes, with demonstrations or without, or recorded episodes alone.

Both give batches, and the state from which they go on; only the first can be played on.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mzprobe.config import RunConfig
from mzprobe.envs.core import Environment
from mzprobe.errors import UsageError
from mzprobe.search.models import PlanningModel
from mzprobe.seeding import numpy_generator
from mzprobe.stored import StoredTargets
from mzprobe.training.clock import Clock
from mzprobe.training.frames import Files, Read
from mzprobe.training.reanalyse import Reanalyser, TargetCounts
from mzprobe.training.recorded import Feed, cloned_targets, searched_targets
from mzprobe.training.replay import Replay
from mzprobe.training.selfplay import SelfPlay
from mzprobe.training.targets import Batch, joined
from mzprobe.values import whole

Arrays = dict[str, NDArray[Any]]
State = tuple[dict[str, Arrays], dict[str, Any]]  # arrays by part, and what JSON holds

SHARE_ERROR = 0.005  # of the reanalysed share of targets, over any 1,000 training steps


class Drawn(NamedTuple):
    """Positions of a training batch: in which buffer, and where."""

    replay: Replay
    slots: NDArray[np.int64]


def prioritise(drawn: list[Drawn], errors: NDArray[Any]) -> None:
    """Sets the priorities of a batch's positions by their errors `[B]`, environment units."""
    for replay, slots in drawn:
        replay.prioritise(slots, errors[: len(slots)])
        errors = errors[len(slots) :]


def some_of(slots: NDArray[np.int64], count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """`count` of drawn slots `[B]` by lot, each once, so that no stratum of the draw is favoured."""
    return np.unique(generator.choice(slots, size=min(count, len(slots)), replace=False))


class Online:
    """Episodes of its own, of which stored positions are reanalysed; and demonstrations, fewer and fewer of them.

    Args:
        config: of the run.
        environment: where to play.
        model: to search in.
        replay: for its own episodes.
        reanalyser: makes targets anew.
        seed: of the agent.
        clock: counts the time of playing and of reanalysing.
        demonstrations: fed into a buffer of their own.
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
        # A batch more or less of reanalysed targets moves their share of those by (1 - fraction) batch / made.
        most = math.floor(SHARE_ERROR * made / (1 - fraction))
        self.reanalysed_at_once = max(1, min(config.reanalyse.batch_size, most))
        self.credit = 0.0  # searches that demonstrations are to have before the agent's own positions
        self.generator = numpy_generator(seed, "replay")
        self.play = SelfPlay(
            environment,
            search=config.search,
            environments=config.training.environments,
            generator=numpy_generator(seed, "play"),
        )

    def begin(self) -> None:
        """Takes in the demonstrations that fit."""
        if self.demonstrations is not None:
            with self.clock.part("reanalyse"):
                self.demonstrations.fill(cloned_targets(self.reanalyser))

    def may_train(self, environment_steps: int, training_steps: int) -> bool:
        """Whether a training step is due, by the ratio to environment steps since there was something to learn from."""
        training = self.config.training
        played = environment_steps - max(training.warmup_environment_steps, self.waited)
        return self.replay.positions > 0 and training_steps < math.floor(played * training.training_ratio)

    def play_step(self, step: int) -> list[float]:
        """Plays one step of every episode, then makes the targets anew that the reanalyse fraction calls for."""
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
            apart = self.config.reanalyse.positions != "drawn"  # from what is drawn for a batch
            while apart and self.counts.due(self.config.reanalyse.fraction) >= size:
                self.counts.reanalysed += self.reanalyser.renew_next(self._turn(step, size), size)
        return [float(episode.rewards.sum()) for episode in episodes]

    def sample(self, step: int) -> tuple[list[Drawn], Batch]:
        """A batch by priority, the agent's own positions before the demonstrations."""
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
        """Of its own episodes."""
        generator = numpy_generator(self.seed, "audit", step)  # its own: a run is the same with it or without
        return self.replay.stored_targets(self.config.training.audited_positions, generator, step=step)

    def state(self) -> State:
        """All that is kept but what lies in `files`, as arrays by part and as JSON."""
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
        """What is kept of episodes for good, by its digest."""
        return self.replay.files() | ({} if self.demonstrations is None else self._demonstrated.files())

    def restore(self, parts: dict[str, Arrays], record: dict[str, Any], read: Read) -> None:
        """Takes back what `state` gave; `read` gives what `files` held."""
        self.replay.restore(parts["replay"], record["replay"], read)
        self.play.restore(parts["play"], record["play"])
        self.reanalyser.restore(parts["target"], record["noise"])
        self.generator.bit_generator.state = record["generator"]
        self.counts = TargetCounts(**{name: whole(count) for name, count in record["counts"].items()})
        self.credit = float(record["credit"])
        self.waited = whole(record.get("waited", 0))  # older states have made up for the wait at once
        if self.demonstrations is not None:
            self._demonstrated.restore(parts["recorded"], record["recorded"], read)
            self.demonstrations.restore(record["feed"])

    @property
    def _demonstrated(self) -> Replay:
        return self.replay if self.demonstrations is None else self.demonstrations.replay

    def _temperature(self, step: int) -> float | NDArray[np.float64]:
        """T of self-play at a training step, or of each episode side by side."""
        training = self.config.training
        if training.temperature_ladder:
            return np.resize(np.array(training.temperature_ladder), training.environments)
        return training.temperature(step)

    def _demonstrations_in_batch(self, step: int) -> int:
        """Demonstrations in the batch of a training step: their share, its rounding carried over to the next batch."""
        if self.demonstrations is None:
            return 0
        B, shares = self.config.training.batch_size, self.config.dataset.share_until
        return math.floor(B * shares(step + 1)) - math.floor(B * shares(step))

    def _renew_drawn(self, replay: Replay, slots: NDArray[np.int64], due: int) -> None:
        """Searches at drawn positions anew, as many as are due."""
        if due > 0:
            with self.clock.part("reanalyse"):
                chosen = replay.with_ends(some_of(slots, due, self.generator))
                self.counts.reanalysed += self.reanalyser.renew(replay, chosen)

    def _turn(self, step: int, size: int) -> Replay:
        """Whose positions are reanalysed next: the demonstrations' turn comes by their share of the batches."""
        if self.demonstrations is None:
            return self.replay
        self.credit += size * self.config.dataset.share_at(step)
        if self.credit < size:
            return self.replay
        self.credit -= size
        return self._demonstrated

    def _follow_demonstrations(self, demonstrations: Feed, step: int) -> None:
        """Streams demonstrations; where no search makes them anew, at least their values follow the network."""
        count = self.config.dataset.targets_per_step
        with self.clock.part("reanalyse"):
            if not demonstrations.resident:
                demonstrations.advance(count, cloned_targets(self.reanalyser), step=step)
            elif self.config.reanalyse.fraction == 0:
                self.reanalyser.renew_next(demonstrations.replay, count, searched=False)


class Offline:
    """Recorded episodes alone. No step is ever played.

    Args:
        config: of the run; a reanalyse fraction of 1 makes all targets by search, of 0 clones the recorded actions.
        reanalyser: makes targets anew.
        seed: of the agent.
        clock: counts the time of making targets.
        feed: of the dataset.

    Raises:
        UsageError: if drawn positions are to be reanalysed of episodes that stream through the buffer.
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
        """Takes in the episodes that fit."""
        with self.clock.part("reanalyse"):
            if self.searched and not self.config.dataset.warm_start:
                self.counts.reanalysed += self.feed.fill(searched_targets(self.reanalyser))
            else:
                self.feed.fill(cloned_targets(self.reanalyser))

    def sample(self, step: int) -> tuple[list[Drawn], Batch]:
        """A batch by priority, after so many recorded positions have got new targets as are due each step."""
        made = 0 if self.feed.resident else self._streamed(step)
        slots = self.replay.draw(self.generator, self.config.training.batch_size)
        if self.feed.resident:
            made = self._renewed(slots)
        self.counts.reanalysed += made if self.searched else 0
        return [Drawn(self.replay, slots)], self.replay.batch(slots, self.generator, step=step)

    def _streamed(self, step: int) -> int:
        """Takes in episodes from disk, which come with fresh targets; how many those are."""
        targets = searched_targets if self.searched else cloned_targets
        with self.clock.part("reanalyse"):
            return self.feed.advance(self.config.dataset.targets_per_step, targets(self.reanalyser), step=step)

    def _renewed(self, slots: NDArray[np.int64]) -> int:
        """Makes targets anew of some positions, in turn or of those drawn for a batch; of how many."""
        count = self.config.dataset.targets_per_step
        with self.clock.part("reanalyse"):
            if self.config.reanalyse.positions != "drawn":
                return self.reanalyser.renew_next(self.replay, count, searched=self.searched)
            drawn = self.replay.with_ends(some_of(slots, count, self.generator))
            return self.reanalyser.renew(self.replay, drawn, searched=self.searched)

    def stored_targets(self, step: int) -> None:
        """None: how recorded episodes began is not recorded."""

    def state(self) -> State:
        """All that is kept but what lies in `files`, as arrays by part and as JSON."""
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
        """What is kept of episodes for good, by its digest."""
        return self.replay.files()

    def restore(self, parts: dict[str, Arrays], record: dict[str, Any], read: Read) -> None:
        """Takes back what `state` gave; `read` gives what `files` held."""
        self.feed.restore(record["feed"])
        self.replay.restore(parts["replay"], record["replay"], read)
        self.reanalyser.restore(parts["target"], record["noise"])
        self.generator.bit_generator.state = record["generator"]
        self.counts = TargetCounts(**{name: whole(count) for name, count in record["counts"].items()})
