"""The own sound of a video: which of its tracks are heard, and all of them as one sound.

In:   a video with any number of sound tracks.
Out:  one `LongSound`, and a warning that names the tracks that are not in it.

Recorders write what plays together into several tracks (game and microphone, left and right of
a camera); films write alternatives (languages, commentaries, one sound in two codecs). Players
play one track, so a file does not say which of the two it is. The rules, in this order:

1. A silent track is no sound.
2. Alternatives: tracks of different languages, tracks that are marked (or titled, in films) as
   commentary, dub or description, and a default track that is not the first. One is kept: the
   default track.
3. Tracks that are channels of one sound are joined (`media.copy.sound_tracks`).
4. Of a sound that is the sum of others, or the same sound once more, one is kept.
5. All else is mixed, each at its own level.

Shape suffixes: C channels, N samples, T sounds.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omni2sound.errors import MediaError
from omni2sound.media.copy.sound_tracks import SoundTrack, TrackGroup, group_tracks, list_tracks
from omni2sound.media.copy.track_sound import TrackSound, read_track
from omni2sound.media.files import shown_name
from omni2sound.media.long_sound import LongSound, change, mix, resampled, stacked
from omni2sound.media.samples import Sound

logger = logging.getLogger(__name__)

SILENCE_PEAK = 10 ** (-80 / 20)
"""A track that never rises above this holds dither, not sound."""
_COMPARED_RATE_HZ = 8000
_COMPARED_BAND_HZ = 700
_NUM_BANDS = 64
_COMPARED_SAMPLES = 2**18
_MAX_LAG = 400
"""Samples at that rate, 50 ms: AAC and AC-3 of one broadcast lie 16 ms apart."""
_MAX_RESIDUAL = 0.05
"""Share of a track's energy that the sum of others may leave: two lossy codecs leave 1 %."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnSound:
    """The sound of a video, out of some of its tracks or all."""

    sound: Sound
    tracks: tuple[SoundTrack, ...]
    """The tracks in it."""
    lost: tuple[str, ...] = ()
    """What is not in it, a few words for each kind."""

    @property
    def language(self) -> str:
        """The one language of its tracks; empty if there is none, or more than one."""
        languages = {track.language for track in self.tracks}
        return languages.pop() if len(languages) == 1 else ""


def read_own_sound(
    path: str | os.PathLike[str],
    *,
    duration_s: float | Fraction | None = None,
    quiet: bool = False,
) -> OwnSound:
    """Read what a video sounds like: the tracks that play together, mixed.

    A track that can't be decoded, and alternatives that are left out, are named in a warning.

    Args:
        path: A file with sound.
        duration_s: The most to read. Default: to the end.
        quiet: Name no tracks in warnings.

    Raises:
        MediaError: No sound track can be decoded.
        UserError: A damaged track has to be read as a whole, and is too large.
    """
    path = Path(path)
    sounds: dict[SoundTrack, TrackSound] = {}
    broken = []
    for track in list_tracks(path):
        try:
            sounds[track] = read_track(path, track.index, duration_s)
        except MediaError as error:
            broken.append(track)
            last_error = error
    if not sounds:
        if broken:
            raise last_error
        raise MediaError(f"{shown_name(path)}: has no sound; give a file with a sound track")
    heard = {t: found for t, found in sounds.items() if found.peak > SILENCE_PEAK}
    if not heard:
        track = next(iter(sounds))
        heard = {track: sounds[track]}
    chosen = _played_together(list(heard))
    left_out = [track for track in heard if track not in chosen]
    groups = group_tracks([track for track in sounds if track not in left_out])
    parts = _without_sums([part for group in groups if (part := _join(group, sounds, heard))])
    kept = sorted((t for part in parts for t in part.tracks), key=lambda track: track.number)
    lost = _words(kept, [track for track in heard if track not in kept], broken)
    if lost and not quiet:
        logger.warning("%s: %s", shown_name(path), "; ".join(lost))
    sound = mix(*(part.sound for part in parts))
    return OwnSound(sound=sound, tracks=tuple(kept), lost=tuple(lost))


def _played_together(tracks: list[SoundTrack]) -> list[SoundTrack]:
    """Leave out alternatives that are marked as such; at least one track remains."""
    main = [track for track in tracks if not track.is_other_version]
    tracks = main or tracks[:1]
    chosen = next((track for track in tracks if track.is_default), tracks[0])
    defaults = [track for track in tracks if track.is_default]
    if not all(_are_one_language(a, b) for a, b in combinations(tracks, 2)):
        return [track for track in tracks if _is_of_language(track, chosen)]
    if len(defaults) == 1 and chosen.number > 1 and chosen is not tracks[0]:
        # Writers mark the first track unless somebody chose another one.
        return [chosen]
    return tracks


def _are_one_language(first: SoundTrack, second: SoundTrack) -> bool:
    """Whether they may play together: "por" with "por-br", not "por-br" with "por-pt"."""
    if not first.language or not second.language:
        return True
    varieties = {first.variety, second.variety} - {""}
    return first.language == second.language and len(varieties) < 2


def _is_of_language(track: SoundTrack, chosen: SoundTrack) -> bool:
    return bool(track.language) == bool(chosen.language) and _are_one_language(track, chosen)


