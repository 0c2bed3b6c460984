"""Where something is refused, the remedy that is named is the right one; where it can be mended, it is."""

import os
import shutil

import pytest

from mzprobe.checkpoints import read_checkpoint, step_of, steps_of
from mzprobe.errors import CheckpointError, MzprobeError
from mzprobe.locks import held


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def copied(agent, folder):
    """A trained agent's folder, to be changed."""
    place = folder / "checkpoints" / "tiny" / "seed-0"
    shutil.copytree(agent, place)
    return place


# Going on


def test_what_an_agent_was_begun_with_is_taken_from_its_record_and_said(run_cli, copied, contents):
    before = contents(copied)
    code, out, said = run_cli("train", "cartpole", "--name", "tiny", "--steps", 50)
    assert code == 0, said
    assert said.startswith("checkpoints/tiny/seed-0 goes on as it was begun, with network.latent=8, network.hidden=16")
    assert out.startswith("checkpoints/tiny/seed-0: 50 training steps")
    last = read_checkpoint(steps_of(copied)[-1])
    assert (last.training_step, last.config.training.batch_size) == (50, 16)
    assert "--set training.batch_size=16" in last.command
    assert {name: contents(copied)[name] for name in before} == before


def test_an_agent_of_another_preset_and_environment_is_not_trained_on(run_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ["--steps", 0, "--set", "training.evaluation_episodes=0"]
    assert run_cli("train", "small", "--name", "mine", *small)[0] == 0
    code, _, said = run_cli("train", "cartpole", "--name", "mine", "--steps", 1)
    assert code == 2
    assert "checkpoints/mine/seed-0 was begun by mzprobe train small, in tabular: name that preset or none" in said
    for preset in (["small"], []):
        assert run_cli("train", *preset, "--name", "mine", *small)[0] == 0
    study = ["preset = 'small'", "seeds = [0]", "[overrides]", "training.steps = 0", "training.evaluation_episodes = 0"]
    (tmp_path / "own.toml").write_text("\n".join(study))
    assert run_cli("study", "own.toml", "--processes", 1)[0] == 0
    code, _, said = run_cli("train", "cartpole", "--name", "own", "--steps", 1)
    assert (code, "seed-0 was begun by mzprobe study own.toml, in tabular" in said) == (2, True), said


def test_what_is_given_otherwise_is_refused_with_what_it_was(run_cli, copied):
    code, _, said = run_cli("train", "cartpole", "--name", "tiny", "--set", "training.batch_size=17")
    assert code == 2
    assert said.splitlines()[-1] == (
        "error: checkpoints/tiny/seed-0 holds an agent of another configuration (training.batch_size): go on with "
        "training.batch_size=16, choose another name or folder for the new one, or remove that folder"
    )


def test_how_often_a_state_is_saved_may_change_and_moves_no_bit(tmp_path, tiny_config, make_trainer):
    for folder, turns in (("whole", [(40, 10)]), ("broken", [(20, 10), (30, 7), (40, 3)])):
        for steps, interval in turns:
            config = tiny_config(f"training.resume_interval={interval}", f"training.steps={steps}")
            make_trainer(config, tmp_path / folder).train()
    whole, broken = (
        {step_of(path): read_checkpoint(path).weights_sha256 for path in steps_of(tmp_path / name / "tiny" / "seed-0")}
        for name in ("whole", "broken")
    )
    assert broken.items() >= whole.items()


def test_no_record_names_code_that_is_run_unless_it_is_allowed(run_cli, folder, tiny_config, make_trainer):
    config = tiny_config("environment.name=own_problems:Grid", "environment.options={}", "training.steps=1")
    make_trainer(config, folder / "checkpoints").train()
    code, _, said = run_cli("train", "--name", "tiny", "--steps", 2)
    assert code == 2
    assert "seed-0 names code to run, 'own_problems:Grid' of module own_problems" in said
    code, _, said = run_cli("train", "--name", "tiny", "--steps", 2, "--allow", "own_problems")
    assert code == 0, said
    assert "environment.name=own_problems:Grid" in said


def test_a_finished_agent_without_a_state_is_finished(copied, tiny_config, make_trainer, contents):
    before = contents(copied)
    shutil.rmtree(copied / "resume")
    trainer = make_trainer(tiny_config(), copied.parent.parent)
    trainer.train()
    assert (trainer.step, trainer.environment_steps) == (40, read_checkpoint(steps_of(copied)[-1]).environment_steps)
    assert contents(copied) == before


def test_an_agent_without_a_state_is_not_begun_again_over_its_checkpoints(copied, tiny_config, make_trainer, contents):
    before = contents(copied)
    shutil.rmtree(copied / "resume")
    with pytest.raises(CheckpointError, match=r"checkpoints up to step 40 and no state to go on from: copy its folder"):
        make_trainer(tiny_config("training.steps=60"), copied.parent.parent).train()
    assert contents(copied) == before


def test_a_truncated_state_costs_no_checkpoint(copied, tiny_config, make_trainer):
    (path,) = copied.glob("resume/*/state.safetensors")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="truncated or edited: copy it back, or train under another"):
        make_trainer(tiny_config("training.steps=60"), copied.parent.parent).train()


