"""What a probe costs is counted before it starts: by hand, never less than is done, and no more where nothing ends."""

import dataclasses
from functools import partial

import pytest
from agents import made_agent
from brute import TabularNetwork

from mzprobe import behaviour
from mzprobe.checkpoints import read_checkpoint, steps_of
from mzprobe.envs import random_mdp
from mzprobe.envs.core import rewards_along
from mzprobe.networks.engine import engine_for
from mzprobe.networks.evaluate import Evaluator
from mzprobe.probes import equivalence, inspect, prefixes, search_error
from mzprobe.probes.cost import TIMED_TREES, Cost, seconds
from mzprobe.probes.cost import prefixes as trees_of
from mzprobe.probes.registry import PROBES
from mzprobe.probes.runner import ProbeRun, remaining_cost, run_probe
from mzprobe.search import LearnedModel
from mzprobe.settings import (
    CrossConfig,
    EquivalenceConfig,
    HorizonConfig,
    ImprovementConfig,
    InspectConfig,
    OnlineConfig,
    OperatorsConfig,
    PlanningConfig,
    SearchErrorConfig,
    SequencesConfig,
)
from mzprobe.sources.own import load_agent

VALUE, LEARNED, TRUE, TRUE_VALUE = ("learned", 0), ("learned", 4), ("true", 4), ("true", 0)

# The tiny agent: CartPole, 2 actions, at most 500 steps an episode, searches of 8 simulations, unrolled 3 steps.
BY_HAND = {
    "online": (
        OnlineConfig(episodes=3),
        Cost(searches=1500, simulations={VALUE: 12000}, environment_steps=4500, model_steps=3000),
    ),
    # 2 episodes; 1 + 2 + 4 searches a state, 2 + 4 + 8 steps, each two rows of the model; each state is represented,
    # and again each of the 1 + 2 + 4 that steps begin at.
    "horizon": (
        HorizonConfig(states=6, episodes=2),
        Cost(states=6, searches=1042, simulations={VALUE: 8336}, environment_steps=1084, model_steps=216),
    ),
    "horizon sampled": (  # 1 + 2 + 3 + 3 searches a state, and 1 for the two sequences of h = 1; 2 + 3 + 3 + 3 steps
        HorizonConfig(states=6, episodes=2, horizon=4, enumerate_up_to=15, sequences=3),
        Cost(states=6, searches=1060, simulations={VALUE: 8480}, environment_steps=1066, model_steps=192),
    ),
    "sequences": (
        SequencesConfig(states=5, episodes=1, length=2),
        Cost(states=5, searches=515, simulations={VALUE: 4120}, environment_steps=530, model_steps=95),
    ),
    # Two policies at two temperatures, searched each at 1 + 2 nodes a state, on one tree of 2 + 4 steps; and their
    # distances from that of the row, four searches a state.
    "cross": (
        CrossConfig(states=5, episodes=1, horizon=2),
        Cost(states=5, searches=600, simulations={VALUE: 4800}, environment_steps=530, model_steps=80),
    ),
    "cross sampled": (  # their samples may share nothing
        CrossConfig(states=5, episodes=1, horizon=2, enumerate_up_to=0, sequences=3),
        Cost(states=5, searches=620, simulations={VALUE: 4960}, environment_steps=600, model_steps=265),
    ),
    "equivalence": (  # 1 + 2 searches a state, 2 + 4 steps; two heads score 35 real states
        EquivalenceConfig(states=5, episodes=1, horizon=2),
        Cost(states=5, searches=515, simulations={VALUE: 4120}, environment_steps=530, model_steps=255),
    ),
    "search_error": (  # two priors, 7 simulations of 4 steps, and searches of 2 and of 7 for the regularised policy
        SearchErrorConfig(states=5, episodes=1, simulations=(2, 7), horizon=4),
        Cost(
            states=5,
            searches=530,
            simulations={VALUE: 4000, LEARNED: 160},
            environment_steps=780,
            model_steps=10,
        ),
    ),
    "improvement": (  # 16 ways to search 5 states, of which each of 2 actions is followed for 6 steps
        ImprovementConfig(states=5, episodes=1, simulations=(2, 7), horizon=4, steps=6),
        Cost(
            states=5,
            searches=580,
            simulations={VALUE: 4090, LEARNED: 90, TRUE: 90, TRUE_VALUE: 90},
            environment_steps=560,
            model_steps=55,
        ),
    ),
    # Three rules with 2 and with 7 simulations, each 2 episodes; 6 states of 2 actions followed for 5 steps more.
    "operators": (
        OperatorsConfig(episodes=2, states=3, simulations=(2, 7), steps=6),
        Cost(
            searches=6000,
            simulations={VALUE: 27000},
            environment_steps=6432,
            model_steps=360,
        ),
    ),
    # Figure 3's work; then of 3 states 1 + 2 searches and 2 + 4 steps, 8 simulations in each model, which are walked,
    # all of it encoded anew, and 2 episodes of 6 steps after each of 2 actions.
    "inspect": (
        InspectConfig(states=5, episodes=1, horizon=2, rollouts=2, steps=6),
        Cost(
            states=5,
            searches=605,
            simulations={VALUE: 4816, TRUE_VALUE: 24},
            environment_steps=668,
            model_steps=341,
        ),
    ),
    "planning": (  # the prior twice, random play; three priors with 2 and with 5 simulations in each model
        PlanningConfig(episodes=2, simulations=(2, 5), horizon=4),
        Cost(
            searches=12000,
            simulations={LEARNED: 21000, TRUE: 21000},
            environment_steps=15000,
            model_steps=2000,
        ),
    ),
    "planning value": (
        PlanningConfig(episodes=1, simulations=(3,), leaf="value", horizon=4),
        Cost(
            searches=3000,
            simulations={VALUE: 4500, TRUE_VALUE: 4500},
            environment_steps=6500,  # two actions tried a step in the true model
            model_steps=4000,  # the root and its two successors, a step in each model
        ),
    ),
}
EVERY_PROBE = pytest.mark.parametrize("name", BY_HAND)


