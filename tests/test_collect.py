"""Collecting a dataset as a user would: who plays, how much, and that what is recorded is what happened."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from agents import forged

from mzprobe.behaviour import RandomPolicy, play_episodes
from mzprobe.checkpoints import read_checkpoint, steps_of
from mzprobe.datasets import open_dataset
from mzprobe.datasets.collect import collect, load_player, record_episodes
from mzprobe.envs import CartPole
from mzprobe.envs.tabular import random_mdp
from mzprobe.sources.own import load_agent

minari = pytest.importorskip("minari")
pytest.importorskip("h5py")

SPEC = CartPole().spec
SAID = re.compile(r"(\S+): (\d+) episodes, (\d+) steps, return (\S+) ± (\S+), (\S+) to (\S+)\n")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def step(agent, tmp_path_factory):
    """A checkpoint's folder, with weights that make all its policies differ. Only for reading."""
    source = read_checkpoint(steps_of(agent)[0])
    generator = np.random.default_rng(1)
    weights = {
        name: (array + 0.4 * generator.normal(size=array.shape)).astype(array.dtype)
        for name, array in sorted(source.weights.items())  # they are read in any order
    }
    return forged(tmp_path_factory.mktemp("forged") / "seed-0", source, weights=weights)


@pytest.fixture
def collected(run_cli):
    """Runs `mzprobe collect` with a name for the output, and gives the dataset."""

    def run(name, *arguments):
        code, out, said = run_cli("collect", *arguments, "--out", name)
        assert code == 0, said
        dataset = open_dataset(name, SPEC)
        path, episodes, steps, mean, deviation, lowest, highest = SAID.fullmatch(out).groups()
        assert (path, int(episodes), int(steps)) == (name, len(dataset), dataset.lengths.sum())
        returns = dataset.returns
        assert [mean, deviation, lowest, highest] == [
            f"{value:.2f}" for value in (returns.mean(), returns.std(), returns.min(), returns.max())
        ]
        assert record(dataset)["mean_return"] == returns.mean()
        return dataset

    return run


def record(dataset):
    return json.loads((dataset.path / "mzprobe.json").read_text())


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def actions_of(dataset):
    return [episode.actions.tolist() for episode in dataset.read(range(len(dataset)))]


# Who plays


def test_each_policy_and_temperature_plays_otherwise_and_says_so(collected, step):
    seen = {}
    for name, arguments, policy, temperature, algorithm in (
        ("default", [], "behaviour", 1.0, "MuZero, T = 1"),
        ("cold", ["--temperature", "0.1"], "behaviour", 0.1, "MuZero, T = 0.1"),
        ("prior", ["--policy", "prior"], "prior", 1.0, "MuZero, policy network alone, T = 1"),
        ("greedy", ["--policy", "prior", "--temperature", "0"], "prior", 0.0, "MuZero, policy network alone, T = 0"),
        ("random", ["--policy", "random"], "random", None, "random policy"),
    ):
        dataset = collected(f"{name}-v0", step, *arguments, "--episodes", "5")
        made = record(dataset)
        assert (made["policy"], made["temperature"], made["seed"]) == (policy, temperature, 0)
        metadata = minari.load_dataset(f"{name}-v0").storage.metadata
        assert metadata["algorithm_name"] == algorithm
        assert made["command"] in metadata["description"]
        assert ("checkpoint" in made) == (policy != "random")
        if policy != "random":
            assert made["checkpoint"]["weights_sha256"] == read_checkpoint(step).weights_sha256
            assert made["checkpoint"]["training_step"] == 0
        seen[name] = actions_of(dataset)
    assert len({str(actions) for actions in seen.values()}) == 5


def test_the_defaults_are_those_that_are_named(collected, step, tiny_config):
    T = tiny_config().training.temperature(0)
    default = collected("a-v0", step, "--episodes", "3")
    named = collected(
        "b-v0", step, "--episodes", "3", "--policy", "behaviour", "--temperature", T, "--seed", 0, "--device", "cpu"
    )
    assert default.sha256 == named.sha256
    assert collected("c-v0", step, "--episodes", "3", "--seed", 1).sha256 != default.sha256


