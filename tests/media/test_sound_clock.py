"""Where sound stands: drift, holes, repetitions, jitter, and encoders' delays in each container."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from omni2sound.media import read_audio
from omni2sound.media.timing.sound_clock import place_blocks
from tests.media.clips import write_video

RATE = 48_000
MS = 1e-3


def click(rate: int, *, lead: int = 0, seconds: int = 2) -> NDArray[np.float32]:
    """A click at 0.5 s, behind `lead` samples of delay."""
    samples_N = np.zeros(lead + seconds * rate, np.float32)
    at = lead + rate // 2
    samples_N[at - 4 : at + 5] = 0.8 * np.hanning(9)
    return samples_N


def write_blocks(
    path: Path,
    codec: str,
    rate: int,
    samples_N: NDArray[np.float32],
    *,
    first: int = 0,
    options: dict[str, str] | None = None,
    with_pictures: int = 0,
) -> Path:
    with av.open(str(path), "w", options=options or {}) as container:
        packets: list[Any] = []
        if with_pictures:
            video: Any = container.add_stream("libx264", rate=with_pictures, options={"bf": "2"})
            video.width = video.height = 64
            video.pix_fmt = "yuv420p"
        track: Any = container.add_stream(codec, rate=rate)
        track.codec_context.layout = "mono"
        for i in range(with_pictures * 2):
            frame: Any = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 50, np.uint8))
            frame.pts = i
            packets += video.encode(frame)
        packets += video.encode(None) if with_pictures else []
        for i in range(0, len(samples_N), 1024):
            block = np.ascontiguousarray(samples_N[None, i : i + 1024])
            frame = av.AudioFrame.from_ndarray(block, format="flt", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, first + i, Fraction(1, rate)
            packets += track.encode(frame)
        packets += track.encode(None)
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            container.mux(packet)
    return path


def peak_s(path: Path) -> float:
    audio = read_audio(path, mono=True)
    return int(np.abs(audio.samples_CN[0]).argmax()) / audio.sample_rate_hz


@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("seconds", [2, 10])
def test_ogg_vorbis_is_where_libsndfile_has_it(tmp_path: Path, rate: int, seconds: int) -> None:
    """One page and many: FFmpeg counts the first block, which gives no samples, in either."""
    samples_N = click(rate, seconds=seconds)
    noise_N = np.random.default_rng(0).standard_normal(len(samples_N)).astype(np.float32)
    samples_N += 0.02 * noise_N
    soundfile.write(tmp_path / "a.ogg", samples_N, rate, format="OGG", subtype="VORBIS")
    own_N, _ = soundfile.read(tmp_path / "a.ogg")
    found_N = read_audio(tmp_path / "a.ogg").samples_CN[0]
    assert np.abs(found_N - own_N[: len(found_N)]).max() < 1e-4
    assert len(own_N) - len(found_N) <= rate / 50  # FFmpeg takes the first block off the end


@pytest.mark.parametrize(
    ("name", "codec", "rate", "lead"),
    [
        ("a.mp4", "libmp3lame", 16_000, 0),
        ("a.mp4", "libmp3lame", 44_100, 0),
        ("a.m4a", "aac", 44_100, 1088),  # 2112 with the encoder's own: Apple's delay
        ("a.m4a", "aac", 16_000, 1088),
        ("a.mp4", "aac", 48_000, 0),
        ("a.mp4", "libopus", 16_000, 0),
        ("a.mp4", "libopus", 24_000, 0),
        ("a.mp4", "libopus", 48_000, 0),
        ("a.mkv", "aac", 16_000, 0),
        ("a.mkv", "libopus", 48_000, 0),
        ("a.webm", "libopus", 48_000, 0),
        ("a.opus", "libopus", 48_000, 0),
        ("a.mp3", "libmp3lame", 44_100, 0),
        ("a.flac", "flac", 44_100, 0),
    ],
)
def test_an_encoders_delay_is_gone_to_the_millisecond(
    tmp_path: Path, name: str, codec: str, rate: int, lead: int
) -> None:
    path = write_blocks(tmp_path / name, codec, rate, click(rate, lead=lead), first=-lead)
    assert peak_s(path) == pytest.approx(0.5, abs=MS)


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
@pytest.mark.parametrize("fps", [24, 25, 30, 50])
def test_a_fragmented_mp4_keeps_sound_with_pictures(tmp_path: Path, rate: int, fps: int) -> None:
    """Without edit lists the sound's delay stands at 0, and a hole behind it."""
    if Fraction(1024, rate) > Fraction(2, fps):
        pytest.skip("the sound's delay is the longer one: the file shows the pictures too early")
    path = write_blocks(
        tmp_path / "a.mp4", "aac", rate, click(rate), with_pictures=fps,
        options={"movflags": "frag_keyframe+empty_moov"},
    )  # fmt: skip
    assert peak_s(path) == pytest.approx(0.5, abs=MS)
    assert read_audio(path).duration_s == pytest.approx(2, abs=0.03)


