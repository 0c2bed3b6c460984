"""The cost of a probe, counted before it starts, and estimates of how long it takes on this machine."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, Self

import numpy as np

from mzprobe.agents import Agent
from mzprobe.behaviour import BehaviourPolicy
from mzprobe.config import Model, SearchConfig
from mzprobe.networks.batching import BATCH_SIZE
from mzprobe.probes.prefixes import refuse_too_many
from mzprobe.probes.question import TIMED_TREES
from mzprobe.search.models import LeafValue
from mzprobe.search.rollouts import Rollout
from mzprobe.settings import StatesConfig

Kind = tuple[str, int]  # kind of search: learned or true model, and horizon of the rollouts (0 for value leaves)

_SIMULATIONS, _STEPS, _SECONDS = 16, 4, 0.2  # simulations, environment steps and duration of a measurement


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Upper bound on the work of a probe.

    The work may be less: episodes may end before the time limit, and sequences may have probability 0.
    """

    states: int = 0  # number of sampled states
    searches: int = 0
    simulations: dict[Kind, int] = field(default_factory=dict)
    environment_steps: int = 0  # steps outside of searches
    model_steps: int = 0  # rows that the network computes outside of searches

    def __add__(self, other: Self) -> Self:
        numbers = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "simulations"}
        kinds = {*self.simulations, *other.simulations}
        return replace(
            self,
            **{name: number + getattr(other, name) for name, number in numbers.items()},
            simulations={kind: self.simulations.get(kind, 0) + other.simulations.get(kind, 0) for kind in kinds},
        )

    def __mul__(self, times: int) -> Self:
        numbers = {f.name: getattr(self, f.name) * times for f in fields(self) if f.name != "simulations"}
        return replace(self, **numbers, simulations={kind: count * times for kind, count in self.simulations.items()})

    def __str__(self) -> str:
        total = sum(self.simulations.values())
        parts = [
            f"{self.states:,} states" if self.states else "",
            f"{self.searches:,} searches ({total:,} simulations)",
            f"{self.environment_steps:,} environment steps",
            f"{self.model_steps:,} network rows" if self.model_steps else "",
        ]
        return ", ".join(part for part in parts if part)


def own_searches(agent: Agent, count: int) -> Cost:
    """Returns the cost of `count` searches by the agent's behaviour policy."""
    return searches(count, agent.search, (agent.plan_in, 0))


def searches(count: int, config: SearchConfig, kind: Kind) -> Cost:
    """Returns the cost of `count` searches."""
    return Cost(searches=count, simulations={kind: count * config.simulations})


def episodes(agent: Agent, count: int, config: SearchConfig, kind: Kind) -> Cost:
    """Returns the cost of `count` episodes of full length, with one search per step."""
    steps = count * agent.environment.spec.time_limit
    return searches(steps, config, kind) + Cost(environment_steps=steps)


def own_episodes(agent: Agent, count: int) -> Cost:
    """Returns the cost of `count` episodes of full length by the agent's behaviour policy."""
    return episodes(agent, count, agent.search, (agent.plan_in, 0))


def prior_episodes(agent: Agent, count: int) -> Cost:
    """Returns the cost of `count` episodes of full length by the policy network alone."""
    steps = count * agent.environment.spec.time_limit
    return Cost(model_steps=steps, environment_steps=steps)


def lookahead(agent: Agent, count: int, model: Model) -> Cost:
    """Returns the cost of `count` episodes of full length that try every action for one step of a model before acting.

    Args:
        agent: the agent.
        count: number of episodes.
        model: the model that actions are tried in.
    """
    steps, A = count * agent.environment.spec.time_limit, agent.environment.spec.num_actions
    tried = steps * A if model == "true" else 0
    return Cost(environment_steps=steps + tried, model_steps=steps * (A + 1))


def sampling(agent: Agent, config: StatesConfig) -> Cost:
    """Returns the cost of drawing states that the agent's behaviour policy visits."""
    return own_episodes(agent, config.episodes) + Cost(states=config.states)


def tree(states: int, nodes: int, edges: int) -> Cost:
    """Returns the cost of growing prefix trees (see `PrefixTree`).

    Every edge takes one real step and two steps of the model: one from the unrolled latent, and one from the encoding
    of the real state where it begins.

    Args:
        states: number of states that the trees start from.
        nodes: number of inner nodes.
        edges: number of edges.
    """
    return Cost(environment_steps=edges, model_steps=states + nodes + 2 * edges)


