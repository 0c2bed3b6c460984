import dataclasses
import itertools
import sys
from pathlib import Path

import foreign_composed
import foreign_networks
import numpy as np
import pytest
import torch

import mzprobe
from mzprobe.compute import Compute
from mzprobe.envs import CartPole
from mzprobe.errors import CheckpointError, UsageError
from mzprobe.networks.engine import TorchEngine, engine_for
from mzprobe.networks.fully_connected import FullyConnected, LatentScale
from mzprobe.networks.fused.engines import ChainEngine
from mzprobe.networks.support import Support
from mzprobe.sources import find_source, open_agent, sources
from mzprobe.sources.archives import read_archive
from mzprobe.sources.foreign import FileSource
from mzprobe.sources.looking import described, support_said
from mzprobe.sources.muzero_general import MuZeroGeneral
from mzprobe.sources.returns import returns_of
from mzprobe.sources.verifying import TOLERANCE, differences
from mzprobe.tables import find_run

GOLDEN = Path(__file__).parent / "golden"
OBSERVED = foreign_networks.OBSERVED
NAMES = pytest.mark.parametrize("name", OBSERVED)
COMPOSED = foreign_composed.SOURCES


@pytest.fixture
def file(tmp_path, name):
    if name == "jimohman":
        pytest.importorskip("Box2D")
    return foreign_networks.write(tmp_path / f"{name}.checkpoint", name)


@pytest.mark.parametrize(
    ("layout", "engine"),
    [*itertools.product(OBSERVED, (engine_for, TorchEngine)), *((layout, TorchEngine) for layout in COMPOSED)],
)
def test_networks_say_what_the_originals_say(layout, engine, tmp_path):
    if layout in COMPOSED:
        file = foreign_networks.save(tmp_path / "file", foreign_composed.tree(layout))
        (observations, actions), rows = foreign_composed.inputs(layout), foreign_composed.ROWS.get(layout, 1000)
    else:
        file = foreign_networks.write(tmp_path / "file", layout)
        (observations, actions), rows = foreign_networks.inputs(*OBSERVED[layout]), 1000
    network = sources()[COMPOSED.get(layout, layout)].adapter.network(read_archive(file), source=file)
    with np.load(GOLDEN / f"foreign_{layout.replace('-', '_').replace('.', '_')}.npz") as golden:
        said = dict(golden)
    found = differences(engine(network), {"observations": observations, "actions": actions, **said})
    assert len(observations) == len(said["value"]) == rows
    assert list(found) == ["latents", "following", "reward", "policy", "value"]
    assert max(found.values()) < TOLERANCE
    ends = torch.where(torch.eye(network.support.atoms).bool(), 0.0, -1000.0)
    assert network.support.scalar(ends).numpy() == pytest.approx(said["ends"], rel=1e-5)


@NAMES
def test_kernels_run_it_on_the_cpu_and_a_row_does_not_depend_on_others(name, tmp_path):
    file = foreign_networks.write(tmp_path / "file", name)
    network = sources()[name].adapter.network(read_archive(file), source=file).requires_grad_(False)
    runs = engine_for(network)
    assert isinstance(runs, ChainEngine)
    observations, actions = foreign_networks.inputs(*OBSERVED[name])
    latents = runs.represent(observations)
    whole = (latents, *runs.dynamics(latents, actions), *runs.predict(latents), runs.value_distribution(latents))
    sequences = np.stack([actions, actions[::-1], actions], axis=1)
    along = runs.rewards_along(latents, sequences)
    for part in (slice(3, 4), slice(10, 15), slice(200, 300)):
        z = runs.represent(observations[part])
        parts = (z, *runs.dynamics(z, actions[part]), *runs.predict(z), runs.value_distribution(z))
        assert all(torch.equal(x, y[part]) for x, y in zip(parts, whole, strict=True))
        assert torch.equal(runs.rewards_along(z, sequences[part]), along[part])
    z, stepped = latents, []
    for t in range(3):
        z, reward = runs.dynamics(z, sequences[:, t])
        stepped.append(reward)
    assert torch.equal(torch.stack(stepped, dim=1), along)


