"""Leveling: the gain that brings a sound to a loudness without ruining it, then the limiter.

In:   an `Audio`, perhaps a target in LUFS.
Out:  an `Audio` within a ceiling, and `Leveling`: what was done to its level, how loud it is now.

A sparse sound is leveled by its loudest moment: its mean over blocks says little of how loud a bark
is. No gain goes beyond what the sound bears (`_largest_gain`); a target out of reach is missed, and
said to be. What not to get wrong: limiting makes a sound less loud, and more gain to make up for
that limits it further, until a bark is a square wave. The bounds on the gain end that.
"""

from __future__ import annotations

import logging
import math
import numbers
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from omni2sound.errors import UserError
from omni2sound.media.loudness.limiter import (
    TRUE_PEAK_CEILING,
    Limited,
    envelope,
    limit,
    sample_peak,
    true_peak,
)
from omni2sound.media.loudness.meter import Loudness, measure
from omni2sound.media.samples import Audio

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
    audio: Audio,
    *,
    target_lufs: float | None = None,
    ceiling: float = 1.0,
    between_samples: bool = False,
    name: str = "",
) -> tuple[Audio, Leveling]:
    """Bring a sound to a loudness, if one is asked for, and under a ceiling.

    Hits far over the ceiling lower the whole sound, so that the limiter takes at most
    `MAX_FLATTENING_DB` from them. A sound without any loudness (silence, or shorter than 0.4 s) and
    one that is nearly silent keep their level.

    Args:
        audio: The sound.
        target_lufs: Target loudness. Default: unchanged.
        ceiling: Largest sample of the result; `TRUE_PEAK_CEILING` with a target.
        between_samples: Hold true peaks under the ceiling as well.
        name: For warnings; empty says nothing.

    Raises:
        UserError: A sample is not a finite number, or the target is out of range.
    """
    check_loudness(target_lufs)
    done = Leveling(peak=sample_peak(audio), layout=audio.assumed_layout)
    true_N = envelope_N = envelope(audio, between_samples=True)
    if target_lufs is not None:
        ceiling = min(ceiling, TRUE_PEAK_CEILING)
    elif not between_samples:
        envelope_N = envelope(audio, between_samples=False)
    sound = _Sound(
        audio=audio,
        envelope_N=envelope_N,
        ceiling=ceiling,
        hits_gain_db=_hits_gain_db(audio, ceiling),
    )
    gain_db = min(0.0, sound.hits_gain_db)
    if target_lufs is not None:
        gain_db, done = _to_target(sound, target_lufs, done)
    limited = sound.limited(gain_db)
    loudness = measure(limited.audio)
    peak = float(np.max(true_N, initial=0.0)) * 10 ** (gain_db / 20)
    if limited.lowered_db:
        peak = true_peak(limited.audio)
    done = replace(
        done,
        gain_db=gain_db,
        limited_db=limited.lowered_db,
        limited_share=limited.share,
        lufs=loudness.integrated_lufs,
        short_term_lufs=loudness.short_term_lufs,
        momentary_lufs=loudness.momentary_lufs,
        true_peak_db=20 * math.log10(peak) if peak else None,
        no_loudness=loudness.missing,
    )
    if name:
        _warn(name, done, loudness, audio)
    return limited.audio, done


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Sound:
    """A sound with its peaks."""

    audio: Audio
    envelope_N: NDArray[np.float64]
    ceiling: float
    hits_gain_db: float
    """The gain at which hits lie `MAX_FLATTENING_DB` over the ceiling."""

    def limited(self, gain_db: float) -> Limited:
        """Return the sound with a gain, under the ceiling."""
        if gain_db == 0:
            return limit(self.audio, self.envelope_N, self.ceiling)
        gain = 10 ** (gain_db / 20)
        scaled_CN = (self.audio.samples_CN * np.float32(gain)).astype(np.float32)
        scaled = replace(self.audio, samples_CN=scaled_CN)
        return limit(scaled, self.envelope_N * gain, self.ceiling)

    def without_spikes(self) -> Audio:
        """Return the sound as loud as it is, limited as much as at the highest gain."""
        highest = self.ceiling * 10 ** (-min(0.0, self.hits_gain_db) / 20)
        return limit(self.audio, self.envelope_N, highest).audio


def _hits_gain_db(audio: Audio, ceiling: float) -> float:
    """Return the gain at which hits lie `MAX_FLATTENING_DB` over the ceiling.

    Samples decide, not true peaks: between samples even one spike rings for longer than a hit.
    """
    envelope_N = envelope(audio, between_samples=False)
    if not len(envelope_N):
        return math.inf
    num_spikes = math.ceil(_HIT_S * audio.sample_rate_hz)
    if len(envelope_N) <= num_spikes:
        num_spikes = 0
    hits = float(np.partition(envelope_N, -1 - num_spikes)[-1 - num_spikes])
    return MAX_FLATTENING_DB + 20 * math.log10(ceiling / hits) if hits > 0 else math.inf


def _choose(loudness: Loudness, duration_s: float) -> str:
    """Choose the loudness that stands for a sound: `Leveling.leveled_by`."""
    if loudness.foreground_s >= SPARSE_SHARE * duration_s:
        return "integrated"
    return "short-term" if loudness.foreground_s >= _SHORT_TERM_S else "momentary"


def _largest_gain(sound: _Sound, loudness: Loudness, leveled_by: str) -> _Bound:
    """Return the largest gain that the sound bears, and what would be wrong with more."""
    floor_lufs, loudest = loudness.floor_lufs, loudness.momentary_lufs
    assert loudest is not None
    bounds = [
        _Bound(gain_db=min(MAX_GAIN_DB, 2 * (loudest - SILENT_LUFS)), why="it is too quiet"),
        _Bound(gain_db=sound.hits_gain_db, why="its peaks would be flattened"),
    ]
    if floor_lufs is not None and leveled_by != "integrated":
        bounds.append(
            _Bound(
                gain_db=max(0.0, MAX_FLOOR_LUFS - floor_lufs),
                why="the noise under it would be heard",
            )
        )
    return min(bounds, key=lambda bound: bound.gain_db)


def _to_target(sound: _Sound, target_lufs: float, done: Leveling) -> tuple[float, Leveling]:
    """Find a gain for the whole sound; the limiter lowers loudness, hence several rounds."""
    unchanged_db = min(0.0, sound.hits_gain_db)
    loudness = measure(sound.without_spikes())
    if loudness.missing:
        return unchanged_db, replace(done, target_missed=f"it is {loudness.missing}")
    loudest = loudness.momentary_lufs
    assert loudest is not None
    if loudest < SILENT_LUFS:
        missed = f"it is nearly silent (at most {loudest:.1f} LUFS) and keeps its level"
        return unchanged_db, replace(done, target_missed=missed)
    leveled_by = _choose(loudness, float(sound.audio.duration_s))
    bound = _largest_gain(sound, loudness, leveled_by)
    lufs, slope = _value(loudness, leveled_by), 1.0
    gain_db = bound.gain_db if lufs is None else min(bound.gain_db, target_lufs - lufs)
    tried: tuple[float, float] | None = None
    for _ in range(_MAX_ROUNDS):
        lufs = _value(measure(sound.limited(gain_db).audio), leveled_by)
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


def _warn(name: str, done: Leveling, loudness: Loudness, audio: Audio) -> None:
    if audio.layout is None and audio.num_channels > 2:
        logger.warning(
            "%s: nothing says what its %d channels are; they are taken as %s",
            name,
            audio.num_channels,
            audio.assumed_layout or "equal",
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