def _join(
    group: TrackGroup, sounds: Mapping[SoundTrack, TrackSound], heard: Collection[SoundTrack]
) -> OwnSound | None:
    """Make one sound of its tracks; None if none of them is heard.

    One channel of several that is heard is a microphone, not left alone.
    """
    tracks = tuple(track for track in group.tracks if track in heard)
    if len(tracks) < 2:
        return OwnSound(sound=sounds[tracks[0]].sound, tracks=tracks) if tracks else None
    members, layout = group.tracks, group.layout
    if set(tracks) == set(members[:2]):  # left and right come first in every layout
        members, layout = members[:2], "stereo"
    rate_hz = max(sounds[track].sound.sample_rate_hz for track in members)
    parts = [resampled(sounds[track].sound, rate_hz) for track in members]
    return OwnSound(sound=stacked(*parts, layout=layout), tracks=tracks)


def _without_sums(sounds: list[OwnSound]) -> list[OwnSound]:
    """Keep only the sum where one sound is the sum of others: recorders store both."""
    if len(sounds) < 2:
        return sounds
    products_TT, middle_TN = _compared([sound.sound for sound in sounds])
    kept = list(range(len(sounds)))
    are_default = [any(track.is_default for track in sound.tracks) for sound in sounds]
    # The default track and the first ones are what is to be heard, so they are tried first.
    for i in sorted(kept, key=lambda i: (not are_default[i], i)):
        if i in kept:
            kept = [j for j in kept if j == i or not _is_same_sound(middle_TN[i], middle_TN[j])]
        others = [j for j in kept if j != i]
        if i not in kept or not others or products_TT[i, i] <= 0:
            continue
        gram = products_TT[np.ix_(others, others)]
        gains = np.linalg.lstsq(gram, products_TT[others, i], rcond=1e-6)[0]
        residual = 1 - float(gains @ products_TT[others, i]) / float(products_TT[i, i])
        if residual < _MAX_RESIDUAL:
            inside = [j for j, gain in zip(others, gains, strict=True) if gain > 0.1]
            kept = [j for j in kept if j not in inside]
    return [sounds[i] for i in kept]


def _is_same_sound(first_N: NDArray[np.float64], second_N: NDArray[np.float64]) -> bool:
    """Whether one is the other, perhaps earlier or later: two codecs differ by their delays."""
    length = 2 * len(first_N)
    num_bins = round(length * _COMPARED_BAND_HZ / _COMPARED_RATE_HZ)
    first_F, second_F = (np.fft.rfft(part_N, length) for part_N in (first_N, second_N))
    if not _has_same_spectrum(np.abs(first_F), np.abs(second_F)):
        return False
    # Then low frequencies only: there, a delay of half a sample makes no difference.
    first_F[num_bins:] = second_F[num_bins:] = 0
    products_N = np.fft.irfft(first_F * second_F.conj(), length)
    energies = [np.fft.irfft(np.abs(x_F) ** 2, length)[0] for x_F in (first_F, second_F)]
    largest = np.abs(np.r_[products_N[: _MAX_LAG + 1], products_N[-_MAX_LAG:]]).max()
    return bool(largest**2 > (1 - _MAX_RESIDUAL) * energies[0] * energies[1] > 0)


def _has_same_spectrum(first_F: NDArray[np.float64], second_F: NDArray[np.float64]) -> bool:
    edges = np.linspace(0, len(first_F), _NUM_BANDS, endpoint=False, dtype=int)
    first, second = (np.add.reduceat(x_F**2, edges) ** 0.5 for x_F in (first_F, second_F))
    norm = float(np.linalg.norm(first) * np.linalg.norm(second))
    return norm > 0 and float(first @ second) > (1 - _MAX_RESIDUAL) * norm


def _compared(
    sounds: Sequence[Sound],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Products of all pairs (T, T), and the middle of each (T, N), mono at a low rate."""
    low = [resampled(_mono(sound), _COMPARED_RATE_HZ) for sound in sounds]
    num_samples = max(sound.num_samples for sound in low)
    first = max(0, num_samples - _COMPARED_SAMPLES) // 2
    stop = min(first + _COMPARED_SAMPLES, num_samples)
    products_TT = np.zeros((len(low), len(low)))
    middle_TN = np.zeros((len(low), stop - first))
    at = 0
    for block_TN in stacked(*low, layout=None).read():
        block_TN = block_TN.astype(np.float64)
        products_TT += block_TN @ block_TN.T
        begin, end = max(at, first), min(at + block_TN.shape[1], stop)
        if begin < end:
            middle_TN[:, begin - first : end - first] = block_TN[:, begin - at : end - at]
        at += block_TN.shape[1]
    return products_TT, middle_TN


def _mono(sound: Sound) -> LongSound:
    return change(
        sound,
        lambda: (block_CN.mean(axis=0, keepdims=True) for block_CN in sound.read()),
        num_channels=1,
        layout=None,
    )


def _words(
    kept: list[SoundTrack], left_out: list[SoundTrack], broken: list[SoundTrack]
) -> list[str]:
    what = [f"sound track {track} can't be decoded" for track in broken]
    if left_out:
        others = ", ".join(str(track) for track in left_out)
        what.append(
            f"sound track{'s' * (len(left_out) > 1)} {others} not kept: "
            f"beside {' and '.join(str(track) for track in kept)} "
            f"{'they are alternatives' if len(left_out) > 1 else 'it is an alternative'}"
        )
    return what