class CountingEnvironment:
    """An environment that counts its steps, except those that a search takes."""

    def __init__(self, environment, work):
        self.environment, self.work = environment, work
        self.spec = environment.spec
        self.reset, self.observe, self.terminal = environment.reset, environment.observe, environment.terminal

    def step(self, states, actions):
        self.work.add("environment_steps", len(states))
        return self.environment.step(states, actions)

    def rewards_along(self, states, actions):
        self.work.add("environment_steps", actions.size)
        return rewards_along(self.environment, states, actions)


class CountingEngine:
    """Counts the rows of every call."""

    def __init__(self, engine, work):
        for name in ("represent", "dynamics", "predict"):
            setattr(self, name, partial(self._call, getattr(engine, name), work))

    @staticmethod
    def _call(function, work, *arguments):
        work.add("model_steps", len(arguments[0]))
        return function(*arguments)


class Work:
    """What was really done."""

    def __init__(self):
        self.searching = False
        self.counts = dict.fromkeys(("states", "searches", "simulations", "environment_steps", "model_steps"), 0)

    def add(self, name, count):
        if not self.searching:
            self.counts[name] += count


@pytest.fixture
def work(monkeypatch):
    """Counts searches and rows of the network, wherever probes ask for them."""
    counted = Work()
    real_search, real_call = behaviour.search, Evaluator.__call__
    real_leaf = LearnedModel._leaf

    def search(model, roots, *, config, **options):
        counted.add("searches", len(roots))
        counted.add("simulations", len(roots) * config.simulations)
        counted.searching = True
        try:
            return real_search(model, roots, config=config, **options)
        finally:
            counted.searching = False

    def counting_engine(network, compute=None):
        return CountingEngine(engine_for(network, compute), counted)

    def call(evaluator, observations):
        counted.add("model_steps", len(observations))
        return real_call(evaluator, observations)

    def leaf(model, reward, latents, *further):
        counted.add("model_steps", len(latents))
        return real_leaf(model, reward, latents, *further)

    for module in (behaviour, inspect, search_error):
        monkeypatch.setattr(module, "search", search)
    for module in (prefixes, equivalence):
        monkeypatch.setattr(module, "engine_for", counting_engine)
    monkeypatch.setattr(Evaluator, "__call__", call)
    monkeypatch.setattr(LearnedModel, "_leaf", leaf)
    return counted


