"""Pictures of a clip by shot: what is shown to models that see.

In:   a video, where the clip begins in it, how long it is.
Out:  shots with their times and a few frames each.

Frames are taken by timestamp, four a second; a cut is where the picture changes at once, far
more than it did around. From each shot the frames at even distances are kept, never one from
its edge, where compression blurs two shots together.

Shape suffixes: T frames, H W C picture.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omni2sound.media.info import probe
from omni2sound.media.video import iter_frames

__all__ = ["ShotFrames", "cuts_of", "shots_of"]

_FPS = 4
_CUT_LEVEL = 0.11
"""Mean absolute change of a thumbnail, of full scale, that a cut has at least."""
_CUT_CONTRAST = 3.0
"""A cut changes so many times more than the median change: fast motion alone is none."""
_MAX_FRAMES = 64
"""Kept of one clip, however many shots it has."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ShotFrames:
    """One shot."""

    start_s: float
    end_s: float
    frames_THWC: tuple[NDArray[np.uint8], ...]


def cuts_of(thumbnails_THWC: NDArray[np.uint8]) -> list[int]:
    """Places of the frames that begin a new shot, the first one's 0 included."""
    small = thumbnails_THWC.astype(np.float32) / 255
    changes = np.abs(np.diff(small, axis=0)).mean(axis=(1, 2, 3)) if len(small) > 1 else np.zeros(0)
    usual = float(np.median(changes)) if len(changes) else 0.0
    is_cut = (changes > _CUT_LEVEL) & (changes > _CUT_CONTRAST * usual)
    return [0, *(int(i) + 1 for i in np.flatnonzero(is_cut))]


def shots_of(
    video: str | os.PathLike[str],
    *,
    start_s: float,
    duration_s: float | None,
    height_px: int,
    frames_per_shot: int,
) -> tuple[ShotFrames, ...]:
    """The shots of a clip with up to `frames_per_shot` frames each.

    Raises:
        MediaError: The file has no picture that can be decoded.
    """
    info = probe(Path(video)).video
    width_px = height_px
    if info is not None and info.height_px:
        width_px = max(1, round(height_px * info.width_px / info.height_px))
    frames = list(
        iter_frames(
            video,
            fps=_FPS,
            size_px=(height_px, width_px),
            start_s=start_s,
            duration_s=duration_s,
        )
    )
    thumbnails = np.stack(
        [f[:: max(1, height_px // 24), :: max(1, width_px // 32)] for f in frames]
    )
    starts = cuts_of(thumbnails)
    ends = [*starts[1:], len(frames)]
    count = max(1, min(frames_per_shot, _MAX_FRAMES // len(starts)))
    return tuple(
        ShotFrames(
            start_s=start / _FPS,
            end_s=end / _FPS if end < len(frames) or duration_s is None else duration_s,
            frames_THWC=tuple(frames[i] for i in _spread(start, end, count)),
        )
        for start, end in zip(starts, ends, strict=True)
    )


def _spread(start: int, end: int, count: int) -> list[int]:
    count = min(count, end - start)
    return [start + (2 * i + 1) * (end - start) // (2 * count) for i in range(count)]
