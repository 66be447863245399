"""Leveling: the gain that brings a sound to a loudness without ruining it, then the limiter.

In:   a `Sound`, perhaps a target in LUFS.
Out:  a `Sound` within a ceiling, and `Leveling`: what was done to its level, how loud it is now.

A sparse sound is leveled by its loudest moment: its mean over blocks says little of how loud a bark
is. No gain goes beyond what the sound bears (`_largest_gain`); a target out of reach is missed, and
said to be. What not to get wrong: limiting makes a sound less loud, and more gain to make up for
that limits it further, until a bark is a square wave. The bounds on the gain end that.
"""

from __future__ import annotations

import logging
import math
import numbers
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from omni2sound.errors import UserError
from omni2sound.media.long_sound import change, pieces_of, remembered
from omni2sound.media.loudness.limiter import (
    TRUE_PEAK_CEILING,
    Limiter,
    WithEnvelope,
    largest,
    scaled,
    true_peak,
    with_envelope,
)
from omni2sound.media.loudness.meter import Loudness, measure
from omni2sound.media.samples import Sound

logger = logging.getLogger(__name__)

LOUDNESS_RANGE_LUFS = (-50.0, -5.0)
MAX_GAIN_DB = 24.0
"""What lies further below its target is not meant to be loud (decision 60)."""
SILENT_LUFS = -50.0
"""A sound whose loudest 0.4 s stay below this is as good as silent, and keeps its level. Above,
each LU allows 2 dB of gain, up to `MAX_GAIN_DB`."""
MAX_FLOOR_LUFS = -40.0
"""No gain raises what lies under the sound to more than this."""
MAX_FLATTENING_DB = 6.0
"""The most by which the limiter lowers hits; a sound with higher ones is lowered as a whole."""
REPORTED_LIMITING_DB = 3.0
TOLERANCE_LU = 0.2
"""A target is missed by more than this."""
SPARSE_SHARE = 0.5
"""A sound is sparse if what is within 10 LU of its loudest moment covers less of it than this."""
_HIT_S = 0.0005
"""What is longer than this, all of it together, is a hit; what is shorter is a stray spike."""
_SHORT_TERM_S = 3.0
_REMEMBERED_SAMPLES = 2**24
"""Of a sound of at most so many samples (6 minutes at 48 kHz), peaks are worked out once."""
_MAX_ROUNDS = 8
_CLOSE_DB = 0.02
_MAX_STEP_DB = 20.0
_WARN_DB = 0.1
"""Changes by less than this are inaudible and not reported."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Leveling:
    """What was done to the level of one sound, and how loud it is now."""

    peak: float
    """Largest sample before leveling; full scale is 1."""
    gain_db: float = 0.0
    """Gain of the whole sound."""
    limited_db: float = 0.0
    """Largest reduction by the limiter, after the gain."""
    limited_share: float = 0.0
    """Share of the samples that the limiter touched."""
    lufs: float | None = None
    """Integrated loudness of the result (BS.1770); None if it has none."""
    short_term_lufs: float | None = None
    """Loudness of its loudest 3 s; None if it is shorter."""
    momentary_lufs: float | None = None
    """Loudness of its loudest 0.4 s."""
    true_peak_db: float | None = None
    """True peak of the result over full scale; None for digital silence."""
    no_loudness: str = ""
    """Why it has no loudness; empty if it has one."""
    leveled_by: str = ""
    """Which loudness was brought to the target: integrated, short-term or momentary."""
    target_missed: str = ""
    """Why the target was not reached; empty if it was reached, or there was none."""
    layout: str | None = None
    """Channel layout by which the loudness was measured; None: every channel counts alike."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Bound:
    gain_db: float
    why: str


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
    sound: Sound,
    *,
    target_lufs: float | None = None,
    ceiling: float = 1.0,
    between_samples: bool = False,
    name: str = "",
) -> tuple[Sound, Leveling]:
    """Bring a sound to a loudness, if one is asked for, and under a ceiling.

    Hits far over the ceiling lower the whole sound, so that the limiter takes at most
    `MAX_FLATTENING_DB` from them. A sound without any loudness (silence, or shorter than 0.4 s) and
    one that is nearly silent keep their level.

    Args:
        sound: The sound; it is read several times.
        target_lufs: Target loudness. Default: unchanged.
        ceiling: Largest sample of the result; `TRUE_PEAK_CEILING` with a target.
        between_samples: Hold true peaks under the ceiling as well.
        name: For warnings; empty says nothing.

    Raises:
        UserError: A sample is not a finite number, or the target is out of range.
    """
    check_loudness(target_lufs)
    if target_lufs is not None:
        ceiling = min(ceiling, TRUE_PEAK_CEILING)
    peaks = _Peaks(sound, ceiling, between_samples=between_samples or target_lufs is not None)
    done = Leveling(peak=peaks.sample, layout=sound.assumed_layout)
    gain_db = min(0.0, peaks.hits_gain_db)
    if target_lufs is not None:
        gain_db, done = _to_target(peaks, target_lufs, done)
    limited = peaks.limited(gain_db)
    loudness = measure(limited.sound)
    peak = peaks.true * 10 ** (gain_db / 20)
    if limited.lowered_db:
        peak = true_peak(limited.sound)
    done = replace(
        done,
        gain_db=gain_db,
        limited_db=limited.lowered_db,
        limited_share=limited.limiter.share if limited.limiter else 0.0,
        lufs=loudness.integrated_lufs,
        short_term_lufs=loudness.short_term_lufs,
        momentary_lufs=loudness.momentary_lufs,
        true_peak_db=20 * math.log10(peak) if peak else None,
        no_loudness=loudness.missing,
    )
    if name:
        _warn(name, done, sound)
    return limited.sound, done