def test_the_actions_are_those_of_the_policies(step):
    environment = CartPole()
    states = environment.reset(np.arange(20))
    agent = load_agent(read_checkpoint(step))
    behaviour = load_player(str(step), "behaviour").policy
    assert behaviour.distribution(states).tobytes() == agent.policy.distribution(states).tobytes()
    prior = load_player(str(step), "prior").policy
    assert prior.distribution(states).tobytes() == agent.prior.distribution(states).tobytes()
    chance = load_player("cartpole", "random").policy
    assert chance.distribution(states).tolist() == [[0.5, 0.5]] * 20


def test_chance_is_the_same_however_its_environment_was_named(collected, step):
    of_checkpoint = collected("a-v0", step, "--policy", "random", "--episodes", "4")
    Path("mine.toml").write_text('[environment]\nname = "cartpole"\n')
    for i, source in enumerate(("cartpole", "mine.toml")):
        named = collected(f"b-v{i}", source, "--policy", "random", "--episodes", "4")
        assert (named.sha256, named.lengths.tolist()) == (of_checkpoint.sha256, of_checkpoint.lengths.tolist())


# How much


def test_steps_end_with_the_first_episode_that_reaches_them(collected):
    chance = ("cartpole", "--policy", "random")
    many = collected("many-v0", *chance, "--episodes", "60")
    ends = np.cumsum(many.lengths)
    for steps in (1, int(ends[4]), int(ends[4]) + 1, 1000):
        few = collected(f"steps-v{steps}", *chance, "--steps", steps)
        assert len(few) == int((ends < steps).sum()) + 1
        assert actions_of(few) == actions_of(many)[: len(few)]
    assert len(collected("default-v0", *chance)) == 100


@pytest.mark.parametrize("policy", ["behaviour", "prior", "random"])
def test_the_same_request_gives_the_same_data_whatever_is_played_side_by_side(tmp_path, step, policy):
    player = load_player(str(step), policy)
    for limit in ({"episodes": 7}, {"steps": 150}):
        folder = tmp_path / str(*limit)
        folder.mkdir()
        for side_by_side in (1, 3, 64):
            told = []
            done = collect(
                player,
                folder / str(side_by_side) / "a-v0",
                **limit,
                side_by_side=side_by_side,
                on_progress=lambda *so_far, told=told: told.append(so_far),
            )
            assert told == sorted(told)
            assert told[-1] == (len(done.returns), done.steps)
        parts = [files(folder / str(side_by_side)) for side_by_side in (1, 3, 64)]
        assert parts[0] == parts[1] == parts[2]


def test_the_same_command_gives_the_same_bytes(run_cli, collected, step, tmp_path):
    first = collected("a-v0", step, "--episodes", "5", "--seed", "7")
    before = files(first.path)
    assert str(tmp_path) not in record(first)["command"]  # nor anybody's other folder
    shutil.rmtree(first.path)
    collected("a-v0", step, "--episodes", "5", "--seed", "7")
    assert files(tmp_path / "a-v0") == before


# What is recorded is what happened


@pytest.mark.parametrize(
    "make", [lambda: CartPole(time_limit=30), lambda: random_mdp(3, num_states=9, num_actions=3, time_limit=5)]
)
def test_recorded_episodes_are_those_that_were_played(make):
    environment = make()
    policy = RandomPolicy(environment=environment)
    generator = np.random.default_rng(1)
    seeds, uniforms = generator.integers(100, size=40), generator.random((40, environment.spec.time_limit))
    episodes = record_episodes(environment, policy, seeds=seeds, uniforms=uniforms)
    played = play_episodes(environment, policy, seeds=seeds, uniforms=uniforms)
    assert [len(episode.actions) for episode in episodes] == played.lengths.tolist()
    assert [episode.terminated for episode in episodes] == played.terminated.tolist()
    np.testing.assert_allclose([episode.rewards.sum() for episode in episodes], played.returns, rtol=1e-12)
    assert len(set(played.terminated.tolist())) == 2
    for seed, episode in zip(seeds, episodes, strict=True):
        states = environment.reset([seed])
        for t, action in enumerate(episode.actions):
            assert environment.observe(states)[0].tobytes() == episode.observations[t].tobytes()
            states, outcome = environment.step(states, [action])
            assert outcome.reward[0] == episode.rewards[t]
            assert outcome.terminated[0] == (episode.terminated and t == len(episode.actions) - 1)
        assert environment.observe(states)[0].tobytes() == episode.observations[-1].tobytes()


