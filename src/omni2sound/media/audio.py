"""Sound from any file as float samples, and samples into wav, flac, mp3, opus, ogg or m4a.

In:   a path of a sound or video file; or an `Audio`.
Out:  an `Audio`; or a file that is written whole or not at all.

Samples are placed by their timestamps (`media.timing`), so encoder delay is gone, a track that
starts late begins with silence, holes are silent, and a clock that runs fast is corrected. Second 0
is the file's, for sound as for pictures. Parts of another rate are resampled to the first one's.
wav and flac keep every sample; the lossy formats keep the length to within one codec frame.

Shape suffixes: C channels, N samples.
"""

from __future__ import annotations

import copy
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from numpy.typing import NDArray

from omni2sound.errors import MediaError, UserError
from omni2sound.media.encode import (
    AAC,
    FLAC,
    MP3,
    OPUS,
    PCM_16,
    AudioCodec,
    add_audio_stream,
    encode_audio,
    fit_sound,
    sound_codec,
)
from omni2sound.media.files import (
    AUDIO_SUFFIXES,
    check_output,
    create_output,
    open_input,
    shown_name,
)
from omni2sound.media.info import AudioStreamInfo, MediaInfo, probe
from omni2sound.media.layouts import ASSUMED, safe, stated_layout
from omni2sound.media.limits.budgets import MAX_AUDIO_VALUES, MAX_DURATION_S
from omni2sound.media.loudness.level import Leveling, level
from omni2sound.media.samples import MAX_SAMPLE_RATE_HZ, Audio, Sound, resample, round_half_up
from omni2sound.media.streams import is_sound
from omni2sound.media.timing.priming import priming_left
from omni2sound.media.timing.sound_clock import Grid, Piece, place_blocks
from omni2sound.media.timing.sound_rate import OneRate

logger = logging.getLogger(__name__)

_SEEK_BEYOND_S = 10
_SEEK_MARGIN_S = 2
_GRID_BLOCKS = 4
_READ_ON_S = Fraction(1, 2)
"""Read beyond the end of what is asked for: a hole shows only by what follows it."""


def read_audio(
    path: str | os.PathLike[str],
    *,
    sample_rate_hz: int | None = None,
    mono: bool = False,
    start_s: float | Fraction = 0.0,
    duration_s: float | Fraction | None = None,
    track: int | None = None,
) -> Audio:
    """Read one sound track of a file.

    Args:
        path: A sound or video file.
        sample_rate_hz: Rate to resample to; None keeps the file's.
        mono: Average all channels into one.
        start_s: Where to begin, seconds after the file's second 0: the first sample or
            picture, whichever comes first.
        duration_s: The most to read; None means to the end. A track that ends earlier
            gives fewer samples, or none.
        track: Stream index of the track. Default: the first sound track.

    Raises:
        MediaError: The file has no sound that can be decoded.
        UserError: A number is out of range, `track` is no sound track, or the result would
            not fit in `MAX_AUDIO_VALUES`.
    """
    path = Path(path)
    info = probe(path)
    if info.audio is None:
        raise MediaError(f"{shown_name(path)}: has no sound; give a file with a sound track")
    if not 0 <= start_s <= MAX_DURATION_S:
        raise UserError(f"expected 0 to {MAX_DURATION_S} seconds, got {start_s}", field="start_s")
    if duration_s is not None and not 0 <= duration_s <= MAX_DURATION_S:
        seconds = f"expected 0 to {MAX_DURATION_S} seconds, got {duration_s}"
        raise UserError(seconds, field="duration_s")
    with open_input(path) as container:
        tracks = [stream.index for stream in container.streams.audio if is_sound(stream)]
        if track is not None and track not in tracks:
            shown = ", ".join(map(str, tracks))
            raise UserError(f"expected a sound track ({shown}), got {track}", field="track")
        sound = info.audio if track is None else replace(info.audio, index=track)
        audio = TrackReader(container, info, sound, mono=mono).read(
            Fraction(start_s), None if duration_s is None else Fraction(duration_s)
        )
    return audio if sample_rate_hz is None else resample(audio, sample_rate_hz)


