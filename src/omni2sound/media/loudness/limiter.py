"""Peak limiter: lower peaks where they are, and nothing else.

In:   an `Audio` and a ceiling.
Out:  an `Audio` under the ceiling; its peaks, sampled and true.

One spike must not decide how loud everything else is. The gain that each sample needs is made the
smallest of its neighbourhood, then averaged over a window of the same width: every value in that
average is at most what the sample in its middle needs, so the average is too. What not to get
wrong: the two widths.

True peaks are read between samples, at four times the rate.
Shape suffixes: C channels, N samples, M oversampled ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import soxr
from numpy.typing import NDArray

from omni2sound.errors import UserError
from omni2sound.media.samples import Audio

TRUE_PEAK_CEILING = 10 ** (-1 / 20)
"""-1 dBTP, what broadcasters leave for codecs, which change peaks."""
LIMITER_REACH_S = 0.010
"""Reach to each side. Twice this is half a period of 25 Hz: audible tones keep their shape."""
_OVERSAMPLING = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Limited:
    """A sound under a ceiling."""

    audio: Audio
    lowered_db: float = 0.0
    """Largest reduction."""
    share: float = 0.0
    """Share of the samples that were lowered."""


def limit(audio: Audio, envelope_N: NDArray[np.float64], ceiling: float) -> Limited:
    """Limit a sound whose peaks are known.

    Args:
        audio: The sound.
        envelope_N: Its largest value at each sample, from `envelope`.
        ceiling: Largest value of the result.
    """
    peak = float(np.max(envelope_N, initial=0.0))
    if peak <= ceiling:
        return Limited(audio=audio)
    from scipy import ndimage

    needed_N = np.minimum(1.0, ceiling / np.maximum(envelope_N, ceiling))
    width = 2 * max(1, round(LIMITER_REACH_S * audio.sample_rate_hz)) + 1
    lowest_N = ndimage.minimum_filter1d(needed_N, width, mode="nearest")
    gain_N = ndimage.uniform_filter1d(lowest_N, width, mode="nearest").astype(np.float32)
    # The clip takes away what rounding to float32 may add, at most one unit in the last place.
    limited_CN = np.clip(audio.samples_CN * gain_N, -ceiling, ceiling).astype(np.float32)
    return Limited(
        audio=replace(audio, samples_CN=limited_CN),
        lowered_db=20 * math.log10(peak / ceiling),
        share=float(np.mean(gain_N < 1)),
    )


def envelope(audio: Audio, *, between_samples: bool) -> NDArray[np.float64]:
    """Return the largest |value| of all channels at each sample (N,).

    Args:
        audio: The sound.
        between_samples: Also of the continuous wave half way to its neighbours.
    """
    samples_CN = audio.samples_CN
    envelope_N: NDArray[np.float64]
    envelope_N = np.abs(samples_CN).max(axis=0, initial=0.0).astype(np.float64)
    num_samples = len(envelope_N)
    if not between_samples or num_samples == 0:
        return envelope_N
    for samples_N in samples_CN:  # one at a time: four times an hour of sound is large
        fine_M = np.abs(soxr.resample(samples_N, 1.0, float(_OVERSAMPLING), quality="HQ"))
        whole_M = np.zeros(num_samples * _OVERSAMPLING, dtype=np.float32)
        length = min(len(fine_M), len(whole_M))
        whole_M[:length] = fine_M[:length]
        fine_NM = whole_M.reshape(num_samples, _OVERSAMPLING)
        fine_N = np.maximum.reduce([fine_NM[:, i] for i in range(_OVERSAMPLING)])
        # What lies between two samples belongs to both.
        np.maximum(envelope_N, fine_N, out=envelope_N)
        np.maximum(envelope_N[1:], fine_N[:-1], out=envelope_N[1:])
    return envelope_N


def true_peak(audio: Audio) -> float:
    """Return the largest value of the continuous wave, read at four times the sample rate."""
    return float(np.max(envelope(audio, between_samples=True), initial=0.0))


def sample_peak(audio: Audio) -> float:
    """Return the largest sample.

    Raises:
        UserError: A sample is not a finite number.
    """
    peak = float(np.max(np.abs(audio.samples_CN), initial=0.0))
    if not math.isfinite(peak):
        raise UserError("the sound holds samples that are not finite numbers; nothing was written")
    return peak
