"""Loudness: measuring it, reaching a target, and a look-ahead limiter for peaks.

In:   an `Audio`, perhaps a target in LUFS.
Out:  an `Audio` within a ceiling, and `Leveling`, which says what was done to its level.

One spike must not decide how loud everything else is, so peaks are lowered where they are and
nowhere else. The gain that each sample needs is made the smallest of its neighbourhood, then
averaged over a window of the same width: every value in that average is at most what the
sample in its middle needs, so the average is too. What not to get wrong: the two widths.

Loudness is that of ITU-R BS.1770-4; true peaks are read between samples, at four times the rate.
Shape suffixes: C channels, N samples.
"""

from __future__ import annotations

import logging
import math
import numbers
from dataclasses import dataclass, replace

import numpy as np
import soxr
from numpy.typing import NDArray

from omni2sound.errors import UserError
from omni2sound.media.samples import Audio

logger = logging.getLogger(__name__)

LOUDNESS_RANGE_LUFS = (-50.0, -5.0)
TRUE_PEAK_CEILING = 10 ** (-1 / 20)
"""-1 dBTP, what broadcasters leave for codecs, which change peaks."""
MAX_GAIN_DB = 40.0
"""More gain would make background noise the loudest sound."""
LIMITER_REACH_S = 0.010
"""Reach to each side. Twice this is half a period of 25 Hz: audible tones keep their shape."""
_BLOCK_S = 0.4
_METER_RATE_HZ = 48_000
"""The rate that BS.1770 gives its filters for; redesigned for 16 kHz they are up to 0.3 LU off."""
_OVERSAMPLING = 4
_MAX_ROUNDS = 8
_MAX_STEP_DB = 20.0
_WARN_DB = 0.1
"""Lowering by less than this is inaudible and not reported."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Leveling:
    """What was done to the level of one sound."""

    peak: float
    """Largest sample before leveling; full scale is 1."""
    gain_db: float = 0.0
    """Gain of the whole sound, to reach the target."""
    limited_db: float = 0.0
    """Largest reduction by the limiter, after the gain."""
    limited_share: float = 0.0
    """Share of the samples that the limiter touched."""
    lufs: float | None = None
    """Loudness of the result; None without a target, or without measurable loudness."""
    target_missed: str = ""
    """Why the target was not reached; empty if it was reached, or there was none."""


def check_loudness(target_lufs: float | None) -> None:
    """Refuse a loudness target that is out of range.

    Raises:
        UserError: It is outside `LOUDNESS_RANGE_LUFS`.
    """
    low, high = LOUDNESS_RANGE_LUFS
    is_number = isinstance(target_lufs, numbers.Real)
    if target_lufs is not None and not (is_number and low <= target_lufs <= high):
        raise UserError(
            f"expected {low:g} to {high:g} LUFS, got {target_lufs}; "
            "-23 is usual for broadcasts, -16 for podcasts and phones",
            field="loudness_lufs",
        )


def level(
    audio: Audio,
    *,
    target_lufs: float | None = None,
    ceiling: float = 1.0,
    between_samples: bool = False,
    name: str = "",
) -> tuple[Audio, Leveling]:
    """Bring a sound to a loudness, if one is asked for, and under a ceiling.

    A sound without any loudness (silence, or shorter than 0.4 s) keeps its level, and no sound
    is raised by more than `MAX_GAIN_DB`.

    Args:
        audio: The sound.
        target_lufs: Target loudness. Default: unchanged.
        ceiling: Largest sample of the result; `TRUE_PEAK_CEILING` with a target.
        between_samples: Hold true peaks under the ceiling as well.
        name: For the warning; empty says nothing.

    Raises:
        UserError: A sample is not a finite number, or the target is out of range.
    """
    check_loudness(target_lufs)
    peak = _peak(audio)
    done = Leveling(peak=peak)
    if target_lufs is not None:
        ceiling, between_samples = min(ceiling, TRUE_PEAK_CEILING), True
        audio, done = _to_loudness(audio, target_lufs, ceiling, done)
    audio, limited_db, share = _limit(audio, ceiling, between_samples)
    done = replace(done, limited_db=limited_db, limited_share=share)
    if target_lufs is not None:
        done = replace(done, lufs=loudness_lufs(audio))
    if name:
        _warn(name, done)
    return audio, done


def limit_peaks(audio: Audio, *, ceiling: float = 1.0) -> Audio:
    """Lower what is above the ceiling, and `LIMITER_REACH_S` around it; nothing else changes.

    Raises:
        UserError: A sample is not a finite number.
    """
    _peak(audio)
    return _limit(audio, ceiling, between_samples=False)[0]


def loudness_lufs(audio: Audio) -> float | None:
    """Integrated loudness; None for silence, and for less than one block of 0.4 s.

    More than five channels have no weights in the standard: they count like the first ones.
    """
    if audio.samples_CN.shape[1] < _BLOCK_S * audio.sample_rate_hz:
        return None
    import pyloudnorm  # a second of imports that most runs do not need

    samples_NC = audio.samples_CN[:5].T.astype(np.float64)
    if audio.sample_rate_hz < _METER_RATE_HZ:
        samples_NC = soxr.resample(samples_NC, audio.sample_rate_hz, _METER_RATE_HZ)
    rate_hz = max(audio.sample_rate_hz, _METER_RATE_HZ)
    meter = pyloudnorm.Meter(rate_hz, block_size=_BLOCK_S)
    with np.errstate(divide="ignore", invalid="ignore"):
        lufs = float(meter.integrated_loudness(samples_NC))
    return lufs if math.isfinite(lufs) else None


def true_peak(audio: Audio) -> float:
    """Largest value of the continuous wave, read at four times the sample rate."""
    return float(np.max(_envelope(audio, between_samples=True), initial=0.0))


def _to_loudness(
    audio: Audio, target_lufs: float, ceiling: float, done: Leveling
) -> tuple[Audio, Leveling]:
    """Find a gain for the whole sound; the limiter lowers loudness, hence several rounds."""
    # Not of the limited sound: limiting hides how much too loud a sound is.
    initial_lufs = loudness_lufs(audio)
    if initial_lufs is None:
        return audio, replace(done, target_missed="it is silent, or too short to have any")
    gain_db, slope = min(target_lufs - initial_lufs, MAX_GAIN_DB), 1.0
    tried: tuple[float, float] | None = None
    for _ in range(_MAX_ROUNDS):
        heard, _, _ = _limit(_scale(audio, gain_db), ceiling, between_samples=True)
        lufs = loudness_lufs(heard)
        if lufs is None:
            return audio, replace(done, target_missed="it is silent, or too short to have any")
        missing_db = target_lufs - lufs
        if abs(missing_db) < 0.05:
            break
        if tried is not None and gain_db != tried[0]:
            # A limited sound gains less than the gain: half of it, or next to nothing.
            slope = min(1.0, max(0.1, (lufs - tried[1]) / (gain_db - tried[0])))
        tried = gain_db, lufs
        gain_db = min(gain_db + max(-_MAX_STEP_DB, missing_db / slope), MAX_GAIN_DB)
    missed = ""
    if abs(missing_db) > 0.5:
        why = "it is too quiet" if gain_db >= MAX_GAIN_DB else "its peaks are in the way"
        missed = f"{why}; it has {lufs:.1f} LUFS"
    return _scale(audio, gain_db), replace(done, gain_db=gain_db, target_missed=missed)


def _limit(audio: Audio, ceiling: float, between_samples: bool) -> tuple[Audio, float, float]:
    """Return the limited sound, its largest reduction (dB), and the share of lowered samples."""
    envelope_N = _envelope(audio, between_samples=between_samples)
    peak = float(np.max(envelope_N, initial=0.0))
    if peak <= ceiling:
        return audio, 0.0, 0.0
    from scipy import ndimage

    needed_N = np.minimum(1.0, ceiling / np.maximum(envelope_N, ceiling))
    width = 2 * max(1, round(LIMITER_REACH_S * audio.sample_rate_hz)) + 1
    lowest_N = ndimage.minimum_filter1d(needed_N, width, mode="nearest")
    gain_N = ndimage.uniform_filter1d(lowest_N, width, mode="nearest").astype(np.float32)
    # The clip takes away what rounding to float32 may add, at most one unit in the last place.
    limited_CN = np.clip(audio.samples_CN * gain_N, -ceiling, ceiling).astype(np.float32)
    limited = Audio(samples_CN=limited_CN, sample_rate_hz=audio.sample_rate_hz)
    return limited, 20 * math.log10(peak / ceiling), float(np.mean(gain_N < 1))


def _envelope(audio: Audio, *, between_samples: bool) -> NDArray[np.float64]:
    """The largest |value| of all channels at each sample, or also half way to its neighbours."""
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
        fine_N = whole_M.reshape(num_samples, _OVERSAMPLING).max(axis=1)
        # What lies between two samples belongs to both.
        np.maximum(envelope_N, fine_N, out=envelope_N)
        np.maximum(envelope_N[1:], fine_N[:-1], out=envelope_N[1:])
    return envelope_N


def _scale(audio: Audio, gain_db: float) -> Audio:
    if gain_db == 0:
        return audio
    scaled_CN = (audio.samples_CN * np.float32(10 ** (gain_db / 20))).astype(np.float32)
    return Audio(samples_CN=scaled_CN, sample_rate_hz=audio.sample_rate_hz)


def _peak(audio: Audio) -> float:
    peak = float(np.max(np.abs(audio.samples_CN), initial=0.0))
    if not math.isfinite(peak):
        raise UserError("the sound holds samples that are not finite numbers; nothing was written")
    return peak


def _warn(name: str, done: Leveling) -> None:
    if done.peak > 1 and done.limited_db >= _WARN_DB:
        logger.warning(
            "%s: peaks up to %.3g times full scale were lowered, by up to %.1f dB, in %.1f %% of "
            "the sound",
            name,
            done.peak,
            done.limited_db,
            100 * done.limited_share,
        )
    if done.target_missed:
        logger.warning("%s: did not reach its loudness: %s", name, done.target_missed)
