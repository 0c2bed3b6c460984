"""Datasets that claim what they have not, or whose files are no files: refused in one sentence, with nothing opened."""

import json
import os
import socket

import numpy as np
import pyarrow as pa
import pytest
from recordings import SPEC, STORAGES, assert_equal, foreign, made, refused, written

from mzprobe.datasets import open_dataset
from mzprobe.errors import MzprobeError

minari = pytest.importorskip("minari")
h5py = pytest.importorskip("h5py")

pytestmark = pytest.mark.usefixtures("minaris_place")

HUGE = 10**12  # numbers


@pytest.fixture
def spoilt(tmp_path):
    """A dataset of one episode with one column made by a function `(group, name, values)`."""

    def make(column, change):
        path = foreign(tmp_path / "a-v0", made([3]), "hdf5")
        with h5py.File(path / "data" / "main_data.hdf5", "a") as file:
            group = file["episode_0"]
            values = group[column][()]
            del group[column]
            change(group, column, values)
        return path

    return make


def claimed(**how):
    """An array that claims a shape, and holds nothing."""

    def make(group, name, values):
        group.create_dataset(name, (HUGE, *values.shape[1:]), values.dtype, **how)

    return make


def shrunk(group, name, values):
    """Real numbers, all of one chunk, in front of as many as are only claimed."""
    made = group.create_dataset(name, (HUGE, *values.shape[1:]), values.dtype, compression="gzip", chunks=True)
    made[: len(values)] = values


def elsewhere(group, name, values):
    with open("raw", "wb") as file:
        file.write(values.tobytes())
    group.create_dataset(name, values.shape, values.dtype, external=[(os.path.abspath("raw"), 0, h5py.h5f.UNLIMITED)])


def virtual(group, name, values):
    with h5py.File("source", "w") as file:
        file["x"] = values
    layout = h5py.VirtualLayout(values.shape, values.dtype)
    layout[:] = h5py.VirtualSource(os.path.abspath("source"), "x", values.shape)
    group.create_virtual_dataset(name, layout)


def linked(group, name, values):
    with h5py.File("source", "w") as file:
        file["x"] = values
    group[name] = h5py.ExternalLink(os.path.abspath("source"), "x")


def soft(group, name, values):
    group["other"] = values
    group[name] = h5py.SoftLink(f"{group.name}/other")


CHANGES = {
    "claimed": (claimed(), "claim the shape"),
    "claimed in chunks": (claimed(chunks=True, maxshape=None), "claim the shape"),
    "claimed, compressed": (claimed(chunks=True, compression="gzip"), "claim the shape"),
    "shrunk": (shrunk, "claim the shape"),
    "elsewhere": (elsewhere, "lie in other files"),
    "virtual": (virtual, "lie in other files"),
    "linked": (linked, "are a link"),
    "soft": (soft, "are a link"),
    "group": (lambda group, name, _: group.create_group(name), "are no array"),
    "empty": (lambda group, name, _: group.create_dataset(name, data=h5py.Empty("f")), "are no array"),
    "gone": (lambda *_: None, "has no "),
}


@pytest.mark.parametrize("column", ["observations", "actions", "rewards", "terminations", "truncations"])
@pytest.mark.parametrize("name", CHANGES)
def test_an_array_that_is_not_there_is_refused_unread(spoilt, monkeypatch, name, column):
    change, said = CHANGES[name]
    path = spoilt(column, change)
    real = h5py.Dataset.__getitem__

    def read(self, what):
        assert self.size is not None
        assert self.size < 100
        assert self.name.startswith("/episode_0")
        return real(self, what)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", read)
    sentence = refused(path)
    assert said in sentence
    assert column in sentence


def test_a_chunk_larger_than_its_file_is_refused(spoilt):
    def chunked(group, name, values):
        group.create_dataset(name, data=values, chunks=(2**25, *values.shape[1:]), maxshape=(None, *values.shape[1:]))

    path = spoilt("rewards", chunked)
    data = (path / "data" / "main_data.hdf5").read_bytes()
    assert len(data) > 2**28
    os.truncate(path / "data" / "main_data.hdf5", 2**14)
    refused(path)


