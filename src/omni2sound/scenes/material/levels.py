"""Level of a recording over time, which the motion of its picture follows.

In:   a waveform at 16 kHz.
Out:  its onset, its hits and its level at 100 Hz.

This onset is the ground truth everywhere: the first moment at which the 5 ms level comes within
`ONSET_BELOW_PEAK_DB` of the loudest level of the first 0.3 s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets

LEVEL_RATE_HZ = 100
"""Rate of `Level.curve`."""

REFERENCE_DB = -23.0
"""RMS in dBFS of the loudest 0.4 s of an event with 0 dB gain."""

ONSET_BELOW_PEAK_DB = 20.0
_ONSET_SEARCH_S = 0.3
_ENVELOPE_S = 0.005
_HIT_RISE = 3.0
"""Least rise in amplitude of a hit over the level just before."""
_HIT_ABOVE = 0.3
"""Least level of a hit, as a fraction of the recording's loudest level."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Level:
    """Onset, hits and level of one recording."""

    onset_s: float
    """Seconds from the start of the waveform."""
    duration_s: float
    """Seconds from the onset to the end."""
    scale: float
    """Factor that brings the waveform to `REFERENCE_DB`."""
    curve: NDArray[np.float32]
    """Level at 100 Hz from the onset, 0 to 1."""
    hits_s: tuple[float, ...]
    """Clear rises after the onset, in seconds from it, without the onset itself."""

    @property
    def single(self) -> bool:
        """Whether there are no further hits and the start is the loudest part."""
        return not self.hits_s and float(self.curve[:8].max()) > 0.9


def envelope_of(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the RMS of the 5 ms that *end* at each sample, so that it never rises early."""
    width = round(_ENVELOPE_S * SAMPLE_RATE_HZ)
    power = np.cumsum(np.concatenate([np.zeros(width), waveform.astype(np.float64) ** 2]))
    mean: NDArray[np.float64] = np.maximum(power[width:] - power[:-width], 0) / width
    return np.sqrt(mean).astype(np.float32)


def onset_of(waveform: NDArray[np.float32]) -> float:
    """Find the onset in seconds from the start of `waveform`; 0 for silence."""
    envelope = envelope_of(waveform)
    peak = float(envelope[: round(_ONSET_SEARCH_S * SAMPLE_RATE_HZ)].max())
    threshold = peak * 10 ** (-ONSET_BELOW_PEAK_DB / 20)
    return float(np.argmax(envelope >= max(threshold, 1e-9))) / SAMPLE_RATE_HZ


def measure_level(waveform: NDArray[np.float32]) -> Level:
    """Measure one recording; about a millisecond per second of sound."""
    onset_s = onset_of(waveform)
    sound = waveform[round(onset_s * SAMPLE_RATE_HZ) :]
    step = SAMPLE_RATE_HZ // LEVEL_RATE_HZ
    padded = np.pad(sound, (0, -len(sound) % step)).astype(np.float64)
    power = (padded.reshape(-1, step) ** 2).mean(axis=1)
    rms = np.sqrt(power)
    curve = rms / max(float(rms.max()), 1e-9)
    window = min(len(power), round(0.4 * LEVEL_RATE_HZ))
    loudest = np.sqrt(np.convolve(power, np.full(window, 1 / window), mode="valid").max())
    # A click's peak is far above its RMS: then the peak is what limits the factor.
    scale = 10 ** (REFERENCE_DB / 20) / max(float(loudest), 1e-5)
    return Level(
        onset_s=onset_s,
        duration_s=len(sound) / SAMPLE_RATE_HZ,
        scale=min(scale, 0.7 / max(float(np.abs(sound).max()), 1e-5)),
        curve=curve.astype(np.float32),
        hits_s=tuple(_hits(curve.tolist())),
    )


def _hits(curve: Sequence[float]) -> list[float]:
    hits: list[float] = []
    last = -1.0
    for i in range(6, len(curve)):
        before = sum(curve[i - 5 : i - 1]) / 4 + 1e-3
        time_s = i / LEVEL_RATE_HZ
        if curve[i] > _HIT_ABOVE and curve[i] > _HIT_RISE * before and time_s - last > 0.1:
            hits.append(time_s)
            last = time_s
    return hits


_measured: WeakKeyDictionary[SceneAssets, dict[str, Level]] = WeakKeyDictionary()


def level_of(assets: SceneAssets, recording_id: str) -> Level:
    """Measure one recording, or return the earlier measurement."""
    known = _measured.setdefault(assets, {})
    if recording_id not in known:
        known[recording_id] = measure_level(assets.waveform(recording_id))
    return known[recording_id]
