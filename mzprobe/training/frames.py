"""Observations as a run keeps them: small ones as they are, images as frames, each once and compressed.

An image that shows the latest frames of an episode, as Atari's do, shares all but one with the image before. What is
kept of it is its newest frame, and the others are found at the positions before.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from mzprobe._kernel import kernel
from mzprobe.envs.core import ObservationType
from mzprobe.files import Chunks, digest_of
from mzprobe.training.arrays import array_chunks, fill
from mzprobe.training.episodes import Kept, Shown

Int64 = NDArray[np.int64]
State = tuple[dict[str, NDArray[Any]], dict[str, Any]]  # arrays, and what JSON holds
Files = dict[str, Callable[[], Chunks]]  # what they hold, by its digest
Read = Callable[[str], bytes]  # a file by its digest

LARGE = 1024  # bytes of an observation: smaller ones are kept as they are
_ROUGHLY = 32  # bytes of a screen, roughly, for one of it packed: Atari's take a tenth to a fiftieth
_OBJECT = 64  # bytes that Python takes to keep one of them


@dataclass(frozen=True)
class Packing:
    """How the observations of an environment are packed.

    Args:
        shape: of an observation.
        dtype: of its entries.
        stack: frames that it shows side by side on its last axis, the newest last.
    """

    shape: tuple[int, ...]
    dtype: ObservationType
    stack: int = 1

    @cached_property
    def frame_shape(self) -> tuple[int, ...]:
        """Of one frame."""
        return (*self.shape[:-1], self.shape[-1] // self.stack)

    @cached_property
    def roughly(self) -> int:
        """Bytes of a packed frame; what it really takes is not known before it is seen."""
        return self._size // _ROUGHLY + _OBJECT

    def pack(self, observations: NDArray[Any]) -> list[bytes]:
        """The newest frames of observations `[M, *shape]`."""
        newest = np.ascontiguousarray(observations[..., -self.frame_shape[-1] :])
        return [self._codec.compress(frame, asbytes=True) for frame in newest]

    def pack_episode(self, observations: NDArray[Any]) -> list[bytes]:
        """The frames of all observations of an episode, `[T + 1, *shape]`.

        Raises:
            ValueError: if they are no stacks of frames, so that some would be lost.
        """
        packed = self.pack(observations)
        times = np.arange(len(packed))
        which = np.maximum(times[:, None] + np.arange(1 - self.stack, 1), 0)
        if self.stack > 1 and not np.array_equal(self.unpack(packed, which), observations):
            raise ValueError(
                f"an episode's observations are not the latest {self.stack} frames of it, the first repeated at its "
                "start, as its environment says"
            )
        return packed

    def refuse_others(self, frames: Sequence[bytes]) -> None:
        """Refuses frames of a file that are of another environment, by the first.

        Raises:
            ValueError: if it is no such frame.
        """
        try:
            self.unpack(frames[:1], np.zeros((1, self.stack), np.int64))
        except OSError as reason:
            raise ValueError(f"a frame is not of {list(self.frame_shape)} {self.dtype} ({reason})") from None

    def unpack(self, frames: Sequence[bytes], which: Int64) -> NDArray[Any]:
        """Observations `[M, *shape]` of packed frames; `which` `[M, stack]` says those of each, the newest last."""
        whole = np.empty((len(frames), *self.frame_shape), self.dtype)
        for row, frame in zip(whole.reshape(len(frames), self._size).view(np.uint8), frames, strict=True):
            row[:] = np.frombuffer(self._codec.decompress(frame, decompressed_size=self._size), np.uint8)
        if self.stack == 1:
            return whole[which[:, 0]]
        observations = np.empty((len(which), *self.shape), self.dtype)
        places, width = math.prod(self.shape[:-1]), self.frame_shape[-1]
        _lay_side_by_side(
            whole.reshape(len(whole), places, width), which, observations.reshape(len(which), places, self.shape[-1])
        )
        return observations

    @cached_property
    def _size(self) -> int:
        """Bytes of a frame."""
        return math.prod(self.frame_shape) * np.dtype(self.dtype).itemsize

    @cached_property
    def _codec(self) -> Any:
        from pyarrow import Codec  # at the first image; of its codecs the one that is read fastest

        return Codec("lz4")


@kernel
def _lay_side_by_side(frames: NDArray[Any], which: Int64, out: NDArray[Any]) -> None:
    """Fills `out` `[M, places, stack * channels]` with `frames` `[F, places, channels]`, by `which` `[M, stack]`."""
    places, channels = frames.shape[1:]
    for m in range(which.shape[0]):
        for k in range(which.shape[1]):
            for c in range(channels):  # a channel at a time: twice as fast as a place at a time
                here, there = out[m, :, k * channels + c], frames[which[m, k], :, c]
                for place in range(places):
                    here[place] = there[place]


def packing_of(shape: tuple[int, ...], dtype: ObservationType, stack: int) -> Packing | None:
    """How an environment's observations are packed; None where they are kept as they are, as all of floats are."""
    large = math.prod(shape) * np.dtype(dtype).itemsize >= LARGE
    return Packing(shape, dtype, stack) if large and dtype != "float32" else None


def bytes_of_one(shape: tuple[int, ...], dtype: ObservationType, stack: int) -> int:
    """Bytes that an observation takes as it is kept, roughly."""
    packing = packing_of(shape, dtype, stack)
    return math.prod(shape) * np.dtype(dtype).itemsize if packing is None else packing.roughly


