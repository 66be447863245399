"""One sample rate for a track whose rate changes, as parts joined byte by byte make it do.

In:   decoded frames in stored order.
Out:  frames of the first one's rate, and how many were damage and dropped.

A decoder may also believe a flipped bit in a frame header; a new rate counts only once several
frames in a row have it.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
from av.audio.frame import AudioFrame

from omni2sound.media.layouts import safe

_MIN_RUN = 3
"""Frames in a row from which on another rate is that of a part, and no damage."""


_Kind = tuple[int, str, str]


def _kind(frame: AudioFrame) -> _Kind:
    """What has to stay the same within a resampler."""
    return frame.sample_rate, safe(frame.layout).name, frame.format.name


class OneRate:
    """Resamples frames whose rate is not the first one's, and drops stray ones."""

    def __init__(self, time_base: Fraction) -> None:
        self.time_base = time_base
        """Seconds of a tick of the track; 0 if it has no clock."""
        self.num_dropped = 0
        self._rate = 0
        self._held: list[AudioFrame] = []
        """Frames of one other kind, too few yet to be believed."""
        self._resampler: av.AudioResampler | None = None
        self._resampled: _Kind | None = None

    def add(self, frame: AudioFrame) -> Iterator[AudioFrame]:
        """Take the next frame; yield what is ready."""
        self._rate = self._rate or frame.sample_rate
        if frame.sample_rate == self._rate:
            yield from self.end()
            yield frame
            return
        kind = _kind(frame)
        if self._resampler is not None and kind == self._resampled:
            self._drop_held()
            yield from self._resample(frame)
            return
        if self._held and _kind(self._held[0]) != kind:
            self._drop_held()
        self._held.append(frame)
        if len(self._held) < _MIN_RUN:
            return
        held, self._held = self._held, []
        yield from self.end()
        self._resampler = av.AudioResampler("flt", safe(frame.layout), self._rate)
        self._resampled = kind
        for one in held:
            yield from self._resample(one)

    def end(self) -> Iterator[AudioFrame]:
        """Yield what a resampler still holds; frames that wait are dropped."""
        self._drop_held()
        if self._resampler is not None:
            yield from self._resample(None)
            self._resampler = None

    def _drop_held(self) -> None:
        self.num_dropped += len(self._held)
        self._held = []

    def _resample(self, frame: AudioFrame | None) -> Iterator[AudioFrame]:
        assert self._resampler is not None
        if frame is not None and self.time_base:
            frame.time_base = self.time_base  # flushed frames do not know theirs
        try:
            parts = self._resampler.resample(frame)
        except (av.FFmpegError, ValueError):  # no rate or layout that can be
            self.num_dropped += 1
            return
        for part in parts:
            if part.pts is not None and part.time_base and self.time_base:
                part.pts = round(part.pts * part.time_base / self.time_base)
                part.time_base = self.time_base
            part.duration = 0
            yield part
