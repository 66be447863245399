"""Recognition of what a video shows: things, where, from when to when, moving or not.

In:   a video and the seconds of it that count.
Out:  `Seen`: one entry for each kind of thing, the most prominent first.

A detector with boxes names what ordinary videos show (people, vehicles, household things); an
ImageNet network names what it has no word for or doubts, cut to its box: a small thing is named
far better so than in the whole picture (docs/experiments). Boxes are the detector's and those of
what moves; they are joined to tracks, and of each prominent track a few crops are named. One
picture a second goes to the detector, four a second are compared, so that a minute of video costs
seconds.

Shape suffixes: T pictures, H W pixels, C colours, K ImageNet labels, R things of the table.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from omni2sound.media.info import probe
from omni2sound.media.video import Kept, iter_frames
from omni2sound.recognise.boxes import Box
from omni2sound.recognise.motion import Motion, compare
from omni2sound.recognise.scale import resize_picture
from omni2sound.recognise.things import Thing, Things, load_things
from omni2sound.recognise.tracks import Edges, Sight, Track, Tracker, crop

if TYPE_CHECKING:
    import torch

Place = Literal["left", "centre", "right"]

_LONGEST_SIDE_PX = 512
_LOOK_EVERY_S = Fraction(1)
_MOST_LOOKS = 120
"""A film of more seconds is looked at less often."""
_STEP_S = Fraction(1, 4)
"""Between the two pictures whose difference is motion."""
_SURE = 0.5
"""Score from which a detector's box is believed without a second opinion."""
_DOUBTFUL = 0.3
_LEAST_EVIDENCE = 0.75
"""Sum of scores over pictures from which a thing counts as seen: two fair looks or a sure one."""
_LEAST_PROMINENCE = 0.06
"""Score times side length, on average over the pictures; less is a speck or a passing doubt."""
_LEAST_MOVING = 0.06
"""Share of a box that changes when the thing in it moves."""
_MOVING_BOXES = 4
"""Of one picture, the largest."""
_LARGEST_MOVING = 0.5
"""Share of the picture; what is larger is the camera's doing, and would join all tracks."""
_TRACKS_OF_8_S = 5
_MOST_TRACKS = 40
_CROPS_OF_A_TRACK = 3
_LEAST_NAMED = 0.4
"""Summed ImageNet probability, on average over a few crops, from which a track is named; chosen
with the number of tracks and crops on scenes of the training and validation split
(docs/experiments)."""
_BIRD = 16
"""COCO's label of owls, ducks and hens as well, and of many a drawing: never believed alone."""
_LEAST_PLACE = 0.3
_MOST_MISSED = 2
"""Looks in a row in which a thing may be missed without having gone."""
_PLACE_EVERY = 3
"""Of so many looks one is named as a whole."""