@pytest.mark.parametrize("activation", ["relu", "elu"])
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_chains_of_any_length_are_run_as_torch_runs_them(activation, depth):
    sizes = {"representation": (5, 7), "dynamics": (10, 7), "reward": (7, 11), "policy": (7, 3), "value": (7, 11)}
    chains = {}
    for seed, (part, (inputs, outputs)) in enumerate(sizes.items()):
        widths = [inputs, *(9 + seed + layer for layer in range(depth - 1)), outputs]
        chains[part] = [
            tuple(map(torch.from_numpy, foreign_networks.linear(100 * seed + layer, after, before)))
            for layer, (before, after) in enumerate(itertools.pairwise(widths))
        ]
    support = Support(minimum=-5, maximum=5, atoms=11)
    scale = LatentScale(epsilon=1e-5, always=False)
    network = FullyConnected(chains, support=support, activation=activation, scale=scale, rewards="unscaled")
    assert network.kernel_engine() is None  # its copies would not learn with it
    network.requires_grad_(False)
    observations, actions = foreign_networks.inputs(5, 3)
    found, wanted = [], []
    for runs, said in ((network.kernel_engine(), found), (TorchEngine(network), wanted)):
        latents = runs.represent(observations)
        said += [latents, *runs.dynamics(latents, actions), *runs.predict(latents)]
    for x, y in zip(found, wanted, strict=True):
        assert x.numpy() == pytest.approx(y.numpy(), rel=1e-4, abs=1e-4)


@NAMES
def test_the_reward_of_a_step_is_the_same_by_itself(name, tmp_path):
    file = foreign_networks.write(tmp_path / "file", name)
    network = sources()[name].adapter.network(read_archive(file), source=file)
    observations, actions = (torch.from_numpy(x) for x in foreign_networks.inputs(*OBSERVED[name]))
    latents = network.represent(observations)
    following, reward = network.dynamics(latents, actions)
    assert torch.equal(network.transition(latents, actions), following)
    assert torch.equal(network.support.scalar(network.reward_logits(latents, actions, following)), reward)


@NAMES
def test_a_file_is_recognised_as_its_own_code_s_alone(name, file):
    assert find_source(file).name == name
    assert [one.name for one in sources().values() if one.recognises(file)] == [name]
    assert find_source(file.parent).name == name


@NAMES
def test_an_agent_knows_where_it_is_from(name, file):
    agent = open_agent(file)
    assert agent.origin.source == name
    assert agent.origin.run == f"{name}-{name}"
    assert len(agent.origin.weights_sha256) == 64
    assert agent.origin.training_step == {"muzero-general": 6000, "michaelnny": 30000, "jimohman": 7}[name]
    assert agent.temperature == {"muzero-general": 0.5, "michaelnny": 0.5, "jimohman": 0.0}[name]
    assert agent.unroll == {"muzero-general": 10, "michaelnny": 5, "jimohman": 5}[name]
    assert agent.search.simulations == {"muzero-general": 50, "michaelnny": 50, "jimohman": 30}[name]
    assert agent.environment.spec.gamma == 0.997
    assert bool(agent.origin.differences) == (name == "jimohman")
    lines = "\n".join(described(agent))
    assert f"source: {name}" in lines
    assert f"N = {agent.search.simulations}" in lines


def test_the_landers_rewards_were_thirds(tmp_path):
    pytest.importorskip("Box2D")
    weights = foreign_networks.muzero_general(observation=8, actions=4, latent=10, hidden=64)
    file = foreign_networks.write(tmp_path / "file", "muzero-general", weights=weights)
    agent = open_agent(file)
    assert agent.environment.spec.name == "lunarlander"
    assert agent.network.support.reward_scale == pytest.approx(1 / 3)
    assert agent.origin.returned == pytest.approx(3 * 321)
    assert "same ground" in agent.origin.differences[0]


