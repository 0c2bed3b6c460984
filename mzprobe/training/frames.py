"""Storage of observations: small ones as they are, images as compressed frames, each frame once.

An image that stacks the latest frames of an episode, as in Atari, shares all but one with the image before. Only its
newest frame is stored; the others are those of the positions before.
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
State = tuple[dict[str, NDArray[Any]], dict[str, Any]]  # arrays, and values for JSON
Files = dict[str, Callable[[], Chunks]]  # functions that return the content of a file, by its digest
Read = Callable[[str], bytes]  # returns the content of a file, given its digest

LARGE = 1024  # bytes; smaller observations are stored as they are
_ROUGHLY = 32  # assumed compression ratio; Atari screens compress to between a tenth and a fiftieth
_OBJECT = 64  # bytes of overhead per packed frame in Python


@dataclass(frozen=True)
class Packing:
    """Compression of the observations of an environment.

    Args:
        shape: shape of an observation.
        dtype: dtype of its entries.
        stack: number of frames that it shows side by side on its last axis, the newest last.
    """

    shape: tuple[int, ...]
    dtype: ObservationType
    stack: int = 1

    @cached_property
    def frame_shape(self) -> tuple[int, ...]:
        """Shape of one frame."""
        return (*self.shape[:-1], self.shape[-1] // self.stack)

    @cached_property
    def roughly(self) -> int:
        """Estimated bytes of a packed frame; the true number depends on its content."""
        return self._size // _ROUGHLY + _OBJECT

    def pack(self, observations: NDArray[Any]) -> list[bytes]:
        """Compresses the newest frames of observations `[M, *shape]`."""
        newest = np.ascontiguousarray(observations[..., -self.frame_shape[-1] :])
        return [self._codec.compress(frame, asbytes=True) for frame in newest]

    def pack_episode(self, observations: NDArray[Any]) -> list[bytes]:
        """Compresses the observations `[T + 1, *shape]` of an episode to one frame each.

        Raises:
            ValueError: if they are not stacks of the episode's latest frames, so that some frames would be lost.
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
        """Rejects the frames of a file if the first of them is not a frame of this environment.

        Raises:
            ValueError: if it cannot be unpacked to a frame of this shape and dtype.
        """
        try:
            self.unpack(frames[:1], np.zeros((1, self.stack), np.int64))
        except OSError as reason:
            raise ValueError(f"a frame is not of {list(self.frame_shape)} {self.dtype} ({reason})") from None

    def unpack(self, frames: Sequence[bytes], which: Int64) -> NDArray[Any]:
        """Returns observations `[M, *shape]`; `which` `[M, stack]` indexes the frames of each, the newest last."""
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
        from pyarrow import Codec  # imported only for images; LZ4 is its fastest codec to read

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
    """Returns how to pack an environment's observations; None if they are small or floats, stored as they are."""
    large = math.prod(shape) * np.dtype(dtype).itemsize >= LARGE
    return Packing(shape, dtype, stack) if large and dtype != "float32" else None


def bytes_of_one(shape: tuple[int, ...], dtype: ObservationType, stack: int) -> int:
    """Returns roughly how many bytes a stored observation takes."""
    packing = packing_of(shape, dtype, stack)
    return math.prod(shape) * np.dtype(dtype).itemsize if packing is None else packing.roughly


class PlainObservations:
    """Observations of slots, stored as they are.

    Args:
        capacity: number of slots.
        shape: shape of one observation.
        dtype: dtype of its entries.
    """

    def __init__(self, capacity: int, shape: tuple[int, ...], dtype: ObservationType) -> None:
        self.array = np.zeros((capacity, *shape), dtype)

    def __getitem__(self, slots: Any) -> NDArray[Any]:
        """Returns the observations `[M, *shape]` of slots `[M]`, or of any numpy index."""
        given: NDArray[Any] = self.array[slots]
        return given

    def put(self, kept: Kept, shown: Shown) -> None:
        """Stores the observations of an episode in its slots."""
        self.array[kept.place] = shown

    def move(self, old: Kept, new: Kept) -> None:
        """Moves an episode to other slots."""
        self.array[new.place] = self.array[old.place].copy()

    def clear(self, kept: Kept) -> None:
        """Does nothing: the slots of a dropped episode are simply written over."""

    def state(self, used: int, episodes: Sequence[Kept]) -> State:  # noqa: ARG002
        """Returns the observations of all slots used so far as arrays, and nothing as JSON."""
        return {"observations": self.array[:used]}, {}

    def restore(self, state: State, used: int, episodes: Sequence[Kept], read: Read) -> None:  # noqa: ARG002
        """Restores the result of `state`."""
        fill(self.array[:used], state[0]["observations"])

    def files(self, episodes: Sequence[Kept]) -> Files:  # noqa: ARG002
        """Returns no files (see `PackedObservations.files`)."""
        return {}


