"""Datasets that nothing should learn from: spoilt, cut, edited, of another kind; each refused in one sentence."""

import json
import sys

import numpy as np
import pytest
from recordings import SPEC, STORAGES, foreign, made, refused, written

from mzprobe.datasets import open_dataset
from mzprobe.errors import DatasetError, UsageError

minari = pytest.importorskip("minari")
pytest.importorskip("h5py")

pytestmark = pytest.mark.usefixtures("minaris_place")


# Refused: what cannot be learnt from


def nan_at_end(values):
    changed = values.copy()
    changed[-1] = np.nan
    return changed


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize(
    ("column", "change", "said"),
    [
        ("rewards", nan_at_end, "has rewards that are not finite"),
        ("observations", nan_at_end, "has observations that are not finite"),
        ("actions", lambda done: done + 1, "has actions outside 0..1"),
        ("actions", lambda done: done - 1, "has actions outside 0..1"),
        ("terminations", np.ones_like, "goes on after a terminal state"),
        ("truncations", np.ones_like, "goes on after it was truncated at step 1 of 40"),
    ],
)
def test_an_episode_that_cannot_be_learnt_from_is_refused(tmp_path, storage, column, change, said):
    path = foreign(tmp_path / "a-v0", made([40, 40]), storage, **{column: change})
    assert f"episode 0 of dataset {path} {said}" in refused(path)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("flag", ["terminations", "truncations"])
@pytest.mark.parametrize("place", [0, 3, 5])
def test_an_end_anywhere_but_at_the_last_step_is_refused(tmp_path, storage, flag, place):
    # The row after it is a start, which the action did not lead to: no target may be made across it.
    def also(values):
        return values | (np.arange(len(values)) == place)

    path = foreign(tmp_path / "a-v0", made([7, 7]), storage, **{flag: also})
    assert "episode 0 of dataset" in refused(path)
    assert "goes on after" in refused(path)
    last = foreign(tmp_path / "b-v0", made([place + 1]), storage, **{flag: also})
    assert open_dataset(str(last), SPEC).lengths.tolist() == [place + 1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"observations": lambda seen: seen[:-1]}, r"observations float32\[3, 4\], not real numbers of shape \[4, 4\]"),
        ({"observations": lambda seen: seen[:, :3]}, r"observations float32\[4, 3\]"),
        ({"observations": lambda seen: seen.astype(complex)}, r"observations complex128\[4, 4\]"),
        ({"actions": lambda done: done[:, None]}, r"actions int64\[3, 1\], not integers of shape \[3\]"),
        ({"actions": lambda done: done.astype(float)}, r"actions float64\[3\], not integers"),
        ({"actions": lambda done: done[:-1]}, r"actions int64\[2\]"),
        ({"rewards": lambda gained: gained[:, None]}, r"rewards float64\[3, 1\]"),
        ({"terminations": lambda ended: ended.astype(float)}, r"terminations float64\[3\], not booleans"),
        ({"truncations": lambda ended: ended[:1]}, r"truncations bool\[1\]"),
    ],
)
def test_an_episode_of_other_shapes_or_kinds_is_refused(tmp_path, changes, said):
    path = foreign(tmp_path / "a-v0", made([3]), "hdf5", **changes)
    with pytest.raises(DatasetError, match=f"episode 0 of dataset .* has {said}"):
        open_dataset(str(path), SPEC)


def test_observations_too_large_for_float32_are_refused(tmp_path):
    path = foreign(tmp_path / "a-v0", made([3]), "hdf5", observations=lambda seen: seen.astype(float) * 1e300)
    assert "observations that are not finite" in refused(path)


@pytest.mark.parametrize("storage", STORAGES)
def test_a_dataset_without_episodes_is_refused(tmp_path, storage):
    path = foreign(tmp_path / "a-v0", [], storage)
    assert "holds no episodes" in refused(path)


# Refused: another kind of environment


def test_a_dataset_of_another_environment_is_a_wrong_request(tmp_path):
    from gymnasium.spaces import Box, Discrete, MultiDiscrete

    for i, (spaces, said) in enumerate(
        [
            ({"action_space": Discrete(3)}, "Discrete(3)"),
            ({"action_space": Discrete(2, start=1)}, "start=1"),
            ({"action_space": MultiDiscrete([2])}, "MultiDiscrete"),
            ({"action_space": Box(0, 1, (1,))}, "Box"),
            ({"observation_space": Box(0, 1, (3,))}, "Box(3,)"),
            ({"observation_space": Discrete(4)}, "observations Discrete"),
        ]
    ):
        path = foreign(tmp_path / f"a-v{i}", [], "arrow", **spaces)
        sentence = refused(path, error=UsageError)
        assert said in sentence
        assert "cartpole" in sentence


# Refused: not there, not whole