def test_what_the_user_knows_better_is_taken_and_said(tmp_path):
    file = foreign_networks.write(tmp_path / "file", "muzero-general")
    given = ("temperature=0.25", "search.simulations=7", "environment.options={gamma: 0.9, time_limit: 50}")
    given = (*given[:2], "environment.options.gamma=0.9")
    agent = open_agent(file, given=given)
    assert (agent.temperature, agent.search.simulations, agent.environment.spec.gamma) == (0.25, 7, 0.9)
    assert agent.origin.facts["temperature"] == "given"
    assert agent.origin.config["given"] == list(given)
    with pytest.raises(UsageError, match="did you mean temperature"):
        open_agent(file, given=["temperatur=1"])
    with pytest.raises(UsageError, match="--agent out"):
        find_source(tmp_path, source="own", given=["temperature=1"])


def test_an_unknown_game_is_asked_for(tmp_path):
    weights = foreign_networks.muzero_general(observation=3, actions=2)
    file = foreign_networks.write(tmp_path / "file", "muzero-general", weights=weights)
    with pytest.raises(UsageError, match=r"does not say its environment\.name"):
        open_agent(file)
    with pytest.raises(UsageError, match="does not say its temperature"):
        open_agent(file, given=["environment.name=cartpole"])
    with pytest.raises(UsageError, match=r"is no network for cartpole, which shows \(4,\)"):
        open_agent(file, given=["environment.name=cartpole", "temperature=1"])


def test_an_agent_that_sees_several_observations_is_not_shown_images(tmp_path):
    file = foreign_networks.write(tmp_path / "file", "michaelnny")
    with pytest.raises(UsageError, match=r"several observations at a time: .* of shape \(10, 10, 4\); name"):
        open_agent(file, given=["environment.name=minatar-breakout"])


def test_a_file_s_word_runs_no_code_and_a_user_s_does(tmp_path, monkeypatch):
    class Naming(MuZeroGeneral):
        def describe(self, tree, *, source):
            described = super().describe(tree, source=source)
            environment = described.facts.environment.model_copy(update={"name": "own_makers:make"})
            return described._replace(facts=described.facts.model_copy(update={"environment": environment}))

    (tmp_path / "own_makers.py").write_text("from mzprobe.envs import CartPole as make\n")
    monkeypatch.syspath_prepend(tmp_path)
    file = foreign_networks.write(tmp_path / "file", "muzero-general")
    for asked in (lambda source: source.origin(file), lambda source: source.load(file, compute=Compute())):
        with pytest.raises(UsageError, match="names code to run, 'own_makers:make'"):
            asked(FileSource(Naming()))
    assert "own_makers" not in sys.modules
    assert open_agent(file, source=Naming(), allow=["own_makers"]).environment.spec.name == "cartpole"
    assert open_agent(file, source=Naming(), given=["environment.name=cartpole"]).environment.spec.name == "cartpole"
    assert open_agent(file, given=["environment.name=own_makers:make"]).environment.spec.name == "cartpole"


@pytest.mark.parametrize(
    ("name", "step", "run"),
    [
        ("cartpole.checkpoint", 6000, "cartpole"),
        ("CartPole-v1_train_steps_44800", 44800, "CartPole-v1"),
        ("LunarLander_224000", 224000, "LunarLander"),
        ("model-900.checkpoint", 900, "model"),
        ("iteration_900.pth.tar", 900, "iteration"),
        ("run1900.checkpoint", 900, "run1900"),
        ("900", 900, "saves"),
        ("a b!.checkpoint", 3, "a-b"),
    ],
)
def test_a_run_is_named_by_the_file_without_its_step(tmp_path, name, step, run):
    (tmp_path / "saves").mkdir()
    file = foreign_networks.write(tmp_path / "saves" / name, "muzero-general", training_step=step)
    assert find_source(file).origin(file).run == f"muzero-general-{run}"