# Asking


def test_a_single_checkpoint_is_asked_alone(run_cli, copied):
    place = copied / "step-0000020"
    code, _, said = run_cli("eval-online", place, "--episodes", 2)
    assert code == 0, said
    assert said.startswith("online: 1 checkpoint of 1 agent,")
    code, _, said = run_cli("eval-online", place, "--episodes", 2, "--step", 40)
    assert (code, said.splitlines()[-1]) == (
        2,
        f"error: {place} is one checkpoint: leave --step out, or give the folder of its agent",
    )


def test_a_truncated_state_is_copied_back_or_left_beside_its_checkpoints(run_cli, copied):
    (state,) = copied.glob("resume/*/state.json")
    state.write_bytes(state.read_bytes()[:50])
    code, _, said = run_cli("train", "cartpole", "--name", "tiny", "--steps", 50)
    assert code == 1
    assert said.splitlines()[-1].endswith(
        "/state.json is truncated or not a record of mzprobe: copy it back, or train under another --name; the "
        "checkpoints beside it are not affected"
    )


def test_the_example_of_a_set_is_of_a_key_that_the_command_has(run_cli, copied):
    code, _, said = run_cli("eval-online", copied, "--set", "episodes")
    assert (code, said) == (2, "error: --set takes key=value, such as seed=0, not 'episodes'\n")
    code, _, said = run_cli("train", "--set", "episodes")
    assert (code, said) == (2, "error: --set takes key=value, such as training.batch_size=64, not 'episodes'\n")


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch):
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path and real(path, mode))
    with pytest.raises(MzprobeError, match="cannot be written to: give another folder"), held(tmp_path / "table"):
        pytest.fail("it was begun")
    assert list(tmp_path.iterdir()) == []


# Judging


def test_a_study_that_compares_is_not_judged_and_one_that_does_not_is(run_cli, folder):
    (folder / "cmp.toml").write_text(
        'preset = "cartpole"\nseeds = [0]\n[variants.a]\n"training.steps" = 10\n[variants.b]\n"training.steps" = 20\n'
    )
    code, _, said = run_cli("claims", "cmp.toml")
    assert code == 2
    assert said == "error: cmp.toml compares runs, and claims are judged for one: give one of cmp-a, cmp-b\n"
    (folder / "one.toml").write_text('preset = "cartpole"\nseeds = [0]\n')
    for command in ("claims", "figures"):
        code, _, said = run_cli(command, "one.toml")
        assert code == 2
        assert said.startswith("error: there are no tables of run one under analyses: make one with mzprobe eval-")


@pytest.mark.parametrize("command", ["study", "figures", "claims", "report", "status", "train"])
def test_a_file_whose_ending_was_left_out_is_named(run_cli, folder, command):
    (folder / "mine.toml").write_text('preset = "cartpole"\nseeds = [0]\n')
    code, _, said = run_cli(command, "mine")
    assert code == 2
    assert said.endswith(("did you mean mine.toml?\n", "for the study give mine.toml\n"))


def test_a_run_that_is_not_there_is_named_by_the_nearest(run_cli, folder):
    (folder / "analyses" / "cartpole-quick").mkdir(parents=True)
    code, _, said = run_cli("claims", "cartpole-quik")
    assert (code, said) == (
        2,
        "error: there are no tables of run cartpole-quik under analyses, did you mean 'cartpole-quick'?\n",
    )