def counting(agent, work):
    """The agent in an environment that counts, but not what looking at it first takes."""
    environment = CountingEnvironment(agent.environment, Work())
    counted = dataclasses.replace(agent, environment=environment)
    environment.work = work
    return counted


def foretold(name, agent):
    """The cost of a question, as the work counts it."""
    probe = PROBES[name.split()[0]]
    cost = probe.cost(agent, BY_HAND[name][0], 2 if probe.pair else 1)
    return dataclasses.asdict(cost) | {"simulations": sum(cost.simulations.values())}


def done(name, agent, work):
    """What measuring does, with two policies where policies are asked for."""
    probe = PROBES[name.split()[0]]
    counted = counting(agent, work)
    others = [[counted, counted]] if probe.pair else []
    frame = probe.measure(counted, BY_HAND[name][0], *others)
    if "state" in frame:
        work.add("states", frame["state"].nunique())
    return work.counts


@EVERY_PROBE
def test_the_cost_of_a_probe_is_the_one_worked_by_hand(agent, name):
    config, expected = BY_HAND[name]
    probe = PROBES[name.split()[0]]
    loaded = load_agent(read_checkpoint(steps_of(agent)[1]))
    assert probe.cost(loaded, config, 2 if probe.pair else 1) == expected


@EVERY_PROBE
def test_no_probe_does_more_than_it_costs(agent, name, work):
    loaded = load_agent(read_checkpoint(steps_of(agent)[2]))
    cost = foretold(name, loaded)
    found = done(name, loaded, work)
    assert all(0 < found[part] <= cost[part] for part in cost if cost[part] > 0)
    assert all(found[part] == 0 for part in cost if cost[part] == 0)


@EVERY_PROBE
def test_a_probe_does_all_that_it_costs_where_nothing_ends_and_every_action_is_taken(name, work):
    env = random_mdp(0, num_states=4, terminal_fraction=0, time_limit=7)
    uniform = TabularNetwork(env.transitions, [[0.0, 0.0]] * 4)
    agent = made_agent(env, uniform, temperature=0.5)
    cost, found = foretold(name, counting(agent, work)), done(name, agent, work)
    if name == "search_error":  # trajectories that begin deeper in the tree take fewer steps
        assert cost.pop("environment_steps") > found.pop("environment_steps") > 7
    if "sampled" in name or name == "inspect":  # samples and trees may coincide, and share what they do
        assert all(found[part] <= cost[part] for part in cost)
        return
    assert found == cost


def test_a_probe_that_plays_searches_in_as_many_trees_as_it_plays_episodes():
    asked = ("online", "planning", "horizon")
    trees = {name: PROBES[name].side_by_side(PROBES[name].config(episodes=3)) for name in asked}
    assert trees == {"online": 3, "planning": 3, "horizon": TIMED_TREES}


def test_costs_add_up_by_kind_of_simulation():
    one = Cost(states=1, searches=2, simulations={VALUE: 3}, environment_steps=4, model_steps=5)
    other = Cost(states=10, searches=20, simulations={VALUE: 30, TRUE: 300}, environment_steps=40)
    expected = Cost(states=11, searches=22, simulations={VALUE: 33, TRUE: 300}, environment_steps=44, model_steps=5)
    assert one + other == other + one == expected
    assert sum((one, other), Cost()) == expected


