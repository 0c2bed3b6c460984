"""What a file names is not run: no checkpoint, preset or study imports a module that its user does not allow."""

import shutil
import sys

import pytest

import mzprobe
from mzprobe.checkpoints import unsealed
from mzprobe.config import RunConfig, load_preset
from mzprobe.errors import UsageError
from mzprobe.files import sealed
from mzprobe.sources.own import load_agent
from mzprobe.trust import named_code, refuse_code

PLANTED = """
from pathlib import Path
import gymnasium
from mzprobe import envs, networks
Path(__file__).with_name("ran").write_text("x")
def make_env(**options):
    return envs.make("cartpole", **options)
def make_network(config, spec, generator):
    return networks.build(config.model_copy(update={"kind": "mlp"}), spec, generator)
"""


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """A module that can be imported, and leaves a trace when it is; gives the trace's path."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "planted_code.py").write_text(PLANTED)
    monkeypatch.syspath_prepend(str(home))
    monkeypatch.delitem(sys.modules, "planted_code", raising=False)
    yield home / "ran"
    sys.modules.pop("planted_code", None)


@pytest.fixture
def strange(agent, tmp_path):
    """Gives an agent's folder whose checkpoints say what is asked, sealed as whoever made them would."""

    def make(**config):
        folder = shutil.copytree(agent, tmp_path / "checkpoints" / "tiny" / "seed-0")
        for file in folder.glob("step-*/checkpoint.json"):
            record = unsealed(file.read_bytes(), file)
            for section, values in config.items():
                record["config"][section] |= values
            file.write_bytes(sealed(record))
        return folder

    return make


STRANGE = [
    ({"environment": {"name": "planted_code:make_env"}}, "planted_code:make_env", "environment.name"),
    ({"environment": {"name": "gym:planted_code:Mine-v0"}}, "planted_code:Mine-v0", "environment.name"),
    ({"network": {"kind": "planted_code:make_network"}}, "planted_code:make_network", "network.kind"),
    (
        {"environment": {"name": "gym:CartPole-v1", "options": {"deep": [{"env_id": "planted_code:Mine-v0"}]}}},
        "planted_code:Mine-v0",
        "environment.options",
    ),
]


@pytest.mark.parametrize("name", ["my-module:f", "évil:f", "1mod:f", "a b:f", ":f", "a.b:f"])
def test_whatever_a_module_is_called_it_is_seen(name):
    for values in (
        {"environment": {"name": name}},
        {"environment": {"name": f"gym:{name}"}},
        {"network": {"kind": name}},
    ):
        assert [named for _, named, _ in named_code(values)] == [name]


@pytest.mark.parametrize(("config", "name", "key"), STRANGE)
def test_no_command_runs_what_a_checkpoint_names(strange, planted, run_cli, tmp_path, config, name, key):
    folder = strange(**config)
    for command in (
        ("eval-online", folder, "--dry-run"),
        ("eval-horizon", folder, "--states", 1),
        ("eval-planning", folder, "--processes", 4),
        ("collect", folder / "step-0000040", "--episodes", 1, "--out", tmp_path / "a-v0"),
        ("verify", folder),
    ):
        code, _, said = run_cli(*command)
        assert not planted.exists()
        if command[0] != "verify":  # which brings nothing to life
            assert code == 2
            assert f"names code to run, '{name}' of module planted_code ({key})" in said
            assert "if you trust it, repeat with --allow planted_code (in Python allow=['planted_code'])" in said


def test_what_is_allowed_runs(strange, planted, run_cli, tmp_path):
    folder = strange(network={"kind": "planted_code:make_network"})
    asked = ("eval-online", folder, "--set", "episodes=1", "--step", 40, "--out", tmp_path / "tables")
    code, _, _ = run_cli(*asked, "--allow", "planted_code")
    assert (code, planted.exists()) == (0, True)
    code, _, said = run_cli(*asked, "--step", 20, "--allow", "planted", "--allow", "code")
    assert (code, "of module planted_code" in said) == (2, True)


