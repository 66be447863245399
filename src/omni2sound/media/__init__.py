"""Media files: pictures by timestamp, sound by sample, and both in one file.

In:   paths of video, sound and picture files of any origin, also damaged ones.
Out:  NumPy arrays; files that appear under their name only when they are whole.

NumPy and PyAV, no torch. Whatever is wrong with a file comes out as `MediaError`, in one
line that names the file; FFmpeg's own log stays off the terminal.
"""

from __future__ import annotations

from omni2sound.media.audio import read_audio, write_audio
from omni2sound.media.files import AUDIO_SUFFIXES, VIDEO_SUFFIXES, check_output
from omni2sound.media.info import AudioStreamInfo, MediaInfo, VideoStreamInfo, probe
from omni2sound.media.mux import mux
from omni2sound.media.samples import Audio, resample
from omni2sound.media.video import iter_frames

__all__ = [
    "AUDIO_SUFFIXES",
    "VIDEO_SUFFIXES",
    "Audio",
    "AudioStreamInfo",
    "MediaInfo",
    "VideoStreamInfo",
    "check_output",
    "iter_frames",
    "mux",
    "probe",
    "read_audio",
    "resample",
    "write_audio",
]