def test_recorded_episodes_happen_again_in_gymnasium_as_minari_recovers_it(collected, step):
    collected("a-v0", step, "--episodes", "4")
    dataset = minari.load_dataset("a-v0")
    environment = dataset.recover_environment()
    seeds = [about["seed"] for about in dataset.storage.get_episode_metadata(range(4))]
    assert len(set(seeds)) == 4
    for seed, episode in zip(seeds, dataset, strict=True):
        observation, _ = environment.reset(seed=seed)
        for t, action in enumerate(episode.actions):
            assert observation.tobytes() == episode.observations[t].tobytes()
            observation, reward, terminated, truncated, _ = environment.step(action)
            assert (reward, terminated, truncated) == (
                episode.rewards[t],
                episode.terminations[t],
                episode.truncations[t],
            )
        assert observation.tobytes() == episode.observations[-1].tobytes()


# What a user can get wrong


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing argument"),
        (("cartpole",), "--out"),
        (("cartpole", "--out", "a"), "cartpole does not exist: give the folder of a checkpoint"),
        (("nowhere/step-1", "--policy", "random", "--out", "a"), "nowhere/step-1 does not exist: give the folder"),
        (("cartpol", "--policy", "random", "--out", "a"), "did you mean cartpole?"),
        (("cartpole", "--policy", "chance", "--out", "a"), "--policy"),
        (("cartpole", "--policy", "random", "--temperature", "1", "--out", "a"), "policy random has none"),
        (("STEP", "--temperature", "-1", "--out", "a"), "0 or a positive number, not -1"),
        (("STEP", "--temperature", "nan", "--out", "a"), "0 or a positive number, not nan"),
        (("STEP", "--temperature", "inf", "--policy", "prior", "--out", "a"), "not inf"),
        (("STEP", "--episodes", "1", "--steps", "1", "--out", "a"), "and not both"),
        (("STEP", "--episodes", "0", "--out", "a"), "--episodes"),
        (("STEP", "--steps", "0", "--out", "a"), "--steps"),
        (("STEP", "--seed", "-1", "--out", "a"), "--seed"),
        (("STEP", "--device", "gpu", "--out", "a"), "there is no device gpu"),
    ],
)
def test_a_wrong_request_exits_with_2_and_one_line(run_cli, step, tmp_path, arguments, said):
    code, out, err = run_cli("collect", *(str(step) if part == "STEP" else part for part in arguments))
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_checkpoint_exits_with_1_and_one_line(run_cli, tmp_path):
    code, out, err = run_cli("collect", tmp_path, "--out", "a")
    assert (code, out) == (1, "")
    assert re.fullmatch(r"error: .*checkpoint.json does not exist: give the folder of a checkpoint.*\n", err)


def test_of_an_agent_or_a_run_one_of_its_checkpoints_is_asked_for(run_cli, agent):
    for folder in (agent, agent.parent):
        code, out, err = run_cli("collect", folder, "--out", "a")
        assert (code, out) == (2, "")
        assert re.fullmatch(r"error: .* holds \d+ checkpoints: give one of them, such as .*/step-\d+\n", err)


def test_what_is_there_is_not_replaced(run_cli, collected, tmp_path):
    dataset = collected("a-v0", "cartpole", "--policy", "random", "--episodes", "2")
    before = files(dataset.path)
    code, out, err = run_cli("collect", "cartpole", "--policy", "random", "--out", "a-v0")
    assert (code, out) == (2, "")
    assert err == "error: a-v0 exists and is not replaced: remove it or choose another --out\n"
    assert files(dataset.path) == before


@pytest.mark.slow
@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_leaves_nothing_and_says_so(tmp_path, number, exit_code):
    command = [sys.executable, "-m", "mzprobe", "collect", "cartpole", "--policy", "random", "--episodes", "1000000"]
    process = subprocess.Popen(
        [*command, "--out", "a-v0"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        end = time.monotonic() + 60
        while not list(tmp_path.glob(".a-v0.*/data/70")):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(number)
        out, said = process.communicate(timeout=60)
    finally:
        process.kill()  # it would go on for hours
    assert (process.returncode, out) == (exit_code, "")
    (sentence,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert sentence == "error: interrupted: a-v0 was not written, run the same command again"
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