@dataclass(frozen=True, kw_only=True, slots=True)
class _Limited:
    """A sound with a gain, under a ceiling."""

    sound: Sound
    lowered_db: float = 0.0
    """Largest reduction."""
    limiter: Limiter | None = None
    """What was lowered, once the sound has been read."""


class _Peaks:
    """A sound and its peaks, which are found in one reading."""

    def __init__(self, sound: Sound, ceiling: float, *, between_samples: bool) -> None:
        self.sound = sound
        self.ceiling = ceiling
        self.between_samples = between_samples
        self.sample = self.true = 0.0
        """Largest sample; largest value of the continuous wave."""
        num_spikes = math.ceil(_HIT_S * sound.sample_rate_hz)
        if sound.num_samples <= num_spikes:
            num_spikes = 0
        largest_N = np.zeros(0, dtype=np.float32)
        self.remembered: list[NDArray[np.float32]] | None = None
        if sound.num_samples <= _REMEMBERED_SAMPLES:
            self.remembered = []
        for block_CN, true_N in with_envelope(sound, between_samples=True):
            parts = [largest(piece_CN) for piece_CN in pieces_of(block_CN)]
            self._add(np.concatenate(parts) if len(parts) > 1 else parts[0], true_N)
            for sample_N in parts:
                found_N = np.concatenate([largest_N, sample_N]) if len(largest_N) else sample_N
                kept = min(len(found_N), num_spikes + 1)
                largest_N = np.partition(found_N, len(found_N) - kept)[len(found_N) - kept :]
        self.limited_peak = self.true if between_samples else self.sample
        """What the limiter holds under the ceiling."""
        # Samples decide, not true peaks: between samples even one spike rings for longer than a
        # hit.
        hits = float(largest_N.min(initial=np.inf)) if len(largest_N) else 0.0
        self.hits_gain_db = math.inf
        """The gain at which hits lie `MAX_FLATTENING_DB` over the ceiling."""
        if hits > 0:
            self.hits_gain_db = MAX_FLATTENING_DB + 20 * math.log10(ceiling / hits)

    def _add(self, sample_N: NDArray[np.float32], true_N: NDArray[np.float64]) -> None:
        peak = float(np.max(sample_N, initial=0.0))
        if not math.isfinite(peak):
            raise UserError(
                "the sound holds samples that are not finite numbers; nothing was written"
            )
        self.sample = max(self.sample, peak)
        self.true = max(self.true, float(np.max(true_N, initial=0.0)))
        if self.remembered is not None:
            kept_N = true_N if self.between_samples else sample_N
            self.remembered.append(kept_N.astype(np.float32))  # which they were made from

    def limited(self, gain_db: float) -> _Limited:
        """Return the sound with a gain, under the ceiling."""
        return self._limited(1.0 if gain_db == 0 else 10 ** (gain_db / 20), self.ceiling)

    def without_spikes(self) -> Sound:
        """Return the sound as loud as it is, limited as much as at the highest gain."""
        highest = self.ceiling * 10 ** (-min(0.0, self.hits_gain_db) / 20)
        return self._limited(1.0, highest).sound

    def _limited(self, gain: float, ceiling: float) -> _Limited:
        sound, peak = self.sound, self.limited_peak * gain
        if peak <= ceiling:
            if gain == 1:
                return _Limited(sound=sound)
            return _Limited(
                sound=change(sound, lambda: (scaled(block_CN, gain) for block_CN in sound.read()))
            )
        limiter = Limiter(ceiling, sound.sample_rate_hz)
        return _Limited(
            sound=remembered(change(sound, lambda: limiter.limit(self._with_envelope(), gain))),
            lowered_db=20 * math.log10(peak / ceiling),
            limiter=limiter,
        )

    def _with_envelope(self) -> Iterator[WithEnvelope]:
        if self.remembered is None:
            return with_envelope(self.sound, between_samples=self.between_samples)
        blocks = (block_CN for block_CN in self.sound.read() if block_CN.shape[1])
        return (
            (block_CN, kept_N.astype(np.float64))
            for block_CN, kept_N in zip(blocks, self.remembered, strict=True)
        )


