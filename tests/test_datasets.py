"""Recorded episodes on disk: read back as written, verified before use, whole or not there."""

import os
import shutil
import subprocess
import sys
import time
import tracemalloc
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recordings import SPEC, STORAGES, assert_equal, every_file, foreign, made, refused, written

from mzprobe.datasets import Recorded, new_dataset, open_dataset
from mzprobe.datasets.layout import digest
from mzprobe.datasets.writing import dataset_id
from mzprobe.errors import DatasetError, InUse, MzprobeError, UsageError

minari = pytest.importorskip("minari")
pytest.importorskip("h5py")

pytestmark = pytest.mark.usefixtures("minaris_place")


# Read back


episodes_of = st.lists(st.tuples(st.integers(1, 12), st.booleans(), st.integers(0, 2**32 - 1)), min_size=1, max_size=6)
shapes = st.sampled_from([(), (1,), (4,), (2, 3), (40, 40), (2, 1, 3)])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=episodes_of, shape=shapes, actions=st.integers(1, 5), chunk=st.integers(1, 6))
def test_any_episodes_are_read_back_equal_and_their_bytes_do_not_depend_on_the_chunks(
    tmp_path, drawn, shape, actions, chunk
):
    spec = replace(SPEC, observation_shape=shape, num_actions=actions, action_meanings=("a",) * actions)
    episodes = []
    for T, terminated, seed in drawn:
        generator = np.random.default_rng(seed)
        bits = generator.integers(-(2**60), 2**60, T)  # whole numbers, tiny and huge ones
        episodes.append(
            Recorded(
                observations=generator.normal(size=(T + 1, *shape)).astype(np.float32),
                actions=generator.integers(actions, size=T),
                rewards=bits * 10.0 ** generator.integers(-300, 280, T),
                terminated=terminated,
            )
        )
    folder = tmp_path / f"made-{time.monotonic_ns()}"
    folder.mkdir()
    whole = written(folder / "a-v0", episodes, spec=spec)
    parts = written(folder / "parts" / "a-v0", episodes, spec=spec, chunk=chunk)
    assert every_file(whole) == every_file(parts)
    dataset = open_dataset(str(whole), spec)
    assert_equal(dataset.read(range(len(dataset))), episodes)
    assert dataset.lengths.tolist() == [T for T, _, _ in drawn]
    assert dataset.returns.tolist() == [episode.rewards.sum() for episode in episodes]
    assert [e.tolist() for e in (dataset.lengths, dataset.returns)] == [
        e.tolist() for e in (open_dataset(str(parts), spec).lengths, open_dataset(str(parts), spec).returns)
    ]
    shutil.rmtree(folder)


def test_only_what_is_asked_for_is_read_in_that_order_and_as_often(tmp_path):
    episodes = made([3, 1, 4, 1, 5])
    dataset = open_dataset(str(written(tmp_path / "a-v0", episodes)), SPEC)
    shutil.rmtree(dataset.path / "data" / "2")
    assert_equal(dataset.read(np.array([4, 0, 4])), [episodes[4], episodes[0], episodes[4]])
    assert dataset.read([]) == []
    with pytest.raises(DatasetError, match="episode 2 of dataset"):
        dataset.read([2])
    for index in (5, -1):
        with pytest.raises(IndexError, match=r"episodes 0\.\.4"):
            dataset.read([index])


def test_an_episode_that_changed_since_opening_is_refused(tmp_path):
    dataset = open_dataset(str(written(tmp_path / "a-v0", made([3, 4]))), SPEC)
    shutil.copy(dataset.path / "data" / "1" / "part-0.arrow", dataset.path / "data" / "0" / "part-0.arrow")
    with pytest.raises(DatasetError, match=r"episode 0 of dataset .* changed while it was in use"):
        dataset.read([0])


def test_the_digest_is_of_the_data_alone(tmp_path):
    one = open_dataset(str(written(tmp_path / "a-v0", made([3, 4]), command="one")), SPEC)
    two = open_dataset(str(written(tmp_path / "b-v0", made([3, 4]), command="two")), SPEC)
    three = open_dataset(str(written(tmp_path / "c-v0", made([3, 4], seed=1))), SPEC)
    assert one.sha256 == two.sha256 == digest(one.path / "data") != three.sha256


# Minari reads ours


def test_minari_reads_what_was_written(minaris_place):
    episodes = made([3, 1, 700])
    written(minaris_place / "mine-v0", episodes)
    assert list(minari.list_local_datasets()) == ["mine-v0"]
    for dataset in (minari.load_dataset("mine-v0"), minari.MinariDataset(minaris_place / "mine-v0" / "data")):
        assert (dataset.id, dataset.total_steps, len(dataset)) == ("mine-v0", 704, 3)
        found = []
        for episode in dataset.iterate_episodes():
            assert episode.terminations[-1] != episode.truncations[-1]
            assert not (episode.terminations[:-1] | episode.truncations[:-1]).any()
            found.append(
                Recorded(
                    observations=episode.observations,
                    actions=episode.actions,
                    rewards=episode.rewards,
                    terminated=bool(episode.terminations[-1]),
                )
            )
        assert_equal(found, episodes)
        assert dataset.spec.version == 0


