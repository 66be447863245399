"""Sound read from the middle of a file is the sound of the whole one; Opus' priming is no sound."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from omni2sound.media import Audio, probe, read_audio, write_audio
from omni2sound.media.timing.sound_clock import Grid
from tests.media.films import stack, tone

SECONDS = 16
HELD = {
    "mkv": ("aac", "libmp3lame", "libopus", "vorbis", "flac", "pcm_s16le", "ac3", "mp2"),
    "webm": ("libopus", "vorbis"),
    "mp4": ("aac", "libmp3lame", "libopus", "flac", "ac3", "mp2"),
    "mov": ("aac", "pcm_s16le", "alac"),
    "ts": ("aac", "libmp3lame", "libopus", "ac3", "mp2"),
    "avi": ("libmp3lame", "pcm_s16le", "ac3", "mp2"),
    "flv": ("aac", "libmp3lame"),
    "nut": ("aac", "libopus", "vorbis", "flac", "pcm_s16le"),
    "asf": ("libmp3lame", "flac", "pcm_s16le", "ac3"),
    "ogg": ("libopus", "vorbis", "flac"),
    "mp3": ("libmp3lame",),
    "wav": ("pcm_s16le",),
    "flac": ("flac",),
}
LOSSLESS = ("flac", "pcm_s16le", "alac")
RATES_HZ = {"libmp3lame": (16_000, 44_100, 48_000), "ac3": (44_100, 48_000)}
RATES_HZ |= {"flv": (44_100,), "mp2": (16_000, 44_100, 48_000), "libopus": (8000, 16_000, 48_000)}


def write_sound(path: Path, codec: str, rate: int, audio: Audio, *, late_s: float = 0) -> Path:
    """Write one track of one channel, with timestamps as good as the container has them."""
    with av.open(str(path), "w") as target:
        track: Any = target.add_stream(codec, rate=rate, options={"strict": "-2"})
        track.codec_context.layout = "stereo" if codec == "vorbis" else "mono"
        to_format = av.AudioResampler(
            track.codec_context.format.name, track.codec_context.layout.name, rate
        )
        for start in range(0, audio.samples_CN.shape[1], 1024):
            part = np.ascontiguousarray(audio.samples_CN[:1, start : start + 1024])
            frame = av.AudioFrame.from_ndarray(part, format="flt", layout="mono")
            frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
            for block in to_format.resample(frame):
                block.pts = start + round(late_s * rate)
                block.time_base = Fraction(1, rate)
                target.mux(track.encode(block))
        target.mux(track.encode(None))
    return path


def chirps(rate: int) -> Audio:
    """Falling tones, one every 0.1 s, each a little different: any shift shows."""
    time_s = np.arange(SECONDS * rate) / rate
    number, within_s = np.divmod(time_s, 0.1)
    hz = (0.1 + 0.25 * np.modf(number * 0.618)[0]) * rate / 2
    samples_N = 0.3 * np.exp(-30 * within_s) * np.sin(2 * np.pi * hz * within_s * (1 - within_s))
    return Audio(samples_CN=samples_N[None].astype(np.float32), sample_rate_hz=rate)


def lag(first_N: NDArray[np.float32], second_N: NDArray[np.float32]) -> int:
    """Samples by which the first one is late."""
    length = 2 * len(first_N)
    products_N = np.fft.irfft(np.fft.rfft(first_N, length) * np.fft.rfft(second_N, length).conj())
    at = int(products_N.argmax())
    return at if at < len(first_N) else at - length


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sought")


@lru_cache(maxsize=64)
def whole_sound(folder: Path, suffix: str, codec: str, rate: int, late_s: float) -> Audio:
    path = folder / f"{codec}-{rate}-{late_s}.{suffix}"
    return read_audio(write_sound(path, codec, rate, chirps(rate), late_s=late_s), mono=True)


@settings(max_examples=8)
@given(data=st.data())
def test_sound_from_the_middle_is_that_of_the_whole_file(folder: Path, data: st.DataObject) -> None:
    check_part(folder, data)


@pytest.mark.slow
@settings(max_examples=40)
@given(data=st.data())
def test_sound_from_the_middle_in_every_format(folder: Path, data: st.DataObject) -> None:
    check_part(folder, data)


def check_part(folder: Path, data: st.DataObject) -> None:
    suffix, codec = data.draw(
        st.sampled_from([(suffix, codec) for suffix, codecs in HELD.items() for codec in codecs])
    )
    rates = RATES_HZ.get(suffix) or RATES_HZ.get(codec) or (8000, 16_000, 44_100, 48_000)
    rate = data.draw(st.sampled_from(rates))
    late_s = data.draw(st.sampled_from([0, 0.4])) if suffix in ("mkv", "mp4", "ts") else 0
    start_s = data.draw(st.fractions(5, 13, max_denominator=100))
    whole = whole_sound(folder, suffix, codec, rate, late_s)
    path = folder / f"{codec}-{rate}-{late_s}.{suffix}"
    part = read_audio(path, mono=True, start_s=start_s, duration_s=2)
    first = int(start_s * whole.sample_rate_hz + Fraction(1, 2))
    wanted_N = whole.samples_CN[0, first : first + part.samples_CN.shape[1]]
    assert part.samples_CN.shape[1] == len(wanted_N)
    found_N = part.samples_CN[0]
    if codec == "vorbis" and suffix in ("mkv", "webm"):
        # Its blocks have two lengths, so only a timestamp says where they stand.
        assert abs(lag(found_N, wanted_N)) <= 0.001 * whole.sample_rate_hz
        return
    assert lag(found_N, wanted_N) == 0
    if codec in LOSSLESS:
        assert np.array_equal(found_N, wanted_N)
    error = float(np.sqrt(np.mean((found_N - wanted_N) ** 2)))
    assert error < 0.05 * float(np.sqrt(np.mean(wanted_N**2)))


@given(
    origin=st.integers(0, 5000),
    length=st.integers(120, 4608),
    number=st.integers(0, 10**6),
    error=st.floats(-1, 1),
)
def test_a_grid_corrects_what_rounding_may_have_done(
    origin: int, length: int, number: int, error: float
) -> None:
    tick = min(48.0, length / 5)
    grid = Grid(origin=origin, length=length, tick=tick)
    place = origin + number * length
    assert grid.place(place + round(error * tick)) == place
    lost = place + length // 2  # behind a hole
    assert grid.place(lost) == lost
    assert grid.holds(number + 1, Fraction((number + 1) * length))
    assert grid.holds(number + 1, Fraction(number * length + 1))
    assert not grid.holds(number + 1, Fraction((number + 3) * length))


def cut_out(source: Path, target: Path, begin: int, end: int) -> Path:
    """Copy a sound without the packets of a range of ticks."""
    with av.open(str(source)) as whole, av.open(str(target), "w") as rest:
        track = rest.add_stream_from_template(whole.streams.audio[0])
        for packet in whole.demux(whole.streams.audio[0]):
            if packet.pts is not None and not begin <= packet.pts < end:
                packet.stream = track
                rest.mux(packet)
    return target


def test_a_hole_before_the_part_moves_it(tmp_path: Path) -> None:
    """Where packets are missing, blocks can't be counted."""
    rate = 44_100
    whole = write_sound(tmp_path / "whole.mkv", "pcm_s16le", rate, chirps(rate))
    cut = cut_out(whole, tmp_path / "cut.mkv", 5000, 7000)
    found = read_audio(cut, start_s=12, duration_s=2).samples_CN[0]
    wanted = read_audio(whole, start_s=12, duration_s=2).samples_CN[0]
    assert abs(lag(found, wanted)) <= 0.001 * rate


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.m4a", "a.ogg", "a.mp3"])
@pytest.mark.parametrize("start_s", [4, 99])
def test_behind_the_end_there_is_no_sound(tmp_path: Path, name: str, start_s: int) -> None:
    sound = stack(*(tone(hz, duration_s=3, rate=48_000) for hz in (440, 550)))
    write_audio(tmp_path / name, sound)
    found = read_audio(tmp_path / name, start_s=start_s, duration_s=2)
    assert found.samples_CN.shape == (2, 0)
    assert found.sample_rate_hz == 48_000


