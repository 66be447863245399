"""The sound tracks of a video, and which of them are channels of one sound.

In:   a video with any number of sound tracks.
Out:  `SoundTrack`s as the container describes them; `TrackGroup`s, each one sound.

Cameras and editors write one mono track per channel. What such a track says about its loudspeaker
holds. An untitled mono track that says nothing is the centre beside a left and a right one: mov
has no other name for it. Where no track says anything, all are mono and none has a title,
neighbours that begin and end together are channels of one sound: six are 5.1 in its standard
order, and of any other even number each two are left and right. A track that begins later or ends
earlier than its neighbour is a microphone of its own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from av.audio.stream import AudioStream
from av.stream import Disposition

from omni2sound.media.copy.languages import language_code
from omni2sound.media.files import open_input
from omni2sound.media.info import MediaInfo, probe
from omni2sound.media.layouts import ASSUMED, channel_names, named_layout, safe, stated_layout

_OTHER_VERSIONS = (
    Disposition.dub
    | Disposition.comment
    | Disposition.karaoke
    | Disposition.hearing_impaired
    | Disposition.visual_impaired
    | Disposition.clean_effects
    | Disposition.descriptions
)
_OTHER_TITLE = re.compile(r"\b(commentary|(audio|video) description|descriptive)\b", re.IGNORECASE)
"""What titles say of them where nobody set the mark. Recorders, too, have tracks for a player's
commentary, but state no language; films do."""
_TOGETHER_S = Fraction(1, 4)
"""Channels of one recording differ by less at both ends: by a block, and what codecs add."""
_CENTRE = "FC"
_DOWNMIX = {"DL": "FL", "DR": "FR"}


@dataclass(frozen=True, kw_only=True, slots=True)
class SoundTrack:
    """One sound track as its container describes it."""

    index: int
    """Stream index inside the container."""
    number: int
    """Place among the sound tracks, from 1."""
    language: str = ""
    """ISO 639-2/T code, however the file states it; empty if it is unknown."""
    variety: str = ""
    """What the file adds to its language, such as the region "br"."""
    title: str = ""
    is_default: bool = False
    channels: int = 1
    layout: str | None = "mono"
    """What its channels are, as stated or assumed; None: unknown."""
    speaker: str = ""
    """Loudspeaker of the one channel; empty if none is stated, or the centre: mono, too."""
    sample_rate_hz: int = 0
    start_s: Fraction | None = None
    """When its packets begin, after the file's second 0; None: there are none."""
    end_s: Fraction | None = None
    """When they end."""
    is_other_version: bool = False
    """Marked or titled as a commentary, dub, description or another special version."""

    def __str__(self) -> str:
        language = f"{self.language}-{self.variety}" if self.variety else self.language
        details = ", ".join(part for part in (self.title, language) if part)
        return f"{self.number} ({details})" if details else str(self.number)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackGroup:
    """Tracks that are channels of one sound; or one track."""

    tracks: tuple[SoundTrack, ...]
    """If there is more than one: in the order of the layout's channels."""
    layout: str | None
    """None: unknown."""

    @property
    def num_channels(self) -> int:
        """Number of channels of the sound."""
        return sum(track.channels for track in self.tracks)


def list_tracks(path: str | os.PathLike[str]) -> list[SoundTrack]:
    """List the sound tracks that can be decoded.

    Raises:
        MediaError: The file can't be read.
    """
    info = probe(path)
    with open_input(info.path) as container:
        return [
            _describe(stream, number, info)
            for number, stream in enumerate(container.streams.audio, 1)
            if getattr(stream, "codec_context", None) is not None
        ]