def write_stamped(path: Path, blocks: list[tuple[float, NDArray[np.float32]]]) -> Path:
    """Blocks of PCM with their times, in Matroska, which rounds them to 1 ms."""
    with av.open(str(path), "w") as container:
        track: Any = container.add_stream("pcm_s16le", rate=RATE)
        track.layout = "mono"
        for time_s, samples_N in blocks:
            block = (samples_N * 32767).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
            frame.sample_rate, frame.pts = RATE, round(time_s * RATE)
            frame.time_base = Fraction(1, RATE)
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
    return path


def recorded(
    drift: float,
    *,
    seconds: int = 20,
    lost_s: float = 0,
    repeated_s: float = 0,
    jitter_s: float = 0,
) -> list[tuple[float, NDArray[np.float32]]]:
    """Blocks of 20 ms of true time, from a clock that is `drift` too fast; a click each second."""
    generator = np.random.default_rng(1)
    num_samples = round(0.02 * RATE * (1 + drift))
    blocks = []
    time_s = since_s = 0.0
    while time_s < seconds:
        samples_N = np.zeros(num_samples, np.float32)
        second = int(np.ceil(time_s - 1e-9))
        if time_s <= second < time_s + 0.02 and second > 0:
            at = int((second - time_s) / 0.02 * num_samples)
            samples_N[at : at + 40] = 0.8
        blocks.append((max(0.0, time_s + generator.uniform(-jitter_s, jitter_s)), samples_N))
        time_s += 0.02
        since_s += 0.02
        if lost_s and since_s >= 5:
            time_s += lost_s
            since_s = 0.0
        if repeated_s and since_s >= 5:
            blocks.append((time_s, np.zeros(round(repeated_s * RATE), np.float32)))
            since_s = 0.0
    return blocks


