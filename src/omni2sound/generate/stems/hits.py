"""Point cues: a hit that is made by itself and put where it belongs, to the sample.

In:   a text, the second at which it is to be heard.
Out:  a sound of the clip's length, silent before its onset at that second.

The model decides in a window of its own when a hit falls; only the sound is moved. What not to
get wrong: the model often leads up to a hit or makes several, so what comes before the strongest
rise is cut off, and what follows it stays.

Shape suffixes: C channels, N samples, F frames of 2.5 ms, B bands.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from omni2sound.media.samples import Audio

WINDOW_S = 3.0
"""Seconds of sound in which a hit is made."""
TRIES = 3
"""Seeds that are tried for one that is loud enough."""
_STEP_S = 0.0025
_WINDOW_FRAMES = 4
_SIDE_FRAMES = 8
_NUM_BANDS = 24
_LEAST_HZ = 80.0
_TAIL_S = 0.5
"""What has to be left behind an onset."""
_LEAD_S, _FADE_IN_S, _FADE_OUT_S = 0.004, 0.003, 0.1


def onset_s(samples_N: NDArray[np.float32], sample_rate_hz: int) -> float:
    """Second of the strongest rise of a sound, not in its last half second.

    Loudness is the sum over bands of power to the 0.3; the strongest rise over 20 ms on both sides
    is moved to the steepest place near it.

    Args:
        samples_N: The sound.
        sample_rate_hz: Its rate.
    """
    loud_F = _loudness(samples_N, sample_rate_hz)
    rise_F = _rise(loud_F, _SIDE_FRAMES)
    last = max(1, len(rise_F) - round(_TAIL_S / _STEP_S))
    peak = int(rise_F[:last].argmax())
    first = max(0, peak - _SIDE_FRAMES)
    steep_F = _rise(loud_F, 1)[first : peak + _SIDE_FRAMES + 1]
    return (first + int(steep_F.argmax())) * _STEP_S


def _loudness(samples_N: NDArray[np.float32], sample_rate_hz: int) -> NDArray[np.float64]:
    """Loudness of each frame; a frame begins at its time."""
    hop = round(_STEP_S * sample_rate_hz)
    size = hop * _WINDOW_FRAMES
    padded_N = np.pad(samples_N.astype(np.float64), (0, size))
    frames_FN = np.lib.stride_tricks.sliding_window_view(padded_N, size)[::hop]
    power_FK = np.square(np.abs(np.fft.rfft(frames_FN * np.hanning(size))))
    edges_hz = np.geomspace(_LEAST_HZ, sample_rate_hz / 2, _NUM_BANDS + 1)
    edges = np.unique(np.round(edges_hz * size / sample_rate_hz).astype(int))
    bands_FB = np.add.reduceat(power_FK, edges[:-1], axis=1)
    loud_F: NDArray[np.float64] = (bands_FB**0.3).sum(axis=1)
    return loud_F


def _rise(loud_F: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Mean of the frames from each one on, less that of those before it."""
    sums = np.concatenate([[0.0], np.cumsum(np.pad(loud_F, side))])
    mean_F = (sums[side:] - sums[:-side]) / side
    rise_F: NDArray[np.float64] = mean_F[side : side + len(loud_F)] - mean_F[: len(loud_F)]
    return rise_F


def placed_at(hit: Audio, at_s: float, num_samples: int) -> Audio:
    """Put a hit into a clip so that its onset lies at a second; silence before it.

    Args:
        hit: A sound with a hit in it.
        at_s: Where its onset is to be.
        num_samples: Length of the clip.
    """
    rate_hz = hit.sample_rate_hz
    onset = round(onset_s(hit.samples_CN.mean(axis=0), rate_hz) * rate_hz)
    lead = min(onset, round(_LEAD_S * rate_hz), round(at_s * rate_hz))
    part_CN = hit.samples_CN[:, onset - lead :].copy()
    fade_in, fade_out = (
        min(round(s * rate_hz), part_CN.shape[1]) for s in (_FADE_IN_S, _FADE_OUT_S)
    )
    part_CN[:, :fade_in] *= np.linspace(0, 1, fade_in, endpoint=False, dtype=np.float32)
    part_CN[:, part_CN.shape[1] - fade_out :] *= np.linspace(1, 0, fade_out, dtype=np.float32)
    first = round(at_s * rate_hz) - lead
    clip_CN = np.zeros((hit.num_channels, num_samples), np.float32)
    part_CN = part_CN[:, : max(0, num_samples - first)]
    clip_CN[:, first : first + part_CN.shape[1]] = part_CN
    return replace(hit, samples_CN=clip_CN)