class PackedObservations:
    """Observations of slots, each frame stored once and compressed; states refer to one file per episode.

    Args:
        capacity: number of slots.
        packing: compression for the environment.
    """

    def __init__(self, capacity: int, packing: Packing) -> None:
        self.packing = packing
        self.frames: list[bytes] = [b""] * capacity
        self.since = np.zeros(capacity, np.uint8)  # number of earlier frames that the image of a slot shows
        self.digests: dict[int, str] = {}  # digest of each episode's file, by its first slot

    def __getitem__(self, slots: Int64) -> NDArray[Any]:
        """Returns the observations `[M, *shape]` of slots `[M]`."""
        stack = self.packing.stack
        back = np.minimum(self.since[slots][:, None], np.arange(stack)[::-1])
        found, which = np.unique(slots[:, None] - back, return_inverse=True)
        return self.packing.unpack([self.frames[slot] for slot in found.tolist()], which.reshape(len(slots), stack))

    def put(self, kept: Kept, shown: Shown) -> None:
        """Stores the observations of an episode in its slots.

        Raises:
            ValueError: if they are not stacks of the episode's latest frames.
        """
        frames = shown if isinstance(shown, list) else self.packing.pack_episode(shown)
        self._put(kept, frames, digest_of(frames_file(frames)))

    def move(self, old: Kept, new: Kept) -> None:
        """Moves an episode to other slots."""
        frames, digest = self.frames[old.place], self.digests[old.first]
        self.clear(old)
        self._put(new, frames, digest)

    def clear(self, kept: Kept) -> None:
        """Frees the frames of an episode."""
        self.frames[kept.place] = [b""] * kept.slots
        del self.digests[kept.first]

    def state(self, used: int, episodes: Sequence[Kept]) -> State:  # noqa: ARG002
        """Returns nothing as arrays, and the digests of the episodes' files as JSON."""
        return {}, {"frames": [self.digests[kept.first] for kept in episodes]}

    def restore(self, state: State, used: int, episodes: Sequence[Kept], read: Read) -> None:  # noqa: ARG002
        """Restores the results of `state` and `files`; `read` returns the content of a file by its digest.

        Raises:
            ValueError: if a file does not hold the frames of its episode.
        """
        for kept, digest in zip(episodes, state[1]["frames"], strict=True):
            frames = frames_of(read(digest))
            self.packing.refuse_others(frames)
            if len(frames) != kept.slots:
                raise ValueError(f"an episode of {kept.slots} observations has {len(frames)} frames")
            self._put(kept, frames, digest)

    def files(self, episodes: Sequence[Kept]) -> Files:
        """Returns the file of each episode by its digest; the content is built when it is called for."""
        return {self.digests[kept.first]: partial(self._file, kept.place) for kept in episodes}

    def _put(self, kept: Kept, frames: list[bytes], digest: str) -> None:
        self.frames[kept.place] = frames
        self.since[kept.place] = np.minimum(np.arange(kept.slots), self.packing.stack - 1)
        self.digests[kept.first] = digest

    def _file(self, place: slice) -> Chunks:
        return frames_file(self.frames[place])


def nothing(digest: str) -> bytes:
    """Serves as `Read` where there are no files.

    Raises:
        LookupError: always.
    """
    raise LookupError(f"there is no file {digest}")


def frames_file(frames: Sequence[bytes]) -> Chunks:
    """Returns the content of a file of packed frames."""
    sizes = np.array([len(frame) for frame in frames], np.int32)
    return array_chunks({"sizes": sizes, "frames": np.frombuffer(b"".join(frames), np.uint8)})


def frames_of(data: bytes) -> list[bytes]:
    """Returns the packed frames from the content of a file.

    Raises:
        ValueError: if the content is inconsistent.
    """
    arrays = load(data)
    sizes, frames = arrays["sizes"], arrays["frames"].tobytes()
    ends = sizes.cumsum(dtype=np.int64)
    if sizes.min(initial=0) < 0 or ends[-1] != len(frames):
        raise ValueError("a file of frames holds others than it says")
    return [frames[end - size : end] for end, size in zip(ends.tolist(), sizes.tolist(), strict=True)]
