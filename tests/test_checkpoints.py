"""Checkpoints come back as they were written, and anything else is refused in one sentence."""

import ast
import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import mzprobe
from mzprobe import envs
from mzprobe.checkpoints import (
    RECORD,
    WEIGHTS,
    find_agents,
    newest_run,
    read_checkpoint,
    sealed,
    seed_of,
    step_of,
    steps_of,
    unsealed,
    write_checkpoint,
)
from mzprobe.errors import CheckpointError, MzprobeError, UsageError
from mzprobe.files import canonical_json, sha256, write_directory, write_file


@pytest.fixture
def checkpoint(agent, tmp_path):
    """A copy of the last checkpoint of the trained agent, to spoil."""
    return Path(shutil.copytree(steps_of(agent)[-1], tmp_path / "step-0000040"))


def refused(path, *, naming, saying):
    """The sentence with which a checkpoint is refused."""
    with pytest.raises(CheckpointError) as reason:
        read_checkpoint(path)
    said = str(reason.value)
    assert str(naming) in said
    assert saying in said
    assert "\n" not in said
    return said


# Round trip


def test_what_is_written_is_read_back(tmp_path, tiny_config):
    config = tiny_config("training.temperatures=[[0, 1.0], [7, 0.5]]")
    environment = envs.make("cartpole")
    generator = np.random.default_rng(0)
    weights = {"a": generator.standard_normal((3, 2)).astype(np.float32), "b": np.array([-0.0, 1e-40], np.float32)}
    metrics = {"evaluations": [{"mean_return": 0.1 + 0.2}], "recent_return": None}
    path = write_checkpoint(
        tmp_path,
        run="r",
        seed=3,
        training_step=7,
        environment_steps=11,
        config=config,
        environment=environment,
        metrics=metrics,
        command="made so",
        weights=weights,
    )
    back = read_checkpoint(path)
    assert path.name == "step-0000007"
    assert (back.run, back.seed, back.training_step, back.environment_steps) == ("r", 3, 7, 11)
    assert (back.config, back.metrics, back.command) == (config, metrics, "made so")
    assert {name: array.tobytes() for name, array in back.weights.items()} == {
        name: array.tobytes() for name, array in weights.items()
    }


def test_a_built_network_gives_the_outputs_of_the_one_that_was_saved(tmp_path, tiny_config, make_trainer):
    trainer = make_trainer(tiny_config("training.steps=5"), tmp_path)
    trainer.train()
    loaded = read_checkpoint(steps_of(trainer.folder)[-1])
    network = loaded.make_network(loaded.make_environment())
    observations = torch.from_numpy(np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32))
    actions = torch.tensor([0, 1, 0, 1, 0, 1])
    with torch.no_grad():
        for mine, saved in zip(
            network.dynamics(network.represent(observations), actions)
            + network.predict(network.represent(observations)),
            trainer.network.dynamics(trainer.network.represent(observations), actions)
            + trainer.network.predict(trainer.network.represent(observations)),
            strict=True,
        ):
            assert torch.equal(mine, saved)
    assert not network.training


def test_a_record_names_command_configuration_versions_and_seed(agent):
    record = json.loads((steps_of(agent)[-1] / RECORD).read_bytes())
    assert record["command"] == "mzprobe train tiny"
    assert record["seed"] == 0
    assert record["config"]["training"]["batch_size"] == 16
    assert record["versions"]["mzprobe"] == mzprobe.__version__
    assert {"python", "numpy", "torch", "numba"} <= set(record["versions"])


# What is refused


def test_truncated_weights_are_refused(checkpoint):
    data = (checkpoint / WEIGHTS).read_bytes()
    (checkpoint / WEIGHTS).write_bytes(data[:-1])
    refused(checkpoint, naming=checkpoint / WEIGHTS, saying="truncated or edited")


@pytest.mark.parametrize("where", [0, 100, -1])
def test_weights_with_one_other_bit_are_refused(checkpoint, where):
    data = bytearray((checkpoint / WEIGHTS).read_bytes())
    data[where] ^= 1
    (checkpoint / WEIGHTS).write_bytes(data)
    refused(checkpoint, naming=checkpoint / WEIGHTS, saying="train it again")


def test_weights_that_are_no_safetensors_are_refused(checkpoint):
    record = unsealed((checkpoint / RECORD).read_bytes(), checkpoint / RECORD)
    (checkpoint / WEIGHTS).write_bytes(b"pickle")
    (checkpoint / RECORD).write_bytes(sealed(record | {"weights_sha256": sha256(b"pickle")}))
    refused(checkpoint, naming=checkpoint / WEIGHTS, saying="not a safetensors file")


@pytest.mark.parametrize(
    ("before", "after"),
    [('"seed": 0', '"seed": 1'), ('"latent": 8', '"latent": 9'), ('"latent": 8', '"latent": NaN'), ("{", "{{")],
)
def test_an_edited_record_is_refused(checkpoint, before, after):
    text = (checkpoint / RECORD).read_text("utf-8")
    assert before in text
    (checkpoint / RECORD).write_text(text.replace(before, after, 1), "utf-8")
    refused(checkpoint, naming=checkpoint / RECORD, saying="copy it again")


