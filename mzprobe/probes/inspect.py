"""Single states in detail: those where the model is most wrong, and others to compare them with.

The states are chosen among those of Figure 3 by their error at the largest horizon. For each of them the table holds a
picture and the observation; the trees that the agent's search grows there in the learned and in the true model, reduced
to their most visited nodes; and the steps of three action sequences: the likeliest under pi^MuZero (Eq. 6), the one of
the largest true return, and the one whose value is predicted worst. A row is a node, with the truth beside it.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mzprobe.agents import Agent
from mzprobe.behaviour import action_values
from mzprobe.config import Model
from mzprobe.envs.core import legal_actions
from mzprobe.errors import UsageError
from mzprobe.pictures import pictures_of, svg_of
from mzprobe.probes import cost
from mzprobe.probes.acting import as_asked
from mzprobe.probes.cost import Cost
from mzprobe.probes.horizon import cost_of_horizon, score_agent
from mzprobe.probes.prefixes import PrefixTree, refuse_too_many, walk_all
from mzprobe.probes.question import Question
from mzprobe.probes.sampling import AGENT_UNITS, STATE_UNITS, Sample, draw_states, largest_horizon
from mzprobe.search.mcts import search
from mzprobe.search.tree import UNTRIED, Tree
from mzprobe.settings import InspectConfig

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_SEQUENCES = 1024  # largest number of sequences tried for each state, unless a length is given
SEQUENCE_PARTS = ("likeliest", "best", "worst")

UNITS = {
    **AGENT_UNITS,
    **STATE_UNITS,
    "chosen": "name; why the state is here: worst, median, random or asked",
    "error": "discounted reward; the state's at the largest h, as in the table of eval-horizon",
    "part": "name; tree in the learned or true model, or the likeliest, best or worst sequence",
    "node": "index; in its part, 0 is the state itself",
    "parent": "index; -1 at the state",
    "depth": "environment steps; from the state",
    "action": "index; that leads here, -1 at the state",
    "meaning": "name; what the environment calls that action",
    "visits": "count; N(s, a) of that action",
    "q": "discounted reward; Q(s, a) of it, of the state the search's own value",
    "prior": "1; P(s, a) of it",
    "leaf_value": "discounted reward; v of the node as the model gave it",
    "reward": "reward; r of the action in the truth",
    "predicted_reward": "reward; u of it in the learned model, unrolled from the state",
    "value": "discounted reward; of the true rewards on the way here",
    "predicted_value": "discounted reward; of the predicted ones",
    "latent_distance": "1; Euclidean, of the unrolled latent from the real state's, encoded anew",
    "terminal": "bool; whether the real episode has ended here",
    "true_return": "discounted reward; of an action in the state and pi^MuZero from then on; at node 0 of pi^MuZero",
    "true_return_error": "discounted reward; its standard error over R episodes",
    "probability": "1; of the whole sequence under pi^MuZero, at its last node",
    "observation": "JSON; what is observed in the state, at node 0 of its first part",
    "picture": "SVG; what it looks like, there too",
}


@as_asked
def measure_inspect(
    agent: Agent,
    config: InspectConfig,
    *,
    on_progress: Callable[[float], None] = lambda _: None,
    on_states: Callable[[Any], None] = lambda _: None,
) -> pd.DataFrame:
    """Runs the probe on one checkpoint.

    Args:
        agent: the checkpoint.
        config: which states to inspect, and how.
        on_progress: called with the fraction done.
        on_states: called once with the states that are kept, in the order of the table.

    Returns:
        One row per node of the trees and sequences that are kept; columns as in `UNITS`.

    Raises:
        UsageError: if a requested state is not among those drawn, no state is requested, no horizon is given and the
            agent has no unroll length, or the sequences of a single state are too many to hold.
    """
    with agent.compute.limited():
        sample, generator = draw_states(agent, config)
        scored = score_agent(agent, config, sample, generator, on_progress=lambda share: on_progress(share / 2))
        errors = scored.loc[scored["h"] == scored["h"].max(), "error"].to_numpy(np.float64)
        lot = int(generator.integers(len(errors)))
        names, states = chosen_states(errors, config, lot)
        here = sample.take(states)
        on_states(here.states)
        on_progress(0.5)
        whole = _Inspected(agent, config, here)
        limit = agent.environment.spec.time_limit
        uniforms = generator.random((config.rollouts, max(limit, config.steps or 0)))[:, : config.steps or limit]
        returns = _true_returns(agent, config, here, uniforms, lambda: on_progress(0.6))
        frames = [
            frame.assign(
                state=states[i], episode=here.episode[i], time=here.time[i], chosen=names[i], error=errors[states[i]]
            )
            for i in range(len(states))
            for frame in whole.parts(i, *(numbers[i] for numbers in returns))
        ]
    return agent.label(pd.concat(frames, ignore_index=True))[list(UNITS)]


def chosen_states(errors: Float64, config: InspectConfig, lot: int) -> tuple[list[str], Int64]:
    """Returns why states are kept and which ones; a state kept for several reasons appears once, with the first.

    Args:
        errors: `[S]`, errors at the largest horizon.
        config: settings, which name the requested states.
        lot: index of the state drawn by lot.

    Returns:
        The reasons ("worst", "median", "random" or "asked"), and the indices of the states.

    Raises:
        UsageError: if a requested state does not exist, or no state is requested.
    """
    beyond = [state for state in config.at if state >= len(errors)]
    if beyond:
        raise UsageError(f"there is no state {beyond[0]}: {len(errors)} are drawn, 0 to {len(errors) - 1}")
    order = np.argsort(errors, kind="stable")
    by_name = {"worst": int(order[-1]), "median": int(order[(len(order) - 1) // 2]), "random": lot}
    found: dict[int, str] = {}
    for name in config.chosen:
        found.setdefault(by_name[name], name)
    for state in config.at:
        found.setdefault(state, "asked")
    if not found:
        raise UsageError("no state is asked for: choose some, or name one by its index")
    return list(found.values()), np.array(list(found), np.int64)


class _Inspected:
    """Trees and sequences of some states, followed in the real environment and in the model.

    Args:
        agent: the checkpoint.
        config: settings.
        sample: states to inspect.
    """

    def __init__(self, agent: Agent, config: InspectConfig, sample: Sample) -> None:
        self.agent, self.nodes = agent, config.nodes
        environment, states, A = agent.environment, sample.states, agent.environment.spec.num_actions
        self.prefixes = PrefixTree(environment, agent.network, states, compute=agent.compute)
        self.prefixes.follow(*np.divmod(np.arange(len(states) * A), A))  # every action, tried by a search or not
        self.trees = {model: self._searched(model, config, states) for model in agent.models}
        length = sequence_length(agent, config)
        policy = agent.policy
        ends, weight = walk_all(self.prefixes, lambda at: policy.distribution(at)[None], length=length)
        self.sequences = [list(self._sequences(ends[i], weight[0, i], length)) for i in range(len(states))]
        self.observations = environment.observe(states)
        pictures = pictures_of(environment, states)
        self.distances = self._latent_distances()
        label = f"a state of {environment.spec.name}"
        self.pictures = [""] * len(states) if pictures is None else [svg_of(one, label=label) for one in pictures]

    def parts(self, i: int, returns: Float64, errors: Float64) -> Iterator[pd.DataFrame]:
        """Yields the rows of one state, part by part: its trees, then its sequences.

        Args:
            i: index of the state in the sample.
            returns: `[A + 1]`, true returns of the actions, then of the policy.
            errors: `[A + 1]`, their standard errors.
        """
        frames = [self._tree(i, model, tree, at) for model, (tree, at) in self.trees.items()]
        frames += [self._steps(chain) for chain in self.sequences[i]]
        for first, frame in enumerate(frames):
            below = np.where(frame["depth"] == 1, frame["action"], np.where(frame["depth"] == 0, len(returns) - 1, -1))
            known = below >= 0
            shown = (frame["node"] == 0) & (first == 0)
            seen = json.dumps(np.asarray(self.observations[i]).tolist())
            yield frame.assign(
                true_return=np.where(known, returns[below], np.nan),
                true_return_error=np.where(known, errors[below], np.nan),
                observation=np.where(shown, seen, ""),
                picture=np.where(shown, self.pictures[i], ""),
            )

    def _searched(self, model: Model, config: InspectConfig, states: Any) -> tuple[Tree, Int64]:
        """Searches from the states in a model; returns the trees, and the prefix `[S, M]` that each node stands for."""
        environment, planned = self.agent.environment, self.agent.planning_in(model)
        settings = self.agent.search
        if config.simulations is not None:
            settings = settings.model_copy(update={"simulations": config.simulations})
        legal = legal_actions(environment, states)
        tree = search(
            planned,
            planned.roots(environment, states),
            config=settings,
            legal=legal,
            noise_by_lot=self.agent.root_noise,
            keep_tree=True,
        ).tree
        assert tree is not None
        S, M = tree.parent.shape
        at = np.zeros((S, M), np.int64)
        at[:, 0] = np.arange(S)
        for slot in range(1, M):
            parents = at[np.arange(S), tree.parent[:, slot]]
            at[:, slot] = self.prefixes.follow(parents, tree.parent_action[:, slot].astype(np.int64))
        return tree, at

    def _tree(self, i: int, model: Model, tree: Tree, at: Int64) -> pd.DataFrame:
        """Returns the rows of a state's tree: its most visited nodes, and all actions at its root.

        Args:
            i: index of the state in the sample.
            model: the model of the search.
            tree: trees of all states.
            at: `[S, M]`, prefix that each node stands for.
        """
        visits, parent, action = tree.visits[i], tree.parent[i], tree.parent_action[i]
        order = np.argsort(-visits, kind="stable")  # a parent comes before its children
        kept = np.sort(np.unique([*order[: self.nodes], *np.flatnonzero(parent == 0), 0]))
        untried = np.flatnonzero(tree.child[i, 0] == UNTRIED)  # root actions that the search has not tried
        beside = self.prefixes.follow(np.full(len(untried), i), untried)
        above = np.concatenate([parent[kept], np.zeros(len(untried), np.int64)])
        taken = np.concatenate([action[kept], untried])
        edge = (i, np.maximum(above, 0), np.maximum(taken, 0))
        root = above < 0
        visits = np.where(root, tree.edge_visits[i, 0].sum(), tree.edge_visits[edge]).astype(np.float64)
        nothing = np.full(len(untried), np.nan)
        return self._rows(
            model,
            np.concatenate([at[i, kept], beside]),
            parent=np.where(root, -1, np.searchsorted(kept, above)),
            action=np.where(root, -1, taken),
            visits=visits,
            q=np.where(root, tree.value_sum[i, 0] / tree.visits[i, 0], np.where(visits > 0, tree.q[edge], np.nan)),
            prior=np.where(root, 1.0, tree.prior[edge]),
            leaf_value=np.concatenate([tree.value[i, kept], nothing]),
            probability=np.full(len(root), np.nan),
        )

    def _steps(self, chain: "_Chain") -> pd.DataFrame:
        """Returns the rows of a sequence: its prefixes, the shortest first."""
        nothing = np.full(len(chain.at), np.nan)
        return self._rows(
            chain.name,
            chain.at,
            parent=np.arange(len(chain.at)) - 1,
            action=np.concatenate([[-1], chain.actions]),
            visits=nothing,
            q=nothing,
            prior=nothing,
            leaf_value=nothing,
            probability=np.concatenate([nothing[1:], [chain.probability]]),
        )

    def _rows(self, part: str, at: Int64, **columns: NDArray[Any]) -> pd.DataFrame:
        prefixes = self.prefixes
        first = prefixes.length[at] == 0
        meanings = np.array([*self.agent.environment.spec.action_meanings, ""], object)  # "" at -1, the root's action
        return pd.DataFrame(
            {
                "part": part,
                "node": np.arange(len(at)),
                "depth": prefixes.length[at],
                **columns,
                "meaning": meanings[columns["action"]],
                "reward": np.where(first, np.nan, prefixes.reward[at]),
                "predicted_reward": np.where(first, np.nan, prefixes.predicted_reward[at]),
                "value": prefixes.value[at],
                "predicted_value": prefixes.predicted[at],
                "latent_distance": self.distances[at],
                "terminal": prefixes.terminal[at],
            }
        )

    def _sequences(self, ends: Int64, weight: Float64, length: int) -> "Iterator[_Chain]":
        """Yields the likeliest, the best and the worst predicted of a state's A^length sequences.

        Args:
            ends: `[A^length]`, prefixes where the sequences end, in lexicographic order.
            weight: `[A^length]`, probabilities of the sequences.
            length: length of the sequences.
        """
        prefixes, A = self.prefixes, self.prefixes.child.shape[1]
        value, predicted = prefixes.value[ends], prefixes.predicted[ends]
        # The last in this order has the largest key. Of equal ones it is the likeliest, then the first sequence.
        place = -np.arange(len(ends))
        keys = (weight, value, np.abs(predicted - value))
        for name, key in zip(SEQUENCE_PARTS, keys, strict=True):
            index = int(np.lexsort((place, weight, key))[-1])
            actions = np.array(np.unravel_index(index, (A,) * length), np.int64)
            at = [int(prefixes.root[ends[index]])]
            for action in actions:
                at.append(int(prefixes.child[at[-1], action]))
            yield _Chain(name, np.array(at), actions, float(weight[index]))

    def _latent_distances(self) -> Float64:
        """Returns every prefix's Euclidean distance between its unrolled latent and its real state's encoding."""
        prefixes = self.prefixes
        encoded = prefixes.engine.represent(self.agent.environment.observe(prefixes.states))
        apart = (prefixes.latents - encoded).flatten(1).double()
        return np.asarray(torch.linalg.vector_norm(apart, dim=1).cpu().numpy(), np.float64)


class _Chain(NamedTuple):
    """An action sequence, and the prefixes that it passes."""

    name: str  # one of `SEQUENCE_PARTS`
    at: Int64  # [length + 1], prefixes, the state itself first
    actions: Int64  # [length]
    probability: float  # probability of the sequence under pi^MuZero


class _Returns(NamedTuple):
    mean: Float64  # [S, A + 1], mean return of each action, then of the policy
    standard_error: Float64  # [S, A + 1], standard error of the mean


def _true_returns(
    agent: Agent, config: InspectConfig, sample: Sample, uniforms: Float64, on_step: Callable[[], None]
) -> _Returns:
    """Computes the true returns of every action followed by pi^MuZero, and of pi^MuZero itself, over R episodes.

    Args:
        agent: the checkpoint.
        config: settings, with R.
        sample: S states.
        uniforms: `[R, T]` numbers in [0, 1) for the steps of the R episodes; all states and actions share them.
        on_step: called before every step.
    """
    S, R = len(sample.states), config.rollouts
    repeated = sample.states.take(np.repeat(np.arange(S), R))
    numbers = np.tile(uniforms, (S, 1))
    by_action = action_values(agent.environment, agent.policy, repeated, uniforms=numbers, on_step=on_step)
    own = agent.policy.distribution(sample.states)
    returns = by_action.reshape(S, R, -1)
    policy = (returns * own[:, None]).sum(axis=2, keepdims=True)
    all_of_them = np.concatenate([returns, policy], axis=2)
    return _Returns(all_of_them.mean(axis=1), all_of_them.std(axis=1, ddof=1) / np.sqrt(R))


def sequence_length(agent: Agent, config: InspectConfig) -> int:
    """Returns the length of the sequences: the one given, else the largest up to h with at most `_SEQUENCES` of them.

    It is at least 1.

    Raises:
        UsageError: if neither a length nor a horizon is given and the agent has no unroll length, or if there are too
            many sequences of the length given.
    """
    A = agent.environment.spec.num_actions
    if config.length is not None:
        refuse_too_many(A**config.length)
        return config.length
    most = largest_horizon(config.horizon, agent)
    return max(length for length in range(1, most + 1) if length == 1 or A**length <= _SEQUENCES)


def _cost(agent: Agent, config: InspectConfig, _: int) -> Cost:
    S, A = len(config.chosen) + len(config.at), agent.environment.spec.num_actions
    nodes, edges = cost.prefixes(S, A, sequence_length(agent, config), None)
    N = config.simulations or agent.search.simulations
    settings = agent.search.model_copy(update={"simulations": N})
    played = S * config.rollouts * A * (config.steps or agent.environment.spec.time_limit)
    total = cost_of_horizon(agent, config, 1) + cost.own_searches(agent, nodes + S + played)
    total += cost.tree(S, nodes, edges) + Cost(environment_steps=played, model_steps=S + edges)
    for model in agent.models:  # every node of a tree is reached in the real environment, and its state encoded
        total += cost.searches(S, settings, (model, 0)) + cost.tree(0, S * N, S * N) + Cost(model_steps=S * N)
    return total


QUESTION = Question(
    config=InspectConfig,
    units=UNITS,
    measure=measure_inspect,
    cost=_cost,
)