_WHOLE: Edges = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenThing:
    """One kind of thing that a video shows.

    Attributes:
        name: What it is called.
        sound: Class of the scene catalogue that it sounds like; None if the model has none.
        place: Where it is on average.
        start_s: First time at which it was seen, seconds.
        end_s: End of the last second in which it was seen.
        moving: Whether it moves by itself.
        sounding: Whether it is taken to sound: it has a sound, and moves if it must.
        prominence: Score times side length, on average over the pictures.
        silent: Why it has no sound; None if it has, or if that is not worth saying.
        gaps_s: Start and end of each time between them in which it is not seen, in order.
    """

    name: str
    sound: str | None
    place: Place
    start_s: float
    end_s: float
    moving: bool
    sounding: bool
    prominence: float
    silent: str | None
    gaps_s: tuple[tuple[float, float], ...] = ()

    @property
    def spans_s(self) -> tuple[tuple[float, float], ...]:
        """Start and end of each time in which it is seen."""
        starts = (self.start_s, *(end for _, end in self.gaps_s))
        ends = (*(start for start, _ in self.gaps_s), self.end_s)
        return tuple(zip(starts, ends, strict=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What a video shows."""

    things: tuple[SeenThing, ...]
    looked_s: tuple[float, ...]
    """Times of the pictures that were looked at."""


@dataclass(slots=True)
class _Sighting:
    """All sightings of one row of the table."""

    scores: dict[int, float] = field(default_factory=dict)
    """Best score by look."""
    weights: dict[int, float] = field(default_factory=dict)
    """Score times side length by look, summed over tracks."""
    centres: list[float] = field(default_factory=list)
    moved: list[float] = field(default_factory=list)

    def add(self, track: Track, scores: dict[int, float]) -> None:
        """Take the sights of a track as sightings of the row, in the looks that have a score."""
        largest: dict[int, float] = {}
        for sight in track.sights:
            if sight.look in scores:
                largest[sight.look] = max(sight.side, largest.get(sight.look, 0.0))
                self.centres.append((sight.edges[0] + sight.edges[2]) / 2)
                self.moved.append(sight.moved)
        for look, side in largest.items():
            self.scores[look] = max(scores[look], self.scores.get(look, 0.0))
            self.weights[look] = self.weights.get(look, 0.0) + scores[look] * side


@dataclass(slots=True)
class _Film:
    """What is gathered in one pass over the pictures."""

    tracker: Tracker
    looked_s: list[float] = field(default_factory=list)
    wholes: list[tuple[Sight, NDArray[np.uint8]]] = field(default_factory=list)


class FindsThings(Protocol):
    """A detector of things in single pictures."""

    size_px: tuple[int, int]
    """Height and width of its input pictures."""

    def find(self, picture_HWC: NDArray[np.uint8]) -> list[Box]:
        """Find things in a picture, best first."""


class NamesThings(Protocol):
    """A network that names pictures by labels of ImageNet."""

    size_px: tuple[int, int]
    """Height and width of its input pictures."""

    def probabilities(self, frames_THWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities (T, 1000)."""


class Recogniser:
    """Detector and labeller together; `Recogniser.load` gives the bundled ones in torch."""

    def __init__(
        self, detector: FindsThings, labeller: NamesThings, things: Things | None = None
    ) -> None:
        self._detector, self._labeller = detector, labeller
        self._things = things or load_things()

    @classmethod
    def load(cls, device: torch.device | str = "cpu") -> Recogniser:
        """Load the bundled networks.

        Raises:
            MissingPartError: A bundled package is not installed.
        """
        from omni2sound.recognise.detector import Detector
        from omni2sound.recognise.labeller import Labeller

        return cls(Detector.load(device), Labeller.load(device))

    def observe(
        self, video: Path, duration_s: float | Fraction, *, keep: Kept | None = None
    ) -> Seen:
        """Recognise what a video shows.

        Args:
            video: A video, or a still picture.
            duration_s: Seconds to look at, from the start.
            keep: Pictures to keep for other readers; see `iter_frames`.

        Raises:
            MediaError: The video can't be read.
        """
        duration = Fraction(duration_s)
        every = max(_LOOK_EVERY_S, duration / _MOST_LOOKS)
        film = self._watch(video, duration, every, keep)
        sightings = self._sightings(film, math.ceil(duration / 8))
        self._add_places(film, sightings)
        found = [
            self._thing(self._things.rows[row], seen, film.looked_s, every, duration)
            for row, seen in sightings.items()
        ]
        found.sort(key=lambda thing: -thing.prominence)
        return Seen(things=tuple(found), looked_s=tuple(film.looked_s))

    def _watch(self, video: Path, duration: Fraction, every: Fraction, keep: Kept | None) -> _Film:
        """Look at all pictures once."""
        film = _Film(Tracker(2 * float(every), _MOST_TRACKS))
        for look, picture, motion, time_s in _pictures(video, duration, every, keep):
            boxes: list[Box] = []
            if look == len(film.looked_s):
                film.looked_s.append(time_s)
                square = resize_picture(picture, self._detector.size_px)
                boxes = self._detector.find(square)
                if look % _PLACE_EVERY == 0:
                    whole = Sight(look=look, time_s=time_s, edges=_WHOLE, moved=0.0)
                    film.wholes.append((whole, crop(picture, _WHOLE)))
            seen: list[tuple[Edges, Box | None]] = [
                *((_edges(box), box) for box in boxes if box.score >= _DOUBTFUL),
                *((edges, None) for edges in _things_of(motion)),
            ]
            for edges, box in seen:
                sight = Sight(
                    look=look,
                    time_s=time_s,
                    edges=edges,
                    moved=motion.share(*edges),
                    label=None if box is None else box.label,
                    score=0.0 if box is None else box.score,
                )
                film.tracker.add(sight, picture)
            if motion.is_cut:
                film.tracker.cut()
        return film

    def _sightings(self, film: _Film, eights: int) -> dict[int, _Sighting]:
        """Sightings by row: the labeller's name of a track counts before the detector's.

        People are no label of ImageNet: what has no sound is noted in any case.
        """
        tracks = sorted(film.tracker.tracks, key=lambda track: -track.prominence)
        count = min(_TRACKS_OF_8_S * eights, _MOST_TRACKS)
        named: list[tuple[int, Track, float]] = []
        detected: dict[int, _Sighting] = {}
        for i, track in enumerate(tracks):
            thing, score = None, 0.0
            if i < count:
                thing, score = self.name(track.spread(_CROPS_OF_A_TRACK))
            row = None if thing is None else self._things.rows.index(thing)
            if row is not None:
                named.append((row, track, score))
            own, scores = self._detected(track)
            if own is not None and (row is None or self._things.rows[own].sound is None):
                detected.setdefault(own, _Sighting()).add(track, scores)
        kept = {
            row: seen
            for row, seen in detected.items()
            if sum(seen.scores.values()) >= _LEAST_EVIDENCE
            and sum(seen.weights.values()) >= _LEAST_PROMINENCE * len(film.looked_s)
        }
        for row, track, score in named:
            scores = {sight.look: score for sight in track.sights}
            kept.setdefault(row, _Sighting()).add(track, scores)
        return kept

    def _detected(self, track: Track) -> tuple[int | None, dict[int, float]]:
        """Row of what the detector is sure of, and its scores by look."""
        label = _label(track)
        scores: dict[int, float] = {}
        for sight in track.sights:
            if sight.label == label and sight.score >= _SURE:
                scores[sight.look] = max(sight.score, scores.get(sight.look, 0.0))
        return (None if label in (None, _BIRD) else self._row(label)), scores

    def _row(self, label: int | None) -> int | None:
        return None if label is None else self._things.of_coco.get(label)

    def name(self, crops: list[NDArray[np.uint8]]) -> tuple[Thing | None, float]:
        """Name a thing from crops of it, and say how probable the name is, on average over them.

        Args:
            crops: uint8 RGB pictures (H, W, 3), at least one.
        """
        total_R = np.zeros(len(self._things.rows), np.float32)
        for left, part in zip(range(len(crops) - 1, -1, -1), crops, strict=True):
            total_R += self._posterior([part])[0]
            if total_R.max() + left < _LEAST_NAMED * len(crops):
                return None, 0.0  # whatever the others show
        row = int(total_R.argmax())
        thing, probability = self._things.rows[row], float(total_R[row]) / len(crops)
        return (None, 0.0) if probability < _LEAST_NAMED or thing.place else (thing, probability)

    def _add_places(self, film: _Film, sightings: dict[int, _Sighting]) -> None:
        posterior_TR = self._posterior([picture for _, picture in film.wholes])
        for row, thing in enumerate(self._things.rows):
            p_T = np.where(posterior_TR[:, row] >= _LEAST_PLACE, posterior_TR[:, row], 0.0)
            if not thing.place or p_T.sum() < min(_LEAST_EVIDENCE, _LEAST_NAMED * len(p_T)):
                continue
            for (whole, _), p in zip(film.wholes, p_T, strict=True):
                if p:
                    seen = sightings.setdefault(row, _Sighting())
                    seen.add(Track([whole]), {whole.look: float(p)})

    def _posterior(self, crops: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Probabilities (crops, rows) of the things in the table."""
        size_px = self._labeller.size_px
        cut = [resize_picture(part, size_px) for part in crops]
        frames = np.stack(cut) if cut else np.zeros((0, *size_px, 3), np.uint8)
        return self._things.posterior(self._labeller.probabilities(frames))

    def _thing(
        self, row: Thing, seen: _Sighting, times: list[float], every: Fraction, duration: Fraction
    ) -> SeenThing:
        centre = sum(seen.centres) / len(seen.centres)
        moving = max(seen.moved) >= _LEAST_MOVING
        sounding = row.sound is not None and (moving or not row.moving)
        step = _PLACE_EVERY if row.place else 1
        looks, span_s = sorted(seen.scores), float(every) * step
        gaps_s = tuple(
            (times[before] + span_s, times[after])
            for before, after in pairwise(looks)
            if after - before > (_MOST_MISSED + 1) * step
        )
        return SeenThing(
            name=row.name,
            sound=row.sound,
            place="left" if centre < 1 / 3 else "right" if centre > 2 / 3 else "centre",
            start_s=times[looks[0]],
            end_s=min(times[looks[-1]] + span_s, float(duration)),
            moving=moving,
            sounding=sounding,
            prominence=sum(seen.weights.values()) / len(times),
            silent=row.silent if row.sound is None else None if sounding else "it does not move",
            gaps_s=gaps_s,
        )


def _label(track: Track) -> int | None:
    """The detector's label of a track: the one with most score."""
    total: dict[int, float] = {}
    for sight in track.sights:
        if sight.label is not None and sight.score >= _SURE:
            total[sight.label] = total.get(sight.label, 0.0) + sight.score
    return max(total, key=lambda label: total[label]) if total else None


def _pictures(
    video: Path, duration: Fraction, every: Fraction, keep: Kept | None
) -> Iterator[tuple[int, NDArray[np.uint8], Motion, float]]:
    """Look, picture, what moves until the next one, and time in seconds; about four a second."""
    info = probe(video).video
    size_px = None
    if info is not None:
        scale = min(1.0, _LONGEST_SIDE_PX / max(info.height_px, info.width_px))
        size_px = (max(1, round(info.height_px * scale)), max(1, round(info.width_px * scale)))
    per_look = max(2, math.ceil(every / _STEP_S))
    fps = per_look / every
    frames = iter_frames(video, fps=fps, size_px=size_px, duration_s=duration, keep=keep)
    last = None
    for i, (picture, following) in enumerate(pairwise(frames)):
        yield i // per_look, picture, compare(picture, following), float(i / fps)
        last = (i + 1, following)
    if last is not None:
        i, picture = last
        yield i // per_look, picture, compare(picture, picture), float(i / fps)


def _things_of(motion: Motion) -> list[Edges]:
    boxes = motion.boxes(_MOVING_BOXES)
    return [b for b in boxes if (b[2] - b[0]) * (b[3] - b[1]) <= _LARGEST_MOVING]


def _edges(box: Box) -> Edges:
    return box.left, box.top, box.right, box.bottom
