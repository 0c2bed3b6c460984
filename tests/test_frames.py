"""Images are kept as frames, each once and compressed: what comes out is what went in, and disks see it once."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import drawn
from safetensors.numpy import load

from mzprobe.checkpoints import steps_of
from mzprobe.config import TrainingConfig
from mzprobe.envs import check_env, make
from mzprobe.envs.core import stack_of
from mzprobe.errors import CheckFailed, CheckpointError
from mzprobe.training.arrays import array_chunks
from mzprobe.training.episodes import Episode
from mzprobe.training.frames import PackedObservations, Packing, PlainObservations, frames_file, frames_of, packing_of
from mzprobe.training.replay import Replay
from mzprobe.verify import examine

HEIGHT, WIDTH, CHANNELS = 9, 11, 3
EPISODES = st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=8)


def frames(T, *, seed):
    """Those of an episode of T steps: few different bytes, as a screen has them."""
    return np.random.default_rng(seed).integers(0, 4, (T + 1, HEIGHT, WIDTH, CHANNELS), dtype=np.uint8)


def stacked(shown, stack):
    """Observations `[T + 1, H, W, stack * C]`, by the definition."""
    return np.stack(
        [np.concatenate([shown[max(t - k, 0)] for k in range(stack)][::-1], axis=-1) for t in range(len(shown))]
    )


def filmed(T, *, stack, seed, terminated=False):
    """An episode with images, and random numbers for all else."""
    rng = np.random.default_rng(seed)
    return Episode(
        observations=stacked(frames(T, seed=seed), stack),
        actions=rng.integers(2, size=T),
        rewards=rng.normal(size=T),
        policies=np.full((T + 1, 2), 0.5),
        root_values=np.append(rng.normal(size=T), 0.0),
        terminated=terminated,
        seed=seed,
    )


def buffers(stack, **keys):
    """A packed buffer, and one that keeps the same observations as they are."""
    config = TrainingConfig(**{"replay_capacity": 40, "unroll_steps": 2, "n_step": 3, "batch_size": 12, **keys})
    shape = (HEIGHT, WIDTH, stack * CHANNELS)
    packed, plain = (
        Replay(config, observation_shape=shape, observation_dtype="uint8", num_actions=2, gamma=0.9, stack=stack)
        for _ in range(2)
    )
    packed.observations = PackedObservations(40, Packing(shape, "uint8", stack))
    plain.observations = PlainObservations(40, shape, "uint8")
    return packed, plain


# In memory


@settings(max_examples=40, deadline=None)
@given(episodes=EPISODES, stack=st.integers(1, 4), best=st.sampled_from([None, 3]))
def test_a_packed_buffer_gives_what_a_plain_one_gives(episodes, stack, best):
    packed, plain = buffers(stack, keep_best=best)
    for seed, (T, end) in enumerate(episodes):
        for buffer in (packed, plain):
            buffer.add(filmed(T, stack=stack, seed=seed, terminated=end))
        assert packed.episodes == plain.episodes
        live = np.concatenate([np.arange(kept.first, kept.first + kept.slots) for kept in plain.episodes])
        assert packed.observations[live].tobytes() == plain.observations[live].tobytes()
        kept = sum(frame != b"" for frame in packed.observations.frames)
        assert kept == len(live)  # of what has left nothing is kept
    for mine, other in zip(drawn(packed)[1], drawn(plain)[1], strict=True):
        assert mine.tobytes() == other.tobytes()
    assert packed.observations[np.array([], np.int64)].shape == (0, HEIGHT, WIDTH, stack * CHANNELS)


def test_a_frame_is_kept_once_however_many_observations_show_it():
    packed, _ = buffers(4)
    packed.add(filmed(30, stack=4, seed=0))
    alone, _ = buffers(1)
    alone.add(filmed(30, stack=1, seed=0))
    assert packed.observations.frames == alone.observations.frames


def test_what_is_no_stack_of_frames_is_refused_and_not_altered():
    packed, _ = buffers(2)
    one = filmed(5, stack=2, seed=0)
    one.observations[3, 4, 4, 0] ^= 1
    with pytest.raises(ValueError, match="are not the latest 2 frames of it, the first repeated at its start"):
        packed.add(one)


@pytest.mark.parametrize(
    ("shape", "dtype", "is_packed"),
    [((96, 96, 12), "uint8", True), ((96, 96, 3), "float32", False), ((10, 10, 4), "bool", False)],
)
def test_large_images_are_packed_and_all_else_stays_as_it_is(shape, dtype, is_packed):
    assert (packing_of(shape, dtype, 1) is not None) == is_packed


# On disk


@pytest.mark.parametrize("best", [None, 2])
def test_a_packed_buffer_goes_on_from_its_state_and_files(best):
    (packed, _), (restored, _) = buffers(3, keep_best=best), buffers(3, keep_best=best)
    for seed in range(6):
        packed.add(filmed(4 + seed, stack=3, seed=seed))
    arrays, counts = packed.state()
    assert "observations" not in arrays
    held = {digest: b"".join(make()) for digest, make in packed.files().items()}
    restored.restore({n: x.copy() for n, x in arrays.items()}, json.loads(json.dumps(counts)), held.__getitem__)
    for buffer in (packed, restored):
        buffer.add(filmed(12, stack=3, seed=9))
    assert packed.files().keys() == restored.files().keys()
    for mine, other in zip(drawn(packed)[1], drawn(restored)[1], strict=True):
        assert mine.tobytes() == other.tobytes()


def test_files_of_other_frames_are_refused():
    packed, _ = buffers(2)
    packed.add(filmed(4, stack=2, seed=0))
    arrays, counts = packed.state()
    few = b"".join(frames_file(packed.observations.frames[:3]))
    with pytest.raises(ValueError, match="an episode of 5 observations has 3 frames"):
        packed.restore(arrays, counts, lambda _: few)
    other = Packing((32, 32, 2), "uint8", 2).pack(np.zeros((5, 32, 32, 2), np.uint8))
    with pytest.raises(ValueError, match="frame"):
        packed.restore(arrays, counts, lambda _: b"".join(frames_file(other)))
    arrays_of_file = load(b"".join(frames_file([b"abc", b"d"])))
    wrong = b"".join(array_chunks({**arrays_of_file, "sizes": np.array([3, 2], np.int32)}))
    with pytest.raises(ValueError, match="holds others than it says"):
        frames_of(wrong)


def test_arrays_in_chunks_are_a_file_of_safetensors():
    rng = np.random.default_rng(0)
    arrays = {
        "a/b": rng.normal(size=(3, 0, 2)),
        "bytes": rng.integers(0, 255, 7, dtype=np.uint8),
        "truths": rng.random((2, 3)) < 0.5,
        "single": np.float32(rng.normal(size=(4, 1))),
        "across": rng.integers(0, 9, (5, 6))[:, ::2],
        "number": np.array(5, np.int32),
        "small": np.arange(3, dtype=np.int8),
        **{name: np.arange(4, dtype=name) for name in ("float16", "int16", "uint16", "uint32", "uint64")},
    }
    chunks = array_chunks(arrays)
    read = load(b"".join(chunks))
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (read[name].dtype, read[name].shape) == (array.dtype, array.shape)
        assert read[name].tobytes() == array.tobytes()
    (own,) = (chunk for chunk in chunks[2:] if bytes(chunk) == arrays["bytes"].tobytes())
    assert np.shares_memory(np.frombuffer(own, np.uint8), arrays["bytes"])


# An agent


@pytest.fixture
def config(tiny_config):
    """Breakout's screens, 32 by 32, in lives of 20 steps at most."""
    options = {"size": 32, "colour": "grey", "time_limit": 20}
    return tiny_config(
        "environment.name=atari:breakout",
        f"environment.options={json.dumps(options)}",
        "training.replay_capacity=150",
        "training.training_ratio=0.1",
        "training.resume_interval=4",
        "training.evaluation_episodes=0",
    )


