"""Recorded episodes of spaces that are no box, flattened as `gym:` flattens; and columns that nobody needs."""

import json
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
from recordings import SPEC, STORAGES, assert_equal, foreign, made, refused

from mzprobe import envs
from mzprobe.datasets import open_dataset
from mzprobe.datasets.spaces import flattened
from mzprobe.errors import UsageError

minari = pytest.importorskip("minari")
pytest.importorskip("h5py")
from gymnasium import spaces  # noqa: E402
from gymnasium.spaces.utils import flatdim, flatten  # noqa: E402
from minari.serialization import serialize_space  # noqa: E402

pytestmark = pytest.mark.usefixtures("minaris_place")

SPACES = {
    "discrete": spaces.Discrete(5),
    "discrete from 3": spaces.Discrete(5, start=3),
    "discrete from below 0": spaces.Discrete(5, start=-2),
    "several": spaces.MultiDiscrete([3, 4, 2]),
    "several from elsewhere": spaces.MultiDiscrete([3, 4], start=[1, -1]),
    "binary": spaces.MultiBinary(6),
    "tuple": spaces.Tuple((spaces.Discrete(3), spaces.Box(-1, 1, (2, 2), np.float32), spaces.MultiBinary(2))),
    "dictionary": spaces.Dict({"b": spaces.Discrete(2), "a": spaces.Box(0, 9, (3,), np.int32)}),
    "dictionary in its own order": spaces.Dict(
        OrderedDict([("z", spaces.Discrete(3)), ("a", spaces.Discrete(3)), ("m", spaces.Box(0, 1, (1,)))])
    ),
    "nested": spaces.Dict({"in": spaces.Tuple((spaces.Dict({"y": spaces.Discrete(2), "x": spaces.Discrete(4)}),))}),
    "letters": spaces.Tuple((spaces.Text(4, charset="abc"), spaces.Discrete(2))),
}


