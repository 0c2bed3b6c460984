from dataclasses import replace
from pathlib import Path

import foreign_networks
import numpy as np
import pytest

from mzprobe.sources.returns import returns_of
from mzprobe.tables import read_table

FEW = ["--agent", "search.simulations=3", "--agent", "environment.options.time_limit=30"]


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mzprobe.probes.cost._SECONDS", 0.01)
    return foreign_networks.write(tmp_path / "cartpole.checkpoint", "muzero-general")


def test_the_sources_are_listed_with_what_they_were_compared_with(run_cli):
    code, out, _ = run_cli("sources")
    assert code == 0
    names = ["own", "muzero-general", "michaelnny", "jimohman", "lightzero", "lightzero-0.0", "mujax"]
    assert [line.partition(":")[0] for line in out.splitlines()] == names
    assert "compared with its models.py in double precision" in out


def test_a_look_says_whose_agent_it_is_and_that_it_plays_like_chance(run_cli, file):
    code, out, said = run_cli("look", str(file), "--episodes", 4, *FEW)
    assert "source: muzero-general, run muzero-general-cartpole, seed 0, training step 6,000" in out
    assert "search: puct, N = 3, T = 0.5; K = 10" in out
    assert "assumed: environment, search, temperature, unroll, from games/cartpole.py" in out
    assert "returns said: 321, in its latest test game, by the file" in out
    assert "values from -117.4 to 117.4" in out
    assert code == ("plays like chance" in said)


@pytest.mark.parametrize(("more", "code"), [(0.0, 1), (1000.0, 0)])
def test_the_verdict_is_that_of_the_returns(run_cli, file, monkeypatch, more, code):
    def played(agent, *, episodes):
        returns = returns_of(agent, episodes=episodes)
        return replace(returns, episodes=replace(returns.episodes, returns=returns.chance + more))

    monkeypatch.setattr("mzprobe.sources.returns.returns_of", played)
    got, _, said = run_cli("look", str(file), "--episodes", 4, *FEW)
    assert (got, "plays like chance" in said) == (code, bool(code))
    got, out, _ = run_cli("verify-source", str(file), "--episodes", 4, *FEW)
    assert (got, out.splitlines()[-1].partition(":")[0]) == (code, "FAILED" if code else "ok")


def test_few_episodes_that_beat_chance_are_not_taken_for_a_wrong_adapter(run_cli, file, monkeypatch):
    def few(agent, *, episodes):
        returns = returns_of(agent, episodes=episodes)
        better = returns.chance + np.array([1.0, 1000.0])
        return replace(returns, episodes=replace(returns.episodes, returns=better))

    monkeypatch.setattr("mzprobe.sources.returns.returns_of", few)
    code, _, said = run_cli("look", str(file), "--episodes", 2, *FEW)
    assert (code, "plays like chance" in said) == (0, False)
    assert "2 episodes are too few to tell it from chance: give more with --episodes" in said


def test_our_own_agents_are_looked_at_too(run_cli, agent):
    for path in (agent, agent / "step-0000020"):
        code, out, said = run_cli("look", str(path), "--episodes", 3)
        assert "source: own, run tiny, seed 0" in out
        assert code == ("plays like chance" in said)


def test_a_probe_takes_the_file_and_says_what_it_assumes(run_cli, file, tmp_path):
    asked = ["eval-horizon", str(file), "--states", 3, "--horizon", 3, *FEW, "--out", str(tmp_path / "out")]
    code, out, said = run_cli(*asked)
    assert code == 0, said
    assert "muzero-general, training step 6000, asked in cartpole (gamma 0.997, 30 steps)" in said
    path = tmp_path / "out" / "muzero-general-cartpole" / "horizon" / "seed-0.parquet"
    assert out.strip().endswith(path.name)
    record = read_table(path).record
    assert record["source"] == "muzero-general"
    assert record["facts"]["unroll"] == "games/cartpole.py"
    assert record["config"]["given"] == ["search.simulations=3", "environment.options.time_limit=30"]
    before = path.read_bytes()
    code, _, said = run_cli(*asked)
    assert (code, "hold all of it already" in said, path.read_bytes() == before) == (0, True, True)
    code, _, said = run_cli(*asked, "--agent", "temperature=1")
    assert (code, "was made with other config" in said) == (2, True)