def test_no_flipped_bit_of_a_record_gives_another_record(checkpoint):
    path = checkpoint / RECORD
    data = path.read_bytes()
    record = unsealed(data, path)
    refusals = 0
    for where in range(len(data)):
        spoilt = bytearray(data)
        spoilt[where] ^= 1
        try:
            assert unsealed(bytes(spoilt), path) == record  # a number's last digit below its precision
        except CheckpointError:
            refusals += 1
    assert refusals > 0.99 * len(data)


@pytest.mark.parametrize("data", [b"", b"not json", b"[]", b"7", b"null", b"{}", b"\xff\xfe"])
def test_a_record_that_is_none_of_ours_is_refused(checkpoint, data):
    (checkpoint / RECORD).write_bytes(data)
    refused(checkpoint, naming=checkpoint / RECORD, saying="not a record of mzprobe")


def test_a_newer_format_asks_for_a_newer_mzprobe(checkpoint):
    record = unsealed((checkpoint / RECORD).read_bytes(), checkpoint / RECORD)
    (checkpoint / RECORD).write_bytes(sealed(record | {"format": 2}))
    refused(checkpoint, naming=checkpoint / RECORD, saying="install a newer mzprobe")


@pytest.mark.parametrize("missing", [RECORD, WEIGHTS])
def test_a_missing_file_is_named(checkpoint, missing):
    (checkpoint / missing).unlink()
    refused(checkpoint, naming=checkpoint / missing, saying="does not exist")


def test_a_folder_in_a_files_place_is_named(checkpoint):
    (checkpoint / WEIGHTS).unlink()
    (checkpoint / WEIGHTS).mkdir()
    refused(checkpoint, naming=checkpoint / WEIGHTS, saying="is not a file")


def test_an_environment_that_differs_here_is_refused(checkpoint):
    record = unsealed((checkpoint / RECORD).read_bytes(), checkpoint / RECORD)
    record["environment"]["gamma"] = 0.5
    (checkpoint / RECORD).write_bytes(sealed(record))
    with pytest.raises(CheckpointError, match=r"gamma=0\.5, but this installation's has 0\.9\d*: install mzprobe"):
        read_checkpoint(checkpoint).make_environment()


def test_weights_that_do_not_fit_the_network_are_refused(checkpoint):
    record = unsealed((checkpoint / RECORD).read_bytes(), checkpoint / RECORD)
    record["config"]["network"]["hidden"] = 17
    (checkpoint / RECORD).write_bytes(sealed(record))
    loaded = read_checkpoint(checkpoint)
    with pytest.raises(CheckpointError, match="the weights do not fit network mlp") as reason:
        loaded.make_network(loaded.make_environment())
    assert "\n" not in str(reason.value)


# Whole or not there


