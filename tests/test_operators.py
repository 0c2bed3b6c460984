"""The operators probe: every rule plays, and its decisions are judged by values that are true; and its figure."""

import numpy as np
import pandas as pd
import pytest
from agents import made_agent
from brute import TabularNetwork, small_mdp, wrong_network
from drawings import golden, legend_of, numbers, points
from hypothesis import given, settings
from hypothesis import strategies as st
from test_improvement import two_ways, valued

from mzprobe.behaviour import draw_episode_numbers
from mzprobe.envs.tabular import TabularStates
from mzprobe.figures.operators import aggregate_operators, draw_operators
from mzprobe.probes.operators import UNITS, measure_operators
from mzprobe.probes.sampling import probe_generator
from mzprobe.search import search
from mzprobe.settings import OperatorsConfig

RULES = ["puct", "gumbel", "regularised"]


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**20), num_actions=st.integers(1, 3), steps=st.sampled_from([None, 1, 9]))
def test_every_row_is_an_episode_played_and_judged_step_by_step(seed, num_actions, steps):
    env = small_mdp(seed, num_actions=num_actions)
    agent = made_agent(env, wrong_network(seed, 6, num_actions), temperature=0.5)
    config = OperatorsConfig(episodes=4, states=3, simulations=(1, 5), steps=steps, seed=2)
    rows = measure_operators(agent, config)
    assert list(rows.columns) == list(UNITS)
    assert rows[["rule", "simulations", "episode"]].to_numpy().tolist() == [
        [rule, N, e] for rule in RULES for N in (1, 5) for e in range(4)
    ]
    assert set(rows["trained_rule"]) == {"puct"}
    assert set(rows["trained_simulations"]) == {8}
    generator = probe_generator(agent, config)
    seeds, uniforms = draw_episode_numbers(generator, 4, 6)
    places = generator.random((4, 3))
    for row in rows.to_dict("records"):
        e, state, path = row["episode"], int(env.reset(seeds[[row["episode"]]]).index[0]), []
        own = agent.policy.config.model_copy(update={"rule": row["rule"], "simulations": row["simulations"]})
        total = 0.0
        for t in range(6):
            found = search(agent.policy.model, env.observe(TabularStates(np.array([state]))), config=own)
            chance, target = found.acting(0)[0], found.target[0]
            path.append((state, chance, target))
            action = int(np.searchsorted(np.cumsum(chance), uniforms[e, t] * chance.sum(), side="right"))
            total += env.rewards[state, action]
            state = int(env.transitions[state, action])
            if env.terminal_states[state]:
                break
        assert row["return"] == pytest.approx(total, abs=1e-12)
        assert (row["length"], row["terminated"]) == (len(path), env.terminal_states[state])
        entropies = [-sum(p * np.log(p) for p in target if p > 0) for _, _, target in path]
        assert row["entropy"] == pytest.approx(np.mean(entropies), abs=1e-12)
        judged = {"fidelity": [], "regret": [], "target_regret": []}
        for place in places[e]:
            at, chance, target = path[int(place * len(path))]
            values = np.array([valued(env, agent.network, at, a, steps or 6) for a in range(num_actions)])
            best = values.max()
            judged["fidelity"].append(chance[np.abs(values - best) <= 1e-9 * max(abs(best), 1)].sum())
            judged["regret"].append(best - chance @ values)
            judged["target_regret"].append(best - target @ values)
        for name, expected in judged.items():
            assert row[name] == pytest.approx(np.mean(expected), abs=1e-9)


def test_a_rule_that_finds_the_better_action_decides_rightly_and_one_that_is_misled_does_not():
    env = two_ways(1)
    for rewards, fidelity, regret in (([0.0, 1.0], 1.0, 0.0), ([1.0, 0.0], 0.0, 1.0)):
        agent = made_agent(env, TabularNetwork([[0, 0]], [rewards], [[0.1, 0.0]]))
        rows = measure_operators(agent, OperatorsConfig(episodes=2, states=2, simulations=(40,)))
        assert set(rows["fidelity"]) == {fidelity}
        assert set(rows["regret"]) == {regret}
        assert (rows["target_regret"] < 0.5).all() == (fidelity == 1)


