"""The probes by name: what each measures, of how many checkpoints at once, and what that costs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mzprobe.agents import Agent
from mzprobe.behaviour import BehaviourPolicy, LookaheadPolicy, RandomPolicy
from mzprobe.checkpoints import TARGETS as TARGETS_FILE
from mzprobe.envs import TabularEnvironment
from mzprobe.probes import (
    cost,
    cross,
    equivalence,
    horizon,
    improvement,
    online,
    operators,
    planning,
    search_error,
    sequences,
    targets,
)
from mzprobe.probes.cost import Cost
from mzprobe.probes.sampling import largest_horizon
from mzprobe.settings import (
    CrossConfig,
    EquivalenceConfig,
    HorizonConfig,
    ImprovementConfig,
    OnlineConfig,
    OperatorsConfig,
    PlanningConfig,
    ProbeConfig,
    SearchErrorConfig,
    SequencesConfig,
    StatesConfig,
    TargetsConfig,
    simulation_counts,
)


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A question that is asked of checkpoints."""

    name: str  # of its tables
    command: str  # that asks it
    config: type[ProbeConfig]  # its settings
    units: dict[str, str]  # of its columns
    measure: Callable[..., pd.DataFrame]  # (agent, config, *, on_progress), or (agent, config, others, ...) for pairs
    cost: Callable[[Agent, Any, int], Cost]  # (agent, config, others of a pair): of one checkpoint
    pair: str = ""  # column of the other checkpoints that one is asked about, if it is
    steps: tuple[int, ...] = ()  # training steps that are looked at unless told; none means all
    shared: bool = False  # whether processes can share its episodes
    file: str = ""  # that a checkpoint must hold; those without it are left out, unless asked for
    without: str = ""  # what is said of one without it
    masks: bool = False  # whether it leaves out what is illegal, where an environment says what is

    def trees(self, config: ProbeConfig) -> int:
        """Searches that it runs side by side, for an estimate of its time: its episodes, where it plays no more."""
        return config.episodes if isinstance(config, OnlineConfig | PlanningConfig | OperatorsConfig) else cost.TREES

    def table(self, config: ProbeConfig) -> str:
        """Name of the table for some settings: planning with value leaves has one of its own."""
        return f"{self.name}-value" if isinstance(config, PlanningConfig) and config.leaf == "value" else self.name


def _sampling(agent: Agent, config: StatesConfig) -> Cost:
    return cost.own_episodes(agent, config.episodes) + Cost(states=config.states)


def _online(agent: Agent, config: OnlineConfig, _: int) -> Cost:
    acting = cost.own_episodes(agent, config.episodes)
    return acting + cost.prior_episodes(agent, config.episodes) * 2


def _horizon(agent: Agent, config: HorizonConfig, policies: int) -> Cost:
    A, h = agent.environment.spec.num_actions, largest_horizon(config.horizon, agent)
    m = horizon.sampled(config, A, h)
    nodes, edges = cost.prefixes(config.states, A, h, m)
    again = 0 if m is None else cost.prefixes(config.states, A, horizon.longest_exact(A, h, m), None)[0]
    shared = 1 if m is None else policies
    searched = cost.own_searches(agent, (nodes + again) * policies)
    return _sampling(agent, config) + searched + _tree(config.states, nodes * shared, edges * shared)


def _cross(agent: Agent, config: CrossConfig, policies: int) -> Cost:
    distances = cost.own_searches(agent, 4 * policies * config.states)
    return _horizon(agent, config, 2 * policies) + distances  # each at its own temperature and at 1


def _tree(states: int, nodes: int, edges: int) -> Cost:
    """A prefix tree: every edge is a step in truth and two in the model, unrolled and from where it begins, encoded."""
    return Cost(environment_steps=edges, model_steps=states + nodes + 2 * edges)


def _sequences(agent: Agent, config: SequencesConfig, _: int) -> Cost:
    nodes, edges = cost.prefixes(config.states, agent.environment.spec.num_actions, config.length, None)
    tree = _tree(config.states, nodes, edges) + Cost(model_steps=nodes)  # the policy network is asked where it searches
    return _sampling(agent, config) + cost.own_searches(agent, nodes) + tree


def _equivalence(agent: Agent, config: EquivalenceConfig, heads: int) -> Cost:
    A, k = agent.environment.spec.num_actions, equivalence.orders(agent, config)
    table = agent.environment if isinstance(agent.environment, TabularEnvironment) else None
    S = config.states if table is None else len(table.transitions)
    nodes, edges = cost.prefixes(S, A, k, horizon.sampled(config, A, k))
    # Each prefix is reached, and its latent scored; every head represents and scores its real state.
    tree = _tree(S, nodes, edges) + Cost(model_steps=(1 + 2 * heads) * (S + edges))
    sampling = _sampling(agent, config) if table is None else Cost(states=S)
    return sampling + cost.own_searches(agent, nodes) + tree


