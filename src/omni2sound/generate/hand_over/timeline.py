"""The timeline of a hand-over, as OpenTimelineIO: film, takes, stems, markers.

In:   takes, the files that were written for them, a film.
Out:  an `otio.schema.Timeline`.

One clip holds all takes as its media, the first one active, as editors show takes; the stems of
each take are tracks of their own, which are switched off: together with the take they would sound
twice. Markers stand at the onsets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from omni2sound.errors import MissingPartError
from omni2sound.generate.hand_over.bwf import RATE_HZ
from omni2sound.generate.hand_over.takes import Take
from omni2sound.media.info import probe

if TYPE_CHECKING:
    import opentimelineio as otio


def load_otio() -> None:
    """Import OpenTimelineIO.

    Raises:
        MissingPartError: It is not installed.
    """
    try:
        import opentimelineio  # noqa: F401
    except ImportError:
        raise MissingPartError(
            "OpenTimelineIO is not installed; pip install 'omni2sound[studio]'"
        ) from None


@dataclass(frozen=True, kw_only=True, slots=True)
class Film:
    """The film under the sounds."""

    path: Path
    shown: str
    """Its path from the folder, not yet quoted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Clock:
    """Times on a timeline whose first second is some time of the day."""

    zero_s: Fraction

    def at(self, seconds: Fraction, rate: float = RATE_HZ) -> otio.opentime.RationalTime:
        import opentimelineio as otio

        return otio.opentime.RationalTime(round(seconds * Fraction(rate)), rate)

    def span(
        self, first_s: Fraction, length_s: Fraction, rate: float = RATE_HZ
    ) -> otio.opentime.TimeRange:
        import opentimelineio as otio

        return otio.opentime.TimeRange(self.at(first_s, rate), self.at(length_s, rate))

    def of_take(self, take: Take) -> otio.opentime.TimeRange:
        """When a take is heard, by the time of the day that its file has."""
        length_s = Fraction(take.audio.num_samples, RATE_HZ)
        return self.span(self.zero_s + take.start_s, length_s)


def build_timeline(
    takes: Sequence[Take],
    files: Mapping[tuple[str, str | None], str],
    onsets: Mapping[str, Sequence[tuple[float, str]]],
    *,
    film: Film | None,
    film_start_s: Fraction,
) -> otio.schema.Timeline:
    """Build a timeline.

    Args:
        takes: At least one; those that begin at one time are takes of one clip.
        files: Relative path of each take (None) and each of its stems.
        onsets: For each take, seconds from its beginning and names of markers.
        film: The film.
        film_start_s: Time of its first picture, in seconds of the day.
    """
    import opentimelineio as otio

    clock = _Clock(zero_s=film_start_s)
    timeline = otio.schema.Timeline("omni2sound", global_start_time=clock.at(film_start_s))
    if film is not None:
        timeline.tracks.append(_film_track(film, clock))
    groups: dict[Fraction, list[Take]] = {}
    for take in takes:
        groups.setdefault(take.start_s, []).append(take)
    for start_s, group in sorted(groups.items()):
        first = group[0]
        clip = otio.schema.Clip(name=first.name, source_range=clock.of_take(first))
        references = {take.name: _sound(files[take.name, None], take, clock) for take in group}
        clip.set_media_references(references, first.name)
        for second, text in onsets[first.name]:
            where = clock.span(film_start_s + start_s + Fraction(second), Fraction(0))
            clip.markers.append(otio.schema.Marker(name=text, marked_range=where))
        timeline.tracks.append(_track("takes", start_s, clip, clock))
        for take in group:
            for stem in take.stems:
                own = otio.schema.Clip(
                    name=stem,
                    media_reference=_sound(files[take.name, stem], take, clock),
                    source_range=clock.of_take(take),
                )
                track = _track(f"{take.name}: {stem}", start_s, own, clock)
                track.enabled = False
                timeline.tracks.append(track)
    return timeline


def _film_track(film: Film, clock: _Clock) -> otio.schema.Track:
    import opentimelineio as otio

    info = probe(film.path)
    rate = float(info.video.average_fps) if info.video is not None else 24.0
    whole = clock.span(Fraction(0), info.duration_s, rate)
    reference = otio.schema.ExternalReference(quote(film.shown), available_range=whole)
    track = otio.schema.Track("film", kind=otio.schema.TrackKind.Video)
    track.append(
        otio.schema.Clip(name=film.path.name, media_reference=reference, source_range=whole)
    )
    return track


def _sound(path: str, take: Take, clock: _Clock) -> otio.schema.ExternalReference:
    import opentimelineio as otio

    return otio.schema.ExternalReference(quote(path), available_range=clock.of_take(take))


def _track(
    name: str, start_s: Fraction, clip: otio.schema.Clip, clock: _Clock
) -> otio.schema.Track:
    import opentimelineio as otio

    track = otio.schema.Track(name, kind=otio.schema.TrackKind.Audio)
    if start_s:
        track.append(otio.schema.Gap(duration=clock.at(start_s)))
    track.append(clip)
    return track