def test_a_cost_is_said_in_words():
    assert str(BY_HAND["horizon"][1]) == (
        "6 states, 1,042 searches (8,336 simulations), 1,084 environment steps, 216 network rows"
    )
    assert str(Cost(searches=2, simulations={VALUE: 4, TRUE: 5}, environment_steps=3)) == (
        "2 searches (9 simulations), 3 environment steps"
    )


def asked(agent, out, name, **options):
    config, _ = BY_HAND[name]
    probe = PROBES[name.split()[0]]
    return ProbeRun(probe=probe, agent=agent, config=config, analyses=out, **options)


@EVERY_PROBE
def test_what_is_left_shrinks_to_nothing_as_checkpoints_are_done(agent, tmp_path, name):
    run = asked(agent, tmp_path, name, steps=(0, 20, 40))
    lefts = [remaining_cost(run)]
    for step in (0, 20, 40):
        run_probe(dataclasses.replace(run, steps=(step,)))
        lefts.append(remaining_cost(run))
    run_probe(run)
    lefts.append(remaining_cost(run))
    # Further value heads need no search, but rows of the network.
    work = [cost.searches + cost.model_steps for _, cost in lefts]
    assert work == sorted(work, reverse=True)
    # A row of the cross matrix is done when all of its columns are, and a diagonal is one of them.
    counts = [3, 3, 3, 3, 0] if run.probe.pair else [3, 2, 1, 0, 0]
    assert [count for count, _ in lefts] == counts
    assert lefts[-1] == (0, Cost())
    assert work[0] > work[1] > work[2] > work[3]


def test_the_cost_of_a_row_is_of_the_columns_that_it_lacks(agent, tmp_path):
    run = asked(agent, tmp_path, "cross")
    run_probe(dataclasses.replace(run, steps=(0, 20)))
    loaded = load_agent(read_checkpoint(steps_of(agent)[0]))
    config, _ = BY_HAND["cross"]
    expected = [PROBES["cross"].cost(loaded, config, policies) for policies in (1, 1, 3)]
    assert remaining_cost(run) == (3, sum(expected, Cost()))


def test_seconds_are_positive_and_grow_with_the_work(agent, monkeypatch):
    monkeypatch.setattr("mzprobe.probes.cost._SECONDS", 0.01)
    loaded = load_agent(read_checkpoint(steps_of(agent)[1]))
    kinds = (VALUE, LEARNED, TRUE, TRUE_VALUE)
    one = Cost(searches=1, simulations=dict.fromkeys(kinds, 1000), environment_steps=1000, model_steps=1000)
    many = Cost(searches=1, simulations=dict.fromkeys(kinds, 10**6), environment_steps=10**6, model_steps=10**6)
    assert 0 < seconds(one, loaded) < seconds(many, loaded)
    for alone in (
        *(Cost(simulations={kind: 1000}) for kind in kinds),
        Cost(environment_steps=1000),
        Cost(model_steps=1000),
    ):
        assert seconds(alone, loaded) > 0
    assert seconds(Cost(), loaded) == 0


@pytest.mark.parametrize("sequences", [None, 2, 7, 64])
@pytest.mark.parametrize("A", [1, 2, 3, 18])
def test_prefixes_are_counted_level_by_level(A, sequences):
    for h in range(6):
        levels = [A**k if sequences is None else min(A**k, sequences) for k in range(h + 1)]
        assert trees_of(3, A, h, sequences) == (3 * sum(levels[:-1]), 3 * sum(levels[1:]))


def test_a_horizon_beyond_all_sense_is_counted_at_once():
    assert trees_of(1, 2, 10**8, 64) == (63 + 64 * (10**8 - 6), 126 + 64 * (10**8 - 6))
