"""Spoilt datasets by the hundred: each is what it was, or refused in one sentence.

`MZPROBE_FUZZ=5000` takes so many inputs instead of a few; `-s` shows what became of them. A dataset of ours is loaded
as it was or not at all. Of a foreign one nothing says what its numbers were: loaded with others, it must be another
dataset, by its digest.
"""

import json
import os
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from recordings import SPEC, assert_equal, foreign, made, written

from mzprobe.datasets import open_dataset
from mzprobe.errors import MzprobeError

minari = pytest.importorskip("minari")
pytest.importorskip("h5py")
from gymnasium import spaces  # noqa: E402

INPUTS = int(os.environ.get("MZPROBE_FUZZ", "60"))
NESTED = spaces.Dict({"a": spaces.Discrete(3), "b": spaces.Tuple((spaces.MultiDiscrete([2, 2]),))})
GYM = replace(SPEC, name="gym:Elsewhere-v0", observation_shape=(7,))
IMAGES = replace(SPEC, observation_shape=(32, 33))
NUMBERS = [-1, 0, 1, 2, 3, 4, 5, 255, 2**31, 2**40, 10**20, -(2**63), 1.5, 1e308, float("nan"), float("inf")]
NUMBERS_IN_BYTES = [0, 1, 2, 3, 127, 255, 2**15, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1]
VALUES = [*NUMBERS, True, None, "", "x", "hdf5", "arrow", "parquet", "Box", "Discrete", "Tuple", [], {}, [[]], "\ud800"]


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


# What is done to one; each takes a generator, and the files that there are


def bits(generator, files):
    path = generator.choice(files)
    data = bytearray(path.read_bytes())
    for _ in range(generator.integers(1, 9)):
        data[generator.integers(len(data))] ^= 1 << generator.integers(8)
    path.write_bytes(data)


def number(generator, files):
    """Overwrites 1, 4 or 8 bytes with a number that some length or offset may be."""
    path = generator.choice(files)
    data = bytearray(path.read_bytes())
    size = int(generator.choice([1, 4, 8]))
    value = int(NUMBERS_IN_BYTES[generator.integers(len(NUMBERS_IN_BYTES))])
    place = int(generator.integers(max(1, len(data) - size)))
    data[place : place + size] = (value % 2 ** (8 * size)).to_bytes(size, "little")
    path.write_bytes(data)


def cut(generator, files):
    path = generator.choice(files)
    data = path.read_bytes()
    path.write_bytes(data[: generator.integers(len(data))])


def longer(generator, files):
    path = generator.choice(files)
    path.write_bytes(path.read_bytes() + generator.bytes(generator.integers(1, 200)))


def moved(generator, files):
    """Puts a piece of a file in another place of it."""
    path = generator.choice(files)
    data = bytearray(path.read_bytes())
    size = int(generator.integers(1, 1 + len(data) // 4))
    one, other = generator.integers(len(data) - size, size=2)
    data[one : one + size] = data[other : other + size]
    path.write_bytes(data)


def zeroed(generator, files):
    path = generator.choice(files)
    data = bytearray(path.read_bytes())
    first = int(generator.integers(len(data)))
    size = int(generator.integers(1, 64))
    data[first : first + size] = bytes(len(data[first : first + size]))
    path.write_bytes(data)


def swapped(generator, files):
    one, other = generator.choice(files, 2, replace=False)
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)


def gone(generator, files):
    generator.choice(files).unlink()


def edited(generator, files):
    """Changes, drops or doubles a value somewhere in a JSON file, in the spaces that are kept as text too."""
    path = generator.choice([path for path in files if path.suffix == ".json"])
    path.write_text(json.dumps(changed(generator, json.loads(path.read_text()))), "utf-8")


def changed(generator, value):
    if isinstance(value, str) and value.startswith("{"):
        return json.dumps(changed(generator, json.loads(value)))
    if isinstance(value, (dict, list)) and value and generator.random() < 0.9:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = keys[generator.integers(len(keys))]
        if generator.random() < 0.2:
            del value[key]
        else:
            value[key] = changed(generator, value[key])
        return value
    if isinstance(value, int) and generator.random() < 0.3:
        return value + int(generator.integers(-2, 3))
    picked = VALUES[generator.integers(len(VALUES))]
    for _ in range(int(generator.choice([0, 0, 0, 1, 400]))):
        picked = [picked]
    return picked


CHANGES = (bits, number, cut, longer, moved, zeroed, swapped, gone, edited)


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
        said = str(reason)
        assert "\n" not in said
        assert ": " in said, "no remedy"
        assert len(said) < 800
        return "refused"
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
    path, seen = tmp_path / "a-v0", Counter()
    for seed in range(max(1, INPUTS // len(KINDS))):
        place = list(KINDS).index(kind)
        generator = np.random.default_rng([seed, place])
        shutil.copytree(whole, path)
        change = CHANGES[(seed + place) % len(CHANGES)]
        change(generator, sorted(file for file in path.rglob("*") if file.is_file()))
        try:
            seen[change.__name__, outcome(path, kind, spec, episodes, digest)] += 1
        except BaseException as reason:
            reason.add_note(f"kind {kind}, seed {seed}, {change.__name__}")
            raise
        shutil.rmtree(path)
    print(f"\n{kind}: " + ", ".join(f"{name} {what} {count}" for (name, what), count in sorted(seen.items())))
    assert {what for _, what in seen} & {"refused"}