def test_minari_recovers_gymnasiums_environment_with_our_time_limit(tmp_path):
    spec = replace(SPEC, time_limit=7)
    path = written(tmp_path / "mine-v0", made([3], spec=spec), spec=spec)
    environment = minari.MinariDataset(path / "data").recover_environment()
    assert environment.spec.id == "CartPole-v1"
    environment.reset(seed=0)
    assert [environment.step(i % 2)[3] for i in range(7)] == [False] * 6 + [True]


@pytest.mark.parametrize("source", ["tables", "Gymnasium", "Gymnasium Nothing-v7"])
def test_no_environment_is_recorded_where_gymnasium_has_none(tmp_path, source):
    spec = replace(SPEC, source=source)
    path = written(tmp_path / "mine-v0", made([3], spec=spec), spec=spec)
    assert minari.MinariDataset(path / "data").env_spec is None


@pytest.mark.parametrize(
    ("name", "known"), [("a-v3", "a-v3"), ("a", "a-v0"), ("my data.1", "my-data-1-v0"), ("-v0", "-v0-v0")]
)
def test_a_folders_name_gives_an_id_that_minari_takes(name, known):
    assert dataset_id(name) == known
    assert minari.dataset.minari_dataset.parse_dataset_id(known)[2] is not None


# We read Minari's


@pytest.mark.parametrize("storage", STORAGES)
def test_what_minari_wrote_is_read(tmp_path, storage):
    episodes = made([3, 1, 60, 2])
    path = foreign(tmp_path / "a-v0", episodes, storage)
    for name in (path, path / "data"):
        dataset = open_dataset(str(name), SPEC)
        assert dataset.path == path
        assert_equal(dataset.read([3, 0, 2, 1]), [episodes[i] for i in (3, 0, 2, 1)])


@pytest.mark.parametrize("storage", STORAGES)
def test_what_minaris_collector_recorded_is_read_by_its_id(storage):
    pytest.importorskip("jax")  # Minari's collector needs it
    import gymnasium

    collector = minari.DataCollector(gymnasium.make("CartPole-v1"), data_format=storage, record_infos=True)
    actions = []
    for seed in range(5):
        collector.reset(seed=seed)
        actions.append([])
        ended = False
        while not ended and not (seed == 4 and len(actions[4]) == 3):  # the last one is cut off
            actions[seed].append(seed % 2)
            _, _, ended, _, _ = collector.step(seed % 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it wants an author, a permalink ...
        collector.create_dataset("cartpole/chance-v3")
    collector.close()
    collector._tmp_dir.cleanup()  # else the garbage collector does it, and warns
    dataset = open_dataset("cartpole/chance-v3", SPEC)
    assert dataset.lengths.tolist() == dataset.returns.tolist() == [len(chosen) for chosen in actions]
    episodes = dataset.read(range(5))
    assert [episode.actions.tolist() for episode in episodes] == actions
    assert [episode.terminated for episode in episodes] == [True] * 4 + [False]
    said = refused("cartpole/chanse-v3")
    assert "did you mean 'cartpole/chance-v3'?" in said


@pytest.mark.parametrize("storage", STORAGES)
def test_flags_at_the_end_mean_what_they_say(tmp_path, storage):
    def always(values):
        return np.arange(len(values)) == len(values) - 1

    episodes = made([3, 3])
    for name, changes, terminated in (
        ("both", {"terminations": always, "truncations": always}, [True, True]),
        ("neither", {"terminations": np.zeros_like, "truncations": np.zeros_like}, [False, False]),
    ):
        dataset = open_dataset(str(foreign(tmp_path / name, episodes, storage, **changes)), SPEC)
        assert [episode.terminated for episode in dataset.read([0, 1])] == terminated


@pytest.mark.parametrize("kind", [np.float64, np.uint8, np.int32])
def test_observations_and_actions_of_other_kinds_are_cast(tmp_path, kind):
    from gymnasium.spaces import Box

    path = foreign(
        tmp_path / "a-v0",
        made([3, 4]),
        "hdf5",
        observation_space=Box(0, 9, SPEC.observation_shape, kind),
        observations=lambda seen: (np.abs(seen) * 2).astype(kind),
        actions=lambda done: done.astype(np.uint8),
    )
    for episode, source in zip(open_dataset(str(path), SPEC).read([0, 1]), made([3, 4]), strict=True):
        assert (episode.observations.dtype, episode.actions.dtype) == (np.float32, np.int64)
        np.testing.assert_array_equal(
            episode.observations, (np.abs(source.observations) * 2).astype(kind).astype(np.float32)
        )
        assert episode.actions.tolist() == source.actions.tolist()


# Written whole or not at all


def test_nothing_is_written_over(tmp_path):
    path = written(tmp_path / "a-v0", made([3]))
    before = every_file(path)
    with pytest.raises(UsageError, match="exists and is not replaced"):
        written(path, made([4]))
    assert every_file(path) == before


def interrupted(path, error=KeyboardInterrupt):
    """Begins to write a dataset, and stops."""
    with new_dataset(path, SPEC, algorithm="nobody", record={}) as writer:
        writer.append(made([3]))
        raise error


def test_an_error_on_the_way_leaves_nothing(tmp_path, minaris_place):
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path / "a-v0")
    with pytest.raises(ValueError, match="at least one episode"):
        written(tmp_path / "b-v0", [], chunk=1)
    assert list(tmp_path.iterdir()) == [minaris_place]


