"""Videos of an agent's play: an episode with the outputs of its search and model at each step, drawn as frames."""

from mzprobe.watching.episode import Watched, watch
from mzprobe.watching.frames import frames_of
from mzprobe.watching.output import check_video, write_video

__all__ = ["Watched", "check_video", "frames_of", "watch", "write_video"]