def test_without_rules_the_agents_own_acts():
    agent = made_agent(two_ways(1), TabularNetwork([[0, 0]], [[0.0, 1.0]], [[0.1, 0.0]]))
    rows = measure_operators(agent, OperatorsConfig(episodes=1, states=1, rules=(), simulations=(3,)))
    assert rows["rule"].tolist() == ["puct"]


# The figure


def test_quantities_are_averaged_over_agents_at_the_last_step():
    cells = aggregate_operators(golden("operators"))
    assert set(cells["row"]) == {"acting"}
    found = numbers(cells, "quantity", "rule", "simulations")
    assert found["return", "puct", 2] == pytest.approx((16, 1, 2))  # 15 and 17
    assert found["fidelity", "puct", 2] == pytest.approx((0.5, 0.25, 2))  # 0.75 and 0.25
    assert found["entropy", "gumbel", 8] == pytest.approx((0.2, 0.1, 2))
    assert found["regret", "gumbel", 2] == pytest.approx((1.5, 0.5, 2))
    assert found["target_regret", "puct", 8] == pytest.approx((1.0, 0.5, 2))
    assert len(found) == 5 * 4


def several():
    """Three trainings: PUCT with 8 and with 2 simulations, Gumbel with 2, whose returns are 100 and 200 more."""
    table = golden("operators")
    few = table.assign(trained_simulations=2).assign(**{"return": table["return"] + 100})
    other = few.assign(trained_rule="gumbel").assign(**{"return": table["return"] + 200})
    frames = {"puct-8": table, "puct-2": few, "gumbel-2": other}
    return pd.concat([frame.assign(variant=name) for name, frame in frames.items()], ignore_index=True)


def test_of_several_trainings_each_acts_by_its_own_and_all_act_on_one():
    cells = aggregate_operators(several())
    found = numbers(cells, "row", "variant", "quantity", "rule", "simulations")
    assert found["trained", "puct-2", "return", "puct", 2] == pytest.approx((116, 1, 2))
    assert found["trained", "gumbel-2", "return", "gumbel", 2] == pytest.approx((252, 2, 2))
    assert found["trained", "puct-8", "return", "puct", 8] == pytest.approx((36, 1, 2))
    assert found["acting", "puct-8", "return", "gumbel", 8] == pytest.approx((61, 1, 2))
    assert {variant for row, variant, *_ in found if row == "acting"} == {"puct-8"}
    assert len(found) == 5 * (3 + 4)


def test_a_row_of_panels_a_question_and_a_line_a_rule():
    one = draw_operators(aggregate_operators(golden("operators")), title="Golden")
    assert [axes.get_title() for axes in one.axes] == [
        "Return (undiscounted reward)",
        "Entropy of the target (nats)",
        "Probability of a best action",
    ]
    drawn = {line.get_label(): line for line in one.axes[0].lines}
    assert points(drawn["PUCT"]) == {2: 16, 8: 36}
    assert points(drawn["Gumbel"]) == {2: 52, 8: 61}
    assert legend_of(one) == ["PUCT", "Gumbel"]
    assert one.get_suptitle() == "Golden, step 1K, 2 agents, mean ± standard error"
    both = draw_operators(aggregate_operators(several()), title="Golden")
    assert [axes.get_ylabel() for axes in both.axes[::3]] == [
        "Trained and acting by it",
        "Acting alone, agents of PUCT, N = 8",
    ]
    drawn = {line.get_label(): line for line in both.axes[0].lines}
    assert points(drawn["PUCT"]) == {2: 116, 8: 36}


def test_a_rule_that_is_named_twice_is_asked_once():
    env = small_mdp(4)
    agent = made_agent(env, wrong_network(4, 6, 2))
    config = OperatorsConfig(episodes=2, states=1, rules=("puct", "puct"), simulations=(2, 2), steps=3)
    assert len(measure_operators(agent, config)) == 2