def test_files_of_the_same_name_are_agents_of_one_run_or_of_two_as_their_user_says(tmp_path, monkeypatch, run_cli):
    monkeypatch.chdir(tmp_path)
    asked = ("--agent", "environment.options.time_limit=9", "--set", "episodes=2")
    for seed in (0, 1):
        (tmp_path / f"job-{seed}").mkdir()
        layers = {name: (1 + seed) * array for name, array in foreign_networks.muzero_general().items()}
        foreign_networks.write(tmp_path / f"job-{seed}" / "best.checkpoint", "muzero-general", weights=layers)
    code, _, said = run_cli("eval-online", "job-0/best.checkpoint", *asked)
    assert code == 0, said
    code, _, said = run_cli("eval-online", "job-1/best.checkpoint", *asked)
    assert code == 2
    assert "of other weights: name this agent apart with --agent run=NAME or seed=N, choose another folder" in said
    for seed in (0, 1):
        naming = ("--agent", "run=theirs", "--agent", f"seed={seed}")
        code, _, said = run_cli("eval-online", f"job-{seed}/best.checkpoint", *asked, *naming)
        assert code == 0, said
    table = find_run(tmp_path / "analyses", "theirs", "online")
    assert [record["seed"] for record in table.record["agents"]] == [0, 1]
    assert table.frame["seed"].unique().tolist() == [0, 1]
    (command,) = {*table.record["agents"][1]["commands"].values()}
    assert command == (
        "mzprobe eval-online best.checkpoint --set episodes=2 --source muzero-general --agent "
        "environment.options.time_limit=9 --agent run=theirs --agent seed=1"
    )
    code, _, said = run_cli("eval-online", "job-1/best.checkpoint", *asked, "--agent", "run=../theirs")
    assert code == 2
    assert "a run cannot be named '../theirs': give another name with --agent run=NAME" in said