def test_a_refused_write_is_one_sentence_and_leaves_nothing(tmp_path, minaris_place):
    resource = pytest.importorskip("resource")
    code = (
        "import resource, signal, sys\n"
        f"sys.path.insert(0, {str(os.path.join(os.path.dirname(__file__), 'helpers'))!r})\n"
        "from pathlib import Path\nfrom recordings import made, written\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "episodes = made([50, 5000])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try:\n    written(Path('a-v0'), episodes)\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    assert resource.RLIMIT_FSIZE >= 0
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("MzprobeError no space left to write a-v0: free some and run the same command again\n")
    assert list(tmp_path.iterdir()) == [minaris_place]


@pytest.mark.skipif(os.name == "nt", reason="folders are locked on POSIX only")
def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path, minaris_place):
    code = (
        "import os, signal, sys\n"
        f"sys.path.insert(0, {str(os.path.join(os.path.dirname(__file__), 'helpers'))!r})\n"
        "from pathlib import Path\nfrom recordings import SPEC, made\nfrom mzprobe.datasets import new_dataset\n"
        "with new_dataset(Path('a-v0'), SPEC, algorithm='', record={}) as writer:\n"
        "    writer.append(made([3]))\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False)
    assert done.returncode == -9
    lock, left = sorted(path for path in tmp_path.iterdir() if path != minaris_place)
    assert lock.name == ".a-v0.lock"  # which nobody holds any more
    assert left.name.startswith(".a-v0.mzprobe-")
    with new_dataset(tmp_path / "a-v0", SPEC, algorithm="nobody", record={}) as writer:
        assert not left.exists()
        writer.append(made([3]))
        written(tmp_path / "b-v0", made([3]))
        with pytest.raises(InUse, match="a-v0 is in use by process"):
            written(tmp_path / "a-v0", made([3]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-v0", "b-v0", minaris_place.name]
    assert len(open_dataset(str(tmp_path / "a-v0"), SPEC)) == 1


@pytest.mark.parametrize("changes", [{"rewards": np.array([1.0, np.inf])}, {"actions": np.array([0, 2])}])
def test_what_an_environment_should_not_give_is_not_recorded(tmp_path, changes):
    (episode,) = made([2])
    with pytest.raises(MzprobeError, match=r"episode 0 of cartpole has .*: test the environment with"):
        written(tmp_path / "a-v0", [replace(episode, **changes)])
    assert not (tmp_path / "a-v0").exists()


def test_an_episode_longer_than_minari_reads_is_refused(tmp_path):
    with pytest.raises(MzprobeError, match="lower time_limit"):
        written(tmp_path / "a-v0", made([1 << 17]))
    episodes = made([(1 << 17) - 1])
    path = written(tmp_path / "a-v0", episodes)
    assert_equal(open_dataset(str(path), SPEC).read([0]), episodes)
    assert len(next(iter(minari.MinariDataset(path / "data")))) == (1 << 17) - 1


# Memory


def traced(path, spec):
    """Bytes: the most while a dataset is opened, what is kept of it, and the most while an episode is read."""
    tracemalloc.start()
    try:
        dataset = open_dataset(path, spec)
        kept, opening = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        dataset.read([7])
        return opening, kept, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("storage", STORAGES)
def test_opening_and_reading_hold_a_few_episodes_at_a_time(tmp_path, storage):
    spec = replace(SPEC, observation_shape=(2000,))
    episodes = made([50] * 60, spec=spec)  # 0.4 MB each, 24 MB in all
    if storage == "arrow":
        path = written(tmp_path / "a-v0", episodes, spec=spec, chunk=5)
    else:
        from gymnasium.spaces import Box

        path = foreign(tmp_path / "a-v0", episodes, "hdf5", observation_space=Box(-np.inf, np.inf, (2000,), np.float32))
    del episodes
    open_dataset(str(path), spec).read([0])  # imports, once
    held = np.array([traced(str(path), spec) for _ in range(3)]).min(axis=0)  # what else a process does only adds
    assert (held < [6e6, 5e5, 4e6]).all()


def test_a_file_of_many_episodes_is_opened_anew_now_and_then(tmp_path, monkeypatch):
    # The HDF5 library keeps more memory, outside Python's sight, the more episodes it reads from an open file.
    import h5py

    episodes = made([1] * 150)
    path = foreign(tmp_path / "a-v0", episodes, "hdf5")
    real, opened = h5py.File, []
    monkeypatch.setattr(h5py, "File", lambda *arguments: opened.append(arguments) or real(*arguments))
    dataset = open_dataset(str(path), SPEC)
    assert len(opened) == 1 + 3  # to count the episodes, then for 64, 64 and 22 of them
    assert_equal(dataset.read(range(150)), episodes)
