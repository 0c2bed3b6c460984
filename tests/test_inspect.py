"""Single states: which are chosen, and that every row is a plain search, a plain step or a plain sum."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import brute
import numpy as np
import pytest
from agents import made_agent
from brute import TabularPolicy, oracle, random_policy, small_mdp, wrong_network
from hypothesis import given, settings
from hypothesis import strategies as st

from mzprobe.envs import CartPole
from mzprobe.envs.tabular import TabularEnvironment
from mzprobe.errors import UsageError
from mzprobe.probes.horizon import measure_horizon
from mzprobe.probes.inspect import SEQUENCE_PARTS, UNITS, chosen_states, measure_inspect, sequence_length
from mzprobe.probes.sampling import draw_states
from mzprobe.settings import ActingConfig, HorizonConfig, InspectConfig
from mzprobe.sources import open_agent
from mzprobe.tables import read_table

ALL = InspectConfig(states=5, episodes=2, at=(0, 1, 2, 3, 4), rollouts=2, steps=5, seed=1)


def inspected(seed, *, num_actions=2, network=None, config=ALL, policy=None):
    """The environment, the agent, the table, and the tabular state of each of its states."""
    env = small_mdp(seed, num_actions=num_actions)
    agent = made_agent(env, network or wrong_network(seed, 6, num_actions), policy=policy, simulations=12)
    return env, agent, measure_inspect(agent, config), draw_states(agent, config)[0].states.index


def actions_to(rows, node):
    """The actions from a part's state to a node."""
    taken = []
    while rows.loc[node, "parent"] >= 0:
        taken.insert(0, int(rows.loc[node, "action"]))
        node = rows.loc[node, "parent"]
    return taken


def by_part(frame):
    for (state, part), rows in frame.groupby(["state", "part"], sort=False):
        yield int(state), part, rows.set_index("node")


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**20), num_actions=st.integers(1, 3))
def test_every_node_has_what_its_actions_bring_in_the_truth_and_in_the_model(seed, num_actions):
    policy = random_policy(seed, 6, num_actions)
    env, agent, frame, states = inspected(seed, num_actions=num_actions, policy=policy)
    assert list(frame.columns) == list(UNITS)
    for state, _, rows in by_part(frame):
        start = int(states[state])
        for node, row in rows.iterrows():
            path = brute.follow(env, agent.network, policy, start, actions_to(rows, node))
            assert row["value"] == pytest.approx(path.value, abs=1e-12)
            assert row["predicted_value"] == pytest.approx(path.predicted, abs=1e-6)
            assert row["terminal"] == env.terminal_states[path.real]
            apart = math.sqrt(2) * (path.real != path.believed)  # latents are one-hot
            assert row["latent_distance"] == pytest.approx(apart, abs=1e-6)
            assert row["depth"] == len(actions_to(rows, node))
            if node:
                assert (row["reward"], row["predicted_reward"]) == pytest.approx((path.reward, path.predicted_reward))


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**20), num_actions=st.integers(1, 3))
def test_trees_are_those_of_the_plain_search(seed, num_actions):
    env, agent, frame, states = inspected(seed, num_actions=num_actions)
    for state, model, rows in by_part(frame[~frame["part"].isin(SEQUENCE_PARTS)]):
        root, nodes = brute.planned(
            env, agent.network, int(states[state]), model=model, prior="policy", config=agent.search
        )
        tried = rows[rows["visits"] > 0]
        assert len(tried) == len(nodes) == 13
        assert rows.loc[0, "visits"] == 12
        assert rows.loc[0, "q"] == pytest.approx(root.value_sum / root.visits)
        for node, row in tried.iloc[1:].iterrows():
            plain, actions = root, actions_to(rows, node)
            for action in actions[:-1]:
                plain = plain.children[action]
            last = actions[-1]
            assert row["visits"] == plain.edge_visits[last]
            assert row["q"] == pytest.approx(plain.q[last])
            assert row["prior"] == pytest.approx(plain.prior[last])
            assert row["leaf_value"] == pytest.approx(plain.children[last].value)
        untried = rows[rows["visits"] == 0]
        assert [root.edge_visits[a] for a in untried["action"]] == [0] * len(untried)
        assert set(rows.loc[rows["depth"] == 1, "action"]) == set(range(num_actions))


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**20), num_actions=st.integers(1, 3))
def test_sequences_are_the_likeliest_the_best_and_the_worst_predicted_of_all(seed, num_actions):
    policy = random_policy(seed, 6, num_actions)
    env, agent, frame, states = inspected(seed, num_actions=num_actions, policy=policy)
    length = sequence_length(agent, ALL)
    assert length == 3
    for state, part, rows in by_part(frame[frame["part"].isin(SEQUENCE_PARTS)]):
        paths = brute.all_paths(env, agent.network, policy, int(states[state]), length)
        keys = {
            "likeliest": lambda path: path.probability,
            "best": lambda path: path.value,
            "worst": lambda path: abs(path.predicted - path.value),
        }
        last = rows.iloc[-1]
        found = brute.follow(env, agent.network, policy, int(states[state]), list(rows["action"].iloc[1:]))
        assert keys[part](found) == pytest.approx(max(map(keys[part], paths)), abs=1e-6)
        assert last["probability"] == pytest.approx(found.probability)
        assert rows["probability"].iloc[:-1].isna().all()


