"""What is given on the command line arrives where it is used, every option of every command that has settings."""

import sys
from pathlib import Path
from typing import get_args, get_origin

import pytest
from PIL import Image

from mzprobe.cli.probes import choices_of, option_type
from mzprobe.errors import UsageError
from mzprobe.settings import OURS

CHECKPOINT = Path(__file__).parent.parent / "checkpoints" / "cartpole-paper" / "seed-200"
OPTIONS = [(settings, name) for settings in OURS for name in settings.model_fields if name != "acting"]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mzprobe.probes.cost._SECONDS", 0.01)


def values_for(settings, name):
    """Words that give an option, and what its setting then is: not the default."""
    field = settings.model_fields[name]
    kind, choices = option_type(field), [*choices_of(field.annotation)]
    default = field.get_default(call_default_factory=True)
    several = get_origin(kind) is list
    of = get_args(kind)[0] if several else kind
    if choices:
        others = [one for one in choices if one != default]
        return ([others[-1]], (others[-1],)) if several else ([others[-1]], others[-1])
    numbers = [of(number) for number in (5, 7) if (of(number),) != default and of(number) != default]
    return (numbers, tuple(numbers)) if several else (numbers[:1], numbers[0])


@pytest.mark.parametrize(("settings", "name"), OPTIONS, ids=[f"{s.question}-{name}" for s, name in OPTIONS])
def test_every_option_of_a_question_becomes_its_setting(run_cli, monkeypatch, settings, name):
    seen = []

    def run(**given):
        seen.append(given["config"])
        raise UsageError("seen")

    monkeypatch.setattr("mzprobe.probes.runner.ProbeRun", run)
    words, expected = values_for(settings, name)
    given = [word for one in words for word in (f"--{name.replace('_', '-')}", one)]
    code, _, said = run_cli(settings.command, CHECKPOINT, *given)
    assert (code, said.strip()) == (2, "error: seen")
    assert getattr(seen[0], name) == expected != settings.model_fields[name].default


def test_how_numbers_are_made_reaches_the_trainer_and_its_record(run_cli, monkeypatch, tmp_path):
    asked = {}

    def trainer(_config, **given):
        asked.update(given)
        raise UsageError("seen")

    monkeypatch.setattr("mzprobe.training.trainer.Trainer", trainer)
    assert run_cli("train", "cartpole", "--precision", "medium", "--any-version", "--out", tmp_path)[0] == 2
    assert (asked["compute"].precision, asked["any_version"]) == ("medium", True)
    assert "--precision medium" in asked["command"]


def test_a_probe_is_asked_in_the_precision_that_is_given(run_cli, monkeypatch):
    asked = []
    monkeypatch.setattr("mzprobe.probes.runner.run_probe", lambda run, **_: asked.append(run.compute.precision))
    for given in (["--precision", "bfloat16"], []):
        assert run_cli("eval-online", CHECKPOINT, "--episodes", 1, "--step", 1000, *given)[0] == 0
    assert asked == ["bfloat16", "highest"]


def test_the_folders_of_a_study(run_cli, monkeypatch):
    seen, module = [], sys.modules["mzprobe.cli.study"]
    monkeypatch.setattr(module, "run_prepared", lambda prepared, *_, **__: seen.append(prepared.lock))
    monkeypatch.setattr(module, "draw_results", lambda *given: seen.extend(given[-2:]))
    code, _, said = run_cli("study", "cartpole-quick", "--checkpoints", "c", "--analyses", "a", "--figures", "f")
    assert (code, seen) == (0, [Path("c/cartpole-quick"), Path("a"), Path("f")]), said


def test_the_folder_of_a_study_s_dataset_is_in_its_configuration(run_cli, monkeypatch, tmp_path):
    def todo(_settings, runs, **_):
        raise UsageError(runs[0].config.dataset.path)

    monkeypatch.setattr("mzprobe.study.prepare.study_todo", todo)
    study = 'preset = "cartpole"\nseeds = [0]\n[dataset]\nstep = 2\n[online]\n[variants.a]\n"dataset.use" = "offline"\n'
    (tmp_path / "two.toml").write_text(study + '"reanalyse.fraction" = 1\n')
    code, _, said = run_cli("study", "two.toml", "--datasets", "d")
    assert (code, said.strip()) == (2, "error: d/two")


def test_an_episode_is_played_by_its_number_at_the_pace_that_is_given(run_cli, tmp_path):
    asked = ["play", CHECKPOINT, "--step", 1000, "--steps", 2, "--every", 1]
    first, again, another = (run_cli(*asked, "--episode", number)[1] for number in (0, 0, 1))
    assert first == again != another
    assert run_cli(*asked, "--fps", 10, "--out", tmp_path / "a.gif")[0] == 0
    with Image.open(tmp_path / "a.gif") as image:
        assert image.info["duration"] == 100
