"""Recognition of what a video shows: things, where, from when to when, moving or not.

In:   a video and the seconds of it that count.
Out:  `Seen`: one entry for each kind of thing, the most prominent first.

A detector with boxes names what ordinary videos show (people, vehicles, animals, household
things); an ImageNet network names what it has no word for, in boxes around what moves and in the
detector's doubtful boxes: cut to its box, a small thing is named far better than in the whole
picture (docs/experiments). One picture a second is looked at, so that a minute of video costs
seconds. What one picture alone shows faintly is left out.

Shape suffixes: T pictures, H W pixels, C colours, K ImageNet labels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from omni2sound.encoders.pictures import resize
from omni2sound.encoders.vision import VisionEncoder
from omni2sound.media.info import probe
from omni2sound.media.video import iter_frames
from omni2sound.recognise.cuts import find_cuts
from omni2sound.recognise.detector import Box, Detector
from omni2sound.recognise.motion import Motion, compare
from omni2sound.recognise.things import Thing, Things, load_things

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
_LEAST_NAMED = 0.5
"""Summed ImageNet probability from which a crop is named. Of the scene catalogue's training
pictures .26 are then named rightly, .04 wrongly; of its silent things .03 are given a sound
(`benchmarks/quality/recognition.py --split train`)."""
_LEAST_PLACE = 0.3
_LEAST_EVIDENCE = 0.75
"""Sum of scores over pictures from which a thing counts as seen: two fair looks or a sure one."""
_LEAST_PROMINENCE = 0.06
"""Score times side length, on average over the pictures; less is a speck or a passing doubt."""
_LEAST_MOVING = 0.06
"""Share of a box that changes when the thing in it moves."""
_CROPS = 4
"""Crops to name in one picture."""

_Edges = tuple[float, float, float, float]
_WHOLE: _Edges = (0.0, 0.0, 1.0, 1.0)


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What a video shows."""

    things: tuple[SeenThing, ...]
    looked_s: tuple[float, ...]
    """Times of the pictures that were looked at."""
    cuts_s: tuple[float, ...] = ()
    """Times of cuts, seconds."""


@dataclass(slots=True)
class _Sighting:
    """All sightings of one row of the table."""

    scores: dict[int, float] = field(default_factory=dict)
    """Best score by picture."""
    weight: float = 0.0
    centres: list[float] = field(default_factory=list)
    moved: list[float] = field(default_factory=list)

    def add(self, picture: int, score: float, edges: _Edges, moved: float) -> None:
        area = (edges[2] - edges[0]) * (edges[3] - edges[1])
        self.scores[picture] = max(score, self.scores.get(picture, 0.0))
        self.weight += score * math.sqrt(area)
        self.centres.append((edges[0] + edges[2]) / 2)
        self.moved.append(moved)


