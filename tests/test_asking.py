"""Tables of agents in memory: the rows that a measure gives, continued and refused as those of checkpoints are."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from agents import made_agent
from brute import small_mdp

import mzprobe
from mzprobe.agents import Origin
from mzprobe.config import MLPConfig
from mzprobe.envs import random_mdp
from mzprobe.errors import UsageError
from mzprobe.figures.beside import Run, draw_beside
from mzprobe.networks import build
from mzprobe.probes.horizon import measure_horizon
from mzprobe.settings import HorizonConfig
from mzprobe.sources.memory import weights_sha256
from mzprobe.tables import read_table, write_table

FEW = {"states": 3, "episodes": 1, "horizon": 2}


def network_of(seed):
    return build(MLPConfig(latent=4, hidden=8), small_mdp(1).spec, torch.Generator().manual_seed(seed))


def agent_of(network_seed, *, seed=0, step=5, **changes):
    agent = made_agent(small_mdp(1), network_of(network_seed))
    return replace(agent, origin=Origin(run="mine", seed=seed, training_step=step), **changes)


def test_a_table_has_the_rows_of_the_measure_and_says_what_made_it(tmp_path):
    agents = [agent_of(2, step=5), agent_of(3, step=9), agent_of(4, seed=1, step=5)]
    shares = []
    paths = mzprobe.ask(agents, "horizon", analyses=tmp_path, on_progress=shares.append, **FEW)
    assert paths == [tmp_path / "mine" / "horizon" / f"seed-{seed}.parquet" for seed in (0, 1)]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    for path, own in zip(paths, (agents[:2], agents[2:]), strict=True):
        table = read_table(path)
        rows = pd.concat([measure_horizon(agent, HorizonConfig(**FEW)) for agent in own], ignore_index=True)
        pd.testing.assert_frame_equal(table.frame, rows[table.frame.columns], check_dtype=False)
        assert table.record["commands"]["5"] == "mzprobe.ask(agents, 'horizon', states=3, episodes=1, horizon=2)"
        assert table.record["checkpoints"]["5"] == weights_sha256(own[0].network)
        assert table.record["environment"]["name"] == own[0].environment.spec.name


def test_further_steps_are_added_and_no_other_network_passes_for_one_that_was_asked(tmp_path):
    (path,) = mzprobe.ask(agent_of(2), "horizon", analyses=tmp_path, **FEW)
    before = path.read_bytes()
    mzprobe.ask(agent_of(2), "horizon", analyses=tmp_path, **FEW)
    assert path.read_bytes() == before
    mzprobe.ask(agent_of(3, step=9), "horizon", analyses=tmp_path, **FEW)
    assert np.unique(read_table(path).frame["training_step"]).tolist() == [5, 9]
    with pytest.raises(UsageError, match="holds step 5 of other weights"):
        mzprobe.ask(agent_of(4), "horizon", analyses=tmp_path, **FEW)
    other = agent_of(2).search.model_copy(update={"simulations": 3})
    with pytest.raises(UsageError, match=r"was made with other config \(search.simulations\)"):
        mzprobe.ask(agent_of(2, search=other), "horizon", analyses=tmp_path, **FEW)
    shorter = random_mdp(1, num_states=6, num_actions=2, terminal_fraction=0.3, time_limit=5)
    with pytest.raises(UsageError, match=r"was made with other config \(environment.time_limit\)"):
        mzprobe.ask(agent_of(2, step=10, environment=shorter), "horizon", analyses=tmp_path, **FEW)
    with pytest.raises(UsageError, match=r"asked with several config \(environment.time_limit\) at its steps"):
        mzprobe.ask([agent_of(2), agent_of(2, step=10, environment=shorter)], "online", analyses=tmp_path, episodes=1)
    mzprobe.ask(agent_of(4), "horizon", analyses=tmp_path, overwrite=True, **FEW)
    assert np.unique(read_table(path).frame["training_step"]).tolist() == [5]


def test_a_table_says_how_its_agent_was_asked_whatever_it_was_made_from(tmp_path):
    origin = Origin(run="mine", seed=0, training_step=5, environment={"name": "another"}, config={"search": "other"})
    agent = replace(agent_of(2), origin=origin)
    (path,) = mzprobe.ask(agent, "horizon", analyses=tmp_path, **FEW)
    record = read_table(path).record
    assert record["environment"]["name"] == agent.environment.spec.name
    assert record["config"]["search"]["simulations"] == agent.search.simulations
    fewer = agent.search.model_copy(update={"simulations": 3})
    with pytest.raises(UsageError, match=r"was made with other config \(search.simulations\)"):
        mzprobe.ask(replace(agent, search=fewer), "horizon", analyses=tmp_path, **FEW)


def test_all_training_steps_are_asked_also_by_questions_that_usually_look_at_a_few(tmp_path):
    few = {"states": 2, "episodes": 1, "horizon": 2, "simulations": (2, 4)}
    (path,) = mzprobe.ask([agent_of(2, step=1000), agent_of(3, step=2000)], "search_error", analyses=tmp_path, **few)
    assert np.unique(read_table(path).frame["training_step"]).tolist() == [1000, 2000]


def test_tables_of_agents_in_memory_are_drawn_judged_and_compared(tmp_path, run_cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    agents = [
        agent_of(network, seed=seed, step=step) for network, (seed, step) in enumerate(((0, 0), (0, 5), (1, 0), (1, 5)))
    ]
    mzprobe.ask(agents, "horizon", **FEW)
    mzprobe.ask(agents, "cross", **FEW)
    for command, made in (("figures", "fig5-cross.png"), ("claims", "claims.md"), ("report", "report.html")):
        code, _, said = run_cli(command, "mine")
        assert code == 0, said
        assert (tmp_path / "figures" / "mine" / made).exists()


class Plain:
    """No torch module."""

    def __init__(self, network):
        self.represent, self.dynamics, self.predict = network.represent, network.dynamics, network.predict


def test_an_agent_without_a_place_and_a_network_without_weights_are_refused(tmp_path):
    def refused(agents, said):
        with pytest.raises(UsageError, match=said):
            mzprobe.ask(agents, "horizon", analyses=tmp_path, **FEW)
        assert [*tmp_path.iterdir()] == []

    refused(replace(agent_of(2), origin=Origin()), "without a training step has no place in a table: give it origin=")
    refused([agent_of(2), agent_of(3)], "two agents are of run mine, seed 0, step 5: give each an origin of its own")
    plain = replace(agent_of(2), network=Plain(network_of(2)))
    refused(
        plain,
        r"Plain has no weights \(tensors of a torch.nn.Module\) that a table could name: give the agent an Origin",
    )
    origin = replace(plain.origin, weights_sha256="the first")
    (path,) = mzprobe.ask(replace(plain, origin=origin), "horizon", analyses=tmp_path, **FEW)
    assert "test_asking" in read_table(path).record["versions"]  # the module that the network is from


def test_nobody_to_ask_is_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no agent to ask about online"):
        mzprobe.ask([], "online", analyses=tmp_path)


def test_weights_are_known_by_their_names_and_numbers():
    assert weights_sha256(network_of(2)) == weights_sha256(network_of(2)) != weights_sha256(network_of(3))
    for without in (torch.nn.ReLU(), network_of(2).represent):
        with pytest.raises(UsageError, match="has no weights"):
            weights_sha256(without)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"run": "../out"}, "cannot be the name of a run|a run"),
        ({"run": ""}, "a run"),
        ({"training_step": -5}, "the training_step of an Origin is a whole number of at least 0, not -5"),
        ({"training_step": 5.0}, "the training_step of an Origin is a whole number of at least 0, not 5.0"),
        ({"seed": True}, "the seed of an Origin is a whole number"),
    ],
)
def test_a_place_that_is_none_is_refused(tmp_path, changes, said):
    agent = agent_of(2)
    agent = replace(agent, origin=replace(agent.origin, **changes))
    with pytest.raises(UsageError, match=said):
        mzprobe.ask(agent, "horizon", analyses=tmp_path / "tables", **FEW)
    assert [*tmp_path.iterdir()] == []


def test_numbers_of_numpy_are_numbers(tmp_path):
    agent = agent_of(2)
    agent = replace(agent, origin=replace(agent.origin, seed=np.int64(3), training_step=np.int64(7)))
    (path,) = mzprobe.ask(agent, "horizon", analyses=tmp_path, **FEW)
    assert path.name == "seed-3.parquet"


def test_runs_of_different_code_compare_and_older_tables_go_on(tmp_path):
    plain = replace(agent_of(2), network=Plain(network_of(2)))
    plain = replace(plain, origin=replace(plain.origin, run="plain", weights_sha256="the first"))
    mzprobe.ask([agent_of(2), plain], "horizon", analyses=tmp_path, **FEW)
    drawn = draw_beside([Run("mine"), Run("plain")], analyses=tmp_path, folder=tmp_path / "out")
    assert "horizon.png" in {one.what.rpartition("/")[2] for one in drawn}
    path = tmp_path / "plain" / "horizon" / "seed-0.parquet"
    table = read_table(path)
    older = {name: said for name, said in table.record["versions"].items() if name != "test_asking"}
    write_table(path, replace(table, record={**table.record, "versions": older}))
    later = replace(plain, origin=replace(plain.origin, training_step=9))
    mzprobe.ask(later, "horizon", analyses=tmp_path, **FEW)
    assert np.unique(read_table(path).frame["training_step"]).tolist() == [5, 9]
