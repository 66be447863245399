"""What moves in a picture, beside the camera.

In:   two uint8 RGB pictures, a fraction of a second apart.
Out:  where the second differs from the first once the shift of the whole picture is undone.

The shift is the one that makes most of the two alike, so that a hand-held or slowly turning camera
does not make everything move. Across a cut nothing matches: then nothing is said to move.

Shape suffixes: H W pixels of the pictures, h w of the coarse map.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_COARSE_PX = 96
"""Longer side of the map."""
_LEAST_CHANGE = 14
"""Grey levels, of 255: above noise and compression."""
_LARGE_CHANGE = 3 * _LEAST_CHANGE
_MOST_SHIFT = 10
"""Cells, a tenth of the longer side."""
_LEAST_GAIN = 0.8
_CUT_CHANGE = 0.6
"""Share of the picture that changes at a cut."""
_LEAST_AREA = 0.004
"""Share of the picture; smaller parts are noise."""
_MARGIN = 0.15
"""Added on each side of a box, as a share of its own size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Motion:
    """Changes between two pictures.

    Attributes:
        changed_hw: True where something moves by itself.
        is_cut: Whether the two pictures have nothing in common.
    """

    changed_hw: NDArray[np.bool_]
    is_cut: bool

    def share(self, left: float, top: float, right: float, bottom: float) -> float:
        """Share of a box that moves; edges are shares of the picture."""
        height, width = self.changed_hw.shape
        part = self.changed_hw[
            int(top * height) : max(int(np.ceil(bottom * height)), int(top * height) + 1),
            int(left * width) : max(int(np.ceil(right * width)), int(left * width) + 1),
        ]
        return float(part.mean()) if part.size else 0.0

    def boxes(self, count: int) -> list[tuple[float, float, float, float]]:
        """The largest moving parts as (left, top, right, bottom), with a margin."""
        height, width = self.changed_hw.shape
        found = []
        for top, bottom, left, right in parts_of(_grown(_grown(self.changed_hw))):
            area = (bottom - top) * (right - left)
            if area < _LEAST_AREA * height * width:
                continue
            more_y, more_x = _MARGIN * (bottom - top), _MARGIN * (right - left)
            box = (
                max((left - more_x) / width, 0.0),
                max((top - more_y) / height, 0.0),
                min((right + more_x) / width, 1.0),
                min((bottom + more_y) / height, 1.0),
            )
            found.append((area, box))
        found.sort(key=lambda item: -item[0])
        return [box for _, box in found[:count]]