class _Blocks:
    """Decoded blocks in stored order; of those before the part that is read, no samples."""

    def __init__(self) -> None:
        self.stamps: list[int | None] = []
        self.lengths: list[int] = []
        self.num_before = 0
        self.samples: list[NDArray[np.float32]] = []
        """Of the others."""
        self.peak = 0.0
        """Largest sample of a track of which no samples are kept."""
        self.goes_on = False
        """Whether the track has sound behind the part that is read."""

    def add(self, stamp: int | None, block_CN: NDArray[np.float32], *, is_before: bool) -> None:
        self.stamps.append(stamp)
        self.lengths.append(block_CN.shape[1])
        if is_before and not self.samples:
            self.num_before += 1
        else:
            self.samples.append(block_CN)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Plan:
    """Where the blocks of a track stand; its samples are read later."""

    pieces: Sequence[Piece]
    lengths: Sequence[int]
    """Samples of each block."""
    num_samples: int
    num_channels: int
    sample_rate_hz: int
    layout: str | None
    peak: float
    """Largest sample."""


class TrackReader:
    """Decodes one track and puts each block where its timestamp says."""

    def __init__(
        self, container: InputContainer, info: MediaInfo, track: AudioStreamInfo, *, mono: bool
    ) -> None:
        self.name = shown_name(info.path)
        self.container = container
        stream = container.streams[track.index]
        assert isinstance(stream, AudioStream)
        self.stream = stream
        self.time_base = Fraction(stream.time_base or 0)  # flushed frames do not know theirs
        self.timeline = info.timeline
        self.span = info.sounds.get(track.index)
        self.priming = priming_left(container, stream)
        self.mono = mono
        self.rate = 0
        self.channels = 0
        self.layout: str | None = None
        self.first_layout = ""
        self.num_padding = 0

    def read(self, start_s: Fraction, duration_s: Fraction | None) -> Audio:
        """Read a part of the track; it may end earlier."""
        sought = start_s > _SEEK_BEYOND_S and self.timeline.can_seek(self.stream.index)
        grid = copy.copy(self)._grid() if sought else None
        if sought:
            sought = self._seek(start_s)
        blocks, first, stop = self._take(start_s, duration_s, sought=sought)
        if self.rate == 0 and sought:  # it ends earlier; its beginning tells rate and channels
            self.container.seek(0)
            next(self.blocks(), None)
        self._check_decoded()
        if sought and grid is not None and blocks.stamps:
            blocks.stamps[0] = grid.place(blocks.stamps[0])
        parts = self._placed(blocks)
        end = max((at + part_CN.shape[1] for at, part_CN in parts), default=0) - first
        if stop is None:
            end = max(0, end - self.num_padding)
        else:
            end = stop - first if blocks.goes_on else min(max(0, end), stop - first)
        channels = 1 if self.mono else self.channels
        self._check_size(end * channels)
        samples_CN = np.zeros((channels, end), dtype=np.float32)
        for at, part_CN in parts:
            skip = max(0, first - at)
            begin = at + skip - first
            part_CN = part_CN[:, skip : skip + max(0, end - begin)]
            samples_CN[:, begin : begin + part_CN.shape[1]] = part_CN
        layout = None if self.mono else self._layout()
        return Audio(samples_CN=samples_CN, sample_rate_hz=self.rate, layout=layout)

    def plan(self, duration_s: Fraction | None) -> Plan:
        """Find out where the blocks of the track stand, up to a time, and keep none of them."""
        blocks, _, stop = self._take(Fraction(0), duration_s, sought=False, keep=False)
        self._check_decoded()
        pieces = self._pieces(blocks)
        end = max((piece.span(blocks.lengths)[1] for piece in pieces), default=0)
        if stop is None:
            end = max(0, end - self.num_padding)
        else:
            end = stop if blocks.goes_on else min(max(0, end), stop)
        return Plan(
            pieces=pieces,
            lengths=blocks.lengths,
            num_samples=end,
            num_channels=self.channels,
            sample_rate_hz=self.rate,
            layout=self._layout(),
            peak=blocks.peak,
        )

    def _take(
        self, start_s: Fraction, duration_s: Fraction | None, *, sought: bool, keep: bool = True
    ) -> tuple[_Blocks, int, int | None]:
        """Decode; return the blocks, and the first and the last sample that are asked for."""
        blocks = _Blocks()
        first = num_values = read_on = 0
        stop: int | None = None
        due = 0  # without any timestamps, blocks follow each other from the beginning
        for stamp, block_CN in self.blocks(sought=sought):
            if read_on == 0:  # only now the rate is known: headers may be wrong about it
                read_on = round_half_up(_READ_ON_S * self.rate)
                first = round_half_up(start_s * self.rate)
                if duration_s is not None:
                    stop = round_half_up((start_s + duration_s) * self.rate)
            if keep and len(blocks.stamps) < 2:  # the first may be cut
                self._check_span(first, stop, block_CN.shape[1])
            at = due if stamp is None else stamp
            due = (due if blocks.stamps or stamp is None else stamp) + block_CN.shape[1]
            if stop is not None and min(at, due) >= stop + read_on:
                blocks.goes_on = True
                break
            is_before = at + block_CN.shape[1] < first - _SEEK_MARGIN_S * self.rate
            blocks.add(stamp if blocks.stamps else at, block_CN, is_before=is_before or not keep)
            if not keep and (stop is None or at < stop):
                blocks.peak = max(blocks.peak, float(np.abs(block_CN).max(initial=0.0)))
            num_values += block_CN.size if blocks.samples else 0
            self._check_size(num_values)
        return blocks, first, stop

    def _check_decoded(self) -> None:
        if self.rate == 0:
            raise MediaError(f"{self.name}: no sound can be decoded; re-encode it")

    def _layout(self) -> str | None:
        layout = self.layout or ASSUMED.get(self.channels)
        if self.layout is None and self.channels > 2:
            logger.warning(
                "%s: nothing says what its %d channels are; they are taken as %s",
                self.name,
                self.channels,
                layout or "equal",
            )
        return layout

    def _placed(self, blocks: _Blocks) -> list[tuple[int, NDArray[np.float32]]]:
        """(position in samples after second 0, samples) in time order; the later one is heard."""
        parts = []
        for piece in self._pieces(blocks):
            kept = max(piece.first, blocks.num_before)
            skipped = sum(blocks.lengths[piece.first : kept])
            if kept >= piece.stop:
                continue
            samples = blocks.samples[kept - blocks.num_before : piece.stop - blocks.num_before]
            if piece.warp is not None:
                parts.append(piece.warp.apply(np.concatenate(samples, axis=1), skipped=skipped))
                continue
            at = piece.at + skipped
            for block_CN in samples:
                parts.append((at, block_CN))
                at += block_CN.shape[1]
        return parts

    def _pieces(self, blocks: _Blocks) -> list[Piece]:
        tick_s = float(self.time_base)
        pieces = place_blocks(blocks.stamps, blocks.lengths, rate_hz=self.rate, tick_s=tick_s)
        if any(piece.at > MAX_DURATION_S * self.rate for piece in pieces):
            raise MediaError(f"{self.name}: timestamps beyond {MAX_DURATION_S} s; re-encode it")
        return pieces

    def _grid(self) -> Grid | None:
        """Find where all blocks begin, from the first ones; None if timestamps are needed for it.

        Timestamps that are rounded to less than a sample need no help.
        """
        if self.span is None:
            return None
        found = list(islice(self.blocks(sought=False), _GRID_BLOCKS))
        tick = float(self.time_base) * self.rate
        if len(found) < _GRID_BLOCKS or tick <= 1 or found[0][0] is None:
            return None
        first, *lengths = (block_CN.shape[1] for _, block_CN in found)
        span_s = self.span.end_s - self.span.start_s
        grid = Grid(origin=found[0][0] + first, length=lengths[0], tick=tick)
        holds = len(set(lengths)) == 1 and grid.holds(self.span.num_packets, span_s * self.rate)
        return grid if holds else None

    def _check_span(self, first: int, stop: int | None, n: int) -> None:
        """Refuse what is far too long by times and by packets of n samples: a clock may turn."""
        if self.span is not None:
            end = round_half_up(self.span.end_s * self.rate)
            num = min((end if stop is None else min(end, stop)) - first, self.span.num_packets * n)
            self._check_size(num * (1 if self.mono else self.channels) * 2 // 3)

    def _check_size(self, num_values: int) -> None:
        if num_values > MAX_AUDIO_VALUES:
            raise UserError(
                f"{self.name}: more than {MAX_AUDIO_VALUES} samples; "
                "read it in parts with `start_s` and `duration_s`"
            )

    def _seek(self, start_s: Fraction) -> bool:
        """Go to a little before a time; False if the file has to be read from its beginning."""
        target_s = self.timeline.start_s + start_s - _SEEK_MARGIN_S
        try:
            self.container.seek(
                math.floor(target_s / (self.stream.time_base or 1)), stream=self.stream
            )
        except (av.FFmpegError, OverflowError):
            self.container.seek(0)
            return False
        return True

    def blocks(self, *, sought: bool = False) -> Iterator[tuple[int | None, NDArray[np.float32]]]:
        """(timestamp in samples after second 0, block) in stored order."""
        priming = 0 if sought else self.priming
        for frame in self._frames(sought=sought):
            layout_name = safe(frame.layout).name
            pts, self.num_padding = frame.pts, _padding(frame, self.time_base)
            if self.rate and not self.mono and layout_name != self.first_layout:
                frame = self._remixed(frame)
            block_CN = _to_float(frame)
            layout, order = stated_layout(safe(frame.layout))
            if not self.mono and any(c != k for k, c in enumerate(order)):
                block_CN = block_CN[list(order)]
            if self.rate == 0:
                self.rate, self.channels = frame.sample_rate, block_CN.shape[0]
                self.layout, self.first_layout = layout, layout_name
                if not 0 < self.rate <= MAX_SAMPLE_RATE_HZ:
                    raise MediaError(f"{self.name}: sample rate {self.rate} Hz; re-encode it")
            if frame.samples == 0:
                continue
            if self.mono:
                block_CN = block_CN.mean(axis=0, keepdims=True, dtype=np.float32)
            elif block_CN.shape[0] != self.channels:
                mean_1N = block_CN.mean(axis=0, keepdims=True, dtype=np.float32)
                block_CN = np.repeat(mean_1N, self.channels, axis=0)
            stamp = None
            if pts is not None and self.time_base:
                time_s = pts * self.time_base - self.timeline.start_s
                stamp = round_half_up(time_s * self.rate)
            if priming:
                dropped = min(priming, block_CN.shape[1])
                block_CN = block_CN[:, dropped:]
                stamp = stamp if stamp is None else stamp + dropped
                priming -= dropped
            yield stamp, block_CN

    def _remixed(self, frame: AudioFrame) -> AudioFrame:
        """A frame in the layout of the first one: broadcasts change from stereo to 5.1 and back."""
        if self.layout is None or stated_layout(safe(frame.layout))[0] is None:
            return frame
        try:
            parts = av.AudioResampler("flt", self.layout, frame.sample_rate).resample(frame)
        except (av.FFmpegError, ValueError):
            return frame
        return parts[0] if len(parts) == 1 else frame

    def _frames(self, *, sought: bool) -> Iterator[AudioFrame]:
        num_damaged = 0
        packets = self.timeline.read_packets(self.container, self.stream, sought=sought)
        one_rate = OneRate(self.time_base)
        for packet in chain(packets, [None]):
            try:
                frames = self.stream.decode(packet)
            except (av.FFmpegError, ValueError):
                num_damaged += 1
                continue
            for frame in frames:
                yield from one_rate.add(frame)
        yield from one_rate.end()
        num_damaged += one_rate.num_dropped
        if num_damaged:
            logger.warning("%s: %d damaged sound packets were skipped", self.name, num_damaged)


def _padding(frame: AudioFrame, time_base: Fraction) -> int:
    """Decoded samples beyond the frame's stated duration; at the end of a track, padding.

    Matroska's rounding to 1 ms also makes frames look short; that is no padding.
    """
    if not frame.duration or not time_base:
        return 0
    missing = frame.samples - round_half_up(frame.duration * time_base * frame.sample_rate)
    return missing if missing > frame.sample_rate // 1000 else 0


def _to_float(frame: AudioFrame) -> NDArray[np.float32]:
    """Decoded samples of any format as (C, N) float32."""
    layout = safe(frame.layout)
    num_channels = layout.nb_channels
    if frame.format.is_planar and num_channels >= 8:
        # PyAV 18 looks for a null pointer behind the last plane; with 8 or more there is none.
        packed = av.AudioResampler("flt", layout, frame.sample_rate).resample(frame)
        return np.concatenate([_to_float(part) for part in packed], axis=1)
    raw: NDArray[Any] = frame.to_ndarray()
    if not frame.format.is_planar:
        raw = raw.reshape(-1, num_channels).T
    if raw.dtype == np.uint8:
        return ((raw.astype(np.float32) - 128) / 128).astype(np.float32)
    if np.issubdtype(raw.dtype, np.integer):
        return (raw / -float(np.iinfo(raw.dtype).min)).astype(np.float32)
    # Damaged float tracks hold NaN; one would spread over everything that follows.
    floats: NDArray[np.float32] = raw.astype(np.float32)
    return np.nan_to_num(floats, nan=0.0, posinf=1.0, neginf=-1.0)


_FORMATS: Mapping[str, tuple[str, AudioCodec]] = {
    ".wav": ("wav", PCM_16),
    ".flac": ("flac", FLAC),
    ".mp3": ("mp3", MP3),
    ".opus": ("opus", OPUS),
    ".ogg": ("ogg", OPUS),
    ".m4a": ("ipod", AAC),
}


def write_audio(
    path: str | os.PathLike[str],
    audio: Sound,
    *,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
    loudness_lufs: float | None = None,
    bits: int | None = None,
) -> Leveling:
    """Write sound to a file; the suffix chooses the format.

    Peaks over full scale are lowered where they are (`media.loudness`); lossy formats get 1 dB
    of room. Formats that do not know the sample rate get the next higher one that they do
    (opus and ogg: always 48 kHz).

    Args:
        path: Ends in .wav, .flac, .mp3, .opus, .ogg (Opus too) or .m4a.
        audio: What to write.
        metadata: Tags; every format keeps ``title``, ``artist`` and ``comment``.
        overwrite: Replace an existing file.
        loudness_lufs: Loudness to bring the sound to; None leaves it at its own.
        bits: Bits a sample of .wav and .flac: 16, 24, or in .wav 32 for floats. Default: 16.

    Returns:
        What was done to the level.

    Raises:
        UserError: The path is refused (`check_output`), the format cannot hold the
            channels, a sample is not finite, or the file cannot be written.
    """
    path = Path(path)
    check_output(path, overwrite=overwrite)
    if path.suffix.lower() not in _FORMATS:
        raise UserError(f"{shown_name(path)}: not a sound file; use {' '.join(AUDIO_SUFFIXES)}")
    container_format, codec = _FORMATS[path.suffix.lower()]
    codec = sound_codec(path, codec, bits)
    sound, leveling = level(
        fit_sound(audio, codec, name=shown_name(path)),
        target_lufs=loudness_lufs,
        ceiling=codec.ceiling,
        between_samples=codec.lossy,
        name=shown_name(path),
    )
    with create_output(
        path,
        container_format=container_format,
        sample_rate_hz=audio.sample_rate_hz,
        overwrite=overwrite,
    ) as container:
        container.metadata.update(metadata or {})
        stream = add_audio_stream(container, codec, sound)
        for packet in encode_audio(stream, sound):
            container.mux(packet)
    return leveling
