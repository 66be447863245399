"""Boxes of things in a picture, and which of a detector's boxes are kept.

In:   scores and corners of all boxes, most of them empty or of one thing.
Out:  `Box`es, best first.

Shape suffixes: A boxes, K labels (0 is background).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_OVERLAP = 0.6
"""Boxes of one label that overlap more than this (intersection over union) are one."""
_LEAST_SCORE = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """A thing in one picture.

    Attributes:
        label: COCO identifier, 1 to 90.
        score: Probability, 0 to 1.
        left: Edge as a share of the picture's width; `right` likewise.
        top: Edge as a share of the picture's height; `bottom` likewise.
    """

    label: int
    score: float
    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        """Share of the picture's area."""
        return max(self.right - self.left, 0.0) * max(self.bottom - self.top, 0.0)


def keep_best(scores_AK: NDArray[np.float32], corners_A4: NDArray[np.float32]) -> list[Box]:
    """Apply non-maximum suppression within each label."""
    kept: list[Box] = []
    for label in range(1, scores_AK.shape[1]):
        scores_A = scores_AK[:, label]
        rest = np.flatnonzero(scores_A >= _LEAST_SCORE)
        rest = rest[np.argsort(-scores_A[rest], kind="stable")]
        while len(rest):
            best = rest[0]
            top, left, bottom, right = (float(v) for v in corners_A4[best])
            kept.append(
                Box(
                    label=label,
                    score=float(scores_A[best]),
                    left=left,
                    top=top,
                    right=right,
                    bottom=bottom,
                )
            )
            rest = rest[1:][_overlaps(corners_A4[best], corners_A4[rest[1:]]) <= _OVERLAP]
    return sorted(kept, key=lambda box: -box.score)


def _overlaps(
    corners_4: NDArray[np.float32], others_A4: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Intersection over union of one box with others."""
    least, most = (
        np.maximum(corners_4[:2], others_A4[:, :2]),
        np.minimum(corners_4[2:], others_A4[:, 2:]),
    )
    shared = np.clip(most - least, 0, None).prod(axis=1)
    area = (corners_4[2:] - corners_4[:2]).prod()
    areas = (others_A4[:, 2:] - others_A4[:, :2]).prod(axis=1)
    overlaps: NDArray[np.float32] = shared / np.maximum(area + areas - shared, 1e-9)
    return overlaps
