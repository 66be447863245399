"""Cuts of a film: where one picture has nothing to do with the one before.

In:   a video and the seconds of it that count.
Out:  the times of its cuts.

A cut changes far more of the picture than anything within a quarter of a second around it, what was
there is not back a moment later, as after a flash, and no shift makes the two pictures alike, as
where a camera jerks. Dissolves are not found. Pictures are small and 25 a second, as the sync
encoder's; the time of a cut is that of the film's own picture.

Shape suffixes: H W pixels, C colours, h w cells of the coarse picture.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omni2sound.media.info import probe
from omni2sound.media.video import iter_appearing

_FPS = 25
_SIDE_PX = 96
_CELL_PX = 6
_LEAST_CHANGE = 8.0
"""Mean change of a cell, grey levels of 255."""
_NO_CHANGE = 0.5
_AROUND = 7
"""Pictures on either side to compare a change with."""
_LEAST_RATIO = 2.0
"""Change at a cut over the median of the changes around it."""
_LEAST_LIKE = 0.78
"""Likeness from which two pictures are of one scene. Of 18 candidates in real videos, the
cuts have at most .72, flicker and a bird that jumps at the lens .83 to .97 (docs/experiments)."""
_GREY_PX = 2
_AFTER = 3
"""Pictures after which a flash is over."""


def find_cuts(video: Path, duration_s: float | Fraction) -> tuple[float, ...]:
    """Find the cuts of a video, seconds from its start, in order.

    Args:
        video: A video, or a still picture, which has none.
        duration_s: Seconds to look at, from the start.

    Raises:
        MediaError: The video can't be read.
    """
    shown = probe(video).video
    if shown is not None and shown.is_still:
        return ()
    size_px = (_SIDE_PX, _SIDE_PX)
    steps: deque[_Step] = deque(maxlen=_AROUND + 1)
    pictures = iter_appearing(video, fps=_FPS, size_px=size_px, duration_s=duration_s)
    cuts = []
    for number in _cuts(_followed(pictures, steps)):
        (step,) = [step for step in steps if step.number == number]
        cuts.append(float(_begin_s(step)))
    return tuple(cuts)


def cuts_of(frames: Iterable[NDArray[np.uint8]], fps: float) -> tuple[float, ...]:
    """Find the cuts in pictures (H, W, 3) of a constant rate; the first is at 0.

    Memory does not grow with their number.
    """
    return tuple(number / fps for number in _cuts(frames))


_Timed = list[tuple[Fraction, NDArray[np.uint8]]]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Step:
    """What appeared up to one of the pictures that are compared."""

    number: int
    before_HWC: NDArray[np.uint8] | None
    appeared: _Timed


def _followed(steps: Iterable[_Timed], recent: deque[_Step]) -> Iterator[NDArray[np.uint8]]:
    """Yield the pictures that are compared, and remember how the recent ones came about."""
    last_HWC: NDArray[np.uint8] | None = None
    for number, appeared in enumerate(steps):
        recent.append(_Step(number=number, before_HWC=last_HWC, appeared=appeared))
        if appeared:
            last_HWC = appeared[-1][1]
        assert last_HWC is not None
        yield last_HWC


def _begin_s(step: _Step) -> Fraction:
    """Return the time of the first picture that is more like the last one than the one before."""
    before_HWC, after_HWC = step.before_HWC, step.appeared[-1][1]
    assert before_HWC is not None
    return next(
        time
        for time, picture_HWC in step.appeared
        if _difference(picture_HWC, after_HWC) < _difference(picture_HWC, before_HWC)
    )


def _difference(first_HWC: NDArray[np.uint8], second_HWC: NDArray[np.uint8]) -> float:
    return float(np.abs(first_HWC.astype(np.int16) - second_HWC).mean())


def _cuts(frames: Iterable[NDArray[np.uint8]]) -> Iterator[int]:
    """Yield the numbers of the pictures with which scenes begin, each `_AROUND` pictures later."""
    held: deque[_Picture] = deque(maxlen=2 * _AROUND + 2)
    for i, picture in enumerate(_with_end(frames)):
        held.append(_Picture.of(picture, held[-1] if held else None))
        at = len(held) - 1 - _AROUND
        if at > 0 and _begins(list(held), at):
            yield i - _AROUND


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Picture:
    """A picture, and how it differs from the one before."""

    picture_HWC: NDArray[np.uint8]
    coarse_hwC: NDArray[np.float32]
    change: float

    @classmethod
    def of(cls, picture_HWC: NDArray[np.uint8], before: _Picture | None) -> _Picture:
        height, width = (n // _CELL_PX * _CELL_PX for n in picture_HWC.shape[:2])
        cells = picture_HWC[:height, :width].reshape(
            height // _CELL_PX, _CELL_PX, width // _CELL_PX, _CELL_PX, -1
        )
        coarse = cells.mean(axis=(1, 3), dtype=np.float32)
        change = 0.0 if before is None else float(np.abs(coarse - before.coarse_hwC).mean())
        return cls(picture_HWC=picture_HWC, coarse_hwC=coarse, change=change)


def _with_end(frames: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    last = None
    for last in frames:
        yield last
    if last is not None:
        yield from [last] * _AROUND


def _begins(held: Sequence[_Picture], at: int) -> bool:
    """Whether a scene begins at one of the pictures."""
    change = held[at].change
    around = [p.change for p in (*held[1:at], *held[at + 1 :])]
    # Of a slow film every picture is seen twice, without a change.
    moved = [c for c in around if c > _NO_CHANGE]
    usual = float(np.median(moved)) if moved else 0.0
    if change < max(_LEAST_CHANGE, _LEAST_RATIO * usual):
        return False
    earlier = max(0, at - 1 - _AFTER)
    return all(
        likeness(held[before].picture_HWC, held[after].picture_HWC) < _LEAST_LIKE
        for before, after in ((at - 1, at), (at - 1, at + _AFTER), (earlier, at))
    )


def likeness(first_HWC: NDArray[np.uint8], second_HWC: NDArray[np.uint8]) -> float:
    """Largest correlation of two pictures of one size over shifts of a sixth of it, -1 to 1.

    Brightness and contrast don't count: an old film flickers. Without detail it is 0.
    """
    first, second = (_grey(picture) for picture in (first_HWC, second_HWC))
    height, width = first.shape
    best = -1.0
    for dy in range(-(height // 6), height // 6 + 1):
        for dx in range(-(width // 6), width // 6 + 1):
            a = first[max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)]
            b = second[max(0, -dy) : height + min(0, -dy), max(0, -dx) : width + min(0, -dx)]
            a, b = a - a.mean(), b - b.mean()
            best = max(best, float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum() + 1)))
    return best


def _grey(picture_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    height, width = (n // _GREY_PX * _GREY_PX for n in picture_HWC.shape[:2])
    cells = picture_HWC[:height, :width].reshape(
        height // _GREY_PX, _GREY_PX, width // _GREY_PX, _GREY_PX, -1
    )
    grey: NDArray[np.float32] = cells.mean(axis=(1, 3, 4), dtype=np.float32)
    return grey