def _grown(map_hw: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A map with the four neighbours of each cell."""
    grown = map_hw.copy()
    grown[1:] |= map_hw[:-1]
    grown[:-1] |= map_hw[1:]
    grown[:, 1:] |= map_hw[:, :-1]
    grown[:, :-1] |= map_hw[:, 1:]
    return grown


def parts_of(map_hw: NDArray[np.bool_]) -> list[tuple[int, int, int, int]]:
    """(top, bottom, left, right) of each connected part of a map, by its first cell.

    As `scipy.ndimage.find_objects` of `label` gives them; its import takes longer than recognition.
    """
    none = map_hw.size
    label_hw = np.where(map_hw, np.arange(none).reshape(map_hw.shape), none)
    before = None
    while before is None or not np.array_equal(before, label_hw):  # the least number spreads
        before = label_hw.copy()
        for axis in (0, 1):
            label, inside = np.moveaxis(label_hw, axis, 0), np.moveaxis(map_hw, axis, 0)
            joined, least = inside[1:] & inside[:-1], np.minimum(label[1:], label[:-1])
            np.copyto(label[1:], least, where=joined)
            np.minimum(label[:-1], least, out=label[:-1], where=joined)
        label_hw = np.append(label_hw, none)[label_hw]  # a number is a cell of the same part
    rows, columns = np.nonzero(map_hw)
    _, part, sizes = np.unique(label_hw[map_hw], return_inverse=True, return_counts=True)
    order, firsts = np.argsort(part, kind="stable"), np.cumsum(sizes) - sizes
    if not len(firsts):
        return []
    edges = [
        bound.reduceat(places[order], firsts) + end
        for places in (rows, columns)
        for bound, end in ((np.minimum, 0), (np.maximum, 1))
    ]
    return [(int(a), int(b), int(c), int(d)) for a, b, c, d in zip(*edges, strict=True)]


def compare(first_HWC: NDArray[np.uint8], second_HWC: NDArray[np.uint8]) -> Motion:
    """Compare two pictures of one size."""
    first, second = _coarse(first_HWC), _coarse(second_HWC)
    dy, dx = _shift(first, second)
    moved = np.roll(first, (dy, dx), axis=(0, 1))
    changed = np.abs(second - moved) > _LEAST_CHANGE
    changed[_wrapped(changed.shape, dy, dx)] = False
    is_cut = float(changed.mean()) > _CUT_CHANGE
    return Motion(changed_hw=np.zeros_like(changed) if is_cut else changed, is_cut=is_cut)


def _coarse(picture_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey picture, averaged over squares."""
    step = max(1, round(max(picture_HWC.shape[:2]) / _COARSE_PX))
    step = min(step, *picture_HWC.shape[:2])  # a line is a picture, too
    height, width = (n // step * step for n in picture_HWC.shape[:2])
    # Three times as quick as `mean`.
    grey = np.einsum("hwc->hw", picture_HWC[:height, :width], dtype=np.float32) / 3
    coarse: NDArray[np.float32] = grey.reshape(height // step, step, width // step, step).mean(
        axis=(1, 3)
    )
    return coarse


def _shift(first_hw: NDArray[np.float32], second_hw: NDArray[np.float32]) -> tuple[int, int]:
    """Whole-cell shift (down, right) from the first picture to the second.

    All of them are tried on maps of half the size, then the neighbours of the best one. Phase
    correlation is quicker, but a sharp thing that moves before a blurred background has the
    highest peak there.
    """
    half = _MOST_SHIFT // 2
    around = [
        (2 * dy + y, 2 * dx + x)
        for dy, dx in [_best_shift(_halved(first_hw), _halved(second_hw), _square(half))[0]]
        for y, x in _square(1)
        if max(abs(2 * dy + y), abs(2 * dx + x)) <= _MOST_SHIFT
    ]
    best, difference = _best_shift(first_hw, second_hw, around)
    # A shift that hardly makes the pictures more alike is no camera movement.
    still = _difference(first_hw, second_hw, 0, 0)
    return best if difference < _LEAST_GAIN * still else (0, 0)


def _best_shift(
    first_hw: NDArray[np.float32],
    second_hw: NDArray[np.float32],
    shifts: list[tuple[int, int]],
) -> tuple[tuple[int, int], float]:
    """The shift with the smallest difference, and that; none if the pictures are too small."""
    height, width = first_hw.shape
    tried = {
        (dy, dx): _difference(first_hw, second_hw, dy, dx)
        for dy, dx in shifts
        if (dy == 0 or abs(dy) < height // 2) and (dx == 0 or abs(dx) < width // 2)
    }
    best = min(tried, key=lambda shift: tried[shift], default=(0, 0))
    return best, tried.get(best, np.inf)


def _square(reach: int) -> list[tuple[int, int]]:
    steps = range(-reach, reach + 1)
    return [(dy, dx) for dy in steps for dx in steps]


def _halved(map_hw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of two by two cells; of one where there is only one."""
    steps = [min(2, n) for n in map_hw.shape]
    height, width = (n // step * step for n, step in zip(map_hw.shape, steps, strict=True))
    cells = map_hw[:height, :width].reshape(height // steps[0], steps[0], -1, steps[1])
    halved: NDArray[np.float32] = cells.mean(axis=(1, 3))
    return halved


def _difference(
    first_hw: NDArray[np.float32], second_hw: NDArray[np.float32], dy: int, dx: int
) -> float:
    """Mean difference where both pictures show something, large ones cut."""
    height, width = first_hw.shape
    first = first_hw[max(-dy, 0) : height - max(dy, 0), max(-dx, 0) : width - max(dx, 0)]
    second = second_hw[max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)]
    changes = np.minimum(np.abs(second - first), _LARGE_CHANGE)
    return float(changes.mean()) if changes.size else np.inf


def _wrapped(shape: tuple[int, ...], dy: int, dx: int) -> NDArray[np.bool_]:
    """True where a shifted picture holds what came in from the opposite edge."""
    mask = np.zeros(shape, bool)
    mask[slice(0, dy) if dy >= 0 else slice(dy, None)] = True
    mask[:, slice(0, dx) if dx >= 0 else slice(dx, None)] = True
    return mask
