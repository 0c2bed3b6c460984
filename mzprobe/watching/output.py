"""Writes frames to a file: a GIF, or an MP4 if the extra `video` is installed."""

import io
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mzprobe.envs.shapes import Pixels
from mzprobe.errors import UsageError
from mzprobe.files import there, write_file

SUFFIXES = (".gif", ".mp4")


def check_video(path: Path, *, overwrite: bool) -> None:
    """Refuses a file that could not be written, before any frames are made.

    Raises:
        UsageError: if its type is unknown, the extra for it is missing, its folder does not exist, or the file exists
            and `overwrite` is False.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path}: an episode is written as {' or '.join(SUFFIXES)}, give the file such an end")
    if path.suffix == ".mp4":
        _ffmpeg()
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}, make it first")
    if there(path) and not overwrite:
        raise UsageError(f"{path} is there already: give another name, or --overwrite")


def write_video(path: Path, frames: Iterable[Pixels], *, fps: float) -> None:
    """Writes frames `[H, W, 3]` of one size; the file appears only when it is complete.

    Args:
        path: path that ends in .gif or .mp4.
        frames: one or more frames.
        fps: frames per second.

    Raises:
        MzprobeError: if the disk is full or the place cannot be written.
        UsageError: if the extra for MP4 files is missing.
    """
    write_file(path, _as_gif(frames, fps) if path.suffix == ".gif" else _as_mp4(frames, fps))


def _as_gif(frames: Iterable[Pixels], fps: float) -> bytes:
    # All frames use the palette of the first one; otherwise colours would flicker.
    images = (Image.fromarray(np.ascontiguousarray(frame)) for frame in frames)
    first = next(images).quantize(colors=64)
    rest = (image.quantize(palette=first, dither=Image.Dither.NONE) for image in images)
    written = io.BytesIO()
    first.save(
        written,
        format="GIF",
        save_all=True,
        append_images=rest,
        duration=max(20, round(1000 / fps)),
        loop=0,
        disposal=1,
    )
    return written.getvalue()


def _as_mp4(frames: Iterable[Pixels], fps: float) -> bytes:
    every = iter(frames)
    first = next(every)
    height, width = first.shape[0] // 2 * 2, first.shape[1] // 2 * 2  # the codec needs even numbers
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "episode.mp4"
        writer = _ffmpeg().write_frames(str(path), (width, height), fps=fps, macro_block_size=2)
        writer.send(None)
        for frame in (first, *every):
            writer.send(np.ascontiguousarray(frame[:height, :width]))
        writer.close()
        return path.read_bytes()


def _ffmpeg() -> Any:
    try:
        import imageio_ffmpeg
    except ImportError:
        raise UsageError("an .mp4 needs ffmpeg: pip install 'mzprobe[video]', or write a .gif") from None
    return imageio_ffmpeg
