"""Tabular MDPs: small enough that values can be computed exactly, so that probes can be tested on them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mzprobe.envs.core import Bool, EnvironmentSpec, Float32, Float64, Int64, Outcome
from mzprobe.envs.states import ArrayStates
from mzprobe.envs.validation import integers, valid_actions, valid_seeds, valid_spec

_IMPROVEMENT = 1e-12  # policy iteration stops where no action gains more than this share of the largest value


@dataclass(frozen=True, eq=False)
class TabularStates(ArrayStates):
    """A batch of states of a table; the array becomes read-only."""

    index: Int64  # [B], row of the table


class TabularEnvironment:
    """A deterministic MDP given as tables, observed one-hot.

    The tables are copied; the copies are read-only, and their terminal rows are made absorbing (next state
    itself, reward 0) whatever stood there.

    Args:
        transitions: next state of each state and action, int `[S, A]` with values in 0..S-1.
        rewards: reward of each state and action, `[S, A]`, finite.
        terminal: whether each state is terminal, bool `[S]`.
        starts: states that an episode may start in, int `[n]`, none of them terminal; a seed picks one.
        gamma: discount, in (0, 1].
        time_limit: steps after which the caller truncates an episode.
        name: name in the specification.

    Raises:
        ValueError: if the tables do not fit each other or hold values out of range.
    """

    transitions: Int64  # [S, A]
    rewards: Float64  # [S, A]
    terminal_states: Bool  # [S]
    starts: Int64  # [n]

    def __init__(
        self,
        transitions: ArrayLike,
        rewards: ArrayLike,
        terminal: ArrayLike,
        *,
        starts: ArrayLike,
        gamma: float,
        time_limit: int,
        name: str,
    ) -> None:
        self.transitions = np.array(transitions, dtype=np.int64)
        self.rewards = np.array(rewards, dtype=np.float64)
        self.terminal_states = np.array(terminal, dtype=np.bool_)
        self.starts = integers(starts, "starts").copy()
        self._refuse_bad_tables()
        ended = np.flatnonzero(self.terminal_states)
        self.transitions[ended] = ended[:, None]
        self.rewards[ended] = 0.0
        for table in (self.transitions, self.rewards, self.terminal_states, self.starts):
            table.setflags(write=False)
        num_states, num_actions = self.transitions.shape
        self._spec = valid_spec(
            EnvironmentSpec(
                name=name,
                observation_shape=(num_states,),
                num_actions=num_actions,
                gamma=gamma,
                time_limit=time_limit,
                action_meanings=tuple(f"action {a}" for a in range(num_actions)),
                source="tables of transitions and rewards",
            )
        )

    def _refuse_bad_tables(self) -> None:
        shape = self.transitions.shape
        if len(shape) != 2 or 0 in shape or self.rewards.shape != shape:
            raise ValueError(f"transitions and rewards must both be [S, A], not {shape} and {self.rewards.shape}")
        if self.terminal_states.shape != shape[:1]:
            raise ValueError(f"terminal must be [S] = [{shape[0]}], not {self.terminal_states.shape}")
        if self.transitions.min() < 0 or self.transitions.max() >= shape[0]:
            raise ValueError(f"transitions must lie in 0..{shape[0] - 1}")
        if not np.isfinite(self.rewards).all():
            raise ValueError("rewards must be finite")
        if not len(self.starts) or self.starts.min() < 0 or self.starts.max() >= shape[0]:
            raise ValueError(f"starts must name at least one state, each in 0..{shape[0] - 1}")
        if self.terminal_states[self.starts].any():
            raise ValueError("starts must not be terminal")

    @property
    def spec(self) -> EnvironmentSpec:
        """Names, shapes and constants."""
        return self._spec

    def reset(self, seeds: ArrayLike) -> TabularStates:
        """Starts fresh episodes: each seed of `[B]` picks one of the starts.

        Raises:
            ValueError: if the seeds are not a list of integers >= 0.
        """
        # NumPy promises that SeedSequence's words never change between versions; a Generator's draws may.
        words = [np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] for seed in valid_seeds(seeds).tolist()]
        picks = np.array(words, dtype=np.uint64) % np.uint64(len(self.starts))
        return TabularStates(self.starts[picks.astype(np.int64)])

    def step(self, states: TabularStates, actions: ArrayLike) -> tuple[TabularStates, Outcome]:
        """Applies actions `[B]`; a terminal state stays as it is, with reward 0.

        Raises:
            ValueError: if there is not one action per state, or an action is out of range.
        """
        chosen = valid_actions(actions, batch=len(states), num_actions=self._spec.num_actions)
        following = self.transitions[states.index, chosen]
        outcome = Outcome(reward=self.rewards[states.index, chosen], terminated=self.terminal_states[following])
        return TabularStates(following), outcome

    def observe(self, states: TabularStates) -> Float32:
        """Returns one-hot rows, float32 `[B, S]`."""
        observations = np.zeros((len(states), *self._spec.observation_shape), dtype=np.float32)
        observations[np.arange(len(states)), states.index] = 1.0
        return observations

    def terminal(self, states: TabularStates) -> Bool:
        """Whether each state is terminal, bool `[B]`."""
        return self.terminal_states[states.index]

    def policy_values(self, policy: ArrayLike) -> Float64:
        """Computes the discounted value of every state under a policy, by solving the Bellman equation.

        Args:
            policy: probabilities `[S, A]`, rows summing to 1.

        Returns:
            Values `[S]`, environment units.

        Raises:
            ValueError: if gamma is 1, where there may be no solution, or the policy has another shape.
        """
        if self._spec.gamma == 1:
            raise ValueError("exact values need gamma < 1")
        weights = np.asarray(policy, dtype=np.float64)
        num_states, num_actions = self.transitions.shape
        if weights.shape != (num_states, num_actions):
            raise ValueError(f"policy must be [S, A] = {self.transitions.shape}, not {weights.shape}")
        flow = np.zeros((num_states, num_states))  # [S, S], probability of each next state
        for a in range(num_actions):
            flow[np.arange(num_states), self.transitions[:, a]] += weights[:, a]
        flow[self.terminal_states] = 0.0  # makes their values exactly 0, without rounding
        expected = (weights * self.rewards).sum(axis=1)
        solution: NDArray[Any] = np.linalg.solve(np.eye(num_states) - self._spec.gamma * flow, expected)
        return np.asarray(solution, dtype=np.float64)

    def optimal_values(self) -> Float64:
        """Computes the optimal discounted values `[S]`, environment units, by policy iteration, exact up to rounding.

        Raises:
            ValueError: if gamma is 1.
        """
        everywhere = np.arange(len(self.transitions))
        best = np.zeros(len(self.transitions), dtype=np.int64)
        while True:
            values = self.policy_values(np.eye(self._spec.num_actions)[best])
            action_values = self.rewards + self._spec.gamma * values[self.transitions]  # [S, A]
            gain = action_values.max(axis=1) - action_values[everywhere, best]
            better = gain > _IMPROVEMENT * max(1.0, float(np.abs(values).max()))
            if not better.any():
                return values
            best = np.where(better, action_values.argmax(axis=1), best)


def random_mdp(
    seed: int = 0,
    *,
    num_states: int = 8,
    num_actions: int = 2,
    terminal_fraction: float = 0.2,
    gamma: float = 0.9,
    time_limit: int = 100,
) -> TabularEnvironment:
    """Draws a small MDP: uniform transitions, standard normal rewards; any non-terminal state is a start.

    Args:
        seed: the same seed and sizes yield the same tables.
        num_states: S, terminal states included.
        num_actions: A.
        terminal_fraction: share of terminal states, in [0, 1]; rounded, and at least one state stays a start.
        gamma: discount, in (0, 1].
        time_limit: steps after which the caller truncates an episode.

    Raises:
        ValueError: if a number is out of range.
    """
    if num_states < 1 or num_actions < 1:
        raise ValueError(f"num_states and num_actions must be at least 1, not {num_states} and {num_actions}")
    if not 0 <= terminal_fraction <= 1:
        raise ValueError(f"terminal_fraction must lie in [0, 1], not {terminal_fraction}")
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    transitions = generator.integers(num_states, size=(num_states, num_actions))
    rewards = generator.standard_normal((num_states, num_actions))
    num_terminal = min(round(terminal_fraction * num_states), num_states - 1)
    terminal = np.zeros(num_states, dtype=np.bool_)
    terminal[generator.permutation(num_states)[:num_terminal]] = True
    return TabularEnvironment(
        transitions,
        rewards,
        terminal,
        starts=np.flatnonzero(~terminal),
        gamma=gamma,
        time_limit=time_limit,
        name="tabular",
    )
