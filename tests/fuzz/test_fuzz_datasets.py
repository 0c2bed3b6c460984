"""Spoilt datasets by the hundred: each is what it was, or refused in one sentence.

A dataset of ours is loaded
as it was or not at all. Of a foreign one nothing says what its numbers were: loaded with others, it must be another
dataset, by its digest.
"""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from recordings import SPEC, assert_equal, foreign, made, written
from spoiling import BYTES, changed, inputs, is_a_sentence, tried

from mzprobe.datasets import open_dataset
from mzprobe.errors import MzprobeError

minari = pytest.importorskip("minari")
pytest.importorskip("h5py")
from gymnasium import spaces  # noqa: E402

NESTED = spaces.Dict({"a": spaces.Discrete(3), "b": spaces.Tuple((spaces.MultiDiscrete([2, 2]),))})
GYM = replace(SPEC, name="gym:Elsewhere-v0", observation_shape=(7,))
IMAGES = replace(SPEC, observation_shape=(32, 33))


def nested(seen):
    """Observations of `NESTED`, made of any."""
    numbers = np.abs(seen.view(np.int32)).astype(np.int64)
    return {"a": numbers[:, 0] % 3, "b": (numbers[:, 1:3] % 2,)}


KINDS = {
    "ours": (lambda path: written(path, made([3, 1, 4])), SPEC),
    "arrow": (lambda path: foreign(path, made([3, 1, 4]), "arrow"), SPEC),
    "hdf5": (lambda path: foreign(path, made([3, 1, 4]), "hdf5"), SPEC),
    "arrow, nested": (lambda path: made_nested(path, "arrow"), GYM),
    "hdf5, nested": (lambda path: made_nested(path, "hdf5"), GYM),
    "arrow, images": (lambda path: made_of_images(path, "arrow"), IMAGES),
    "hdf5, images": (lambda path: made_of_images(path, "hdf5"), IMAGES),
}


def made_nested(path, storage):
    return foreign(path, made([3, 1]), storage, observation_space=NESTED, observations=nested)


def made_of_images(path, storage):
    space = spaces.Box(0, 255, IMAGES.observation_shape, np.uint8)
    episodes = [replace(one, observations=one.observations * 0) for one in made([3, 1], spec=IMAGES)]
    return foreign(path, episodes, storage, observation_space=space, observations=lambda seen: seen.astype(np.uint8))


def edited(generator, files):
    """Changes, drops or doubles a value somewhere in a JSON file, in the spaces that are kept as text too."""
    path = generator.choice([path for path in files if path.suffix == ".json"])
    path.write_text(json.dumps(changed(generator, json.loads(path.read_text()))), "utf-8")


CHANGES = (*BYTES, edited)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """A dataset of each kind, its environment, its episodes and its digest."""
    root = tmp_path_factory.mktemp("originals")
    found = {}
    for i, (kind, (make, spec)) in enumerate(KINDS.items()):
        path = make(root / f"{i}-v0")
        dataset = open_dataset(str(path), spec)
        found[kind] = (path, spec, dataset.read(range(len(dataset))), dataset.sha256)
    return found


def outcome(path, kind, spec, episodes, digest):
    """What becomes of a spoilt dataset, in a word."""
    try:
        dataset = open_dataset(str(path), spec)
        read = dataset.read(range(len(dataset)))
    except MzprobeError as reason:
        return is_a_sentence(reason)
    try:
        assert_equal(read, episodes)
    except AssertionError:
        assert kind != "ours"
        assert dataset.sha256 != digest
        return "another dataset"
    return "as it was"


@pytest.mark.parametrize("kind", KINDS)
def test_a_spoilt_dataset_is_refused_or_is_what_it_was(originals, tmp_path, kind):
    whole, spec, episodes, digest = originals[kind]
    path, place = tmp_path / "a-v0", list(KINDS).index(kind)

    def spoilt(generator, seed):
        shutil.copytree(whole, path)
        change = CHANGES[(seed + place) % len(CHANGES)]
        change(generator, sorted(file for file in path.rglob("*") if file.is_file()))
        became = outcome(path, kind, spec, episodes, digest)
        shutil.rmtree(path)
        return change.__name__, became

    assert "refused" in tried(kind, max(1, inputs(60, 0.1) // len(KINDS)), spoilt)
