"""Watching an agent play: an episode with what its search and its model said at each step, as frames, in a file."""

from mzprobe.watching.episode import Watched, watch
from mzprobe.watching.frames import frames_of
from mzprobe.watching.output import check_video, write_video

__all__ = ["Watched", "check_video", "frames_of", "watch", "write_video"]
