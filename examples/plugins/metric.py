"""Your own metric: how far a sound's spectral centroid is from that of the real sound.

`omni2sound --plugin examples/plugins/metric.py bench score TRACK SOUNDS --task V2A -o OUT` adds the
table `brightness-v1`; `bench run` does, too.
"""

import numpy as np
from numpy.typing import NDArray

from omni2sound.bench.metrics.clip_metric import CLIP_METRICS, ClipMetric, ScoredClip

RATE_HZ = 16_000


def centroid_hz(waveform_N: NDArray[np.float32]) -> float | None:
    """Mean frequency, weighted by power; None for silence."""
    power_F = np.abs(np.fft.rfft(waveform_N)) ** 2
    if power_F.sum() == 0:
        return None
    frequency_F = np.fft.rfftfreq(len(waveform_N), 1 / RATE_HZ)
    return float((power_F * frequency_F).sum() / power_F.sum())


def centroid_error_hz(
    sound_N: NDArray[np.float32], real_N: NDArray[np.float32], clip: ScoredClip
) -> float | None:
    """`clip.video` and `clip.sound` are the files. None: the clip does not count."""
    sound_hz, real_hz = centroid_hz(sound_N), centroid_hz(real_N)
    return None if sound_hz is None or real_hz is None else abs(sound_hz - real_hz)


CLIP_METRICS.register(
    "centroid error",
    ClipMetric(protocol="brightness-v1", unit="Hz", direction="lower", measure=centroid_error_hz),
)
