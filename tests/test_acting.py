"""Behaviour policies asked otherwise than they were trained: the numbers of an agent made so, and no mixture."""

import numpy as np
import pytest
from agents import made_agent
from brute import wrong_network

from mzprobe.config import SearchConfig
from mzprobe.envs import random_mdp
from mzprobe.probes.acting import acting_as
from mzprobe.probes.registry import PROBES
from mzprobe.search.mcts import search
from mzprobe.settings import ActingConfig, HorizonConfig
from mzprobe.tables import read_table

FEW = ["--states", 3, "--horizon", 2, "--set", "episodes=1", "--step", 20]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Commands write into an empty folder."""
    monkeypatch.chdir(tmp_path)


def an_agent(**options):
    env = random_mdp(4, num_states=6, num_actions=3, terminal_fraction=0.2, time_limit=8)
    return made_agent(env, wrong_network(4, 6, 3), **options)


def test_what_is_left_out_is_as_in_training():
    agent = an_agent()
    assert acting_as(agent, ActingConfig()) is agent


def test_a_question_about_other_simulations_and_temperature_is_one_about_an_agent_that_has_them():
    asked, config = {"simulations": 3, "temperature": 0.25}, HorizonConfig(states=4, episodes=2, horizon=2)
    question = PROBES["horizon"]
    frame = question.ask(an_agent(), config.model_copy(update={"acting": ActingConfig(**asked)}))
    assert frame.equals(question.ask(an_agent(**asked), config))
    assert set(frame["temperature"]) == {0.25}
    assert not frame.equals(question.ask(an_agent(), config))


def test_both_policies_of_a_pair_act_so():
    config = HorizonConfig(states=4, episodes=2, horizon=2, acting=ActingConfig(simulations=2))
    config = PROBES["cross"].config(**config.model_dump())
    agents = an_agent(), an_agent(step=3)
    fewer = an_agent(simulations=2), an_agent(step=3, simulations=2)
    plain = config.model_copy(update={"acting": ActingConfig()})
    frame = PROBES["cross"].ask(agents[0], config, list(agents))
    assert frame.equals(PROBES["cross"].ask(fewer[0], plain, list(fewer)))


@pytest.mark.parametrize("rule", ["puct", "gumbel"])
def test_noise_by_lot_is_that_of_the_state_in_whatever_batch(rule):
    agent = acting_as(an_agent(simulations=12), ActingConfig(noise=True, rule=rule))
    states = agent.environment.reset(np.arange(5))
    alike = agent.policy.distribution(states)
    assert (agent.policy.distribution(states.take([3, 1])) == alike[[3, 1]]).all()
    without = acting_as(an_agent(simulations=12), ActingConfig(rule=rule)).policy.distribution(states)
    assert not np.allclose(alike, without)


def test_noise_by_lot_has_the_share_and_the_shape_of_that_of_collecting_data():
    config, agent = SearchConfig(simulations=1, dirichlet_fraction=0.5), an_agent()
    model, states = agent.planning_in("learned"), agent.environment.reset(np.arange(30))
    roots = model.roots(agent.environment, states)
    clean, noisy = (search(model, roots, config=config, noise_by_lot=lot).prior for lot in (False, True))
    noise = (noisy - 0.5 * clean) / 0.5
    assert (noise > -1e-12).all()
    np.testing.assert_allclose(noise.sum(axis=1), 1.0)
    assert len({tuple(row) for row in noise}) == len({tuple(row) for row in roots.reshape(len(roots), -1).tolist()})


# The command


def test_the_command_asks_so_and_its_table_says_it(run_cli, agent, tmp_path):
    asked = ["--acting", "simulations=3", "--acting", "temperature=0.5"]
    code, out, said = run_cli("eval-horizon", agent, *FEW, *asked, "--out", "fewer")
    assert code == 0, said
    table = read_table(tmp_path / out.strip())
    assert set(table.frame["temperature"]) == {0.5}
    assert table.record["settings"]["acting"] == {"simulations": 3, "temperature": 0.5}
    assert "--set acting.simulations=3 --set acting.temperature=0.5" in table.record["commands"]["20"]
    assert run_cli("eval-horizon", agent, *FEW, "--out", "own")[0] == 0
    own = read_table(tmp_path / "own" / "tiny" / "horizon" / "seed-0.parquet")
    assert not own.frame.equals(table.frame)
    assert "acting" not in own.record["settings"]


def test_tables_of_other_behaviour_policies_do_not_meet_in_a_run(run_cli, agent, tmp_path):
    online = ["eval-online", agent, "--episodes", 1, "--step", 20]
    assert run_cli(*online)[0] == 0
    code, out, said = run_cli("eval-horizon", agent, *FEW, "--acting", "simulations=3")
    assert (code, out) == (2, "")
    assert said.endswith(
        "analyses/tiny/online/seed-0.parquet is about a behaviour policy with other acting.simulations: ask with the "
        "same --acting, or give another folder with --out\n"
    )
    code, _, said = run_cli(*online, "--acting", "temperature=0")
    assert (code, "was made with other settings (acting.temperature)" in said) == (2, True)
    assert run_cli("eval-horizon", agent, *FEW)[0] == 0
    assert sorted(path.name for path in (tmp_path / "analyses" / "tiny").iterdir()) == ["horizon", "online"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("simulation=3", "there is no configuration key acting.simulation: did you mean acting.simulations?"),
        ("simulations=0", "acting.simulations is not valid"),
        ("rule=best", "acting.rule is not valid"),
    ],
)
def test_what_is_asked_wrongly_gets_one_sentence(run_cli, agent, given, sentence):
    code, _, said = run_cli("eval-online", agent, "--acting", given)
    assert (code, sentence in said, said.count("\n")) == (2, True, 1)


def test_inspect_takes_it_too(run_cli, agent):
    small = ["--states", 3, "--episodes", 1, "--horizon", 2, "--step", 20]
    said = [run_cli("inspect", agent, *small, *acting)[1] for acting in ((), ("--acting", "simulations=2"))]
    assert ["N 8, value" in one for one in said] == [True, False]
    assert "N 2, value" in said[1]
