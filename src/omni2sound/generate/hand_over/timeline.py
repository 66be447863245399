"""The timeline of a hand-over, as OpenTimelineIO: film, takes, stems, markers.

In:   takes, the files that were written for them, a film.
Out:  an `otio.schema.Timeline`.

One clip holds all takes that begin at one time as its media, the first one active, as editors show
takes; clips that don't overlap, such as scenes, stand on one track. Stems are on tracks of their
own, which are switched off: together with the takes they would sound twice. Markers stand at the
onsets, and on the film where a scene begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from omni2sound.errors import MissingPartError
from omni2sound.generate.hand_over.bwf import RATE_HZ
from omni2sound.generate.hand_over.takes import WrittenTake
from omni2sound.media.info import VideoStreamInfo

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
    picture: VideoStreamInfo
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

    def of_take(self, one: WrittenTake) -> otio.opentime.TimeRange:
        """When a take is heard, by the time of the day that its file has."""
        length_s = Fraction(one.num_samples, RATE_HZ)
        return self.span(self.zero_s + one.take.start_s, length_s)


def build_timeline(
    takes: Sequence[WrittenTake],
    *,
    film: Film | None,
    film_start_s: Fraction,
) -> otio.schema.Timeline:
    """Build a timeline.

    Args:
        takes: At least one; those that begin at one time are takes of one clip.
        film: The film.
        film_start_s: Time of its first picture, in seconds of the day.
    """
    import opentimelineio as otio

    clock = _Clock(zero_s=film_start_s)
    timeline = otio.schema.Timeline("omni2sound", global_start_time=clock.at(film_start_s))
    groups: dict[Fraction, list[WrittenTake]] = {}
    for one in takes:
        groups.setdefault(one.take.start_s, []).append(one)
    are_scenes = len(groups) > 1 and _are_apart(takes)
    if film is not None:
        track = _film_track(film, clock)
        if are_scenes:
            for start_s, group in sorted(groups.items()):
                # In the film's own time, which begins at 0; that of a take is the time of the day.
                track[0].markers.append(_marker(group[0].take.name, start_s, clock))
        timeline.tracks.append(track)
    rows = _Rows(clock=clock)
    for start_s, group in sorted(groups.items()):
        first = group[0]
        name = first.take.name
        clip = otio.schema.Clip(name=name, source_range=clock.of_take(first))
        references = {one.take.name: _sound(one, None, clock) for one in group}
        clip.set_media_references(references, name)
        for second, text in first.markers:
            clip.markers.append(_marker(text, film_start_s + start_s + Fraction(second), clock))
        rows.add("takes", first, clip, is_stem=False)
        for one in group:
            for stem in one.take.stems:
                own = otio.schema.Clip(
                    name=stem,
                    media_reference=_sound(one, stem, clock),
                    source_range=clock.of_take(one),
                )
                name = stem if are_scenes else f"{one.take.name}: {stem}"
                rows.add(name, one, own, is_stem=True)
    timeline.tracks.extend(rows.tracks)
    return timeline


def _are_apart(takes: Sequence[WrittenTake]) -> bool:
    """Whether no two takes overlap but those that begin at one time."""
    spans = sorted((one.take.start_s, one.end_s) for one in takes)
    return all(later == first or end_s <= later for (first, end_s), (later, _) in pairwise(spans))


@dataclass(kw_only=True, slots=True)
class _Rows:
    """Tracks of sound; what overlaps nothing on a track of its kind and name goes there."""

    clock: _Clock
    tracks: list[otio.schema.Track] = field(default_factory=list)
    ends: list[Fraction] = field(default_factory=list)
    """Where each track ends, seconds of the film."""

    def add(self, name: str, one: WrittenTake, clip: otio.schema.Clip, *, is_stem: bool) -> None:
        """Put a clip at the time of its take; stems are switched off."""
        import opentimelineio as otio

        for number, track in enumerate(self.tracks):
            is_same = (track.name, track.enabled) == (name, not is_stem)
            if is_same and self.ends[number] <= one.take.start_s:
                break
        else:
            number, track = len(self.tracks), otio.schema.Track(name, kind="Audio")
            track.enabled = not is_stem
            self.tracks.append(track)
            self.ends.append(Fraction(0))
        # Each end is rounded by itself, so that no error adds up over many scenes.
        gap = self.clock.at(one.take.start_s) - self.clock.at(self.ends[number])
        if gap.value > 0:
            track.append(otio.schema.Gap(duration=gap))
        track.append(clip)
        self.ends[number] = one.end_s


def _marker(name: str, at_s: Fraction, clock: _Clock) -> otio.schema.Marker:
    import opentimelineio as otio

    return otio.schema.Marker(name=name, marked_range=clock.span(at_s, Fraction(0)))


def _film_track(film: Film, clock: _Clock) -> otio.schema.Track:
    import opentimelineio as otio

    # Its sound may last longer.
    rate = float(film.picture.average_fps)
    whole = clock.span(Fraction(0), film.picture.duration_s, rate)
    reference = otio.schema.ExternalReference(quote(film.shown), available_range=whole)
    track = otio.schema.Track("film", kind=otio.schema.TrackKind.Video)
    track.append(
        otio.schema.Clip(name=film.path.name, media_reference=reference, source_range=whole)
    )
    return track


def _sound(one: WrittenTake, stem: str | None, clock: _Clock) -> otio.schema.ExternalReference:
    import opentimelineio as otio

    return otio.schema.ExternalReference(quote(one.files[stem]), available_range=clock.of_take(one))