@pytest.mark.parametrize(
    "how", [{"compression": "gzip"}, {"compression": "lzf", "shuffle": True}, {"fletcher32": True}]
)
def test_what_is_compressed_is_read(spoilt, how):
    (episode,) = made([3])
    path = spoilt("rewards", lambda group, name, values: group.create_dataset(name, data=values, **how))
    assert_equal(open_dataset(str(path), SPEC).read([0]), [episode])


def test_zeros_that_shrink_as_far_as_they_can_are_read(tmp_path):
    episodes = made([200_000])
    path = foreign(tmp_path / "a-v0", episodes, "hdf5")
    with h5py.File(path / "data" / "main_data.hdf5", "a") as file:
        group = file["episode_0"]
        del group["rewards"]
        group.create_dataset(
            "rewards", data=np.zeros(200_000), compression="gzip", compression_opts=9, chunks=(200_000,)
        )
    assert open_dataset(str(path), SPEC).returns.tolist() == [0]


def test_an_episode_that_is_a_link_is_refused(tmp_path):
    path = foreign(tmp_path / "a-v0", made([3, 4]), "hdf5")
    other = foreign(tmp_path / "b-v0", made([3, 4]), "hdf5")
    for link in (h5py.ExternalLink(str(other / "data" / "main_data.hdf5"), "/episode_1"), h5py.SoftLink("/episode_0")):
        with h5py.File(path / "data" / "main_data.hdf5", "a") as file:
            del file["episode_1"]
            file["episode_1"] = link
        assert "episode 1 of dataset" in refused(path)
        assert "its episode_1 are a link" in refused(path)