def test_true_returns_are_those_of_each_action_and_then_the_policy():
    sure = TabularPolicy(np.eye(2)[[0, 1, 1, 0, 1, 0]])  # one action a state: every episode is the same
    env, _, frame, states = inspected(3, policy=sure)

    def following(state, action, steps):
        total = 0.0
        for t in range(steps):
            if env.terminal_states[state]:
                break
            total += env.spec.gamma**t * env.rewards[state, action]
            state = int(env.transitions[state, action])
            action = int(sure.probabilities[state].argmax())
        return total

    for state, _, rows in by_part(frame):
        start = int(states[state])
        own = int(sure.probabilities[start].argmax())
        assert rows.loc[0, "true_return"] == pytest.approx(following(start, own, 5))
        assert rows.loc[0, "true_return_error"] == 0
        below = rows[rows["depth"] == 1]
        assert below["true_return"].tolist() == pytest.approx([following(start, a, 5) for a in below["action"]])
        assert rows.loc[rows["depth"] > 1, "true_return"].isna().all()


def test_returns_go_on_as_long_as_they_are_asked_to():
    tables = np.zeros((1, 1), int), np.ones((1, 1)), np.zeros(1, bool)
    environment = TabularEnvironment(*tables, starts=[0], gamma=0.9, time_limit=5, name="pays one")
    agent = made_agent(environment, wrong_network(0, 1, 1))
    frame = measure_inspect(agent, InspectConfig(states=1, episodes=1, rollouts=2, steps=50))
    assert frame["true_return"].iloc[0] == pytest.approx((1 - 0.9**50) / 0.1)


def test_the_tree_is_grown_with_the_noise_that_the_agent_acts_with():
    agent = made_agent(small_mdp(3, num_actions=3), wrong_network(3, 6, 3), simulations=12)
    frame = measure_inspect(agent, ALL.model_copy(update={"acting": ActingConfig(noise=True, temperature=1.0)}))
    noisy = replace(agent, root_noise=True, temperature=1.0)
    states = draw_states(noisy, ALL)[0].states
    policy = noisy.policy.distribution(states)
    for state, rows in frame[(frame["part"] == "learned") & (frame["parent"] == 0)].groupby("state"):
        visits = rows.set_index("action")["visits"].sort_index()
        np.testing.assert_allclose(visits / visits.sum(), policy[state], atol=1e-9)


def test_the_oracle_is_never_wrong():
    _, _, frame, _ = inspected(5, network=oracle(small_mdp(5)))
    assert (frame["error"] == 0).all()
    assert (frame["latent_distance"] == 0).all()
    assert (frame["value"] == frame["predicted_value"]).all()


def test_errors_are_those_of_figure_3():
    env = small_mdp(2)
    agent = made_agent(env, wrong_network(2, 6, 2))
    frame = measure_inspect(agent, ALL)
    rows = measure_horizon(agent, HorizonConfig(states=5, episodes=2, seed=1))
    error = rows[rows["h"] == 3].set_index("state")["error"]
    first = frame.groupby("state")["error"].first()
    assert (first == error[first.index]).all()
    assert frame.loc[frame["chosen"] == "worst", "error"].iloc[0] == error.max()


def test_states_are_chosen_once_each_and_by_their_errors():
    errors = np.array([0.3, 0.1, 0.9, 0.2, 0.5])
    names, states = chosen_states(errors, InspectConfig(at=(1, 2)), 3)
    assert names == ["worst", "median", "random", "asked"]
    assert states.tolist() == [2, 0, 3, 1]
    names, states = chosen_states(errors, InspectConfig(chosen=("median", "random")), 0)
    assert (names, states.tolist()) == (["median"], [0])


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (InspectConfig(at=(5,)), "there is no state 5: 5 are drawn, 0 to 4"),
        (InspectConfig(chosen=()), "no state is asked for"),
    ],
)
def test_a_state_that_is_not_there_is_refused(config, said):
    with pytest.raises(UsageError, match=said):
        chosen_states(np.zeros(5), config, 0)