def stacked(space, samples):
    """Samples as Minari's buffers hold them."""
    if isinstance(space, spaces.Dict):
        return {key: stacked(sub, [sample[key] for sample in samples]) for key, sub in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(stacked(sub, [sample[i] for sample in samples]) for i, sub in enumerate(space.spaces))
    return list(samples) if isinstance(space, spaces.Text) else np.array(samples)


def sampled(space, rows):
    space.seed(rows)
    return [space.sample() for _ in range(rows)]


def gym_spec(size, name="gym:Elsewhere-v0"):
    return replace(SPEC, name=name, observation_shape=(size,))


@pytest.mark.parametrize("storage", [*STORAGES, "parquet"])
@pytest.mark.parametrize("name", SPACES)
def test_observations_are_flattened_as_gymnasium_flattens_them(tmp_path, storage, name):
    space = SPACES[name]
    episodes = made([3, 1, 6])
    path = foreign(
        tmp_path / "a-v0",
        episodes,
        storage,
        observation_space=space,
        observations=lambda seen: stacked(space, sampled(space, len(seen))),
    )
    expected = [
        replace(one, observations=np.array([flatten(space, x) for x in sampled(space, len(one.actions) + 1)]))
        for one in episodes
    ]
    expected = [replace(one, observations=one.observations.astype(np.float32)) for one in expected]
    assert_equal(open_dataset(str(path), gym_spec(flatdim(space))).read([0, 1, 2]), expected)


@pytest.mark.parametrize("storage", STORAGES)
def test_what_gym_plays_is_what_a_recording_of_it_holds(tmp_path, storage):
    import gymnasium

    environment = gymnasium.make("FrozenLake-v1", is_slippery=False)
    ours = envs.make("gym:FrozenLake-v1", is_slippery=False)
    actions = [1, 1, 2, 0]
    seen = [environment.reset(seed=0)[0], *(environment.step(action)[0] for action in actions)]
    (episode,) = made([len(actions)])
    path = foreign(
        tmp_path / "lake-v0",
        [episode],
        storage,
        observation_space=environment.observation_space,
        action_space=environment.action_space,
        observations=lambda _: np.array(seen),
        actions=lambda _: np.array(actions),
    )
    (read,) = open_dataset(str(path), ours.spec).read([0])
    states = ours.reset([0])
    for t, action in enumerate(actions):
        assert read.observations[t].tobytes() == ours.observe(states)[0].tobytes()
        states, _ = ours.step(states, [action])
    assert read.observations[-1].tobytes() == ours.observe(states)[0].tobytes()


@pytest.mark.parametrize("storage", STORAGES)
def test_actions_of_gym_may_begin_at_any_number(tmp_path, storage):
    space = spaces.Discrete(2, start=-1)
    episodes = made([5, 2])
    path = foreign(tmp_path / "a-v0", episodes, storage, action_space=space, actions=lambda done: done - 1)
    spec = replace(SPEC, name="gym:CartPole-v1")
    assert_equal(open_dataset(str(path), spec).read([0, 1]), episodes)
    assert "start=-1" in refused(path, error=UsageError)
    other = foreign(tmp_path / "b-v0", episodes, storage, action_space=space)
    assert "has actions outside 0..1" in refused(other, spec=spec)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("value", [-1, 5, 2**40])
def test_a_number_outside_its_space_is_refused(tmp_path, storage, value):
    def spoilt(seen):
        return np.array([0] * (len(seen) - 1) + [value])

    path = foreign(tmp_path / "a-v0", made([3]), storage, observation_space=spaces.Discrete(5), observations=spoilt)
    assert "episode 0 of dataset" in refused(path, spec=gym_spec(5))
    assert "has observations outside 0..4" in refused(path, spec=gym_spec(5))


@pytest.mark.parametrize(
    ("space", "values", "said"),
    [
        (spaces.Discrete(3), np.zeros(2, int), r"observations int64\[2\], not integers of shape \[4\]"),
        (spaces.Discrete(3), np.zeros(4), r"observations float64\[4\], not integers"),
        (spaces.MultiDiscrete([2, 2]), np.zeros((4, 3), int), r"observations int64\[4, 3\]"),
        (spaces.MultiDiscrete([2, 2]), np.full((4, 2), 2), r"observations outside 0\.\.1"),
        (spaces.Tuple((spaces.Discrete(2),)), (np.zeros(3, int),), r"observations/0 int64\[3\]"),
        (spaces.Dict({"x": spaces.Box(0, 1, (2,))}), {"x": np.zeros((4, 1))}, r"observations/x float64\[4, 1\]"),
        (spaces.Text(2, charset="ab"), ["a", "b", "c", "a"], "observations that are not of Text"),
        (spaces.Text(2, charset="ab"), ["a"], "1 observations, not 4"),
    ],
)
def test_what_does_not_fit_its_space_is_said(space, values, said):
    with pytest.raises(ValueError, match=said):
        flattened(space, values, 4)


def test_other_environments_are_not_flattened_for(tmp_path):
    path = foreign(tmp_path / "a-v0", [], "arrow", observation_space=spaces.Discrete(4))
    assert "observations Discrete where cartpole has Box(4,)" in refused(path, error=UsageError)
    said = refused(path, error=UsageError, spec=gym_spec(5))
    assert "observations Discrete(4), flattened Box(4,) where gym:Elsewhere-v0 has Box(5,)" in said
    for i, space in enumerate([spaces.Discrete(10**12), spaces.MultiBinary([10**5, 10**5]), SPACES["nested"]]):
        path = foreign(tmp_path / f"b-v{i}", [], "hdf5", observation_space=space)
        assert "where gym:Elsewhere-v0 has Box(5,)" in refused(path, error=UsageError, spec=gym_spec(5))


def test_equal_files_of_other_spaces_are_another_dataset(tmp_path):
    found = {}
    for name, start in (("a", 0), ("b", 1), ("c", 0)):
        path = foreign(
            tmp_path / name / "a-v0",
            made([3]),
            "arrow",
            observation_space=spaces.Discrete(5, start=start),
            observations=lambda _: np.arange(1, 5),
        )
        found[name] = open_dataset(str(path), gym_spec(5)).sha256
    assert found["a"] == found["c"] != found["b"]


# Columns that are not needed


@pytest.mark.parametrize("infos", [{"x": np.arange(7)}, {"x": {"y": np.arange(14).reshape(7, 2)}}, {"x": [1.0] * 7}])
@pytest.mark.parametrize("storage", STORAGES)
def test_infos_are_not_read(tmp_path, storage, infos, monkeypatch):
    from minari.dataset._storages import arrow_storage, hdf5_storage

    episodes = made([6])
    path = foreign(tmp_path / "a-v0", episodes, storage, infos=lambda _: infos)
    for module in (arrow_storage, hdf5_storage):
        monkeypatch.setattr(module, "_decode_info", lambda _: pytest.fail("infos were read"))
    assert_equal(open_dataset(str(path), SPEC).read([0]), episodes)


def test_infos_may_be_anything(tmp_path):
    import h5py

    episodes = made([6])
    path = foreign(tmp_path / "a-v0", episodes, "hdf5")
    with h5py.File(path / "data" / "main_data.hdf5", "a") as file:
        file["episode_0"]["infos"] = h5py.ExternalLink("/nowhere", "/x")
    assert_equal(open_dataset(str(path), SPEC).read([0]), episodes)


@pytest.mark.parametrize("shape", [(32, 40), (33, 32, 3), (4, 40, 3)])
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("jpeg", [True, False])
def test_images_are_those_that_minari_decodes(tmp_path, storage, shape, jpeg, monkeypatch):
    from minari.dataset._storages import arrow_storage, hdf5_storage

    images = spaces.Box(0, 255, shape, np.uint8)
    if not jpeg:  # as older ones wrote them, and newer ones do where they are told to
        for module in (arrow_storage, hdf5_storage):
            monkeypatch.setattr(module, "is_image_space", lambda _: False)
    path = foreign(
        tmp_path / "a-v0",
        made([3, 2]),
        storage,
        observation_space=images,
        observations=lambda seen: np.array(sampled(images, len(seen))),
    )
    spec = replace(SPEC, observation_shape=shape)
    theirs = list(minari.MinariDataset(path / "data"))
    for ours, other in zip(open_dataset(str(path), spec).read([0, 1]), theirs, strict=True):
        assert ours.observations.tobytes() == other.observations.astype(np.float32).tobytes()


@pytest.mark.parametrize("storage", STORAGES)
def test_images_of_another_size_or_none_are_refused(tmp_path, storage):
    images = spaces.Box(0, 255, (32, 40, 3), np.uint8)
    path = foreign(
        tmp_path / "a-v0",
        made([3]),
        storage,
        observation_space=images,
        observations=lambda seen: np.array(sampled(images, len(seen))),
    )
    metadata = path / "data" / "metadata.json"
    values = json.loads(metadata.read_text())
    for shape in ((32, 39, 3), (40, 32, 3), (32, 40), (32, 40, 1)):
        other = serialize_space(spaces.Box(0, 255, shape, np.uint8))
        metadata.write_text(json.dumps(values | {"observation_space": other}))
        assert "have an image of [32, 40, 3]" in refused(path, spec=replace(SPEC, observation_shape=shape))


def test_an_episode_in_two_files_is_refused(tmp_path):
    path = foreign(tmp_path / "a-v0", made([3]), "arrow")
    part = path / "data" / "0" / "part-0.arrow"
    for hidden in (".part-1.arrow", "_part-1.arrow"):
        (part.parent / hidden).write_bytes(b"")  # Minari does not look at these either
    assert len(open_dataset(str(path), SPEC)) == 1
    (part.parent / "part-1.arrow").write_bytes(part.read_bytes())
    assert "its folder holds 2 files of data where there should be one" in refused(path)
