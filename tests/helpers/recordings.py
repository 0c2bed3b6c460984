"""Recorded episodes that nobody played, and datasets of them in both of Minari's storages."""

import numpy as np
import pytest

from mzprobe.datasets import Recorded, new_dataset, open_dataset
from mzprobe.envs import CartPole
from mzprobe.errors import DatasetError

STORAGES = ("hdf5", "arrow")  # Minari's
SPEC = CartPole(gamma=0.99).spec


def made(lengths, *, spec=SPEC, seed=0):
    """Episodes of these lengths with random content; every second one has terminated."""
    generator = np.random.default_rng(seed)
    return [
        Recorded(
            observations=generator.normal(size=(T + 1, *spec.observation_shape)).astype(np.float32),
            actions=generator.integers(spec.num_actions, size=T),
            rewards=generator.normal(size=T),
            terminated=i % 2 == 0,
        )
        for i, T in enumerate(lengths)
    ]


def written(path, episodes, *, spec=SPEC, chunk=None, **record):
    """Writes episodes as ours, so many at a time."""
    with new_dataset(path, spec, algorithm="nobody", record={"command": "mzprobe collect", **record}) as writer:
        for first in range(0, len(episodes), chunk or len(episodes)):
            writer.append(episodes[first : first + (chunk or len(episodes))])
    return path


def buffers(episodes, **changes):
    """Episodes as Minari's own writer takes them, with other columns where asked."""
    from minari.data_collector import EpisodeBuffer

    for i, episode in enumerate(episodes):
        T = len(episode.actions)
        last = np.arange(T) == T - 1
        columns = {
            "observations": episode.observations,
            "actions": episode.actions,
            "rewards": episode.rewards,
            "terminations": last & episode.terminated,
            "truncations": last & (not episode.terminated),
            "infos": None,
        }
        yield EpisodeBuffer(id=i, **(columns | {name: change(columns[name]) for name, change in changes.items()}))


def foreign(path, episodes, storage, *, action_space=None, observation_space=None, **changes):
    """A dataset that Minari's own writer made, without a record of ours; gives its folder."""
    import minari
    from gymnasium.spaces import Box, Discrete
    from minari.dataset.minari_storage import MinariStorage

    path.mkdir(parents=True)
    held = MinariStorage.new(
        path / "data",
        observation_space=observation_space or Box(-np.inf, np.inf, SPEC.observation_shape, np.float32),
        action_space=action_space or Discrete(SPEC.num_actions),
        data_format=storage,
    )
    held.update_metadata({"dataset_id": f"{path.name}", "minari_version": minari.__version__})
    held.update_episodes(buffers(episodes, **changes))
    return path


def assert_equal(found, expected):
    """Whether episodes are the same, bit for bit and in type."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for name in ("observations", "actions", "rewards"):
            left, right = getattr(one, name), getattr(other, name)
            assert (left.dtype, left.shape, left.tobytes()) == (right.dtype, right.shape, right.tobytes())
        assert one.terminated is other.terminated


def refused(name, *, error=DatasetError, spec=SPEC):
    """The one sentence with which a dataset is refused."""
    with pytest.raises(error) as reason:
        open_dataset(str(name), spec)
    said = str(reason.value)
    assert "\n" not in said
    assert ": " in said, "no remedy"
    return said


def every_file(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
