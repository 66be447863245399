"""The own sound of a video: which of its tracks are heard, and all of them as one `Audio`.

In:   a video with any number of sound tracks.
Out:  one `Audio`, and a warning that names the tracks that are not in it.

Recorders write what plays together into several tracks (game and microphone, left and right of
a camera); films write alternatives (languages, commentaries, one sound in two codecs). Players
play one track, so a file does not say which of the two it is. The rules, in this order:

1. A silent track is no sound.
2. Alternatives: tracks of different languages, tracks that are marked as commentary, dub or
   description, a default track that is not the first, and a track that is the sum of others (or
   the same sound once more). One is kept: the default track.
3. Where all tracks are mono and have no titles, the first and second are left and right, and so
   are the third and fourth.
4. All else is mixed, each track at its own level.

Shape suffixes: C channels, N samples, T tracks.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.audio.stream import AudioStream
from av.stream import Disposition
from numpy.typing import NDArray

from omni2sound.errors import MediaError
from omni2sound.media.audio import read_audio
from omni2sound.media.files import open_input, shown_name
from omni2sound.media.layouts import ASSUMED, safe, stated_layout
from omni2sound.media.samples import Audio, mix, resample

logger = logging.getLogger(__name__)

SILENCE_PEAK = 10 ** (-80 / 20)
"""A track that never rises above this holds dither, not sound."""
_OTHER_VERSIONS = (
    Disposition.dub
    | Disposition.comment
    | Disposition.karaoke
    | Disposition.hearing_impaired
    | Disposition.visual_impaired
    | Disposition.clean_effects
    | Disposition.descriptions
)
_COMPARED_RATE_HZ = 8000
_COMPARED_BAND_HZ = 700
_NUM_BANDS = 64
_COMPARED_SAMPLES = 2**18
_MAX_LAG = 400
"""Samples at that rate, 50 ms: AAC and AC-3 of one broadcast lie 16 ms apart."""
_MAX_RESIDUAL = 0.05
"""Share of a track's energy that the sum of others may leave: two lossy codecs leave 1 %."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SoundTrack:
    """One sound track as its container describes it."""

    index: int
    """Stream index inside the container."""
    number: int
    """Place among the sound tracks, from 1."""
    language: str = ""
    """ISO 639 code in lower case; empty if it is unknown."""
    title: str = ""
    is_default: bool = False
    channels: int = 1
    layout: str | None = "mono"
    """What its channels are, as stated or assumed; None: unknown."""
    is_other_version: bool = False
    """Marked as a commentary, dub, description or another special version."""

    def __str__(self) -> str:
        details = ", ".join(part for part in (self.title, self.language) if part)
        return f"{self.number} ({details})" if details else str(self.number)


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnSound:
    """The sound of a video, out of all of its tracks."""

    audio: Audio
    tracks: tuple[SoundTrack, ...]
    """The tracks in it."""

    @property
    def language(self) -> str:
        """The one language of its tracks; empty if there is none, or more than one."""
        languages = {track.language for track in self.tracks}
        return languages.pop() if len(languages) == 1 else ""


