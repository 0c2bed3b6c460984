"""Does the policy prior keep the search where the model is right (Figure 6)?

At sampled states the learned model is searched with the policy prior and with a uniform one. Every simulation walks a
path of actions from the root and continues with a random rollout to the planning horizon; both are scored against the
truth (the paper's Eq. 5). The policy network is compared with the distribution of visits,
pi_hat(a) = (1 + N(a)) / (A + sum_b N(b)), and with the regularised policy pi_bar that these visits approach
(Grill et al. 2020).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import rel_entr

from mzprobe import libm
from mzprobe.agents import Agent
from mzprobe.envs import Environment
from mzprobe.envs.core import rewards_along, step_of
from mzprobe.probes import cost
from mzprobe.probes.acting import as_asked
from mzprobe.probes.cost import Cost
from mzprobe.probes.question import Question
from mzprobe.probes.sampling import AGENT_UNITS, STATE_UNITS, Sample, draw_states, rollout_seed
from mzprobe.search.mcts import search
from mzprobe.search.models import Prior, StateArena
from mzprobe.search.rollouts import Rollout, RolloutArena, discounted
from mzprobe.search.tree import Tree
from mzprobe.settings import SearchErrorConfig, simulation_counts

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

UNITS = {
    **AGENT_UNITS,
    "prior": "name; policy or uniform",
    "simulations": "count; N",
    **STATE_UNITS,
    "path_error": "discounted reward; mean over the first N simulations, actions in the tree",
    "trajectory_error": "discounted reward; the same with the rollout that follows, to the planning horizon",
    "step_error": "discounted reward; path_error of each simulation divided by its actions",
    "matched_error": "discounted reward; path_error at depths that the searches with both priors reach (see matched)",
    "path_length": "environment steps; mean over the first N simulations",
    "tv": "1; TV[pi_theta, pi_hat], half the sum of |pi_theta - pi_hat|",
    "kl": "nats; KL[pi_theta, pi_hat] = sum of pi_theta log(pi_theta / pi_hat)",
    "tv_regularised": "1; TV[pi_theta, pi_bar]",
    "kl_regularised": "nats; KL[pi_theta, pi_bar]",
    "curse": "discounted reward; predicted minus true along the most visited path after N simulations",
}


@as_asked
def measure_search_error(
    agent: Agent, config: SearchErrorConfig, *, on_progress: Callable[[float], None] = lambda _: None
) -> pd.DataFrame:
    """Runs the probe on one checkpoint: searches at sampled states with both priors.

    Args:
        agent: the checkpoint.
        config: settings.
        on_progress: called with the fraction done.

    Returns:
        One row per prior, N and state, in this order; columns as in `UNITS`.
    """
    rollout = Rollout(horizon=config.horizon, seed=rollout_seed(agent, config.seed))
    simulations = simulation_counts(config.simulations, agent.environment.spec.num_actions)
    frames: list[pd.DataFrame] = []
    priors: tuple[Prior, ...] = get_args(Prior)
    with agent.compute.limited():
        sample, _ = draw_states(agent, config)
        size = agent.trees(max(simulations))
        parts = [np.arange(i, min(i + size, config.states)) for i in range(0, config.states, size)]
        for i, chosen in enumerate(parts):
            on_progress(i / len(parts))
            here = sample.take(chosen)
            searched = {prior: _searched(agent, here, prior, rollout, simulations) for prior in priors}
            for own, other in (priors, priors[::-1]):
                rows = _score(agent, here, searched[own], searched[other].paths, simulations)
                frames.append(rows.assign(prior=own, state=chosen[rows["state"]]))
    frame = pd.concat(frames).sort_values(["prior", "simulations", "state"], ignore_index=True)
    return agent.label(frame)[list(UNITS)]


class _Searched(NamedTuple):
    tree: Tree
    paths: "Paths"
    regularised: dict[int, Float64]  # [B, A] by N, pi_bar


def _searched(agent: Agent, sample: Sample, prior: Prior, rollout: Rollout, simulations: Sequence[int]) -> _Searched:
    """Searches the learned model at some states, and takes the simulated actions in the real environment."""
    model, own = agent.planning_in("learned", prior=prior, leaf=rollout), agent.search
    roots = model.roots(agent.environment, sample.states)
    # The visits of Gumbel's rule follow its schedule, whatever the prior, so its agents are searched by PUCT too.
    rule = "puct" if own.rule == "gumbel" else own.rule
    most = own.model_copy(update={"simulations": max(simulations), "rule": rule})
    tree = search(model, roots, config=most, keep_tree=True).tree
    assert tree is not None
    regularised = {}
    for N in simulations:
        config = own.model_copy(update={"simulations": N, "rule": "regularised"})
        regularised[N] = search(model, roots, config=config).target
    return _Searched(tree, trace(agent.environment, sample.states, tree, rollout), regularised)


def _score(
    agent: Agent, sample: Sample, searched: _Searched, others: "Paths", simulations: Sequence[int]
) -> pd.DataFrame:
    """Returns the rows of some states and one prior; `others` are the paths of the search with the other prior."""
    policy, _ = agent.evaluate(agent.environment.observe(sample.states))
    (tree, paths, regularised), (B, A) = searched, policy.shape
    error = np.abs(paths.value - paths.predicted)
    rows = []
    for N in simulations:
        first, chosen = slice(0, N), (np.arange(B), most_visited(tree, N) - 1)
        visits = np.stack([(paths.root_action[:, first] == a).sum(axis=1) for a in range(A)], axis=1)
        visited = (1 + visits) / (A + N)
        rows.append(
            pd.DataFrame(
                {
                    "simulations": N,
                    "state": np.arange(B),
                    "episode": sample.episode,
                    "time": sample.time,
                    "path_error": error[:, first].mean(axis=1),
                    "trajectory_error": np.abs(paths.full_value - paths.full_predicted)[:, first].mean(axis=1),
                    "step_error": (error / paths.length)[:, first].mean(axis=1),
                    "matched_error": matched(error[:, first], paths.length[:, first], others.length[:, first]),
                    "path_length": paths.length[:, first].mean(axis=1),
                    "tv": np.abs(policy - visited).sum(axis=1) / 2,
                    "kl": rel_entr(policy, visited).sum(axis=1),
                    "tv_regularised": np.abs(policy - regularised[N]).sum(axis=1) / 2,
                    "kl_regularised": rel_entr(policy, regularised[N]).sum(axis=1),
                    "curse": paths.predicted[chosen] - paths.value[chosen],
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def matched(error: Float64, length: Int64, other: Int64) -> Float64:
    """Returns the mean error of paths `[B]`, weighted so that two searches count equally many paths of each length.

    Deeper paths sum more errors, and searches differ in how deep they go. With n_d and n'_d paths of length d, this is
    sum_d w_d e_d / sum_d w_d, where e_d is the mean error of the paths of length d and w_d = min(n_d, n'_d) is the same
    for both searches. It is NaN where they share no length.

    Args:
        error: `[B, N]`, error of every simulation's path.
        length: `[B, N]`, length of these paths.
        other: `[B, N]`, length of the other search's paths.
    """
    B, longest = len(error), int(max(length.max(), other.max()))
    row = np.arange(B)[:, None] * (longest + 1)

    def by_length(lengths: Int64, weights: Float64 | None = None) -> Float64:
        cells = np.bincount(
            (row + lengths).ravel(),
            weights=None if weights is None else weights.ravel(),
            minlength=B * (longest + 1),
        )
        return np.asarray(cells.reshape(B, longest + 1), np.float64)

    own = by_length(length)
    means = by_length(length, error) / np.where(own > 0, own, 1.0)
    weight = np.minimum(own, by_length(other))
    total = weight.sum(axis=1)
    return np.where(total > 0, (weight * means).sum(axis=1) / np.where(total > 0, total, 1.0), np.nan)


class Paths(NamedTuple):
    """Paths of the N simulations of B searches, `[B, N]` each; simulation i is column i - 1."""

    root_action: Int64
    length: Int64  # number of actions in the tree, without those beyond the horizon
    value: Float64  # v of the path
    predicted: Float64  # v̂ of the path
    full_value: Float64  # v with the rollout
    full_predicted: Float64  # v̂ with the rollout


def trace(environment: Environment, roots: Any, tree: Tree, rollout: Rollout) -> Paths:
    """Takes every simulation's actions in the real environment.

    Args:
        environment: the truth.
        roots: B real states.
        tree: trees of the learned model's search from these states, with rollout leaves.
        rollout: settings of the rollouts of that search.
    """
    B, M, A = tree.prior.shape
    gamma, b = environment.spec.gamma, np.arange(B)
    arena, rollouts = StateArena(roots), RolloutArena(rollout, environment.observe(roots), M)
    root_action, length = np.zeros((2, B, M), np.int64)
    value, predicted, full_value, full_predicted = np.zeros((4, B, M))
    for slot in range(1, M):
        parents, actions = tree.parent[:, slot], tree.parent_action[:, slot].astype(np.int64)
        states, outcome = step_of(environment, arena.take(parents), actions)
        arena.add(states)
        left = rollouts.place(parents, slot)
        depth = rollouts.depth[slot]
        discount = libm.power(gamma, depth - 1)
        root_action[:, slot] = np.where(parents == 0, actions, root_action[b, parents])
        length[:, slot] = np.minimum(depth, rollout.horizon)
        value[:, slot] = value[b, parents] + np.where(left >= 0, discount * outcome.reward, 0.0)
        predicted[:, slot] = predicted[b, parents] + discount * tree.reward[b, parents, actions]
        rewards = rewards_along(environment, states, rollouts.actions(slot, A))
        full_value[:, slot] = value[:, slot] + discount * gamma * discounted(rewards, left, gamma)
        full_predicted[:, slot] = predicted[:, slot] + discount * gamma * tree.value[:, slot]
    columns: tuple[Any, ...] = (root_action, length, value, predicted, full_value, full_predicted)
    return Paths(*(column[:, 1:] for column in columns))


def most_visited(tree: Tree, simulations: int) -> Int64:
    """Returns the node `[B]` where the most visited path ends after N simulations; ties go to the lowest action.

    Args:
        tree: trees of B searches, whose node i was expanded by simulation i.
        simulations: N, at most the number of simulations of the tree.
    """
    B, M, _ = tree.prior.shape
    b = np.arange(B)
    # A simulation ends by expanding its node, so a node has as many visits as nodes in its subtree.
    visits = np.zeros((B, M + 1), np.int64)  # untried actions index the last column, which stays 0
    visits[:, 1 : simulations + 1] = 1
    for slot in range(simulations, 1, -1):
        visits[b, tree.parent[:, slot]] += visits[:, slot]
    node = np.zeros(B, np.int64)
    while True:
        counts = visits[b[:, None], tree.child[b, node]]
        tried = counts.max(axis=1) > 0
        if not tried.any():
            return node
        node = np.where(tried, tree.child[b, node, counts.argmax(axis=1)], node)


def _cost(agent: Agent, config: SearchErrorConfig, _: int) -> Cost:
    counts = simulation_counts(config.simulations, agent.environment.spec.num_actions)
    most, searched = max(counts), Cost()
    for N in (most, *counts):  # one search whose paths are traced, and one per N for the regularised policy
        constants = agent.search.model_copy(update={"simulations": N})
        searched += cost.searches(2 * config.states, constants, ("learned", config.horizon))
    steps = 2 * config.states * most * config.horizon
    return cost.sampling(agent, config) + searched + Cost(environment_steps=steps, model_steps=2 * config.states)


QUESTION = Question(
    config=SearchErrorConfig,
    units=UNITS,
    measure=measure_search_error,
    cost=_cost,
    steps=(2000,),
)