def test_every_agent_of_a_folder_is_introduced_and_what_is_alike_is_said_once(run_cli, file, tmp_path, monkeypatch):
    (tmp_path / "several.py").write_text(
        "from dataclasses import dataclass\n"
        "from mzprobe.sources.foreign import FileSource\n"
        "from mzprobe.sources.muzero_general import MuZeroGeneral\n"
        "@dataclass(frozen=True)\n"
        "class Several(FileSource):\n"
        "    adapter: MuZeroGeneral = MuZeroGeneral()\n"
        "    def agents(self, path):\n"
        "        return self._files(path)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "agents"
    folder.mkdir()
    for name in ("a", "c"):
        (folder / name).write_bytes(file.read_bytes())
    weights = foreign_networks.muzero_general(observation=8, actions=4)
    foreign_networks.write(folder / "b", "muzero-general", weights=weights)
    code, _, said = run_cli("eval-online", str(folder), "--source", "several:Several", "--dry-run", *FEW)
    assert code == 0, said
    lines = said.splitlines()
    heads = [f"{folder / name}: muzero-general, training step 6000, asked in " for name in "abc"]
    places = [[i for i, line in enumerate(lines) if line.startswith(head)] for head in heads]
    assert [len(found) for found in places] == [1, 1, 1], said
    of_cartpole = "  assumed: environment, search, temperature, unroll, from games/cartpole.py"
    assert lines[places[0][0] + 1 : places[0][0] + 3] == [lines[places[2][0]], of_cartpole]
    assert lines.count(of_cartpole) == 1
    assert "games/lunarlander.py" in lines[places[1][0] + 1]


def test_a_question_that_needs_what_a_file_does_not_hold_says_so(run_cli, file):
    code, _, said = run_cli("eval-targets", str(file), *FEW)
    assert (code, "has kept no positions" in said) == (2, True)


def test_a_probe_whose_step_is_another_takes_the_only_one_there_is(run_cli, file, tmp_path):
    few = ["--states", 2, "--simulations", 2, "--horizon", 2]
    code, _, said = run_cli("eval-search-error", str(file), *few, *FEW, "--out", str(tmp_path / "out"))
    assert code == 0, said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--source", "mine"], "there is no source mine"),
        (["--source", "michaelnny"], "holds no checkpoint of michaelnny/muzero"),
        (["--agent", "gamma=1"], "there is no configuration key gamma"),
        (["--agent", "temperature"], "temperature"),
    ],
)
def test_what_is_asked_wrongly_gets_one_sentence(run_cli, file, arguments, sentence):
    code, _, said = run_cli("look", str(file), *arguments)
    assert (code, sentence in said) == (2, True)
    assert len(said.strip().splitlines()) == 1


def test_a_damaged_file_gets_one_sentence(run_cli, file):
    whole = file.read_bytes()
    file.write_bytes(b"something else" + whole)
    code, _, said = run_cli("eval-online", str(file))
    assert (code, "is no checkpoint that mzprobe knows" in said) == (2, True)
    file.write_bytes(whole[:-3000])
    code, _, said = run_cli("eval-online", str(file))
    assert (code, "is truncated (it begins as" in said) == (1, True)
    code, _, said = run_cli("eval-online", str(file), "--source", "muzero-general")
    assert (code, "is truncated (it begins as" in said) == (1, True)
    assert len(said.strip().splitlines()) == 1


