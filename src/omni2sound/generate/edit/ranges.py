"""Ranges of a sound that are made anew, and the windows in which the model sees them.

In:   spans of seconds, as typed or given.
Out:  `Range`s that do not touch; `Window`s with some context, on the grid of latent frames.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from omni2sound.errors import UserError
from omni2sound.generate.studio.times import TIME, parse_time

CONTEXT_S = Fraction(1)
"""Seconds before and after a range that the model sees and does not change."""
MAX_RANGES = 32
_RANGE = re.compile(rf"\s*({TIME})\s*-\s*({TIME})\s*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """A span of a sound.

    Raises:
        UserError: It ends before it begins.
    """

    start_s: float
    end_s: float

    def __post_init__(self) -> None:
        if not 0 <= self.start_s < self.end_s:
            raise UserError(
                f"expected a span that ends after it begins, got {self.start_s:g}-{self.end_s:g}",
                field="ranges",
            )


def parse_range(text: str) -> Range:
    """Read a range in the notation of the command line: "3.2-5", "1:02-1:04".

    Raises:
        UserError: The text is no range.
    """
    found = _RANGE.fullmatch(text)
    if found is None:
        raise UserError(f'expected START-END, as "3.2-5", got {text[:40]!r}', field="ranges")
    start_s, end_s = (parse_time(found[k], "ranges") for k in (1, 2))
    return Range(start_s=start_s, end_s=end_s)


def joined_ranges(ranges: Sequence[Range], duration_s: float) -> list[Range]:
    """Sort ranges and join those that touch.

    Args:
        ranges: In any order.
        duration_s: Length of the sound; a range may begin at its end.

    Raises:
        UserError: There are too many, or one leaves a gap after the sound's end.
    """
    if len(ranges) > MAX_RANGES:
        raise UserError(f"expected at most {MAX_RANGES}, got {len(ranges)}", field="ranges")
    done: list[Range] = []
    end_s = duration_s
    for span in sorted(ranges, key=lambda r: (r.start_s, r.end_s)):
        if span.start_s > end_s:
            raise UserError(
                f"{span.start_s:g}-{span.end_s:g} begins after the sound's end at {end_s:.3f} s; "
                "begin at the end to go on",
                field="ranges",
            )
        end_s = max(end_s, span.end_s)
        if done and span.start_s <= done[-1].end_s:
            start_s = done[-1].start_s
            done[-1] = Range(start_s=start_s, end_s=max(done[-1].end_s, span.end_s))
        else:
            done.append(span)
    return done


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """What the model sees at once: some ranges with their context, in latent frames."""

    first: int
    """First latent frame."""
    num_frames: int
    ranges: tuple[Range, ...]

    def start_s(self, frames_per_s: Fraction) -> Fraction:
        """Where it begins."""
        return self.first / frames_per_s

    def duration_s(self, frames_per_s: Fraction) -> Fraction:
        """How long it is."""
        return self.num_frames / frames_per_s

    def new_frames(self, frames_per_s: Fraction) -> list[bool]:
        """Whether each latent frame is made anew: those that a range covers, wholly or not."""
        new = [False] * self.num_frames
        for span in self.ranges:
            first = int(Fraction(span.start_s) * frames_per_s) - self.first
            end = -int(-Fraction(span.end_s) * frames_per_s // 1) - self.first
            for frame in range(max(first, 0), min(end, self.num_frames)):
                new[frame] = True
        return new


def windows(ranges: Sequence[Range], *, total_s: float, frames_per_s: Fraction) -> list[Window]:
    """Put each range, with its neighbours if their contexts meet, into a window.

    Args:
        ranges: From `joined_ranges`.
        total_s: Length of the edited sound; no window goes on after it, but for a frame's rest.
        frames_per_s: Rate of latent frames.
    """
    last = -int(-Fraction(total_s) * frames_per_s // 1)
    made: list[Window] = []
    for span in ranges:
        first = max(0, int((Fraction(span.start_s) - CONTEXT_S) * frames_per_s))
        end = min(last, -int(-(Fraction(span.end_s) + CONTEXT_S) * frames_per_s // 1))
        if made and first <= made[-1].first + made[-1].num_frames:
            before = made.pop()
            first, spans = before.first, (*before.ranges, span)
        else:
            spans = (span,)
        made.append(Window(first=first, num_frames=end - first, ranges=spans))
    return made
