"""Recorded episodes as training data: fed from a dataset into a replay buffer, all of them or streaming through it."""

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


MakeTargets = Callable[["Recorded"], Episode]  # an episode with targets, of a recorded one


class Feed:
    """Feeds a dataset into a buffer: at once where it fits, else episode by episode in shuffled epochs.

    Args:
        dataset: opened and verified.
        replay: where to.
        seed: of the agent; decides the order.
        best: feed only so many episodes, those of the highest return; None feeds all.

    Raises:
        UsageError: if the buffer does not hold its longest episode.
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
        self.fed = 0  # episodes so far, all epochs
        self.credit = 0  # positions that may be fed
        self._epoch = -1
        self._order = self.chosen

    def fill(self, targets: MakeTargets) -> int:
        """Feeds as many episodes as fit, all where they are resident; gives how many targets were made."""
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
        """Feeds the next episodes from disk, so many positions on average a call; gives how many targets were made.

        They are stored at training step `step`.
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
        """What is fed, for whoever reads a checkpoint."""
        returns = self.dataset.returns[self.chosen]
        return {
            "path": str(self.dataset.path),
            "sha256": self.dataset.sha256,
            "episodes": len(self.chosen),
            "steps": int(self.dataset.lengths[self.chosen].sum()),
            "mean_return": float(returns.mean()),
        }

    def state(self) -> dict[str, Any]:
        """Where it stands, as JSON."""
        return {"sha256": self.dataset.sha256, "fed": self.fed, "credit": self.credit}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave.

        Raises:
            DatasetError: if the dataset is another one by now.
        """
        self.refuse_other(state["sha256"])
        self.fed, self.credit = whole(state["fed"]), int(state["credit"])

    def refuse_other(self, sha256: str) -> None:
        """Refuses to go on where another dataset was begun with, wherever either lies.

        Raises:
            DatasetError: naming it.
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
    """Targets of fresh searches at all states of an episode."""

    def make(recorded: "Recorded") -> Episode:
        policies, values = reanalyser.search_targets(_states_with_targets(recorded))
        return _episode(recorded, policies, values)

    return make


def cloned_targets(reanalyser: Reanalyser) -> MakeTargets:
    """An episode's own actions as policy targets, and values bootstrapped by the network."""
    actions = np.eye(reanalyser.model.num_actions)

    def make(recorded: "Recorded") -> Episode:
        policies = actions[recorded.actions]  # none for a last state: nothing was done there
        return _episode(recorded, policies, reanalyser.evaluate_targets(_states_with_targets(recorded)))

    return make


def _states_with_targets(recorded: "Recorded") -> Any:
    return recorded.observations[: len(recorded.actions) + (not recorded.terminated)]


def _episode(recorded: "Recorded", policies: Any, values: Any) -> Episode:
    """The last row of policies and values is 0 where nothing is given for it."""
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
