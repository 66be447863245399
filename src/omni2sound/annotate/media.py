"""Sound and frames of a clip, as models get them.

In:   a clip; a span in it.
Out:  samples at 16 kHz, a WAV file in memory; shots with their times and a few frames each.

Frames are taken by timestamp, four a second; a cut is an abrupt change of the picture, far above
the usual one. Frames of a shot are evenly spaced and never at its edge, where compression blurs
two shots together.

Shape suffixes: N samples, T frames, H W C picture.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import soundfile
from numpy.typing import NDArray

from omni2sound.annotate.roles import SourceClip
from omni2sound.errors import MediaError
from omni2sound.llm import AudioPart
from omni2sound.media.audio import read_audio
from omni2sound.media.info import probe
from omni2sound.media.video import iter_frames

SAMPLE_RATE_HZ = 16_000
_MIN_SPAN_S = 0.25
MAX_FPS = 4
_CUT_LEVEL = 0.11
"""Least mean absolute change of a thumbnail at a cut, relative to full scale."""
_CUT_CONTRAST = 3.0
"""Least ratio of the change at a cut to the median change; fast motion alone stays below."""
_MAX_FRAMES = 64
"""Most frames of one clip, however many shots it has."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ShotFrames:
    """Frames of one shot."""

    start_s: float
    end_s: float
    frames_THWC: tuple[NDArray[np.uint8], ...]


def cuts_of(thumbnails_THWC: NDArray[np.uint8]) -> list[int]:
    """Find the frames that begin a shot; the first is always frame 0."""
    small = thumbnails_THWC.astype(np.float32) / 255
    changes = np.abs(np.diff(small, axis=0)).mean(axis=(1, 2, 3)) if len(small) > 1 else np.zeros(0)
    usual = float(np.median(changes)) if len(changes) else 0.0
    is_cut = (changes > _CUT_LEVEL) & (changes > _CUT_CONTRAST * usual)
    return [0, *(int(i) + 1 for i in np.flatnonzero(is_cut))]


def shots_of(
    clip: SourceClip,
    *,
    height_px: int,
    frames_per_shot: int,
    frames_per_second: float | None = None,
    max_frames: int | None = None,
) -> tuple[ShotFrames, ...]:
    """Split a clip into shots with a few frames each; () without a video.

    Args:
        clip: The clip.
        height_px: Height of the frames.
        frames_per_shot: Most frames of a shot.
        frames_per_second: Frames of a shot by its length instead, at least one; up to 4.
        max_frames: Most frames of the clip; of more, evenly spaced ones are kept.

    Raises:
        MediaError: The video can't be decoded.
    """
    if clip.video is None:
        return ()
    info = probe(clip.video).video
    width_px = height_px
    if info is not None and info.height_px:
        width_px = max(1, round(height_px * info.width_px / info.height_px))
    frames = list(
        iter_frames(
            clip.video,
            fps=MAX_FPS,
            size_px=(height_px, width_px),
            start_s=clip.start_s,
            duration_s=clip.duration_s,
        )
    )
    thumbnails = np.stack(
        [f[:: max(1, height_px // 24), :: max(1, width_px // 32)] for f in frames]
    )
    starts = cuts_of(thumbnails)
    ends = [*starts[1:], len(frames)]
    most = max(1, _MAX_FRAMES // len(starts))
    counts = [
        min(frames_per_shot, most)
        if frames_per_second is None
        else min(max(1, round(frames_per_second * (end - start) / MAX_FPS)), most)
        for start, end in zip(starts, ends, strict=True)
    ]
    chosen = [_spread(*shot) for shot in zip(starts, ends, counts, strict=True)]
    if max_frames is not None and (num := sum(map(len, chosen))) > max_frames:
        shown = [frame for frames_of_shot in chosen for frame in frames_of_shot]
        kept = {shown[place] for place in _spread(0, num, max_frames)}
        chosen = [[frame for frame in some if frame in kept] for some in chosen]
    return tuple(
        ShotFrames(
            start_s=start / MAX_FPS,
            end_s=(
                end / MAX_FPS if end < len(frames) or clip.duration_s is None else clip.duration_s
            ),
            frames_THWC=tuple(frames[i] for i in some),
        )
        for start, end, some in zip(starts, ends, chosen, strict=True)
    )


def _spread(start: int, end: int, count: int) -> list[int]:
    count = min(count, end - start)
    return [start + (2 * i + 1) * (end - start) // (2 * count) for i in range(count)]


def clip_sound(clip: SourceClip, *, sample_rate_hz: int = SAMPLE_RATE_HZ) -> NDArray[np.float32]:
    """Read the sound of a clip.

    Returns:
        (N,) mono, at 16 kHz unless another rate is given.

    Raises:
        MediaError: The file can't be decoded, or the clip lies behind its end.
    """
    audio = read_audio(
        clip.audio,
        sample_rate_hz=sample_rate_hz,
        mono=True,
        start_s=clip.start_s,
        duration_s=clip.duration_s,
    )
    samples_N: NDArray[np.float32] = audio.samples_CN[0]
    if not len(samples_N):
        raise MediaError(f"{clip.audio.name}: no sound from {clip.start_s:g} s on; it ends earlier")
    return samples_N


def sound_part(
    samples_N: NDArray[np.float32], span_s: tuple[float, float] | None = None
) -> tuple[AudioPart, tuple[float, float]]:
    """Cut a span out for a request.

    Args:
        samples_N: The clip's sound at 16 kHz.
        span_s: Start and end; None takes the whole clip. A span below 0.25 s is widened around
            its middle, then clipped to the sound.

    Returns:
        The part, and the span in seconds that it covers.
    """
    end_of_clip_s = len(samples_N) / SAMPLE_RATE_HZ
    start_s, end_s = (0.0, end_of_clip_s) if span_s is None else sorted(span_s)
    lacking_s = _MIN_SPAN_S - (end_s - start_s)
    if lacking_s > 0:
        start_s, end_s = start_s - lacking_s / 2, end_s + lacking_s / 2
    start_s = min(max(start_s, 0.0), max(0.0, end_of_clip_s - _MIN_SPAN_S))
    end_s = min(max(end_s, start_s + _MIN_SPAN_S), end_of_clip_s)
    piece_N = samples_N[round(start_s * SAMPLE_RATE_HZ) : round(end_s * SAMPLE_RATE_HZ)]
    file = io.BytesIO()
    soundfile.write(file, piece_N, SAMPLE_RATE_HZ, format="WAV", subtype="PCM_16")
    part = AudioPart(
        data=file.getvalue(), format="wav", duration_s=max(len(piece_N), 1) / SAMPLE_RATE_HZ
    )
    return part, (start_s, end_s)
