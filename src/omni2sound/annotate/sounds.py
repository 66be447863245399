"""The sound of a clip, or of a piece of it, as models get it.

In:   a clip, a span in it.
Out:  samples at 16 kHz; a WAV file in memory.
"""

from __future__ import annotations

import io

import numpy as np
import soundfile
from numpy.typing import NDArray

from omni2sound.annotate.roles import SourceClip
from omni2sound.errors import MediaError
from omni2sound.llm import AudioPart
from omni2sound.media.audio import read_audio

__all__ = ["SAMPLE_RATE_HZ", "clip_sound", "sound_part"]

SAMPLE_RATE_HZ = 16_000
_MIN_SPAN_S = 0.25


def clip_sound(clip: SourceClip) -> NDArray[np.float32]:
    """(N,) at 16 kHz.

    Raises:
        MediaError: The file can't be decoded, or the clip lies behind its end.
    """
    audio = read_audio(
        clip.audio,
        sample_rate_hz=SAMPLE_RATE_HZ,
        mono=True,
        start_s=clip.start_s,
        duration_s=clip.duration_s,
    )
    samples_N: NDArray[np.float32] = audio.samples_CN[0]
    if not len(samples_N):
        raise MediaError(f"{clip.audio.name}: no sound from {clip.start_s:g} s on")
    return samples_N


def sound_part(
    samples_N: NDArray[np.float32], span_s: tuple[float, float] | None = None
) -> tuple[AudioPart, tuple[float, float]]:
    """A piece of sound for a request, and the span that it really is.

    Args:
        samples_N: Of the clip, 16 kHz.
        span_s: Start and end; None is all of it. Too short a span is widened around its
            middle, and what reaches beyond the clip is cut.
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