@pytest.mark.parametrize(
    "how",
    [
        {"drift": 0.0},
        {"drift": 0.005},
        {"drift": -0.005},
        {"drift": 0.001, "seconds": 60},
        {"drift": 0.0, "lost_s": 0.04},
        {"drift": 0.0, "lost_s": 0.2},
        {"drift": 0.0, "repeated_s": 0.04},
        {"drift": 0.005, "lost_s": 0.04},
    ],
)
def test_sound_follows_its_timestamps(tmp_path: Path, how: dict[str, Any]) -> None:
    path = write_stamped(tmp_path / "a.mkv", recorded(**how))
    samples_N = np.abs(read_audio(path).samples_CN[0])
    seconds = how.get("seconds", 20)
    assert len(samples_N) / RATE == pytest.approx(seconds, abs=0.25)
    hot = np.flatnonzero(samples_N > 0.4)
    heard_s = hot[np.insert(np.diff(hot) > RATE // 10, 0, True)] / RATE
    late_s = heard_s - np.round(heard_s)
    assert len(heard_s) >= seconds - 2
    assert np.abs(late_s).max() < 1.5 * MS  # of which 1 is the container's


def test_jitter_alone_changes_nothing(tmp_path: Path) -> None:
    exact = read_audio(write_stamped(tmp_path / "a.mkv", recorded(0.0)))
    shaken = read_audio(write_stamped(tmp_path / "b.mkv", recorded(0.0, jitter_s=0.004)))
    assert (
        abs(np.abs(exact.samples_CN).argmax() - np.abs(shaken.samples_CN).argmax()) < 0.004 * RATE
    )
    assert np.array_equal(np.unique(exact.samples_CN), np.unique(shaken.samples_CN))


def test_a_drifting_tone_stays_a_clean_tone(tmp_path: Path) -> None:
    """The correction is a resampling: neither cuts nor repeats are heard."""
    drift, seconds = 0.004, 10
    time_s = np.arange(round(seconds * RATE * (1 + drift))) / (RATE * (1 + drift))
    tone_N = (0.5 * np.sin(2 * np.pi * 1000 * time_s)).astype(np.float32)
    step = round(0.02 * RATE * (1 + drift))
    blocks = [(i / (RATE * (1 + drift)), tone_N[i : i + step]) for i in range(0, len(tone_N), step)]
    found_N = read_audio(write_stamped(tmp_path / "a.mkv", blocks)).samples_CN[0]
    steps = np.arange(RATE // 10) / RATE
    basis = np.stack([f(2 * np.pi * 1000 * steps) for f in (np.sin, np.cos)], axis=1)
    for start in range(RATE, 9 * RATE, RATE // 10):
        part_N = found_N[start : start + RATE // 10].astype(np.float64)
        fit, *_ = np.linalg.lstsq(basis, part_N, rcond=None)
        assert np.hypot(*fit) == pytest.approx(0.5, rel=0.01)
        assert np.abs(part_N - basis @ fit).max() < 0.02


@settings(max_examples=150)
@given(
    lengths=st.lists(st.integers(500, 2000), min_size=1, max_size=200),
    first=st.integers(-2000, 100_000),
    rounding=st.sampled_from([1, 48]),
)
def test_exact_blocks_stay_together_to_the_sample(
    lengths: list[int], first: int, rounding: int
) -> None:
    counted = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    stamps = [round((first + n) / rounding) * rounding for n in counted]
    (piece,) = place_blocks(stamps, lengths, rate_hz=RATE, tick_s=rounding / RATE)
    assert (piece.first, piece.stop, piece.warp) == (0, len(lengths), None)
    assert abs(piece.at - first) <= rounding


@settings(max_examples=100)
@given(
    before=st.integers(2, 100),
    after=st.integers(2, 100),
    hole=st.integers(100, RATE) | st.integers(-1000, -100),
)
def test_a_hole_or_a_repetition_splits_the_sound_where_it_is(
    before: int, after: int, hole: int
) -> None:
    lengths = [1024] * (before + after)
    stamps = [1024 * i + (hole if i >= before else 0) for i in range(before + after)]
    pieces = place_blocks(stamps, lengths, rate_hz=RATE, tick_s=1 / RATE)
    assert [(piece.first, piece.at) for piece in pieces] == [
        (0, 0),
        (before, 1024 * before + hole),
    ]


def test_a_late_track_of_a_video_begins_with_silence(tmp_path: Path) -> None:
    from tests.media.clips import clicks, onset_s

    path = write_video(
        tmp_path / "a.mp4", ticks=range(50), time_base=Fraction(1, 25),
        sound=clicks([0.25], duration_s=1, sample_rate_hz=16_000), sound_first_sample=12_000,
    )  # fmt: skip
    assert onset_s(read_audio(path)) == pytest.approx(1.0, abs=0.002)


def test_timestamps_that_stand_still_are_no_clock() -> None:
    """An avi file with sound of variable size that FFmpeg cut by copying: all say about 0."""
    for step in (0.0, 15.0):
        stamps = [step * i for i in range(48)]
        (piece,) = place_blocks(stamps, [1024] * 48, rate_hz=16_000, tick_s=0.064)
        assert (piece.first, piece.stop, piece.at, piece.warp) == (0, 48, 0, None)


@settings(max_examples=60)
@given(
    num_blocks=st.integers(20, 200),
    moved=st.dictionaries(st.integers(1, 18), st.integers(RATE // 2 + 1, 4 * RATE), min_size=1),
    first=st.integers(0, RATE),
)
def test_timestamps_that_are_a_mess_are_no_clock(
    num_blocks: int, moved: dict[int, int], first: int
) -> None:
    """FLAC in asf: stamps run ahead and stand still, and in the end nothing is missing."""
    stamps = [first + 1024 * i + moved.get(i, 0) for i in range(num_blocks)]
    (piece,) = place_blocks(stamps, [1024] * num_blocks, rate_hz=RATE, tick_s=0.001)
    assert (piece.first, piece.stop, piece.at, piece.warp) == (0, num_blocks, first, None)


@pytest.mark.parametrize("repeated", [1, 2, 40, 99])
def test_a_timestamp_that_is_repeated_tells_nothing(repeated: int) -> None:
    stamps: list[float | None] = [500.0 + 1152 * n for n in range(100)]
    stamps[repeated] = stamps[repeated - 1]
    (piece,) = place_blocks(stamps, [1152] * 100, rate_hz=RATE, tick_s=1 / 90_000)
    assert (piece.at, piece.warp) == (500, None)
