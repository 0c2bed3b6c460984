import json
import shutil
import sys
from pathlib import Path

import mujax_checkpoints
import numpy as np
import pytest
import torch
from mujax_checkpoints import arrays, metadata

import mzprobe
from mzprobe import agents
from mzprobe.envs import CartPole
from mzprobe.errors import CheckpointError, UsageError
from mzprobe.networks import check_network
from mzprobe.networks.engine import engine_for
from mzprobe.networks.support import SymlogSupport
from mzprobe.search.mcts import search
from mzprobe.sources import find_source, open_agent, sources
from mzprobe.sources.looking import described, support_said
from mzprobe.sources.mujax import Mujax, RunFolders, Saved
from mzprobe.sources.returns import returns_of
from mzprobe.sources.verifying import TOLERANCE, differences

GOLDEN = Path(__file__).parent / "golden" / "foreign_mujax.npz"
KERNEL = "prediction.value.layers.layers.6.kernel"


class Kept(Saved):
    """A checkpoint whose arrays were read."""

    def __init__(self, numbers=None, **config):
        super().__init__(metadata(config=config), arrays() if numbers is None else numbers)

    def weights(self):
        return self.folder


@pytest.fixture
def run(tmp_path):
    pytest.importorskip("tensorstore")
    return mujax_checkpoints.write_run(tmp_path / "gmz_20260101_000000")


@pytest.fixture
def best(run):
    return run / "best"


@pytest.fixture
def bare(tmp_path):
    """A checkpoint's folder as far as it is told without tensorstore."""

    def write(name="run", **said):
        folder = tmp_path / name / "best"
        (folder / "pytree").mkdir(parents=True)
        (folder / "metadata.json").write_text(json.dumps(metadata(**said)))
        return folder

    return write


def test_the_network_says_what_the_original_says():
    network = Mujax().network(Kept(), source="here").eval()
    observations, actions = mujax_checkpoints.inputs()
    with np.load(GOLDEN) as golden:
        said = dict(golden)
    found = differences(engine_for(network), {"observations": observations, "actions": actions, **said})
    assert len(observations) == 1000
    assert list(found) == ["latents", "following", "reward", "policy", "value"]
    assert max(found.values()) < TOLERANCE
    ends = torch.where(torch.eye(network.support.atoms).bool(), 0.0, -1000.0)
    assert network.support.scalar(ends).numpy() == pytest.approx(said["ends"], rel=1e-5, abs=1e-5)


class Shown(CartPole):
    """Its states are what is seen of them."""

    def observe(self, states):
        return states

    def terminal(self, states):
        return np.zeros(len(states), bool)


def test_the_search_plays_what_the_original_plays(monkeypatch):
    facts = Mujax().describe(Saved(metadata(), Path("nowhere")), source="here").facts
    environment = Shown(**facts.environment.options)
    monkeypatch.setattr(agents, "refuse_unsound", lambda _: None)  # states in the place of observations
    agent = mzprobe.Agent(environment=environment, network=Mujax().network(Kept(), source="here").eval())
    model = agent.planning_in("learned")
    with np.load(GOLDEN) as golden:
        played, improved, root = (golden[name] for name in ("played", "improved", "root"))
    observations = mujax_checkpoints.inputs()[0][: len(played)]
    result = search(model, model.roots(environment, observations), config=facts.search)
    assert result.winner.argmax(axis=1).tolist() == played.tolist()
    assert 0 < played.mean() < 1
    assert result.target == pytest.approx(improved, abs=1e-5)
    assert result.root_value == pytest.approx(root, rel=1e-5, abs=1e-5 * float(np.abs(root).max()))


def test_the_network_keeps_the_protocol_and_its_unroll():
    check_network(Mujax().network(Kept(), source="here").eval(), CartPole().spec)


def test_the_uniform_policy_has_its_share():
    observations, _ = mujax_checkpoints.inputs()
    mixed, pure = (engine_for(Mujax().network(Kept(policy_unimix=u), source="here").eval()) for u in (0.1, 0))
    latents = mixed.represent(observations)
    assert mixed.predict(latents)[0].numpy() == pytest.approx(0.9 * pure.predict(latents)[0].numpy() + 0.05, rel=1e-5)


def test_symlog_and_back():
    support = SymlogSupport(minimum=-20, maximum=20, atoms=255)
    scalars = torch.tensor([-3e5, -7.5, 0.0, 1e-3, 1.0, 333.0, 4e8], dtype=torch.float64)
    atoms = support.two_hot(scalars)
    assert support.scalar(atoms.log()).numpy() == pytest.approx(scalars.numpy(), rel=1e-9, abs=1e-12)
    assert support.decoded(torch.tensor(20.0)).item() == pytest.approx(np.expm1(20.0))
    even = torch.full((1, 255), 1 / 255, dtype=torch.float64)
    assert support.decode_bias(even).item() == pytest.approx(0.0, abs=1e-3)
    two = torch.zeros(1, 255, dtype=torch.float64)
    two[0, [127, 254]] = 0.5  # 0 and the highest
    assert support.decode_bias(two).item() == pytest.approx(np.expm1(10.0) - 0.5 * np.expm1(20.0))