def everything(folder):
    """Every file below a folder, hidden ones too, and its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def fail_at(monkeypatch, function, call, code=errno.ENOSPC):
    """Lets the n-th call of a function of `os` fail, and that one only."""
    real, calls = getattr(os, function), []

    def failing(*arguments, **options):
        calls.append(arguments)
        if len(calls) == call:
            raise OSError(code, os.strerror(code))
        return real(*arguments, **options)

    monkeypatch.setattr(os, function, failing)
    return calls


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_file_whose_writing_fails_keeps_its_old_bytes(tmp_path, monkeypatch, function):
    write_file(tmp_path / "a", b"old")
    fail_at(monkeypatch, function, 1)
    with pytest.raises(MzprobeError, match="no space left to write") as reason:
        write_file(tmp_path / "a", b"new")
    assert str(tmp_path / "a") in str(reason.value)
    assert everything(tmp_path) == {"a": b"old"}


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_folder_whose_writing_fails_at_any_moment_is_the_old_or_the_new_one_and_nothing_else(
    tmp_path, monkeypatch, function
):
    old, new = {"d": None, "d/a": b"1", "d/b": b"2"}, {"d": None, "d/a": b"3", "d/c": b"4"}
    outcomes = []
    for call in range(1, 20):
        write_directory(tmp_path / "d", {"a": b"1", "b": b"2"})
        with monkeypatch.context() as patch:
            calls = fail_at(patch, function, call)
            try:
                write_directory(tmp_path / "d", {"a": b"3", "c": b"4"})
            except MzprobeError as reason:
                assert "no space left to write" in str(reason)  # noqa: PT017
        outcomes.append(everything(tmp_path))
        if len(calls) < call:
            break
    assert outcomes[-1] == new  # no call failed
    assert outcomes[0] == old
    assert len(outcomes) > 2
    assert all(outcome in (old, new) for outcome in outcomes)


def test_a_failed_write_of_a_folder_names_the_folder_that_was_asked_for(tmp_path, monkeypatch):
    fail_at(monkeypatch, "fsync", 1)
    with pytest.raises(MzprobeError) as reason:
        write_directory(tmp_path / "step-0000001", {"a": b"1"})
    assert str(tmp_path / "step-0000001") in str(reason.value)


def test_a_new_folder_replaces_the_old_one_whole(tmp_path):
    write_directory(tmp_path / "d", {"a": b"1", "b": b"2"})
    write_directory(tmp_path / "d", {"a": b"3", "c": b"4"})
    assert everything(tmp_path) == {"d": None, "d/a": b"3", "d/c": b"4"}


def test_a_place_that_cannot_be_written_asks_for_another(tmp_path, monkeypatch):
    fail_at(monkeypatch, "replace", 1, errno.EROFS)
    with pytest.raises(MzprobeError, match=r"cannot be written \(.*\): choose another place"):
        write_file(tmp_path / "a", b"new")


def test_a_file_in_the_way_of_a_folder_is_a_sentence(tmp_path):
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(MzprobeError, match="choose another place"):
        write_file(tmp_path / "out" / "a", b"new")


def test_equal_records_have_equal_bytes():
    assert canonical_json({"b": 1, "a": {"d": 2, "c": 3}}) == canonical_json({"a": {"c": 3, "d": 2}, "b": 1})
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"a": float("nan")})


# Finding checkpoints


def test_agents_are_found_by_their_folder_or_their_runs_in_order_of_seed(agent, tmp_path):
    for seed in (10, 2):
        shutil.copytree(agent, tmp_path / "run" / f"seed-{seed}")
    (tmp_path / "run" / "seed-7").mkdir()  # without a checkpoint
    assert [path.name for path in find_agents(tmp_path / "run")] == ["seed-2", "seed-10"]
    assert find_agents(tmp_path / "run" / "seed-2") == [tmp_path / "run" / "seed-2"]


def test_paths_without_agents_are_usage_errors_that_name_them(tmp_path):
    with pytest.raises(UsageError, match="nowhere does not exist"):
        find_agents(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="holds no checkpoints"):
        find_agents(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="file holds no checkpoints"):
        find_agents(tmp_path / "file")


def test_names_of_folders_give_seed_and_step():
    assert seed_of(Path("run/seed-12")) == 12
    assert step_of(Path("seed-0/step-0000100")) == 100
    assert step_of(Path("seed-0/step-12345678")) == 12345678
    with pytest.raises(UsageError, match="should be like seed-0"):
        seed_of(Path("run/seed-x"))
    with pytest.raises(UsageError, match="should be like step-0001000"):
        step_of(Path("seed-0/step-1"))


def test_steps_are_in_order_of_number(tmp_path):
    for name in ("step-10000000", "step-0000002", "step-9999999", ".step-0000003.tmp", "resume"):
        (tmp_path / name).mkdir()
    assert [path.name for path in steps_of(tmp_path)] == ["step-0000002", "step-9999999", "step-10000000"]


def test_the_newest_run_is_the_one_written_to_last(tmp_path):
    with pytest.raises(UsageError, match="there is no run under"):
        newest_run(tmp_path)
    for when, run in enumerate(("b", "c", "a")):
        folder = tmp_path / run / "seed-0" / "step-0000000"
        folder.mkdir(parents=True)
        os.utime(folder, ns=(0, (when + 1) * 10**9))
    assert newest_run(tmp_path) == tmp_path / "a"
    os.utime(tmp_path / "b" / "seed-0" / "step-0000000", ns=(0, 10**12))
    assert newest_run(tmp_path) == tmp_path / "b"


# Nothing on disk is unpickled


def test_no_module_can_unpickle_a_file():
    package = Path(mzprobe.__file__).parent
    forbidden = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    # In memory: what goes to a process of its own, and states of random numbers that are compared.
    to_processes = ("system/orphans.py", "execution/local.py", "execution/on_ray.py")
    in_memory = {package / name: {"pickle"} for name in ("envs/check.py", "envs/chance.py", *to_processes)}
    # Reads what others pickled, without importing or calling what it names: tests/test_pickles.py.
    reader = package / "sources/pickles.py"
    files = sorted({*package.rglob("*.py")} - {reader})
    assert len(files) > 30
    for file in files:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            imported = set()
            match node:
                case ast.Import(names=names):
                    imported = {name.name.split(".")[0] for name in names}
                case ast.ImportFrom(module=str(module)):
                    imported = {module.split(".")[0]}
                case ast.Attribute(value=ast.Name(id="torch" | "pickle"), attr="load" | "Unpickler"):
                    pytest.fail(f"{file}: line {node.lineno} unpickles a file")
                case ast.Attribute(attr="read_pickle"):
                    pytest.fail(f"{file}: line {node.lineno} unpickles a file")
                case ast.keyword(arg="allow_pickle", value=ast.Constant(value=True)):
                    pytest.fail(f"{file}: line {node.value.lineno} allows pickles")
            assert imported & forbidden <= in_memory.get(file, set()), file