def prefixes(S: int, A: int, h: int, sequences: int | None) -> tuple[int, int]:
    """Returns the largest numbers of inner nodes and edges that S prefix trees of length h can have.

    Args:
        S: number of trees.
        A: number of actions.
        h: length of the sequences.
        sequences: m, sequences sampled per tree; None for all A^h.

    Raises:
        UsageError: if the sequences of a single state are too many to hold.
    """
    most = sequences if sequences is not None and h * np.log2(A) > 64 else min(A**h, sequences or A**h)
    refuse_too_many(most)
    levels = [1]
    while len(levels) <= h and levels[-1] < most:
        levels.append(min(A * levels[-1], most))
    edges = sum(levels[1:]) + (h + 1 - len(levels)) * most  # once all `most` sequences differ, levels stay that wide
    return S * (1 + edges - most), S * edges


def seconds(cost: Cost, agent: Agent, *, trees: int = TIMED_TREES) -> float:
    """Estimates how many seconds a cost takes on this machine; see `Speeds.seconds`."""
    return Speeds(agent).seconds(cost, trees=trees)


class Speeds:
    """Approximate speeds of an agent on this machine, from short measurements with its own network, each made once.

    Measurements begin at start states, so steps that a simulator repeats to return to a state are not counted.

    Args:
        agent: an agent of the run.
    """

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self._measured: dict[tuple[str | Kind, int], float] = {}

    def seconds(self, cost: Cost, *, trees: int = TIMED_TREES) -> float:
        """Estimates how many seconds a cost takes.

        Args:
            cost: the work.
            trees: number of trees grown side by side; the fewer they are, the more a simulation costs.
        """
        trees = min(trees, self.agent.trees(self.agent.search.simulations))
        with self.agent.compute.limited():
            total = 0.0
            for kind, count in cost.simulations.items():
                total += count * self._once(kind, trees, self._searching) / (trees * _SIMULATIONS)
            if cost.environment_steps:
                total += cost.environment_steps * self._once("steps", trees, self._playing) / trees
            if cost.model_steps:
                total += cost.model_steps * self._once("rows", BATCH_SIZE, self._evaluating) / BATCH_SIZE
            return total

    def _once(self, what: str | Kind, count: int, measured: Callable[[Any, int], float]) -> float:
        if (what, count) not in self._measured:
            self._measured[what, count] = measured(what, count)
        return self._measured[what, count]

    def _searching(self, kind: Kind, trees: int) -> float:
        states = self.agent.environment.reset(np.arange(trees))
        return shortest(partial(_policy(self.agent, kind).distribution, states))

    def _playing(self, _: Any, count: int) -> float:
        return _playing(self.agent, count)

    def _evaluating(self, _: Any, rows: int) -> float:
        environment = self.agent.environment
        observations = environment.observe(environment.reset(np.arange(rows)))
        return shortest(lambda: self.agent.evaluate(observations))


def _policy(agent: Agent, kind: Kind) -> BehaviourPolicy:
    model, horizon = kind
    leaf: LeafValue = Rollout(horizon=horizon) if horizon else "value"
    planned = agent.planning_in("true" if model == "true" else "learned", leaf=leaf)
    return agent.acting(planned, temperature=1.0, simulations=_SIMULATIONS)


def _playing(agent: Agent, count: int) -> float:
    """Returns the seconds per step of `count` episodes played straight on, the shortest of several measurements.

    Steps that branch off an episode may cost more.
    """
    best, begun = float("inf"), time.perf_counter()
    while time.perf_counter() - begun < _SECONDS:
        states = agent.environment.reset(np.arange(count))
        for action in range(_STEPS):
            start = time.perf_counter()
            states, outcome = agent.environment.step(
                states, np.full(count, action % agent.environment.spec.num_actions)
            )
            best = min(best, time.perf_counter() - start)
            if outcome.terminated.all():
                break  # further steps would not move, and cost too little
    return best


def shortest(function: Callable[[], Any]) -> float:
    """Returns the seconds of the shortest of several calls, after an uncounted first call, which may compile."""
    function()
    best, begun = float("inf"), time.perf_counter()
    while time.perf_counter() - begun < _SECONDS:
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best