def test_a_run_s_folder_is_one_agent_with_two_checkpoints(run):
    source = find_source(run)
    assert [one.name for one in sources().values() if one.recognises(run)] == [source.name] == ["mujax"]
    assert source.checkpoints(run) == {5000: run / "best", 6000: run / "latest"}
    assert {source.origin(run / name).run for name in ("best", "latest")} == {"mujax-gmz_20260101_000000"}
    assert open_agent(run).origin.training_step == 6000
    assert open_agent(run, step=5000).origin.returned == 312.5
    assert open_agent(run / "latest").origin.returned is None


def test_each_checkpoint_has_the_weights_that_it_holds(run):
    observations, _ = mujax_checkpoints.inputs()
    for name, seed in (("best", 0), ("latest", 1)):
        wanted = Mujax().network(Kept(arrays(seed)), source="here")
        given = torch.from_numpy(observations[:8])
        assert torch.equal(open_agent(run / name).network.represent(given), wanted.represent(given))


def test_the_latest_that_is_the_best_is_one_checkpoint(run):
    (run / "latest" / "metadata.json").write_text('{"step": 5000}')
    assert list(find_source(run).checkpoints(run)) == [5000]


def test_what_is_known_of_the_agent(best):
    agent = open_agent(best)
    assert agent.environment.spec.name == "cartpole"
    assert (agent.environment.spec.time_limit, agent.environment.spec.gamma) == (500, 1 - 1 / 333)
    search = agent.search
    assert (search.rule, search.simulations, search.considered) == ("gumbel", 16, 16)
    assert (search.c_visit, search.c_scale, search.ties) == (50.0, 0.1, "lowest")
    assert (agent.temperature, agent.unroll) == (1.0, 5)
    assert not agent.origin.differences
    lines = "\n".join(described(agent))
    assert "assumed: search.normalisation_floor, search.ties, from mctx" in lines
    assert "51 atoms" in next(support_said(agent, returns_of(agent, episodes=2).episodes))


def test_the_digest_is_of_what_the_files_hold(run, tmp_path):
    moved = shutil.copytree(run / "best", tmp_path / "elsewhere" / "best")
    layout = RunFolders()
    assert layout.digest(moved) == layout.digest(run / "best") != layout.digest(run / "latest")
    with (moved / "pytree" / "manifest.ocdbt").open("ab") as file:
        file.write(b"x")
    assert layout.digest(moved) != layout.digest(run / "best")


def test_without_tensorstore_all_but_the_weights_is_known(bare, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    folder = bare()
    source = find_source(folder)
    assert source.name == "mujax"
    assert source.origin(folder).training_step == 5000
    with pytest.raises(UsageError, match=r"pip install 'mzprobe\[mujax\]'"):
        open_agent(folder)


def test_other_environments_and_searches(bare):
    source = sources()["mujax"]
    facts = source.described(bare("a", extra={"env_id": "Acrobot-v1"}, config={"max_depth": 3}))
    assert facts.facts.environment.name == "gym:Acrobot-v1"
    assert "no deeper than 3" in facts.differences[0]
    lander = source.described(bare("b", extra={"env_id": "LunarLander-v3"}))
    assert (lander.facts.environment.name, lander.facts.environment.options["time_limit"]) == ("lunarlander", 1000)
    assert "dispersed" in lander.differences[0]
    with pytest.raises(UsageError, match=r"does not say its environment\.name"):
        source.described(bare("c", extra={}))
    with pytest.raises(UsageError, match="names code to run"):
        source.described(bare("d", extra={"env_id": "mine:Game-v0"}))
    with pytest.raises(CheckpointError, match="Stochastic MuZero"):
        source.described(bare("e", algo="smz"))


@pytest.mark.parametrize(
    "config",
    [
        {"effective_horizon": 0},
        {"effective_horizon": "far"},
        {"effective_horizon": 10**400},
        {"num_simulations": None},
        {"num_simulations": 0},
        {"gumbel_scale": -1},
        {"num_unroll_steps": "K"},
        {"max_depth": "deep"},
    ],
)
def test_settings_that_are_none_are_refused(bare, config):
    with pytest.raises(CheckpointError, match="invalid settings"):
        sources()["mujax"].described(bare(config=config))


@pytest.mark.parametrize(
    "config",
    [{"num_bins": 21}, {"num_bins": None}, {"support_min": 30.0}, {"support_max": float("nan")}, {"policy_unimix": 2}],
)
def test_heads_that_are_none_are_refused(config):
    with pytest.raises(CheckpointError, match="give another checkpoint"):
        Mujax().network(Kept(**config), source="here")


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 10**5, '{"algo": "gmz"}', " " * (2 << 20), "\ud800"])
def test_metadata_that_is_none_is_of_no_agent(bare, text):
    folder = bare()
    (folder / "metadata.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert not sources()["mujax"].recognises(folder)
    with pytest.raises((CheckpointError, UsageError)):
        open_agent(folder, source="mujax")


def test_a_step_that_is_none_is_no_end_of_the_command(run):
    for name in ("best", "latest"):
        file = run / name / "metadata.json"
        file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), "step": [1]}), "utf-8")
    assert sources()["mujax"].recognises(run)