def test_a_folder_of_an_agent_s_files_is_asked_of_pairs(run_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mzprobe.probes.cost._SECONDS", 0.01)
    for step in (300, 6000):
        foreign_networks.write(tmp_path / f"model-{step}.checkpoint", "muzero-general", training_step=step)
    code, out, said = run_cli("cross-matrix", str(tmp_path), "--states", 2, "--horizon", 2, *FEW)
    assert code == 0, said
    rows = read_table(tmp_path / out.strip().splitlines()[-1]).frame
    assert set(zip(rows["training_step"], rows["policy_step"], strict=True)) == {
        (x, y) for x in (300, 6000) for y in (300, 6000)
    }


@pytest.fixture
def numbers(tmp_path):
    """What the original's own code says of the file's network, with its inputs."""
    observations, actions = foreign_networks.inputs(4, 2)
    with np.load(Path(__file__).parent / "golden" / "foreign_muzero_general.npz") as golden:
        return {"observations": observations, "actions": actions, **golden}


def stored(path, numbers):
    np.savez(path, **numbers)
    return str(path)


def test_an_adapter_is_verified_by_what_its_own_code_says(run_cli, file, numbers, tmp_path):
    asked = ["verify-source", str(file), "--episodes", 3, *FEW, "--numbers"]
    _, out, _ = run_cli(*asked, stored(tmp_path / "theirs.npz", numbers))
    lines = out.splitlines()
    assert lines[0].endswith("is recognised by muzero-general alone")
    assert [line.partition(" differ by ")[0] for line in lines[2:7]] == [
        f"ok: {name}" for name in ("latents", "following", "reward", "policy", "value")
    ]
    assert lines[7].partition("returns ")[0] in ("ok: ", "FAILED: ")
    wrong = {**numbers, "value": numbers["value"] * 1.001}
    code, out, said = run_cli(*asked, stored(tmp_path / "wrong.npz", wrong))
    assert [line for line in out.splitlines() if line.startswith("FAILED: value differ by 1.0e-03")]
    assert (code, "does not read" in said) == (1, True)


def test_an_adapter_that_sees_another_s_file_is_told(run_cli, file, tmp_path, monkeypatch):
    (tmp_path / "greedy.py").write_text(
        "from dataclasses import dataclass\n"
        "from mzprobe.sources.muzero_general import MuZeroGeneral\n"
        "@dataclass(frozen=True)\n"
        "class Greedy(MuZeroGeneral):\n"
        "    name: str = 'greedy'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    code, out, _ = run_cli("verify-source", str(file), "--source", "greedy:Greedy", "--episodes", 2, *FEW)
    assert code == 1
    assert "FAILED" in out.splitlines()[0]
    assert "recognised by greedy, and by muzero-general too" in out.splitlines()[0]


def without(numbers, name):
    return {key: array for key, array in numbers.items() if key != name}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda n: {"value": n["value"]}, "lacks observations, actions"),
        (lambda n: {key: n[key] for key in ("observations", "actions")}, "lacks all of latents"),
        (lambda n: n | {"actions": n["actions"] + 1}, "actions [B] below 2"),
        (lambda n: n | {"observations": n["observations"][:, :3]}, "must hold observations [B, 4]"),
        (lambda n: n | {"value": n["value"][:5]}, "must hold value as 1000 rows of finite numbers"),
        (
            lambda n: without(n, "reward") | {"rewards": n["reward"]},
            "has rewards, which is compared with nothing: call",
        ),
        (lambda n: n | {"reward": n["reward"] * np.nan}, "must hold reward as 1000 rows of finite numbers"),
    ],
)
def test_numbers_of_another_kind_are_refused(run_cli, file, numbers, tmp_path, change, sentence):
    path = stored(tmp_path / "other.npz", change(numbers))
    code, _, said = run_cli("verify-source", str(file), "--numbers", path, *FEW)
    assert (code, sentence in said) == (2, True), said


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no arrays"])
def test_a_file_without_arrays_is_refused(run_cli, file, tmp_path, content):
    (tmp_path / "theirs.npz").write_bytes(content)
    code, _, said = run_cli("verify-source", str(file), "--numbers", str(tmp_path / "theirs.npz"), *FEW)
    assert (code, "holds no arrays: write one" in said) == (2, True), said