def test_a_package_is_allowed_with_all_that_is_in_it():
    values = {"environment": {"name": "pack.part:make"}}
    refuse_code(values, allow=["pack"], source="it")
    refuse_code(values, allow=["pack.part"], source="it")
    for other in ([], ["pac"], ["pack.par"], ["pack.part.more"], ["part"]):
        with pytest.raises(UsageError, match=r"it names code to run, 'pack.part:make' of module pack.part"):
            refuse_code(values, allow=other, source="it")


def test_presets_of_a_path_name_no_code_but_the_user_may(planted, run_cli, tmp_path):
    preset = tmp_path / "mine.toml"
    preset.write_text('[environment]\nname = "planted_code:make_env"\n')
    for command in (
        ("train", preset, "--steps", 0, "--out", tmp_path / "out"),
        ("collect", preset, "--policy", "random", "--episodes", 1, "--out", tmp_path / "a-v0"),
    ):
        code, _, said = run_cli(*command)
        assert (code, planted.exists()) == (2, False)
        assert f"{preset} names code to run, 'planted_code:make_env'" in said
    # What the user types is the user's own word, and what it replaces is not run.
    config = load_preset(str(preset), ["environment.name=cartpole", "network.kind=planted_code:make_network"])
    assert (config.environment.name, config.network.kind) == ("cartpole", "planted_code:make_network")
    assert load_preset(str(preset), allow=["planted_code"]).environment.name == "planted_code:make_env"
    small = [f"--set=training.{key}" for key in ("environments=2", "evaluation_episodes=0", "replay_capacity=600")]
    code, _, _ = run_cli("train", preset, "--steps", 0, "--out", tmp_path / "out", "--allow", "planted_code", *small)
    assert (code, planted.exists()) == (0, True)


def test_a_file_s_own_environment_named_again_keeps_its_options_and_what_they_name(tmp_path):
    preset = tmp_path / "mine.toml"
    preset.write_text('[environment]\nname = "gym:CartPole-v1"\noptions = { env_id = "planted_code:Mine-v0" }\n')
    for given in ([], ["environment.name=gym:CartPole-v1"]):
        with pytest.raises(UsageError, match="names code to run, 'planted_code:Mine-v0'"):
            load_preset(str(preset), given)
    for other in ("cartpole", "gym:Acrobot-v1"):
        assert load_preset(str(preset), [f"environment.name={other}"]).environment.options == {}


def test_a_study_names_no_code(planted, run_cli, tmp_path):
    study = tmp_path / "mine.toml"
    for where in (
        '[overrides]\n"network.kind" = "planted_code:make_network"',
        '[variants.a]\n"environment.name" = "planted_code:x"',
    ):
        study.write_text(f'preset = "cartpole"\nseeds = [0]\n{where}\n')
        code, _, said = run_cli("study", study, "--dry-run")
        assert (code, planted.exists()) == (2, False)
        assert f"{study} names code to run, 'planted_code:" in said


def test_the_library_refuses_too(strange, planted):
    folder = strange(environment={"name": "planted_code:make_env"})
    checkpoint = mzprobe.read_checkpoint(folder / "step-0000040")
    for use in (load_agent, lambda found: found.make_environment()):
        with pytest.raises(UsageError, match="names code to run"):
            use(checkpoint)
    assert not planted.exists()


@pytest.mark.parametrize(
    "values",
    [
        RunConfig().model_dump(),
        {"environment": {"name": "gym:CartPole-v1", "options": {"render_mode": "ansi", "n": [1, None, True]}}},
        {"environment": {"name": "gym:ALE/Pong-v5"}},
        {"environment": {"name": "lunarlander"}, "network": {"kind": "mlp"}},
        {"environment": "not a section", "network": 3},
        {},
    ],
)
def test_registered_names_and_plain_ids_are_no_code(values):
    assert list(named_code(values)) == []
