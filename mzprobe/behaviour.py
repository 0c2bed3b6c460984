"""Policies as objects, and functions that play whole episodes with them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mzprobe import libm
from mzprobe.config import SearchConfig
from mzprobe.envs.core import Environment, Outcome, concatenate, legal_actions, side_by_side, step_of
from mzprobe.networks.evaluate import Evaluator
from mzprobe.search.mcts import SearchResult, actions_from_uniforms, search
from mzprobe.search.models import PlanningModel
from mzprobe.system.memory import refuse_more_than_fits

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


class Policy(Protocol):
    """A stationary policy in the real environment."""

    def distribution(self, states: Any) -> Float64:
        """Returns pi(a | s), `[B, A]`, for a batch of states."""
        ...


@dataclass(frozen=True, kw_only=True)
class BehaviourPolicy:
    """pi^MuZero: acts by the visit counts of a search, without root noise unless asked (the paper's Eq. 1).

    The planning model may be the learned one or any other.
    """

    environment: Environment
    model: PlanningModel
    config: SearchConfig
    temperature: float
    noise: bool = False  # whether the root has noise, which its observation determines
    trees: int | None = None  # number of trees grown at a time, to bound memory; None grows all at once

    def distribution(self, states: Any) -> Float64:
        """Returns N^(1/T) / sum N^(1/T), `[B, A]`."""
        return np.concatenate([result.acting(self.temperature) for result in self.searches(states)])

    def searches(self, states: Any) -> list[SearchResult]:
        """Searches from all states, in order, at most `trees` at a time."""
        B = len(states)
        size = self.trees or max(B, 1)
        results = []
        for first in range(0, max(B, 1), size):
            chosen = states.take(np.arange(first, min(first + size, B)))
            roots, legal = self.model.roots(self.environment, chosen), legal_actions(self.environment, chosen)
            results.append(search(self.model, roots, config=self.config, legal=legal, noise_by_lot=self.noise))
        return results


@dataclass(frozen=True, kw_only=True)
class PriorPolicy:
    """Policy network without search: pi_theta(. | h_theta(s))^(1/T), normalised."""

    environment: Environment
    evaluate: Evaluator
    temperature: float = 1.0  # T; 1 samples pi_theta itself, 0 takes its largest entry

    def distribution(self, states: Any) -> Float64:
        """Returns softmax(logits / T), `[B, A]`; at T = 0 all mass is on the largest entry, shared equally by ties."""
        prior, _ = self.evaluate(self.environment.observe(states))
        legal = legal_actions(self.environment, states)
        if legal is not None:
            prior = _among(prior, legal)
        if self.temperature == 1:
            return prior
        if self.temperature == 0:
            return _shared(prior)
        # Divided by the largest entry first, whose power then cannot underflow.
        weight = libm.power(prior / prior.max(axis=1, keepdims=True), 1 / self.temperature)
        return np.asarray(weight / weight.sum(axis=1, keepdims=True))


@dataclass(frozen=True, kw_only=True)
class RandomPolicy:
    """Policy that takes every legal action with the same probability."""

    environment: Environment

    def distribution(self, states: Any) -> Float64:
        """Returns 1 / A, `[B, A]`, or 1 over the number of legal actions at legal ones."""
        A = self.environment.spec.num_actions
        legal, even = legal_actions(self.environment, states), np.full((len(states), A), 1 / A)
        return even if legal is None else _among(even, legal)


@dataclass(frozen=True, kw_only=True)
class LookaheadPolicy:
    """Acts by one step in a planning model: argmax_a r(s, a) + gamma v(s'), equal actions with equal probability.

    v is the value of the planning model's leaves; a terminal successor is worth 0 in the true model.
    """

    environment: Environment
    model: PlanningModel

    def distribution(self, states: Any) -> Float64:
        """Returns `[B, A]` with all mass on the best action, shared equally by ties."""
        A = self.model.num_actions
        arena, _ = self.model.start(self.model.roots(self.environment, states), A + 1)
        root = np.zeros(len(states), np.int32)
        leaves = [self.model.expand(arena, root, np.full_like(root, action), action + 1) for action in range(A)]
        returns = np.stack([leaf.reward + leaf.discount * leaf.value for leaf in leaves], axis=1)
        legal = legal_actions(self.environment, states)
        return _shared(returns if legal is None else np.where(legal, returns, -np.inf))


def _among(policy: Float64, legal: NDArray[np.bool_]) -> Float64:
    """Renormalises a policy `[B, A]` over the legal actions; uniform over them where their total mass is 0."""
    weight = np.where(legal, policy, 0.0)
    weight = np.where(weight.sum(axis=1, keepdims=True) > 0, weight, legal)
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))


def _shared(scores: Float64) -> Float64:
    """Returns `[B, A]` with all probability on the largest of the scores, shared equally by ties."""
    best = scores == scores.max(axis=1, keepdims=True)
    return np.asarray(best / best.sum(axis=1, keepdims=True))


@dataclass(frozen=True, kw_only=True)
class Episodes:
    """Results of E whole episodes, and the N states that were acted in where these were kept (else N is 0)."""

    returns: Float64  # [E], undiscounted sum of rewards, environment units
    lengths: Int64  # [E], steps
    terminated: NDArray[np.bool_]  # [E], False for an episode truncated at the time limit
    states: Any  # N states that were acted in, ordered by time step, then episode; None if not kept
    episode: Int64  # [N], episode of each state
    time: Int64  # [N], time step of each state
    rewards: Float64  # [N], reward of the step from each state, environment units
    scores: Float64 | None = None  # [E], the game's own points, where rewards are clipped

    def discounted(self, gamma: float) -> Float64:
        """Returns the discounted return `[N]` from every kept state to the end of its episode.

        The returns of a truncated episode lack the rewards after its end, so they are not samples of V^pi.

        Args:
            gamma: discount per step.
        """
        found, following = np.zeros(len(self.rewards)), np.zeros(len(self.returns))
        for time in np.unique(self.time)[::-1]:
            rows = np.flatnonzero(self.time == time)
            found[rows] = following[self.episode[rows]] = self.rewards[rows] + gamma * following[self.episode[rows]]
        return found


def play_episodes(
    environment: Environment,
    policy: Policy,
    *,
    seeds: Int64,
    uniforms: Float64,
    keep_states: bool = False,
    on_step: Callable[[], None] = lambda: None,
) -> Episodes:
    """Plays one episode per seed to its end, all in one batch or as many as the environment allows (`side_by_side`).

    Args:
        environment: environment that is played.
        policy: policy that acts.
        seeds: `[E]`, seeds of the start states.
        uniforms: `[E, time limit]` numbers in [0, 1), one per action. An episode does not depend on the others as far
            as the policy at a state does not depend on the batch (the fused search does not; torch may round
            differently in another batch).
        keep_states: whether to keep the states acted in.
        on_step: called before every step of the episodes; an exception from it ends them and propagates.
    """
    E = len(seeds)
    most = side_by_side(environment, E)
    if most < E:
        cuts = [slice(first, first + most) for first in range(0, E, most)]
        return _joined(
            [
                play_episodes(
                    environment,
                    policy,
                    seeds=seeds[cut],
                    uniforms=uniforms[cut],
                    keep_states=keep_states,
                    on_step=on_step,
                )
                for cut in cuts
            ]
        )
    starts, numbers = environment.reset(seeds), uniforms[:, : environment.spec.time_limit]
    return _recorded(steps_of_episodes(environment, policy, starts, numbers, on_step=on_step), E, keep_states)


def _recorded(steps: Iterable["EpisodeStep"], E: int, keep_states: bool) -> Episodes:
    """Collects E episodes from their steps."""
    returns, lengths = np.zeros(E), np.zeros(E, np.int64)
    scores: Float64 | None = None
    terminated = np.zeros(E, np.bool_)
    kept: list[Any] = []
    episode: list[Int64] = []
    time: list[Int64] = []
    rewards: list[Float64] = []
    for step in steps:
        if keep_states:
            kept.append(step.states)
            episode.append(step.alive)
            time.append(np.full(len(step.alive), step.time))
            rewards.append(step.outcome.reward)
        returns[step.alive] += step.outcome.reward
        lengths[step.alive] += 1
        terminated[step.alive] = step.outcome.terminated
        if step.outcome.score is not None:
            scores = np.zeros(E) if scores is None else scores
            scores[step.alive] += step.outcome.score
    none = np.zeros(0, np.int64)
    return Episodes(
        returns=returns,
        lengths=lengths,
        terminated=terminated,
        states=concatenate(kept) if kept else None,
        episode=np.concatenate(episode) if episode else none,
        time=np.concatenate(time) if time else none,
        rewards=np.concatenate(rewards) if rewards else np.zeros(0),
        scores=scores,
    )


class EpisodeStep(NamedTuple):
    """One time step of the n of B episodes that are still running."""

    time: int
    alive: Int64  # [n], indices of the running episodes
    states: Any  # n states before the step
    actions: Int64  # [n]
    following: Any  # n states after the step
    outcome: Outcome


def steps_of_episodes(
    environment: Environment,
    policy: Policy,
    states: Any,
    uniforms: Float64,
    *,
    first: Int64 | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> Iterator[EpisodeStep]:
    """Yields every time step from B states until all episodes have ended or T steps were made.

    Args:
        environment: environment that is played.
        policy: policy that acts.
        states: B states.
        uniforms: `[B, T]` numbers in [0, 1), one per action, as in `play_episodes`.
        first: `[B]`, first actions, instead of the policy's.
        on_step: called before every step; an exception from it propagates.
    """
    alive = np.arange(len(states))
    for t in range(uniforms.shape[1]):
        on_step()
        if t == 0 and first is not None:
            actions = first
        else:
            actions = actions_from_uniforms(policy.distribution(states), uniforms[alive, t])
        following, outcome = step_of(environment, states, actions)
        yield EpisodeStep(t, alive, states, actions, following, outcome)
        remaining = np.flatnonzero(~outcome.terminated)
        if not len(remaining):
            return
        whole = len(remaining) == len(alive)
        alive, states = (alive, following) if whole else (alive[remaining], following.take(remaining))


def discounted_returns(
    environment: Environment,
    policy: Policy,
    states: Any,
    *,
    uniforms: Float64,
    first: Int64 | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> Float64:
    """Returns the discounted returns `[B]` of a policy in the real environment over T steps, whatever the time limit.

    These are samples of V^pi, truncated after T steps; they are exact where the policy is deterministic.

    Args:
        environment: the real environment.
        policy: pi.
        states: B states, none terminal.
        uniforms: `[B, T]` numbers in [0, 1), one per action, as in `play_episodes`.
        first: `[B]`, first actions, instead of the policy's; the returns are then samples of Q^pi.
        on_step: called before every step; an exception from it propagates.
    """
    B = len(states)
    most = side_by_side(environment, B)
    if most < B:
        parts = []
        for cut in (np.arange(at, min(at + most, B)) for at in range(0, B, most)):
            begun = None if first is None else first[cut]
            numbers, here = uniforms[cut], states.take(cut)
            parts.append(discounted_returns(environment, policy, here, uniforms=numbers, first=begun, on_step=on_step))
        return np.concatenate(parts)
    returns, discount = np.zeros(B), 1.0
    for step in steps_of_episodes(environment, policy, states, uniforms, first=first, on_step=on_step):
        returns[step.alive] += discount * step.outcome.reward
        discount *= environment.spec.gamma
    return returns


def action_values(
    environment: Environment,
    policy: Policy,
    states: Any,
    *,
    uniforms: Float64,
    on_step: Callable[[], None] = lambda: None,
) -> Float64:
    """Returns `discounted_returns` of every action followed by the policy, `[B, A]`.

    All actions of a state share the same random numbers.

    Args:
        environment: the real environment.
        policy: pi.
        states: B states, none terminal.
        uniforms: `[B, T]` numbers in [0, 1), one per step; the first is not used.
        on_step: called before every step; an exception from it propagates.
    """
    (B, _), A = uniforms.shape, environment.spec.num_actions
    state, first = np.divmod(np.arange(B * A), A)
    returns = discounted_returns(
        environment, policy, states.take(state), uniforms=uniforms[state], first=first, on_step=on_step
    )
    return returns.reshape(B, A)


def _joined(parts: list[Episodes]) -> Episodes:
    """Joins the episodes of all parts, with their steps ordered as in a single batch: by time, then by episode."""
    before = np.cumsum([0, *(len(part.returns) for part in parts[:-1])])
    kept = [part.states for part in parts if part.states is not None]
    scores = [part.scores for part in parts if part.scores is not None]
    episode = np.concatenate([part.episode + first for part, first in zip(parts, before, strict=True)])
    time = np.concatenate([part.time for part in parts])
    order = np.lexsort((episode, time))
    return Episodes(
        returns=np.concatenate([part.returns for part in parts]),
        lengths=np.concatenate([part.lengths for part in parts]),
        terminated=np.concatenate([part.terminated for part in parts]),
        states=concatenate(kept).take(order) if kept else None,
        episode=episode[order],
        time=time[order],
        rewards=np.concatenate([part.rewards for part in parts])[order],
        scores=np.concatenate(scores) if len(scores) == len(parts) else None,
    )


def draw_episode_numbers(generator: np.random.Generator, episodes: int, time_limit: int) -> tuple[Int64, Float64]:
    """Draws start seeds `[E]` and numbers for actions `[E, time limit]` for `play_episodes`.

    Raises:
        UsageError: if that many episodes do not fit into memory.
    """
    refuse_more_than_fits(16 * episodes * time_limit, what=f"playing {episodes:,} episodes of {time_limit:,} steps")
    seeds = generator.integers(2**31, size=episodes)
    return seeds, generator.random((episodes, time_limit))