def test_a_fold_keeps_the_most_visited_nodes_and_those_below_the_root():
    _, _, whole, _ = inspected(7)
    _, _, folded, _ = inspected(7, config=ALL.model_copy(update={"nodes": 4}))
    for (state, part, rows), (_, _, few) in zip(by_part(whole), by_part(folded), strict=True):
        if part in SEQUENCE_PARTS:
            continue
        counts = sorted(rows.loc[rows["depth"] != 1, "visits"], reverse=True)
        assert len(few) < len(rows), state
        assert set(few.loc[few["depth"] == 1, "action"]) == {0, 1}
        assert sorted(few.loc[few["depth"] != 1, "visits"], reverse=True) == counts[: (few["depth"] != 1).sum()]


def test_a_state_of_cartpole_is_drawn_and_observed(agent):
    opened = open_agent(agent, step=20)
    config = InspectConfig(states=3, episodes=1, horizon=2, rollouts=2, steps=3, chosen=("worst",))
    frame = measure_inspect(opened, config)
    first, rest = frame.iloc[0], frame.iloc[1:]
    sample, _ = draw_states(opened, config)
    seen = CartPole().observe(sample.states.take([first["state"]]))[0]
    assert json.loads(first["observation"]) == seen.tolist()
    assert first["picture"].startswith("<svg")
    assert not rest["picture"].any()
    assert not rest["observation"].any()


SMALL = ["--states", 4, "--episodes", 1, "--horizon", 2, "--simulations", 5]


def test_the_command_prints_a_state_its_trees_and_its_sequences(run_cli, agent):
    code, out, said = run_cli("inspect", agent, "--step", 20, "--state", "median", "--state", 0, *SMALL)
    assert code == 0, said
    assert out.count("true return: ") == 2
    assert len([line for line in out.splitlines() if re.fullmatch("[\u2800-\u28ff]{10,64}", line)]) > 10  # a cart each
    assert re.search(r"state \d \(median\), step \d+ of episode 0: error \d", out)
    for model in ("learned", "true"):
        assert f"tree in the {model} model: N 5, value " in out
    assert "push left: N " in out
    for title in ("the likeliest sequence", "the best sequence", "the worst predicted sequence"):
        assert f"{title}: probability " in out
    assert "latent distance" in out


def test_no_line_of_a_deep_tree_is_cut_off_and_an_end_is_said_once(run_cli):
    shipped = Path(__file__).parent.parent / "checkpoints" / "cartpole-paper" / "seed-200"
    few = {"states": 20, "episodes": 2, "horizon": 3, "nodes": 12}
    options = [word for name, number in few.items() for word in (f"--{name}", number)]
    code, out, said = run_cli("inspect", shipped, "--step", 1000, "--state", "worst", *options)
    assert code == 0, said
    frame = measure_inspect(open_agent(shipped, step=1000), InspectConfig(**few, chosen=("worst",)))
    for model, end in (("learned", "tree in the true model"), ("true", "the likeliest sequence")):
        tree = out[out.index(f"tree in the {model} model") : out.index(end)]
        words = " ".join(tree.replace("│", " ").split())
        rows = frame[(frame["part"] == model) & (frame["parent"] >= 0)]
        assert len(re.findall(r"\(predicted [-0-9.e]+\)", words)) == (rows["visits"] > 0).sum()
        assert len(re.findall("true return [-0-9.]+ ± [-0-9.]+", words)) == rows["true_return"].notna().sum()
        ends = set(rows.loc[rows["terminal"], "node"])
        assert words.count("an end") == (rows["node"].isin(ends) & ~rows["parent"].isin(ends)).sum()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--state", 4], "there is no state 4: 4 are drawn, 0 to 3"),
        (["--state", "largest"], "chosen"),
        (["--step", 7], "step 7"),
    ],
)
def test_what_is_asked_wrongly_gets_one_sentence(run_cli, agent, arguments, sentence):
    code, out, said = run_cli("inspect", agent, *SMALL, *arguments)
    assert (code, out) == (2, "")
    assert sentence in said
    assert "Traceback" not in said


def test_the_table_is_asked_for_as_any_other(run_cli, agent, tmp_path):
    few = ["--states", 4, "--episodes", 1, "--horizon", 2, "--rollouts", 2, "--steps", 3]
    code, _, said = run_cli("eval-inspect", agent, "--step", 20, "--out", tmp_path, *few)
    assert code == 0, said
    frame = read_table(tmp_path / "tiny" / "inspect" / "seed-0.parquet").frame
    assert set(frame["part"]) == {"learned", "true", *SEQUENCE_PARTS}
    assert frame["chosen"].isin(["worst", "median", "random"]).all()