@pytest.mark.parametrize(
    "column",
    [
        pa.nulls(4),
        pa.array(["a"] * 4),
        pa.array([1.0, None, 1.0, 1.0]),
        pa.RunEndEncodedArray.from_arrays(pa.array([4], pa.int32()), pa.array([1.0])),
        pa.array([1.0] * 4).dictionary_encode(),
        pa.array([[1.0], [1.0, 2.0], [], [1.0]]),
        pa.array([[1.0], [None], [1.0], [1.0]], pa.list_(pa.float64(), 1)),
        pa.array([{"x": 1.0}] * 4),
    ],
)
@pytest.mark.parametrize("name", ["rewards", "observations", "actions"])
def test_columns_of_other_kinds_are_refused(tmp_path, name, column):
    path = foreign(tmp_path / "a-v0", made([3]), "arrow")
    part = path / "data" / "0" / "part-0.arrow"
    with pa.OSFile(str(part)) as file:
        table = pa.ipc.open_file(file).read_all()
    table = table.set_column(table.schema.get_field_index(name), name, column)
    with pa.OSFile(str(part), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    assert f" {name} " in refused(path)


# What is no file


def pipe(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def plug(path):
    os.chdir(path.parent)  # a socket's name is short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)


def nowhere(path):
    path.symlink_to("nowhere")


@pytest.mark.skipif(os.name == "nt", reason="there are no such files")
@pytest.mark.parametrize("instead", [pipe, device, plug, nowhere, os.mkdir])
@pytest.mark.parametrize("made_by", ["mzprobe", *STORAGES])
def test_what_is_no_file_is_refused_unopened(tmp_path, instead, made_by):
    place = tmp_path / "a-v0"
    path = written(place, made([3])) if made_by == "mzprobe" else foreign(place, made([3]), made_by)
    for file in sorted(path for path in place.rglob("*") if path.is_file()):
        data = file.read_bytes()
        file.unlink()
        instead(file)
        if not (made_by == "arrow" and file.is_dir() and file.parent.name == "0" and file.name == "metadata.json"):
            refused(path)  # that one only counts steps, as the rows do
        file.rmdir() if file.is_dir() else file.unlink()
        file.write_bytes(data)
    assert len(open_dataset(str(path), SPEC)) == 1
    instead(path / "data" / "more")
    if instead is not os.mkdir:
        assert "neither a file nor a folder" in refused(path) or instead is nowhere


@pytest.mark.skipif(os.name == "nt", reason="there are no such files")
@pytest.mark.parametrize("instead", [pipe, device, plug, nowhere])
def test_a_dataset_that_is_no_folder_is_refused(tmp_path, minaris_place, instead):
    for place in (tmp_path / "a-v0", minaris_place / "b-v0"):
        instead(place)
        refused(place)
    (tmp_path / "c-v0").mkdir()
    instead(tmp_path / "c-v0" / "data")
    refused(tmp_path / "c-v0")


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege")
def test_links_to_files_are_files_and_links_to_folders_are_refused(tmp_path):
    path = foreign(tmp_path / "a-v0", made([3, 4]), "arrow")
    before = open_dataset(str(path), SPEC).sha256
    part = path / "data" / "1" / "part-0.arrow"
    part.rename(tmp_path / "elsewhere")
    part.symlink_to(tmp_path / "elsewhere")
    assert open_dataset(str(path), SPEC).sha256 == before
    (path / "data" / "1").rename(tmp_path / "folder")
    (path / "data" / "1").symlink_to(tmp_path / "folder")
    # What is behind it would be read, and would not be part of the digest.
    assert "is neither a file nor a folder of its own" in refused(path)


# Metadata


NUMBERS = [-1, 0, 10**20, 1e20, True, None, "1", [1], {}, float("nan"), float("inf"), 1.0]
TEXTS = [1, None, True, [], "", "x", "[" * 2000, "{}", "null", '{"type": "Discrete"}', "\ud800"]


@pytest.mark.parametrize("storage", STORAGES)
def test_absurd_metadata_are_one_sentence(tmp_path, storage):
    path = foreign(tmp_path / "a-v0", made([3]), storage)
    metadata = path / "data" / "metadata.json"
    values = json.loads(metadata.read_text())
    edited = [values | {key: value} for key in ("total_episodes", "total_steps") for value in NUMBERS]
    texts = ("data_format", "minari_version", "observation_space", "action_space")
    edited += [values | {key: value} for key in texts for value in TEXTS]
    edited += [values | {"jpeg_encoding": value} for value in ("no", 0, None, [])]
    edited += [{other: values[other] for other in values if other != key} for key in (*texts, "total_steps")]
    for spaces, key in ((values["observation_space"], "observation_space"), (values["action_space"], "action_space")):
        space = json.loads(spaces)
        for part in space:
            for value in (*NUMBERS, *TEXTS, [HUGE], [HUGE, HUGE], nested(900)):
                if (part, value) not in (("start", False), ("start", 0)):
                    edited.append(values | {key: json.dumps(space | {part: value})})
    kept = 0
    for edit in edited:
        metadata.write_text(json.dumps(edit))
        try:
            assert_equal(open_dataset(str(path), SPEC).read([0]), made([3]))
            kept += 1  # Gymnasium takes much for a bound
        except MzprobeError as reason:
            said = str(reason)
            assert "\n" not in said
            assert len(said) < 600
    assert kept < len(edited) / 10
    for text in (f'{{"total_steps": {"9" * 5000}}}', "NaN", '{"a": ' * 3000, '"' + "a" * 10**6):
        metadata.write_text(text)
        assert len(refused(path)) < 600


def nested(depth):
    value = 0
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "record", ["[]", "{}", '{"format": "1"}', '{"format": 1}', '{"format": NaN}', "[" * 5000, "null", '{"sha256": 1}']
)
def test_a_record_of_its_own_making_is_refused(tmp_path, record):
    from mzprobe.files import sealed

    path = written(tmp_path / "a-v0", made([3]))
    (path / "mzprobe.json").write_text(record)
    refused(path)
    try:
        resealed = sealed(json.loads(record))
    except (ValueError, AttributeError, RecursionError):
        return
    (path / "mzprobe.json").write_bytes(resealed)
    refused(path)


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path, monkeypatch):
    # Its files would be missing from the digest.
    path = foreign(tmp_path / "a-v0", made([3, 4]), "arrow")
    real, closed = os.scandir, str(path / "data" / "1")

    def scandir(folder):
        if str(folder) == closed:
            raise PermissionError(13, "Permission denied", closed)
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    assert "Permission denied" in refused(path)