class Recogniser:
    """Detector and picture encoder together. Build it with `Recogniser.load`."""

    def __init__(
        self, detector: Detector, pictures: VisionEncoder, things: Things | None = None
    ) -> None:
        self._detector, self._pictures = detector, pictures
        self._things = things or load_things()

    @classmethod
    def load(
        cls, device: torch.device | str = "cpu", *, dtype: torch.dtype = torch.float32
    ) -> Recogniser:
        """Load the bundled networks.

        Raises:
            MissingPartError: A bundled package is not installed.
        """
        return cls(Detector.load(device), VisionEncoder.load(device, dtype=dtype))

    def observe(self, video: Path, duration_s: float | Fraction) -> Seen:
        """Recognise what a video shows.

        Args:
            video: A video, or a still picture.
            duration_s: Seconds to look at, from the start.

        Raises:
            MediaError: The video can't be read.
        """
        sightings: dict[int, _Sighting] = {}
        every = max(_LOOK_EVERY_S, Fraction(duration_s) / _MOST_LOOKS)
        times = []
        for i, (time_s, frame, motion) in enumerate(_looks(video, Fraction(duration_s), every)):
            times.append(float(time_s))
            self._look(i, frame, motion, sightings)
        found = [
            self._thing(self._things.rows[row], seen, times, float(every), float(duration_s))
            for row, seen in sightings.items()
            if sum(seen.scores.values()) >= _LEAST_EVIDENCE
            and seen.weight >= _LEAST_PROMINENCE * len(times)
        ]
        found.sort(key=lambda thing: -thing.prominence)
        return Seen(
            things=tuple(found),
            looked_s=tuple(times),
            cuts_s=find_cuts(video, duration_s),
        )

    def _look(
        self, i: int, frame: NDArray[np.uint8], motion: Motion, sightings: dict[int, _Sighting]
    ) -> None:
        """Name the things in one picture."""

        def add(row: int, score: float, edges: _Edges) -> None:
            sightings.setdefault(row, _Sighting()).add(i, score, edges, motion.share(*edges))

        square = resize(torch.from_numpy(frame)[None], self._detector.size_px)
        boxes = self._detector.detect(square)[0]
        named: list[_Edges] = []
        doubtful: list[_Edges] = []
        for box in boxes:
            edges = _edges(box)
            row = self._things.of_coco.get(box.label)
            # "Bird" is owl, duck and hen alike; animals are often taken for each other.
            if row is not None and box.score >= _SURE and not _is_animal(box):
                add(row, box.score, edges)
                named.append(edges)
            elif box.score >= _DOUBTFUL:
                doubtful.append(edges)
        moving = [e for e in motion.boxes(_CROPS) if all(_overlap(e, n) < 0.5 for n in named)]
        crops = [*doubtful[:_CROPS], *moving][:_CROPS]
        posterior = self._name(frame, [*crops, _WHOLE])
        for edges, p_R in zip(crops, posterior, strict=False):
            row = int(np.argmax(p_R))
            if p_R[row] >= _LEAST_NAMED and not self._things.rows[row].place:
                add(row, float(p_R[row]), edges)
                continue
            # The second opinion has none: the detector's own, if it is sure.
            for box in boxes:
                own = self._things.of_coco.get(box.label)
                if _edges(box) == edges and own is not None and box.score >= _SURE:
                    add(own, box.score, edges)
        for row, thing in enumerate(self._things.rows):
            if thing.place and posterior[-1][row] >= _LEAST_PLACE:
                add(row, float(posterior[-1][row]), _WHOLE)

    def _name(self, frame: NDArray[np.uint8], crops: list[_Edges]) -> NDArray[np.float32]:
        """Probabilities (crops, rows) of the things in the table."""
        height, width = frame.shape[:2]
        cut = []
        for left, top, right, bottom in crops:
            rows = slice(int(top * height), max(math.ceil(bottom * height), 1))
            columns = slice(int(left * width), max(math.ceil(right * width), 1))
            part = np.ascontiguousarray(frame[rows, columns])
            cut.append(resize(torch.from_numpy(part)[None], self._pictures.size_px)[0])
        _, probabilities = self._pictures.embed_and_classify(torch.stack(cut))
        return self._things.posterior(probabilities.cpu().numpy())

    def _thing(
        self, row: Thing, seen: _Sighting, times: list[float], every_s: float, duration_s: float
    ) -> SeenThing:
        centre = sum(seen.centres) / len(seen.centres)
        moving = max(seen.moved) >= _LEAST_MOVING
        sounding = row.sound is not None and (moving or not row.moving)
        return SeenThing(
            name=row.name,
            sound=row.sound,
            place="left" if centre < 1 / 3 else "right" if centre > 2 / 3 else "centre",
            start_s=times[min(seen.scores)],
            end_s=min(times[max(seen.scores)] + every_s, duration_s),
            moving=moving,
            sounding=sounding,
            prominence=seen.weight / len(times),
            silent=row.silent if row.sound is None else None if sounding else "it does not move",
        )


def _looks(
    video: Path, duration: Fraction, every: Fraction
) -> Iterator[tuple[Fraction, NDArray[np.uint8], Motion]]:
    """Pictures `every` seconds with what moves around them."""
    info = probe(video).video
    size_px = None
    if info is not None:
        scale = min(1.0, _LONGEST_SIDE_PX / max(info.height_px, info.width_px))
        size_px = (max(1, round(info.height_px * scale)), max(1, round(info.width_px * scale)))
    per_look = max(2, math.ceil(every / _STEP_S))
    fps = per_look / every
    frames = iter_frames(video, fps=fps, size_px=size_px, duration_s=duration)
    for i in range(math.ceil(duration / every)):
        group = list(islice(frames, per_look))
        if not group:
            return
        following = group[min(1, len(group) - 1)]
        yield i * every, group[0], compare(group[0], following)


def _edges(box: Box) -> _Edges:
    return box.left, box.top, box.right, box.bottom


def _is_animal(box: Box) -> bool:
    return 16 <= box.label <= 25


def _overlap(a: _Edges, b: _Edges) -> float:
    """Intersection over union."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return shared / max(areas - shared, 1e-9)
