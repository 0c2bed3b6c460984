"""An agent of other code that sees the memory of an Atari game: its network, and the game as its wrappers made it."""

from pathlib import Path

import foreign_networks
import numpy as np
import pytest

from mzprobe.errors import UsageError
from mzprobe.networks.engine import TorchEngine, engine_for
from mzprobe.sources import find_source, open_agent, sources
from mzprobe.sources.archives import read_archive
from mzprobe.sources.looking import described
from mzprobe.sources.verifying import TOLERANCE, differences

GOLDEN = Path(__file__).parent / "golden" / "foreign_jimohman_ram.npz"


@pytest.mark.parametrize("engine", [engine_for, TorchEngine])  # the former gives that of our kernels
def test_of_a_memory_it_says_what_the_original_says_of_shares_of_255(engine, tmp_path):
    file = foreign_networks.ram(tmp_path / "file")
    network = sources()["jimohman"].adapter.network(read_archive(file), source=file)
    memories, actions = foreign_networks.ram_inputs()
    with np.load(GOLDEN) as golden:
        said = dict(golden)
    found = differences(engine(network), {"observations": memories, "actions": actions, **said})
    assert list(found) == ["latents", "following", "reward", "policy", "value"]
    assert max(found.values()) < TOLERANCE


def test_it_is_asked_in_the_game_that_it_learnt(tmp_path):
    pytest.importorskip("ale_py")
    file = foreign_networks.ram(tmp_path / "Breakout_7")
    assert find_source(file).name == "jimohman"
    agent = open_agent(file)
    spec = agent.environment.spec
    assert (spec.name, spec.observation_shape, spec.observation_dtype) == ("atari:breakout", (128,), "uint8")
    assert (spec.gamma, spec.time_limit, spec.num_actions) == (0.997, 12_500, 4)
    for rule in ("4 frames a step,", "1 observed", "clipped", "a lost life is an end", "up to 30", "by fire, right"):
        assert rule in spec.source
    assert agent.origin.returned == 640
    assert len(agent.origin.differences) == 2
    assert "differs: after 500 frames without a reward" in "\n".join(described(agent))
    options = open_agent(foreign_networks.ram(tmp_path / "other", avoid_repeat=False, noop_reset=False)).origin
    assert len(options.differences) == 1
    assert options.config["environment"]["options"]["no_ops"] == 0


def test_another_game_is_named_as_ale_names_it(tmp_path):
    pytest.importorskip("ale_py")
    file = foreign_networks.ram(tmp_path / "file", environment="SpaceInvaders-ramNoFrameskip-v4", fire_reset=False)
    said = find_source(file).described(file)
    assert said.facts.environment.name == "atari:space_invaders"
    assert said.facts.environment.options["opening"] == []
    assert said.returned is None


@pytest.mark.parametrize(
    "changed",
    [{"wrap_atari": True}, {"norm_states": False}, {"state_range": None}, {"environment": "Pong-ramNoFrameskip-v4"}],
)
def test_a_game_that_was_shown_otherwise_is_asked_for(tmp_path, changed):
    file = foreign_networks.ram(tmp_path / "file", **changed)
    with pytest.raises(UsageError, match=r"does not say its environment\.name"):
        open_agent(file)


def test_a_look_tells_scores_beside_returns(run_cli, tmp_path):
    pytest.importorskip("ale_py")
    file = foreign_networks.ram(tmp_path / "file")
    few = ["--agent", "search.simulations=2", "--agent", "environment.options.time_limit=40"]
    _, out, _ = run_cli("look", str(file), "--episodes", 2, *few)
    assert "returns: " in out
    assert "scores: " in out
    assert "returns said: 640, about, the scores of its actors' whole games" in out
