"""Tracks: sights of one thing, from picture to picture.

In:   boxes of a video, in order of time.
Out:  `Track`s, each with a few crops to name.

A thing is named better from several crops of one track, spread over its time, than from each
picture alone (docs/experiments).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from omni2sound.recognise.scale import resize_picture

Edges = tuple[float, float, float, float]
"""Left, top, right, bottom, as shares of the picture."""

_LEAST_OVERLAP = 0.3
_ONE_THING = 0.7
"""Overlap from which two labels of one picture are guesses at the same thing."""
_MOST_CROPS = 6
_LARGEST_CROP_PX = 280


@dataclass(frozen=True, kw_only=True, slots=True)
class Sight:
    """A box in one picture.

    Attributes:
        look: Number of the second (or longer step of a film) that the picture belongs to.
        time_s: Time of the picture.
        edges: Where it is.
        moved: Share of it that changes.
        label: COCO identifier; None if no detector found it.
        score: The detector's.
    """

    look: int
    time_s: float
    edges: Edges
    moved: float
    label: int | None = None
    score: float = 0.0

    @property
    def side(self) -> float:
        """Square root of the share of the picture."""
        return math.sqrt((self.edges[2] - self.edges[0]) * (self.edges[3] - self.edges[1]))


@dataclass(slots=True)
class Track:
    """Sights of one thing, in order, and some of its crops."""

    sights: list[Sight]
    _crops: list[NDArray[np.uint8]] = field(default_factory=list)
    _every: int = 1

    @property
    def prominence(self) -> float:
        """Sum of side lengths."""
        return sum(sight.side for sight in self.sights)

    def keep(self, picture_HWC: NDArray[np.uint8]) -> None:
        """Keep the crop of the newest sight, or not: those kept are spread evenly."""
        if (len(self.sights) - 1) % self._every:
            return
        self._crops.append(crop(picture_HWC, self.sights[-1].edges))
        if len(self._crops) > _MOST_CROPS:
            self._crops = self._crops[::2]
            self._every *= 2

    def drop_crops(self) -> None:
        """Forget the crops; the track is named by its labels alone."""
        self._crops.clear()

    def spread(self, count: int) -> list[NDArray[np.uint8]]:
        """Up to `count` crops, from the middle of equal parts of the track."""
        count = min(count, len(self._crops))
        return [self._crops[(2 * i + 1) * len(self._crops) // (2 * count)] for i in range(count)]


class Tracker:
    """Joins each sight to the latest track that it overlaps.

    A film of any length takes no more memory than its detected boxes: of tracks that have ended,
    only the most prominent keep their crops.
    """

    def __init__(self, longest_gap_s: float, most_named: int) -> None:
        """Begin without tracks.

        Args:
            longest_gap_s: Time without a sight after which a track has ended.
            most_named: Tracks whose crops are kept when they have ended.
        """
        self._longest_gap_s, self._most_named = longest_gap_s, most_named
        self._ended: list[Track] = []
        self._detected: list[Track] = []
        self._recent: list[Track] = []

    @property
    def tracks(self) -> list[Track]:
        """All tracks that may be of something; those without crops first."""
        return [*self._detected, *self._ended, *self._recent]

    def add(self, sight: Sight, picture_HWC: NDArray[np.uint8]) -> None:
        """Take the next sight; those of one picture come together, those with a label first."""
        self._end_before(sight.time_s - self._longest_gap_s)
        best, overlap = None, _LEAST_OVERLAP
        for track in self._recent:
            last = track.sights[-1]
            shared = iou(sight.edges, last.edges)
            if last.time_s == sight.time_s:
                if shared >= (_LEAST_OVERLAP if sight.label is None else _ONE_THING):
                    moved = max(sight.moved, last.moved)
                    track.sights[-1] = replace(last, moved=moved)
                    return
            elif shared > overlap:
                best, overlap = track, shared
        if best is None:
            best = Track([])
            self._recent.append(best)
        best.sights.append(sight)
        best.keep(picture_HWC)

    def cut(self) -> None:
        """End all tracks: the next picture is of another scene."""
        self._end_before(math.inf)

    def _end_before(self, time_s: float) -> None:
        ended = [track for track in self._recent if track.sights[-1].time_s < time_s]
        if not ended:
            return
        self._recent = [track for track in self._recent if track.sights[-1].time_s >= time_s]
        self._ended += ended
        if len(self._ended) > 2 * self._most_named:
            self._ended.sort(key=lambda track: -track.prominence)
            for track in self._ended[self._most_named :]:
                track.drop_crops()
                if any(sight.label is not None for sight in track.sights):
                    self._detected.append(track)
            del self._ended[self._most_named :]


def crop(picture_HWC: NDArray[np.uint8], edges: Edges) -> NDArray[np.uint8]:
    """A copy of a part of a picture, at least one pixel, at most 280 on each side."""
    height, width = picture_HWC.shape[:2]
    left, top, right, bottom = edges
    rows = slice(int(top * height), max(math.ceil(bottom * height), int(top * height) + 1))
    columns = slice(int(left * width), max(math.ceil(right * width), int(left * width) + 1))
    part = np.ascontiguousarray(picture_HWC[rows, columns])
    if max(part.shape[:2]) <= _LARGEST_CROP_PX:
        return part
    size_px = (min(part.shape[0], _LARGEST_CROP_PX), min(part.shape[1], _LARGEST_CROP_PX))
    return resize_picture(part, size_px)


def iou(a: Edges, b: Edges) -> float:
    """Intersection over union."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return shared / max(areas - shared, 1e-9)
