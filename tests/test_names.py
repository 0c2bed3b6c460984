"""Names are checked where they are given: one sentence, before any work is done."""

import pytest

from mzprobe.datasets.layout import find
from mzprobe.errors import DatasetError, UsageError
from mzprobe.names import check_name

WRONG = ["", ".", "..", ".hidden", "a/b", "a\\b", "a\nb", "a\x00b", "a\udcffb", "a" * 201, "é" * 101]
RIGHT = ["a", "cartpole-quick", "my run", "a.b", "0.5", "é" * 100, "a" * 200, "データ", "-a"]


@pytest.mark.parametrize("name", WRONG)
def test_a_name_that_no_folder_should_have_is_refused(name):
    with pytest.raises(UsageError, match=r"a run cannot be named .*: choose another") as reason:
        check_name(name, "a run", "choose another")
    assert str(reason.value).isprintable()
    assert len(str(reason.value)) < 150


def test_the_length_of_a_name_is_said_in_the_bytes_that_are_limited():
    with pytest.raises(UsageError, match="with 202 bytes, more than 200: choose another"):
        check_name("é" * 101, "a run", "choose another")


@pytest.mark.parametrize("name", RIGHT)
def test_other_names_are_taken(name):
    check_name(name, "a run", "choose another")


@pytest.mark.parametrize("name", [name for name in WRONG if "\x00" not in name])
def test_a_run_is_not_trained_under_such_a_name(tmp_path, run_cli, tiny_arguments, monkeypatch, name):
    monkeypatch.setattr("mzprobe.training.trainer.Trainer", lambda *_, **__: pytest.fail("made a trainer"))
    code, out, said = run_cli("train", "cartpole", "--name", name, "--out", tmp_path / "out", *tiny_arguments())
    assert (code, out) == (2, "")
    assert said.startswith("error: a run cannot be named ")
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [name for name in WRONG if "\x00" not in name and "/" not in name and name] + ["/"])
def test_a_dataset_is_not_recorded_under_such_a_name(minaris_place, tmp_path, run_cli, monkeypatch, name):
    pytest.importorskip("minari")
    monkeypatch.setattr("mzprobe.datasets.collect.load_player", lambda *_, **__: pytest.fail("loaded an agent"))
    code, out, said = run_cli("collect", "cartpole", "--policy", "random", "--out", name)
    assert (code, out) == (2, "")
    assert said.startswith("error: a dataset cannot be named ")
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == [minaris_place]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("cartpole", "--out", "a\udcff/b-v0"), "cannot lie at"),
        (("cartpole", "--out", "a\n/b-v0"), "cannot lie at"),
        (("cart\udcffpole", "--out", "b-v0"), "cannot be kept in a record"),
    ],
)
def test_what_no_record_could_hold_is_refused_before_it_is_played(minaris_place, tmp_path, run_cli, arguments, what):
    pytest.importorskip("minari")
    code, _, said = run_cli("collect", *arguments, "--policy", "random")
    assert code == 2
    assert what in said
    assert list(tmp_path.iterdir()) == [minaris_place]


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\x00b", "a\udcffb"])
def test_what_cannot_be_a_dataset_is_a_wrong_request(minaris_place, name):
    with pytest.raises(UsageError, match="cannot be a dataset: give the folder of one, or its id") as reason:
        find(name)
    assert str(reason.value).isprintable()


@pytest.mark.parametrize("name", ["a" * 300, "a/" * 3000])
def test_what_the_system_cannot_look_for_is_one_sentence(minaris_place, name):
    with pytest.raises(DatasetError, match="cannot be looked for"):
        find(name)


def test_the_command_says_so_too(minaris_place, tmp_path, run_cli, tiny_arguments):
    pytest.importorskip("minari")
    for name in ("", "a\nb"):
        code, _, said = run_cli("train", "cartpole", "--offline", name, "--out", tmp_path / "out", *tiny_arguments())
        assert code == 2
        assert "cannot be a dataset" in said
        assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()