def group_tracks(tracks: Sequence[SoundTrack]) -> list[TrackGroup]:
    """Find the tracks that are channels of one sound; each other track is a group of its own.

    Returns:
        Each track once, groups in the order of their first tracks.
    """
    are_alike = all(track.channels == 1 and not track.title for track in tracks)
    if any(track.speaker for track in tracks):
        groups = _by_speaker(tracks)
    elif are_alike:
        groups = [group for run in _together(tracks) for group in _by_number(run)]
    else:
        groups = []
    grouped = {track for group in groups for track in group.tracks}
    alone = [track for track in tracks if track not in grouped]
    groups += [TrackGroup(tracks=(track,), layout=track.layout) for track in alone]
    return sorted(groups, key=lambda group: min(track.number for track in group.tracks))


def _together(tracks: Sequence[SoundTrack]) -> Iterator[list[SoundTrack]]:
    """Yield runs of neighbours that begin and end together."""
    run: list[SoundTrack] = []
    for track in tracks:
        if run and not _is_together(run[0], track):
            yield run
            run = []
        run.append(track)
    if run:
        yield run


def _is_together(first: SoundTrack, second: SoundTrack) -> bool:
    ends = ((first.start_s, second.start_s), (first.end_s, second.end_s))
    return all(a is b if a is None or b is None else abs(a - b) <= _TOGETHER_S for a, b in ends)


def _by_number(tracks: list[SoundTrack]) -> list[TrackGroup]:
    """Group mono tracks of which nothing is known but how many there are."""
    if len(tracks) == 6:
        return [TrackGroup(tracks=tuple(tracks), layout="5.1")]
    if len(tracks) % 2:
        return []
    pairs = zip(tracks[::2], tracks[1::2], strict=True)
    return [TrackGroup(tracks=pair, layout="stereo") for pair in pairs]


def _by_speaker(tracks: Sequence[SoundTrack]) -> list[TrackGroup]:
    stated = [track for track in tracks if track.speaker]
    centres = [
        t
        for t in tracks
        if t.channels == 1 and not t.speaker and not t.title and _is_together(stated[0], t)
    ]
    with_centres = [track for track in tracks if track in stated or track in centres]
    sets = _complete_sets(with_centres)
    if any(_CENTRE in found and not {"FL", "FR"} <= found.keys() for found in sets):
        sets = _complete_sets(stated)
    groups = []
    for found in sets:
        layout = named_layout(found)
        if len(found) > 1 and layout is not None and "+" not in layout:
            members = tuple(found[name] for name in channel_names(layout))
            groups.append(TrackGroup(tracks=members, layout=layout))
    return groups


def _complete_sets(tracks: Sequence[SoundTrack]) -> list[dict[str, SoundTrack]]:
    """Split mono tracks to sets of loudspeakers: where one comes again, the next set begins."""
    sets: list[dict[str, SoundTrack]] = [{}]
    for track in tracks:
        name = track.speaker or _CENTRE
        if name in sets[-1]:
            sets.append({})
        sets[-1][name] = track
    return sets


def _describe(stream: AudioStream, number: int, info: MediaInfo) -> SoundTrack:
    tags = {key.lower(): value for key, value in stream.metadata.items()}
    language, variety = language_code(tags.get("language", ""))
    layout = safe(stream.codec_context.layout)
    names = [_DOWNMIX.get(channel.name, channel.name) for channel in layout.channels]
    span, zero_s = info.sounds.get(stream.index), info.timeline.start_s
    title = " ".join(tags.get("title", "").split())
    is_titled_other = bool(language and _OTHER_TITLE.search(title))
    return SoundTrack(
        index=stream.index,
        channels=layout.nb_channels,
        layout=stated_layout(layout)[0] or ASSUMED.get(layout.nb_channels),
        speaker=names[0] if named_layout(names) == "mono" and names != [_CENTRE] else "",
        number=number,
        sample_rate_hz=stream.codec_context.sample_rate,
        start_s=None if span is None else span.start_s - zero_s,
        end_s=None if span is None else span.end_s - zero_s,
        language=language,
        variety=variety,
        title=title,
        is_default=bool(stream.disposition & Disposition.default),
        is_other_version=bool(stream.disposition & _OTHER_VERSIONS) or is_titled_other,
    )