def without(name):
    return {key: array for key, array in arrays().items() if key != name}


def changed(name, array):
    return {**arrays(), name: array}


BROKEN = {
    "nothing": {},
    "a layer missing": without("dynamics.reward.layers.layers.3.kernel"),
    "a bias missing": without("dynamics.reward.layers.layers.3.bias"),
    "a norm missing": without("dynamics.reward.layers.layers.4.scale"),
    "a norm of another width": changed("dynamics.reward.layers.layers.4.scale", np.ones(3, np.float32)),
    "a layer of another width": changed(KERNEL, np.zeros((3, 51), np.float32)),
    "a layer the wrong way round": changed(KERNEL, np.ascontiguousarray(arrays()[KERNEL].T)),
    "a layer with more axes": changed(KERNEL, np.zeros((16, 51, 1), np.float32)),
    "whole numbers": changed(KERNEL, np.zeros((16, 51), np.int32)),
    "a number that is none": changed(KERNEL, np.full((16, 51), np.nan, np.float32)),
    "another network": {"params.w.kernel": np.ones((2, 2), np.float32)},
    "a name twice": {**arrays(), f"params.{KERNEL}.value": arrays()[KERNEL]},
}


@pytest.mark.parametrize("numbers", BROKEN.values(), ids=BROKEN)
def test_arrays_that_are_not_its_own_are_refused_in_one_sentence(tmp_path, numbers):
    pytest.importorskip("tensorstore")
    refused(mujax_checkpoints.write(tmp_path / "best", numbers=numbers))


def refused(folder):
    with pytest.raises(CheckpointError) as caught:
        open_agent(folder)
    said = str(caught.value)
    assert str(folder) in said
    assert "\n" not in said
    assert len(said) < len(str(folder)) + 200


def opened(folder):
    import tensorstore

    return tensorstore.KvStore.open(mujax_checkpoints.database(folder)).result()


def test_missing_files_are_refused(best):
    database = best / "pytree"
    shutil.rmtree(database / "d")
    refused(best)
    (database / "manifest.ocdbt").unlink()
    refused(best)


def test_a_chunk_that_is_missing_is_not_read_as_zeros(best):
    opened(best).write(f"{KERNEL}/0.0", None).result()
    refused(best)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [1 << 20, 1 << 20], "chunks": [1 << 20, 1 << 20]},  # one chunk, of 4 TiB
        {"shape": [1 << 40, 51]},
        {"chunks": [1 << 40, 51]},
        {"shape": [-16, 51]},
        {"chunks": [0, 51]},
        {"shape": [16]},
        {"shape": [8, 51]},
        {"dtype": "<i8"},
        {"dtype": [["x", "<f4"]]},
        {"dtype": "<f8"},
        {"compressor": {"id": "none of them"}},
    ],
)
def test_arrays_that_are_labelled_wrongly_are_refused_before_they_are_made(best, change):
    database, key = opened(best), f"{KERNEL}/.zarray"
    said = json.loads(database.read(key).result().value)
    database.write(key, json.dumps({**said, **change}).encode()).result()
    refused(best)


def test_spoilt_files_end_in_one_sentence_or_in_a_network(best, tmp_path):
    """Its arrays have no checksum: a flipped bit in one of them may pass."""
    files = sorted(path for path in (best / "pytree").rglob("*") if path.is_file())
    generator = np.random.Generator(np.random.PCG64(0))
    refusals = []
    for attempt in range(60):
        spoilt = shutil.copytree(best, tmp_path / str(attempt) / "best")
        chosen = spoilt / files[generator.integers(len(files))].relative_to(best)
        data = bytearray(chosen.read_bytes())
        if attempt % 3:
            data[generator.integers(len(data))] ^= 1 << int(generator.integers(8))
        else:
            del data[generator.integers(len(data)) :]
        chosen.write_bytes(data)
        try:
            agent = open_agent(spoilt)
        except (CheckpointError, UsageError) as refusal:
            refusals.append(str(refusal))
        else:
            assert all(torch.isfinite(weight).all() for weight in agent.network.parameters())
    assert len(refusals) > 10
    assert not any("\n" in said for said in refusals)