ZEROS = (("representation", 3, 4), ("dynamics", 3, 5), ("reward", 5, 5), ("policy", 2, 3), ("value", 5, 3))
BROKEN = {
    "a layer missing": lambda tree: {"weights": {k: v for k, v in tree["weights"].items() if "policy" not in k}},
    "a layer of another width": lambda tree: {
        "weights": {**tree["weights"], "prediction_value_network.module.2.weight": np.zeros((21, 3), np.float32)}
    },
    "a number that is none": lambda tree: {
        "weights": {**tree["weights"], "prediction_value_network.module.2.bias": np.full(21, np.nan, np.float32)}
    },
    "a step that is none": lambda _: {"training_step": -3},
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_a_file_that_is_not_whole_is_refused_in_one_sentence(tmp_path, change):
    tree = foreign_networks.trees()["muzero-general"]
    file = foreign_networks.write(tmp_path / "file", "muzero-general", **change(tree))
    with pytest.raises(CheckpointError) as caught:
        open_agent(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_support_of_one_atom_is_refused(tmp_path):
    weights = foreign_networks.muzero_general(atoms=1)
    file = foreign_networks.write(tmp_path / "file", "muzero-general", weights=weights)
    with pytest.raises(CheckpointError, match="holds no network that can be used"):
        open_agent(file)


def test_numbers_that_are_all_0_differ_by_nothing():
    network = FullyConnected(
        {part: [(torch.zeros(n, m), torch.zeros(n))] for part, n, m in ZEROS},
        support=Support(minimum=-2, maximum=2, atoms=5),
        activation="relu",
        scale=LatentScale(epsilon=1e-8),
        rewards="step",
    )
    numbers = {"observations": np.ones((3, 4), np.float32), "actions": np.zeros(3, np.int64)}
    found = differences(engine_for(network, Compute()), {**numbers, "reward": np.zeros(3), "value": np.zeros(3)})
    assert found == {"reward": 0.0, "value": 0.0}


@pytest.mark.parametrize("change", [{"eval_temperatures": "hot"}, {"num_simulations": -1}, {"discount": 7.0}])
def test_settings_that_are_none_are_refused(tmp_path, change):
    pytest.importorskip("Box2D")
    config = foreign_networks.Config()
    vars(config).update(change)
    file = foreign_networks.write(tmp_path / "file", "jimohman", config=config)
    with pytest.raises((CheckpointError, UsageError)):
        open_agent(file)


def test_other_heads_than_a_support_are_refused(tmp_path):
    pytest.importorskip("Box2D")
    config = foreign_networks.Config()
    config.no_support = True
    file = foreign_networks.write(tmp_path / "file", "jimohman", config=config)
    with pytest.raises(CheckpointError, match="heads that this source does not know"):
        open_agent(file)


def test_several_checkpoints_of_an_agent_are_found_by_step(tmp_path):
    for step in (900, 100):
        foreign_networks.write(tmp_path / f"model-{step}.checkpoint", "muzero-general", training_step=step)
    source = find_source(tmp_path)
    assert list(source.checkpoints(tmp_path)) == [100, 900]
    assert open_agent(tmp_path).origin.training_step == 900
    assert open_agent(tmp_path, step=100).temperature == 1.0
    with pytest.raises(UsageError, match="choose among 100, 900"):
        open_agent(tmp_path, step=5)
    assert {source.origin(path).run for path in source.checkpoints(tmp_path).values()} == {"muzero-general-model"}
    foreign_networks.write(tmp_path / "again.checkpoint", "muzero-general", training_step=100)
    with pytest.raises(UsageError, match="both of training step 100"):
        open_agent(tmp_path)


def test_an_agent_that_plays_like_chance_is_seen(tmp_path):
    file = foreign_networks.write(tmp_path / "file", "muzero-general")
    agent = open_agent(file, given=["search.simulations=2"])
    returns = returns_of(agent, episodes=6)
    assert returns.agent.shape == returns.chance.shape == (6,)
    for more, like_chance in ((100, False), (0, True)):
        played = dataclasses.replace(returns.episodes, returns=returns.chance + more)
        assert dataclasses.replace(returns, episodes=played).plays_like_chance == like_chance
    head, truth = support_said(agent, returns.episodes)
    assert "atoms, values from -117.4 to 117.4" in head
    longest = returns.episodes.lengths.max()
    assert truth == f"true values: from 1 to {(1 - 0.997**longest) / 0.003:.4g}; 0% lie outside the support"


def test_a_source_of_one_s_own_is_named_by_its_module(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from mzprobe.sources.muzero_general import MuZeroGeneral\n"
        "class Mine(MuZeroGeneral):\n"
        "    def __init__(self):\n"
        "        super().__init__(name='mine')\n"
        "nothing = print\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    file = foreign_networks.write(tmp_path / "file", "muzero-general")
    source = find_source(file, source="mine:Mine")
    assert isinstance(source, FileSource)
    assert source.origin(file).run == "mine-file"
    with pytest.raises(UsageError, match="neither a Source nor an Adapter"):
        find_source(file, source="mine:nothing")
    with pytest.raises(UsageError, match="did you mean 'michaelnny'"):
        find_source(file, source="michaelny")


def test_an_agent_in_memory_answers_every_question_that_asks_no_other():
    network = sources()["muzero-general"].adapter.network(foreign_networks.trees()["muzero-general"], source="here")
    agent = mzprobe.Agent(environment=CartPole(time_limit=12), network=network.eval(), unroll=2)
    sizes = {"states": 3, "episodes": 2}
    rows = mzprobe.measure(agent, "horizon", **sizes)
    assert len(rows) == 6
    assert rows["training_step"].isna().all()
    assert mzprobe.measure(agent, "online", episodes=2)["environment_steps"].isna().all()
    few = {"simulations": (3,), "horizon": 3}
    assert len(mzprobe.measure(agent, "sequences", **sizes, length=2))
    assert len(mzprobe.measure(agent, "search_error", **sizes, **few))
    assert len(mzprobe.measure(agent, "planning", episodes=2, **few))
    assert len(mzprobe.measure(agent, "improvement", **sizes, **few, steps=4))
    assert len(mzprobe.measure(agent, "cross", **sizes))
    assert len(mzprobe.measure(agent, "equivalence", **sizes, horizon=2))
    assert len(mzprobe.measure(agent, "operators", episodes=2, states=1, simulations=(2,), steps=4))
    unknown = dataclasses.replace(agent, unroll=None)
    with pytest.raises(UsageError, match="choose a --horizon"):
        mzprobe.measure(unknown, "horizon", **sizes)
