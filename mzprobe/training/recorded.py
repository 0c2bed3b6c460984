"""Recorded episodes as training data, fed from a dataset into a replay buffer at once or as a stream."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mzprobe.errors import DatasetError, UsageError
from mzprobe.seeding import numpy_generator
from mzprobe.training.episodes import Episode
from mzprobe.training.reanalyse import Reanalyser
from mzprobe.training.replay import Replay
from mzprobe.values import whole

if TYPE_CHECKING:
    from mzprobe.datasets import Dataset, Recorded


MakeTargets = Callable[["Recorded"], Episode]  # adds targets to a recorded episode


class Feed:
    """Feeds a dataset into a buffer: all at once if it fits, else episode by episode in shuffled epochs.

    Args:
        dataset: dataset, opened and verified.
        replay: buffer to feed.
        seed: seed of the agent; decides the order.
        best: number of episodes to feed, those with the highest returns; None feeds all.

    Raises:
        UsageError: if the buffer cannot hold the longest of these episodes.
    """

    def __init__(
        self,
        dataset: "Dataset",
        replay: Replay,
        *,
        seed: int,
        best: int | None = None,
    ) -> None:
        self.dataset = dataset
        self.replay = replay
        self.seed = seed
        self.chosen = np.sort(np.argsort(-dataset.returns, kind="stable")[:best])
        longest = int(dataset.lengths[self.chosen].max())
        if longest + 1 > len(replay.left):
            raise UsageError(
                f"training.replay_capacity={len(replay.left)} does not hold an episode of {longest} steps and its last "
                f"state: set it to {longest + 1} or more"
            )
        self.resident = int((dataset.lengths[self.chosen] + 1).sum()) <= len(replay.left)
        self.fed = 0  # episodes fed so far, over all epochs
        self.credit = 0  # positions due to be fed; negative after feeding more than was due
        self._epoch = -1
        self._order = self.chosen

    def fill(self, targets: MakeTargets) -> int:
        """Feeds as many episodes as fit, all if they are resident; returns the number of targets made."""
        made = 0
        room = len(self.replay.left)
        while self.fed < len(self.chosen):
            slots = self._next_length() + 1
            if slots > room:
                break
            room -= slots
            made += self._feed(targets)
        return made

    def advance(self, positions: int, targets: MakeTargets, *, step: int) -> int:
        """Feeds the next episodes from disk, on average `positions` positions per call; none if all are resident.

        They are stored at training step `step`.

        Returns:
            The number of targets made.
        """
        if self.resident:
            return 0
        self.credit += positions
        made = 0
        while self.credit > 0:
            self.credit -= self._next_length()
            made += self._feed(targets, step)
        return made

    def record(self) -> dict[str, Any]:
        """Returns a description of the data fed, to be saved with a checkpoint."""
        returns = self.dataset.returns[self.chosen]
        return {
            "path": str(self.dataset.path),
            "sha256": self.dataset.sha256,
            "episodes": len(self.chosen),
            "steps": int(self.dataset.lengths[self.chosen].sum()),
            "mean_return": float(returns.mean()),
        }

    def state(self) -> dict[str, Any]:
        """Returns the state, as JSON."""
        return {"sha256": self.dataset.sha256, "fed": self.fed, "credit": self.credit}

    def restore(self, state: dict[str, Any]) -> None:
        """Restores the result of `state`.

        Raises:
            DatasetError: if the state was saved with another dataset.
        """
        self.refuse_other(state["sha256"])
        self.fed, self.credit = whole(state["fed"]), int(state["credit"])

    def refuse_other(self, sha256: str) -> None:
        """Rejects a run that began with another dataset, judged by its SHA-256 and not by its path.

        Raises:
            DatasetError: if the digests differ.
        """
        if sha256 != self.dataset.sha256:
            raise DatasetError(
                f"{self.dataset.path} is not the dataset that this run began with (another sha256): put that one back, "
                "or train under another --name"
            )

    def _next_index(self) -> int:
        epoch, place = divmod(self.fed, len(self.chosen))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, numpy_generator(self.seed, "dataset", epoch).permutation(self.chosen)
        return int(self._order[place])

    def _next_length(self) -> int:
        return int(self.dataset.lengths[self._next_index()])

    def _feed(self, targets: MakeTargets, step: int = 0) -> int:
        (recorded,) = self.dataset.read([self._next_index()])
        self.replay.add(targets(recorded), step=step)
        self.fed += 1
        return len(recorded.actions) + (not recorded.terminated)


def searched_targets(reanalyser: Reanalyser) -> MakeTargets:
    """Returns a function that makes targets by fresh searches at all states of an episode, except a terminal one."""

    def make(recorded: "Recorded") -> Episode:
        policies, values = reanalyser.search_targets(_states_with_targets(recorded))
        return _episode(recorded, policies, values)

    return make


def cloned_targets(reanalyser: Reanalyser) -> MakeTargets:
    """Returns a function that takes an episode's own actions as policy targets, and values from the network."""
    actions = np.eye(reanalyser.model.num_actions)

    def make(recorded: "Recorded") -> Episode:
        policies = actions[recorded.actions]  # none for a last state: nothing was done there
        return _episode(recorded, policies, reanalyser.evaluate_targets(_states_with_targets(recorded)))

    return make


def _states_with_targets(recorded: "Recorded") -> Any:
    return recorded.observations[: len(recorded.actions) + (not recorded.terminated)]


def _episode(recorded: "Recorded", policies: Any, values: Any) -> Episode:
    """Returns an episode with targets; the last row of policies and of values is 0 if it is not given."""
    rows = len(recorded.actions) + 1
    whole_policies, whole_values = np.zeros((rows, policies.shape[1])), np.zeros(rows)
    whole_policies[: len(policies)] = policies
    whole_values[: len(values)] = values
    return Episode(
        observations=recorded.observations,
        actions=recorded.actions,
        rewards=recorded.rewards,
        policies=whole_policies,
        root_values=whole_values,
        terminated=recorded.terminated,
    )