@pytest.mark.parametrize("start_s", [3, 13])
def test_a_part_within_a_hole_is_silent(tmp_path: Path, start_s: int) -> None:
    rate = 8000
    whole = write_sound(tmp_path / "whole.mkv", "pcm_s16le", rate, chirps(rate))
    cut = cut_out(whole, tmp_path / "cut.mkv", 2000, 15_000)
    found = read_audio(cut, start_s=start_s, duration_s=1)
    assert found.samples_CN.shape == (1, rate)
    assert not found.samples_CN.any()


@pytest.mark.parametrize("suffix", ["mkv", "webm"])
@pytest.mark.parametrize("rate", [8000, 12_000, 16_000, 24_000, 48_000])
def test_the_header_of_opus_says_where_its_sound_begins(
    tmp_path: Path, suffix: str, rate: int
) -> None:
    """FFmpeg up to 5.1 writes a delay that is too short into Matroska."""
    click_N = np.zeros(2 * rate, np.float32)
    click_N[rate - 4 : rate + 5] = 0.8 * np.hanning(9)
    click = Audio(samples_CN=click_N[None], sample_rate_hz=rate)
    path = write_sound(tmp_path / f"in.{suffix}", "libopus", rate, click)
    right = read_audio(path)
    assert int(np.abs(right.samples_CN[0]).argmax()) == pytest.approx(48_000, abs=12)
    told = b"\x56\xaa\x83" + (6_500_000).to_bytes(3, "big")
    short = b"\x56\xaa\x83" + (6_500_000 * rate // 48_000).to_bytes(3, "big")
    data = path.read_bytes()
    assert data.count(told) == 1
    old = tmp_path / f"old.{suffix}"
    old.write_bytes(data.replace(told, short))
    audio = read_audio(old)
    assert np.array_equal(audio.samples_CN, right.samples_CN)
    assert probe(old).timeline.start_s == pytest.approx((48_000 - rate) * 0.0065 / 48_000, abs=1e-3)