def list_tracks(path: str | os.PathLike[str]) -> list[SoundTrack]:
    """List the sound tracks that can be decoded.

    Raises:
        MediaError: The file can't be read.
    """
    with open_input(Path(path)) as container:
        return [
            _describe(stream, number)
            for number, stream in enumerate(container.streams.audio, 1)
            if getattr(stream, "codec_context", None) is not None
        ]


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
    """
    path = Path(path)
    sounds: dict[SoundTrack, Audio] = {}
    broken = []
    for track in list_tracks(path):
        try:
            sounds[track] = read_audio(path, duration_s=duration_s, track=track.index)
        except MediaError as error:
            broken.append(track)
            last_error = error
    if not sounds:
        if broken:
            raise last_error
        raise MediaError(f"{shown_name(path)}: has no sound; give a file with a sound track")
    heard = {t: audio for t, audio in sounds.items() if _peak(audio) > SILENCE_PEAK}
    if not heard:
        track = next(iter(sounds))
        heard = {track: sounds[track]}
    are_halves = len(sounds) % 2 == 0 and all(
        audio.num_channels == 1 and not track.title for track, audio in sounds.items()
    )
    kept = _played_together(heard, are_halves=are_halves)
    if not quiet:
        _report(path, kept, [track for track in heard if track not in kept], broken)
    parts = [heard[track] for track in kept]
    if are_halves:
        parts = _join_pairs({track: heard[track] for track in kept})
    return OwnSound(audio=mix(*parts), tracks=tuple(kept))


def _describe(stream: AudioStream, number: int) -> SoundTrack:
    tags = {key.lower(): value for key, value in stream.metadata.items()}
    language = tags.get("language", "").strip().lower()
    layout = safe(stream.codec_context.layout)
    return SoundTrack(
        index=stream.index,
        channels=layout.nb_channels,
        layout=stated_layout(layout)[0] or ASSUMED.get(layout.nb_channels),
        number=number,
        language="" if language in ("und", "zxx", "mul", "mis") else language,
        title=" ".join(tags.get("title", "").split()),
        is_default=bool(stream.disposition & Disposition.default),
        is_other_version=bool(stream.disposition & _OTHER_VERSIONS),
    )


def _played_together(sounds: dict[SoundTrack, Audio], *, are_halves: bool) -> list[SoundTrack]:
    """Leave out alternatives; at least one track remains."""
    tracks = list(sounds)
    main = [track for track in tracks if not track.is_other_version]
    tracks = main or tracks[:1]
    chosen = next((track for track in tracks if track.is_default), tracks[0])
    defaults = [track for track in tracks if track.is_default]
    if len({track.language for track in tracks if track.language}) > 1:
        tracks = [t for t in tracks if t.language == chosen.language]
    elif len(defaults) == 1 and chosen.number > 1 and chosen is not tracks[0]:
        # Writers mark the first track unless somebody chose another one.
        tracks = [chosen]
    # The halves of a pair are often nearly equal; that makes neither of them superfluous.
    return tracks if are_halves else _without_sums(tracks, sounds)


def _without_sums(tracks: list[SoundTrack], sounds: dict[SoundTrack, Audio]) -> list[SoundTrack]:
    """Keep only the sum where one track is the sum of others: recorders store both."""
    if len(tracks) < 2:
        return tracks
    mono_TN = _compared([sounds[track] for track in tracks])
    products_TT = mono_TN @ mono_TN.T
    kept = list(range(len(tracks)))
    # The default track and the first ones are what is to be heard, so they are tried first.
    for i in sorted(kept, key=lambda i: (not tracks[i].is_default, i)):
        if i in kept:
            kept = [j for j in kept if j == i or not _is_same_sound(mono_TN[i], mono_TN[j])]
        others = [j for j in kept if j != i]
        if i not in kept or not others or products_TT[i, i] <= 0:
            continue
        gram = products_TT[np.ix_(others, others)]
        gains = np.linalg.lstsq(gram, products_TT[others, i], rcond=1e-6)[0]
        residual = 1 - float(gains @ products_TT[others, i]) / float(products_TT[i, i])
        if residual < _MAX_RESIDUAL:
            inside = [j for j, gain in zip(others, gains, strict=True) if gain > 0.1]
            kept = [j for j in kept if j not in inside]
    return [tracks[i] for i in kept]


def _is_same_sound(first_N: NDArray[np.float64], second_N: NDArray[np.float64]) -> bool:
    """Whether one is the other, perhaps earlier or later: two codecs differ by their delays."""
    middle = slice(max(0, len(first_N) - _COMPARED_SAMPLES) // 2, None)
    parts = [row_N[middle][:_COMPARED_SAMPLES] for row_N in (first_N, second_N)]
    length = 2 * len(parts[0])
    num_bins = round(length * _COMPARED_BAND_HZ / _COMPARED_RATE_HZ)
    first_F, second_F = (np.fft.rfft(part_N, length) for part_N in parts)
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


def _compared(sounds: Sequence[Audio]) -> NDArray[np.float64]:
    """Mono at a low rate, of one length."""
    parts = [
        resample(
            replace(sound, samples_CN=sound.samples_CN.mean(axis=0, keepdims=True), layout=None),
            _COMPARED_RATE_HZ,
        ).samples_CN[0]
        for sound in sounds
    ]
    mono_TN = np.zeros((len(parts), max(len(part) for part in parts)))
    for row_N, part in zip(mono_TN, parts, strict=True):
        row_N[: len(part)] = part
    return mono_TN


def _join_pairs(sounds: dict[SoundTrack, Audio]) -> list[Audio]:
    """Join tracks 1 and 2, 3 and 4, ... to stereo; half a pair stays mono."""
    by_number = {track.number: audio for track, audio in sounds.items()}
    parts = []
    for number, audio in by_number.items():
        other = by_number.get(number + 1 if number % 2 else number - 1)
        if other is None:
            parts.append(audio)
        elif number % 2:
            parts.append(_stereo(audio, other))
    return parts


def _stereo(left: Audio, right: Audio) -> Audio:
    rate = max(left.sample_rate_hz, right.sample_rate_hz)
    left, right = resample(left, rate), resample(right, rate)
    stereo_CN = np.zeros((2, max(left.samples_CN.shape[1], right.samples_CN.shape[1])), np.float32)
    for row_N, part in zip(stereo_CN, (left, right), strict=True):
        row_N[: part.samples_CN.shape[1]] = part.samples_CN[0]
    return Audio(samples_CN=stereo_CN, sample_rate_hz=rate, layout="stereo")


def _peak(audio: Audio) -> float:
    return float(np.abs(audio.samples_CN).max(initial=0.0))


def _report(
    path: Path, kept: list[SoundTrack], left_out: list[SoundTrack], broken: list[SoundTrack]
) -> None:
    what = [f"sound track {track} can't be decoded" for track in broken]
    if left_out:
        others = ", ".join(str(track) for track in left_out)
        what.append(
            f"sound track{'s' * (len(left_out) > 1)} {others} not kept: "
            f"beside {' and '.join(str(track) for track in kept)} "
            f"{'they are alternatives' if len(left_out) > 1 else 'it is an alternative'}"
        )
    if what:
        logger.warning("%s: %s", shown_name(path), "; ".join(what))