def files(folder):
    """The files of frames in an agent's folder, by name, with when they were written."""
    return {path.name: path.stat().st_mtime_ns for path in (folder / "resume" / "frames").iterdir()}


def test_an_agent_of_screens_goes_on_to_the_same_bytes_and_writes_no_frame_twice(
    config, tmp_path, make_trainer, contents, train_in_pieces
):
    whole = make_trainer(config, tmp_path / "whole")
    assert isinstance(whole.experience.replay.observations, PackedObservations)
    assert whole.experience.play.packing.stack == 4
    states = []
    save = whole.save

    def spy():
        save()
        states.append((files(whole.folder) if whole.experience.replay.episodes else {}, whole.experience.files()))

    whole.save = spy
    whole.train()
    assert len(states) > 5
    for (before, _), (after, held) in pairwise(states):
        assert {name.partition(".")[0] for name in after} == held.keys()
        assert all(after[name] == when for name, when in before.items() if name in after)
    assert set(states[5][0]) - set(states[-1][0])  # the oldest have left
    pieces = train_in_pieces(config, tmp_path / "pieces", turns=(40, 31))
    assert contents(pieces.folder, states=True) == contents(whole.folder, states=True)
    assert files(pieces.folder).keys() == files(whole.folder).keys()
    mine, other = (trainer.experience.replay for trainer in (whole, pieces))
    live = np.flatnonzero(mine.left >= 0)
    assert mine.observations[live].tobytes() == other.observations[live].tobytes()
    assert mine.observations[live].std() > 0


def test_what_a_killed_process_left_of_frames_is_gone_and_a_spoilt_file_is_named(
    config, tmp_path, make_trainer, train_in_pieces
):
    trainer = train_in_pieces(config, tmp_path, turns=(45,))
    folder = trainer.folder / "resume" / "frames"
    there = set(folder.iterdir())
    (folder / f"{'0' * 64}.safetensors").write_bytes(b"of no state")
    (folder / f".{'0' * 64}.safetensors.mzprobe-abcd1234").write_bytes(b"half")
    make_trainer(config, tmp_path).train()
    assert set(folder.iterdir()) == there
    assert [one.problem for one in examine([tmp_path])] == [""] * (len(steps_of(trainer.folder)) + 1)
    spoilt = min(there)
    spoilt.write_bytes(spoilt.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match=f"{spoilt.name} is truncated or edited: copy it back"):
        make_trainer(config, tmp_path).train()
    assert sum(spoilt.name in one.problem for one in examine([tmp_path])) == 1


# An environment that says so


class Film:
    """Forwards to an environment, and says that it shows stacks of frames."""

    def __init__(self, environment, stack):
        self.environment, self.stack = environment, stack

    def __getattr__(self, name):
        return getattr(self.environment, name)


def test_an_environment_that_shows_no_stack_is_told():
    screens = make("atari:breakout", size=16, colour="grey", time_limit=30, no_ops=0)
    assert stack_of(screens) == 4
    check_env(screens, steps=12, processes=False)
    for stack, said in ((2, "does not show the frames before it"), (3, "4 channels are no stack of 3")):
        with pytest.raises(CheckFailed, match=f"'a stack shows the frames before': .*{said}"):
            check_env(Film(screens, stack), steps=12, processes=False)