def _choose(loudness: Loudness, duration_s: float) -> str:
    """Choose the loudness that stands for a sound: `Leveling.leveled_by`."""
    if loudness.foreground_s >= SPARSE_SHARE * duration_s:
        return "integrated"
    return "short-term" if loudness.foreground_s >= _SHORT_TERM_S else "momentary"


def _largest_gain(peaks: _Peaks, loudness: Loudness, leveled_by: str) -> _Bound:
    """Return the largest gain that the sound bears, and what would be wrong with more."""
    floor_lufs, loudest = loudness.floor_lufs, loudness.momentary_lufs
    assert loudest is not None
    bounds = [
        _Bound(gain_db=min(MAX_GAIN_DB, 2 * (loudest - SILENT_LUFS)), why="it is too quiet"),
        _Bound(gain_db=peaks.hits_gain_db, why="its peaks would be flattened"),
    ]
    if floor_lufs is not None and leveled_by != "integrated":
        bounds.append(
            _Bound(
                gain_db=max(0.0, MAX_FLOOR_LUFS - floor_lufs),
                why="the noise under it would be heard",
            )
        )
    return min(bounds, key=lambda bound: bound.gain_db)


def _to_target(peaks: _Peaks, target_lufs: float, done: Leveling) -> tuple[float, Leveling]:
    """Find a gain for the whole sound; the limiter lowers loudness, hence several rounds."""
    unchanged_db = min(0.0, peaks.hits_gain_db)
    loudness = measure(peaks.without_spikes())
    if loudness.missing:
        return unchanged_db, replace(done, target_missed=f"it is {loudness.missing}")
    loudest = loudness.momentary_lufs
    assert loudest is not None
    if loudest < SILENT_LUFS:
        missed = f"it is nearly silent (at most {loudest:.1f} LUFS) and keeps its level"
        return unchanged_db, replace(done, target_missed=missed)
    leveled_by = _choose(loudness, float(peaks.sound.duration_s))
    bound = _largest_gain(peaks, loudness, leveled_by)
    lufs, slope = _value(loudness, leveled_by), 1.0
    gain_db = bound.gain_db if lufs is None else min(bound.gain_db, target_lufs - lufs)
    tried: tuple[float, float] | None = None
    for _ in range(_MAX_ROUNDS):
        lufs = _value(measure(peaks.limited(gain_db).sound), leveled_by)
        if lufs is None:
            break
        missing_db = target_lufs - lufs
        if abs(missing_db) < _CLOSE_DB or (missing_db > 0 and gain_db >= bound.gain_db):
            break
        if tried is not None and gain_db != tried[0]:
            # A limited sound gains less than the gain: half of it, or next to nothing.
            slope = min(1.0, max(0.1, (lufs - tried[1]) / (gain_db - tried[0])))
        tried = gain_db, lufs
        gain_db = min(gain_db + max(-_MAX_STEP_DB, missing_db / slope), bound.gain_db)
    missed = ""
    if lufs is None:
        missed = "nothing is left of it at that level"
    elif abs(target_lufs - lufs) > TOLERANCE_LU:
        why = bound.why if lufs < target_lufs else "its loudness follows no gain"
        missed = f"{why}; it has {lufs:.1f} LUFS ({leveled_by})"
    return gain_db, replace(done, leveled_by=leveled_by, target_missed=missed)


def _value(loudness: Loudness, leveled_by: str) -> float | None:
    values = {
        "integrated": loudness.integrated_lufs,
        "short-term": loudness.short_term_lufs,
        "momentary": loudness.momentary_lufs,
    }
    return values[leveled_by]


def _warn(name: str, done: Leveling, sound: Sound) -> None:
    if sound.layout is None and sound.num_channels > 2:
        logger.warning(
            "%s: nothing says what its %d channels are; they are taken as %s",
            name,
            sound.num_channels,
            sound.assumed_layout or "equal",
        )
    if done.gain_db <= -_WARN_DB and not done.leveled_by:
        logger.warning(
            "%s: peaks up to %.3g times full scale; the whole sound was lowered by %.1f dB",
            name,
            done.peak,
            -done.gain_db,
        )
    over = done.peak > 1 and done.limited_db >= _WARN_DB
    if over or done.limited_db > REPORTED_LIMITING_DB:
        logger.warning(
            "%s: peaks%s were lowered, by up to %.1f dB, in %.1f %% of the sound",
            name,
            f" up to {done.peak:.3g} times full scale" if done.peak > 1 else "",
            done.limited_db,
            100 * done.limited_share,
        )
    if done.target_missed:
        logger.warning("%s: did not reach its loudness: %s", name, done.target_missed)