def test_a_name_that_is_nowhere_is_refused_and_makes_nothing(tmp_path, minaris_place, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "elsewhere"))
    assert "there is no dataset nothing-v0, neither a folder nor an id under" in refused("nothing-v0")
    assert not (tmp_path / "elsewhere").exists()


def test_the_nearest_id_is_named(minaris_place):
    written(minaris_place / "expert-v0", made([3]))
    written(minaris_place / "cartpole" / "chance-v0", made([3]))
    (minaris_place / ".expert-v1").mkdir()
    assert "did you mean 'expert-v0'?" in refused("exprt-v0")
    assert len(open_dataset("cartpole/chance-v0", SPEC)) == 1


def test_a_folder_that_is_no_dataset_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "holds no Minari dataset (no data/metadata.json)" in refused(tmp_path / "empty")


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: "",
        lambda text: text[: len(text) // 2],
        lambda _: "[]",
        lambda _: "[" * 100_000,
        lambda text: text.replace("total_steps", "total_stops"),
        lambda text: text.replace("action_space", "motion_space"),
        lambda text: text.replace("Discrete", "Discreet"),
        lambda text: text.replace(minari.__version__, "9.9.9"),
        lambda text: text.replace('"arrow"', '"sparrow"').replace('"hdf5"', '"hdf6"'),
        lambda text: json.dumps(json.loads(text) | {"total_episodes": 3}),
        lambda text: json.dumps(json.loads(text) | {"total_episodes": 1}),
        lambda text: json.dumps(json.loads(text) | {"total_steps": 8}),
        lambda text: json.dumps(json.loads(text) | {"total_steps": "7"}),
        lambda text: json.dumps(json.loads(text) | {"observation_space": "{}"}),
    ],
)
def test_spoilt_metadata_are_refused(tmp_path, storage, spoil):
    path = foreign(tmp_path / "a-v0", made([3, 4]), storage)
    metadata = path / "data" / "metadata.json"
    text = metadata.read_text()
    metadata.write_text(spoil(text))
    assert metadata.read_text() != text
    refused(path)
    metadata.write_bytes(b"\xff\xfe\x00")
    refused(path)
    metadata.unlink()
    refused(path)


def test_no_environment_is_made_where_the_spaces_are_missing(tmp_path, monkeypatch):
    import gymnasium

    path = foreign(tmp_path / "a-v0", made([3]), "arrow")
    metadata = path / "data" / "metadata.json"
    values = json.loads(metadata.read_text())
    del values["action_space"]
    values["env_spec"] = gymnasium.spec("CartPole-v1").to_json()
    metadata.write_text(json.dumps(values))
    monkeypatch.setattr(gymnasium, "make", lambda *_arguments, **_options: pytest.fail("made what a file named"))
    assert "does not say action_space" in refused(path)


@pytest.mark.parametrize("storage", STORAGES)
def test_truncated_data_are_refused_wherever_they_end(tmp_path, storage):
    path = foreign(tmp_path / "a-v0", made([30, 40, 50]), storage)
    for file in [*path.rglob("*.hdf5"), *path.rglob("*.arrow")]:
        data = file.read_bytes()
        for size in {0, 1, 8, 100, len(data) // 3, len(data) // 2, len(data) - 9}:
            file.write_bytes(data[:size])
            refused(path)
        file.unlink()
        refused(path)
        file.write_bytes(data)
    assert len(open_dataset(str(path), SPEC)) == 3


def test_any_byte_of_ours_that_is_another_one_is_refused(tmp_path):
    path = written(tmp_path / "a-v0", made([3, 4]))
    for file in sorted(path for path in path.rglob("*") if path.is_file()):
        data = file.read_bytes()
        for place in [*range(0, len(data), 41), len(data) - 1]:
            for mask in (1, 0x20, 0x80):
                spoilt = bytearray(data)
                spoilt[place] ^= mask
                file.write_bytes(spoilt)
                refused(path)
        for changed in (data + b"\n", data[:-1], b""):
            file.write_bytes(changed)
            refused(path)
        file.unlink()
        refused(path)
        file.write_bytes(data)
    (path / "data" / "more").write_bytes(b"")
    assert "their sha256 is not the recorded one" in refused(path)
    (path / "data" / "more").unlink()
    assert len(open_dataset(str(path), SPEC)) == 2


def test_a_newer_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("mzprobe.datasets.writing.FORMAT", 2)
    assert "has format 2 and this mzprobe reads up to 1" in refused(written(tmp_path / "a-v0", made([3])))


@pytest.mark.parametrize("package", ["minari", "h5py"])
def test_without_the_extra_one_sentence_says_how_to_install_it(tmp_path, monkeypatch, package):
    path = foreign(tmp_path / "a-v0", made([3]), "hdf5")
    for name in [name for name in sys.modules if name.partition(".")[0] == package or name.endswith("hdf5_storage")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert "pip install 'mzprobe[offline]'" in refused(path, error=UsageError)
