"""What is inside a media file: sound, moving or still pictures, how long.

In:   a path.
Out:  `Contents`, or the reason why the file can't be used.

A suffix tells neither: downloaders save sound alone as .webm or .mp4. Headers are read, and where a
header does not tell the length, the packets: reading all packets of a corpus takes hours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import av

from omni2sound.errors import MediaError
from omni2sound.media import probe
from omni2sound.media.files import open_input
from omni2sound.media.limits.budgets import MAX_DURATION_S
from omni2sound.media.streams import is_picture, is_sound

_TELL_LENGTH = ("mov", "matroska", "wav", "flac", "ogg", "aiff", "w64")
"""Start of FFmpeg's names of formats whose header holds the length."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds."""

    has_sound: bool
    has_picture: bool
    """Cover art is none."""
    duration_s: float
    """To the end of its longest track."""


def look_into(path: Path) -> Contents | str:
    """Read what a file holds; a file that can't be used gives the reason, without its name."""
    status = path.stat()
    return _look_into(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=65_536)
def _look_into(path: Path, _size: int, _mtime_ns: int) -> Contents | str:
    try:
        contents = _read(path)
    except MediaError as error:
        return " ".join(str(error).split()).removeprefix(f"{path.name}: ")
    if not contents.duration_s > 0:
        return "holds neither sound nor pictures; it is damaged or cut off: download it again"
    if contents.duration_s > MAX_DURATION_S:
        hours = contents.duration_s / 3600
        return f"lasts {hours:.0f} h, the limit is {MAX_DURATION_S // 3600} h; cut it in parts"
    return contents


def _read(path: Path) -> Contents:
    with open_input(path) as container:
        sounds = [s for s in container.streams.audio if is_sound(s)]
        pictures = [s for s in container.streams.video if is_picture(s)]
        lengths = [
            float(s.duration * s.time_base)
            for s in (*sounds, *pictures)
            if s.duration is not None and s.time_base is not None
        ]
        if not lengths and container.duration is not None:
            lengths = [container.duration / av.time_base]
        tells_length = container.format.name.startswith(_TELL_LENGTH)
    if not (sounds or pictures):
        return Contents(has_sound=False, has_picture=False, duration_s=0.0)
    duration_s = max(lengths, default=0.0)
    if not (tells_length and duration_s > 0):
        info = probe(path)
        parts = [p.duration_s for p in (info.audio, info.video) if p is not None]
        duration_s = float(max(parts, default=info.duration_s))
    return Contents(has_sound=bool(sounds), has_picture=bool(pictures), duration_s=duration_s)