class PlainObservations:
    """Observations of slots, as they are.

    Args:
        capacity: slots.
        shape: of one observation.
        dtype: of its entries.
    """

    def __init__(self, capacity: int, shape: tuple[int, ...], dtype: ObservationType) -> None:
        self.array = np.zeros((capacity, *shape), dtype)

    def __getitem__(self, slots: Any) -> NDArray[Any]:
        """Those of slots `[M]`, or whatever numpy takes: `[M, *shape]`."""
        given: NDArray[Any] = self.array[slots]
        return given

    def put(self, kept: Kept, shown: Shown) -> None:
        """Those of an episode that lies there."""
        self.array[kept.place] = shown

    def move(self, old: Kept, new: Kept) -> None:
        """An episode to other slots."""
        self.array[new.place] = self.array[old.place].copy()

    def clear(self, kept: Kept) -> None:
        """Forgets an episode: nothing is to be done."""

    def state(self, used: int, episodes: Sequence[Kept]) -> State:  # noqa: ARG002
        """Of all slots used so far, as arrays, and nothing as JSON."""
        return {"observations": self.array[:used]}, {}

    def restore(self, state: State, used: int, episodes: Sequence[Kept], read: Read) -> None:  # noqa: ARG002
        """Takes back what `state` gave."""
        fill(self.array[:used], state[0]["observations"])

    def files(self, episodes: Sequence[Kept]) -> Files:  # noqa: ARG002
        """As of packed ones: none."""
        return {}


class PackedObservations:
    """Observations of slots, each frame once and compressed; what a state refers to is a file an episode.

    Args:
        capacity: slots.
        packing: of the environment.
    """

    def __init__(self, capacity: int, packing: Packing) -> None:
        self.packing = packing
        self.frames: list[bytes] = [b""] * capacity
        self.since = np.zeros(capacity, np.uint8)  # frames of its episode before a slot, as far as that shows them
        self.digests: dict[int, str] = {}  # of an episode's file, by its first slot

    def __getitem__(self, slots: Int64) -> NDArray[Any]:
        """Those of slots `[M]`: `[M, *shape]`."""
        stack = self.packing.stack
        back = np.minimum(self.since[slots][:, None], np.arange(stack)[::-1])
        found, which = np.unique(slots[:, None] - back, return_inverse=True)
        return self.packing.unpack([self.frames[slot] for slot in found.tolist()], which.reshape(len(slots), stack))

    def put(self, kept: Kept, shown: Shown) -> None:
        """Those of an episode that lies there.

        Raises:
            ValueError: if they are no stacks of frames.
        """
        frames = shown if isinstance(shown, list) else self.packing.pack_episode(shown)
        self._put(kept, frames, digest_of(frames_file(frames)))

    def move(self, old: Kept, new: Kept) -> None:
        """An episode to other slots."""
        frames, digest = self.frames[old.place], self.digests[old.first]
        self.clear(old)
        self._put(new, frames, digest)

    def clear(self, kept: Kept) -> None:
        """Forgets an episode."""
        self.frames[kept.place] = [b""] * kept.slots
        del self.digests[kept.first]

    def state(self, used: int, episodes: Sequence[Kept]) -> State:  # noqa: ARG002
        """Nothing as arrays, and the digests of episodes' files as JSON."""
        return {}, {"frames": [self.digests[kept.first] for kept in episodes]}

    def restore(self, state: State, used: int, episodes: Sequence[Kept], read: Read) -> None:  # noqa: ARG002
        """Takes back what `state` and `files` gave.

        Raises:
            ValueError: if a file holds other frames than an episode has.
        """
        for kept, digest in zip(episodes, state[1]["frames"], strict=True):
            frames = frames_of(read(digest))
            self.packing.refuse_others(frames)
            if len(frames) != kept.slots:
                raise ValueError(f"an episode of {kept.slots} observations has {len(frames)} frames")
            self._put(kept, frames, digest)

    def files(self, episodes: Sequence[Kept]) -> Files:
        """By its digest, each episode's file, made when it is asked for."""
        return {self.digests[kept.first]: partial(self._file, kept.place) for kept in episodes}

    def _put(self, kept: Kept, frames: list[bytes], digest: str) -> None:
        self.frames[kept.place] = frames
        self.since[kept.place] = np.minimum(np.arange(kept.slots), self.packing.stack - 1)
        self.digests[kept.first] = digest

    def _file(self, place: slice) -> Chunks:
        return frames_file(self.frames[place])


def nothing(digest: str) -> bytes:
    """Where there are no files.

    Raises:
        LookupError: always.
    """
    raise LookupError(f"there is no file {digest}")


def frames_file(frames: Sequence[bytes]) -> Chunks:
    """What a file of packed frames holds."""
    sizes = np.array([len(frame) for frame in frames], np.int32)
    return array_chunks({"sizes": sizes, "frames": np.frombuffer(b"".join(frames), np.uint8)})


def frames_of(data: bytes) -> list[bytes]:
    """Packed frames, as a file holds them.

    Raises:
        ValueError: if it does not agree with itself.
    """
    arrays = load(data)
    sizes, frames = arrays["sizes"], arrays["frames"].tobytes()
    ends = sizes.cumsum(dtype=np.int64)
    if sizes.min(initial=0) < 0 or ends[-1] != len(frames):
        raise ValueError("a file of frames holds others than it says")
    return [frames[end - size : end] for end, size in zip(ends.tolist(), sizes.tolist(), strict=True)]