def _search(agent: Agent, config: SearchErrorConfig, _: int) -> Cost:
    counts = simulation_counts(config.simulations, agent.environment.spec.num_actions)
    most, searched = max(counts), Cost()
    for N in (most, *counts):  # one that is walked, and one for the regularised policy after each N
        constants = agent.search.model_copy(update={"simulations": N})
        searched += cost.searches(2 * config.states, constants, ("learned", config.horizon))
    steps = 2 * config.states * most * config.horizon
    return _sampling(agent, config) + searched + Cost(environment_steps=steps, model_steps=2 * config.states)


def _planning(agent: Agent, config: PlanningConfig, _: int) -> Cost:
    rollout = config.horizon if config.leaf == "rollout" else 0
    total = Cost()
    for cell, policy in planning.cells(agent, config):
        if isinstance(policy, LookaheadPolicy):
            total += cost.lookahead(agent, config.episodes, cell["model"])
            continue
        if isinstance(policy, RandomPolicy):
            total += Cost(environment_steps=config.episodes * agent.environment.spec.time_limit)
            continue
        if isinstance(policy, BehaviourPolicy):
            total += cost.episodes(agent, config.episodes, policy.config, (cell["model"], rollout))
        else:
            total += cost.prior_episodes(agent, config.episodes)
    return total


def _improvement(agent: Agent, config: ImprovementConfig, _: int) -> Cost:
    spec = agent.environment.spec
    tried, steps = config.states * spec.num_actions, config.steps or spec.time_limit
    asked = tried * (steps - 1) + config.states  # the policy network, after the action and at the states
    total = _sampling(agent, config) + Cost(environment_steps=tried * steps, model_steps=asked)
    for cell in improvement.searched_cells(agent, config):
        constants = agent.search.model_copy(update={"simulations": cell.simulations})
        rollout = config.horizon if cell.leaf == "rollout" else 0
        total += cost.searches(config.states, constants, (cell.model, rollout))
    return total


def _operators(agent: Agent, config: OperatorsConfig, _: int) -> Cost:
    spec, kind = agent.environment.spec, (agent.plan_in, 0)
    asked = config.episodes * config.states
    steps = config.steps or spec.time_limit
    followed = asked * spec.num_actions * (steps - 1)
    total = Cost()
    for rule, N in operators.searched_cells(agent, config):
        constants = agent.search.model_copy(update={"rule": rule, "simulations": N})
        total += cost.episodes(agent, config.episodes, constants, kind)
        total += Cost(environment_steps=asked * spec.num_actions * steps, model_steps=followed)
    return total


def _targets(agent: Agent, config: TargetsConfig, _: int) -> Cost:
    limit = agent.environment.spec.time_limit
    positions = agent.positions
    played = config.rollouts * positions * (config.steps or limit)
    again = positions * limit  # to come there again
    searched = cost.own_searches(agent, played)
    return searched + Cost(environment_steps=played + again, model_steps=2 * positions)


ONLINE = Probe(
    name="online",
    command="eval-online",
    config=OnlineConfig,
    units=online.UNITS,
    measure=online.measure_online,
    cost=_online,
    masks=True,
)
HORIZON = Probe(
    name="horizon",
    command="eval-horizon",
    config=HorizonConfig,
    units=horizon.UNITS,
    measure=horizon.measure_horizon,
    cost=_horizon,
)
SEQUENCES = Probe(
    name="sequences",
    command="eval-sequences",
    config=SequencesConfig,
    units=sequences.UNITS,
    measure=sequences.measure_sequences,
    cost=_sequences,
)
CROSS = Probe(
    name="cross",
    command="cross-matrix",
    config=CrossConfig,
    units=cross.UNITS,
    measure=cross.measure_cross,
    cost=_cross,
    pair="policy_step",
)
SEARCH = Probe(
    name="search",
    command="eval-search",
    config=SearchErrorConfig,
    units=search_error.UNITS,
    measure=search_error.measure_search,
    cost=_search,
    steps=(2000,),
)
PLANNING = Probe(
    name="planning",
    command="eval-planning",
    config=PlanningConfig,
    units=planning.UNITS,
    measure=planning.measure_planning,
    shared=True,
    cost=_planning,
    masks=True,
)

EQUIVALENCE = Probe(
    name="equivalence",
    command="eval-equivalence",
    config=EquivalenceConfig,
    units=equivalence.UNITS,
    measure=equivalence.measure_equivalence,
    cost=_equivalence,
    pair="value_step",
)
IMPROVEMENT = Probe(
    name="improvement",
    command="eval-improvement",
    config=ImprovementConfig,
    units=improvement.UNITS,
    measure=improvement.measure_improvement,
    cost=_improvement,
)

TARGETS = Probe(
    name="targets",
    command="eval-targets",
    config=TargetsConfig,
    units=targets.UNITS,
    measure=targets.measure_targets,
    cost=_targets,
    file=TARGETS_FILE,
    without=targets.WITHOUT,
    masks=True,
)

OPERATORS = Probe(
    name="operators",
    command="eval-operators",
    config=OperatorsConfig,
    units=operators.UNITS,
    measure=operators.measure_operators,
    cost=_operators,
)

_ALL = (ONLINE, HORIZON, SEQUENCES, CROSS, SEARCH, PLANNING, EQUIVALENCE, IMPROVEMENT, TARGETS, OPERATORS)
PROBES = {probe.name: probe for probe in _ALL}
