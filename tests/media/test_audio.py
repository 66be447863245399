"""Sound in and out: every sample in lossless formats, the right place in the others."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from omni2sound.errors import MediaError, ShapeError, UserError
from omni2sound.media import AUDIO_SUFFIXES, Audio, probe, read_audio, resample, write_audio
from omni2sound.media.timing.sound_rate import OneRate
from omni2sound.media.video import iter_pictures
from tests.media.clips import clicks, onset_s, write_track, write_video
from tests.media.films import tone
from tests.media.test_sought_sound import write_sound

LOSSY = [suffix for suffix in AUDIO_SUFFIXES if suffix not in (".wav", ".flac")]
LONGEST_CODEC_FRAME = 1152


def noise(num_samples: int, rate: int = 16_000, channels: int = 1, level: float = 0.2) -> Audio:
    generator = np.random.default_rng([num_samples, rate, channels])
    samples_CN = level * generator.uniform(-1, 1, (channels, num_samples))
    return Audio(samples_CN=samples_CN.astype(np.float32), sample_rate_hz=rate)


@settings(max_examples=30)
@given(
    suffix=st.sampled_from([".wav", ".flac"]),
    num_samples=st.integers(1, 5000),
    rate=st.sampled_from([8000, 16_000, 44_100, 48_000]),
    channels=st.integers(1, 8),
)
def test_lossless_formats_keep_every_sample(
    suffix: str, num_samples: int, rate: int, channels: int
) -> None:
    audio = noise(num_samples, rate, channels, level=1.0)
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"sound{suffix}"
        write_audio(path, audio)
        found = read_audio(path)
        assert found.sample_rate_hz == rate
        assert found.samples_CN.shape == (channels, num_samples)
        assert np.abs(found.samples_CN - audio.samples_CN).max() <= 1 / 32768
        # What was 16 bit stays to the bit, however often it is copied.
        again = Path(folder) / f"again{suffix}"
        write_audio(again, found)
        assert np.array_equal(read_audio(again).samples_CN, found.samples_CN)


@settings(max_examples=30)
@given(
    suffix=st.sampled_from(LOSSY),
    num_samples=st.integers(1, 40_000),
    rate=st.sampled_from([11_025, 16_000, 22_050, 44_100, 48_000]),
    channels=st.integers(1, 2),
)
def test_lossy_formats_keep_the_length(
    suffix: str, num_samples: int, rate: int, channels: int
) -> None:
    audio = noise(num_samples, rate, channels)
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"sound{suffix}"
        write_audio(path, audio)
        found = read_audio(path)
        assert found.num_channels == channels
        one_frame = Fraction(LONGEST_CODEC_FRAME, found.sample_rate_hz)
        assert abs(found.duration_s - audio.duration_s) <= one_frame
        assert abs(probe(path).duration_s - audio.duration_s) <= 2 * one_frame


@pytest.mark.parametrize("suffix", LOSSY)
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_encoder_delay_is_gone(tmp_path: Path, suffix: str, rate: int) -> None:
    path = tmp_path / f"sound{suffix}"
    write_audio(path, clicks([0.5], duration_s=1, sample_rate_hz=rate))
    assert onset_s(read_audio(path)) == pytest.approx(0.5, abs=0.002)


@pytest.mark.parametrize("suffix", AUDIO_SUFFIXES)
def test_tags_and_same_bytes(tmp_path: Path, suffix: str) -> None:
    tags = {"title": "Rain, é 雨", "comment": '{"seed": 1}', "artist": "a model"}
    audio = noise(8000)
    contents = []
    for name in ("first", "second"):
        path = tmp_path / f"{name}{suffix}"
        write_audio(path, audio, metadata=tags)
        contents.append(path.read_bytes())
        with av.open(str(path)) as container:
            found = {**container.metadata, **container.streams[0].metadata}
        assert {key.lower(): value for key, value in found.items()}.items() >= tags.items()
    assert contents[0] == contents[1]


def test_one_spike_leaves_the_rest_as_it_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    audio = noise(8000)
    audio.samples_CN[0, 4000] = 35
    with caplog.at_level(logging.WARNING):
        done = write_audio(tmp_path / "loud.wav", audio)
    assert "loud.wav: peaks up to 35 times full scale were lowered" in caplog.text
    assert done.limited_db == pytest.approx(20 * math.log10(35))
    found = read_audio(tmp_path / "loud.wav").samples_CN
    assert np.argmax(np.abs(found)) == 4000
    reach = 2 * 160 + 1
    for part in (slice(None, 4000 - reach), slice(4000 + reach, None)):
        assert np.abs(found[:, part] - audio.samples_CN[:, part]).max() <= 1 / 32768


@pytest.mark.parametrize("suffix", [".opus", ".ogg", ".mp3"])
def test_lossy_formats_leave_room_for_their_own_changes(tmp_path: Path, suffix: str) -> None:
    """Partials of a loud chord add up differently after coding; 1 dB of room holds that."""
    time_N = np.arange(32_000) / 16_000
    chord_N = sum(np.sin(2 * np.pi * f * time_N + f) for f in (220, 277, 330, 880, 1760)) / 3
    audio = Audio(samples_CN=chord_N[None].astype(np.float32), sample_rate_hz=16_000)
    assert np.abs(audio.samples_CN).max() > 1
    write_audio(tmp_path / f"a{suffix}", audio)
    assert np.abs(read_audio(tmp_path / f"a{suffix}").samples_CN).max() <= 1


def test_not_finite_is_refused(tmp_path: Path) -> None:
    samples_CN = np.full((1, 100), np.nan, np.float32)
    with pytest.raises(UserError, match="not finite"):
        write_audio(tmp_path / "a.wav", Audio(samples_CN=samples_CN, sample_rate_hz=16_000))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_other_sample_formats_are_read(tmp_path: Path, subtype: str) -> None:
    audio = noise(3000, channels=2)
    soundfile.write(tmp_path / "a.wav", audio.samples_CN.T, 16_000, subtype=subtype)
    found = read_audio(tmp_path / "a.wav")
    assert np.abs(found.samples_CN - audio.samples_CN).max() < (2**-6 if "8" in subtype else 1e-4)


@settings(max_examples=40)
@given(
    start=st.integers(0, 20_000),
    length=st.integers(0, 20_000),
    suffix=st.sampled_from([".wav", ".flac"]),
)
def test_a_part_is_a_slice_of_the_whole(start: int, length: int, suffix: str) -> None:
    rate = 1000  # 16 s: both sides of the point from which reading seeks
    audio = noise(16_000, rate)
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        write_audio(path, audio)
        whole = read_audio(path).samples_CN
        part = read_audio(
            path, start_s=Fraction(start, rate), duration_s=Fraction(length, rate)
        ).samples_CN
        assert np.array_equal(part, whole[:, start : start + length])


@pytest.mark.parametrize("name", ["a.mp3", "a.opus", "a.m4a", "a.mkv"])
def test_seeking_in_lossy_sound_keeps_time(tmp_path: Path, name: str) -> None:
    sound = clicks([14.0], duration_s=16)
    path = tmp_path / name
    if name == "a.mkv":
        write_video(path, ticks=range(0, 9600, 60), sound=sound, sound_codec="libopus")
    else:
        write_audio(path, sound)
    found = read_audio(path, start_s=13.0, duration_s=2.0)
    assert onset_s(found) == pytest.approx(1.0, abs=0.005)


@pytest.mark.parametrize("track", [0, 9, -1])
def test_only_a_sound_track_is_read(tmp_path: Path, track: int) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, ticks=range(0, 600, 60), sound=clicks([0.5], duration_s=1))
    assert np.array_equal(read_audio(path, track=1).samples_CN, read_audio(path).samples_CN)
    with pytest.raises(UserError, match=rf"^track: expected a sound track \(1\), got {track}$"):
        read_audio(path, track=track)


def joined_rates(folder: Path, suffix: str, codec: str, rates_hz: Sequence[int]) -> Path:
    """Write parts of 2 s, one for each rate, joined byte by byte; a tone sounds in all."""
    data = b""
    for number, rate in enumerate(rates_hz):
        part = folder / f"part{number}.{suffix}"
        write_sound(part, codec, rate, tone(440, duration_s=2, rate=rate))
        data += part.read_bytes()
    path = folder / f"joined.{suffix}"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("suffix", "codec"), [("ts", "mp2"), ("ts", "aac"), ("adts", "aac"), ("mp3", "libmp3lame")]
)
@pytest.mark.parametrize("rates_hz", [(48_000, 44_100), (44_100, 48_000, 32_000, 44_100)])
def test_joined_parts_of_other_rates_are_heard(
    tmp_path: Path, suffix: str, codec: str, rates_hz: tuple[int, ...]
) -> None:
    found = read_audio(joined_rates(tmp_path, suffix, codec, rates_hz), mono=True)
    assert found.sample_rate_hz == rates_hz[0]
    assert found.duration_s == pytest.approx(2 * len(rates_hz), abs=0.1 * len(rates_hz))
    for number in range(len(rates_hz)):
        first = round((2 * number + 0.5) * found.sample_rate_hz)
        part_N = found.samples_CN[0, first : first + found.sample_rate_hz]
        assert np.sqrt(np.mean(part_N**2)) == pytest.approx(0.2 / math.sqrt(2), rel=0.1)
        # Bare streams have no clock: FFmpeg's guess goes on with the first part's rate.
        error_hz = 0 if suffix == "ts" else 9
        assert np.abs(np.fft.rfft(part_N)).argmax() == pytest.approx(440, abs=error_hz)


def frames(rate_hz: int, count: int) -> list[av.AudioFrame]:
    found = []
    for _ in range(count):
        frame = av.AudioFrame.from_ndarray(np.ones((1, 480), np.float32), "fltp", "mono")
        frame.sample_rate = rate_hz
        found.append(frame)
    return found


@given(runs=st.lists(st.tuples(st.sampled_from([8000, 12_000, 16_000]), st.integers(1, 9))))
def test_stray_rates_are_dropped_and_counted(runs: list[tuple[int, int]]) -> None:
    one_rate = OneRate(Fraction(0))
    given = [frame for rate, count in runs for frame in frames(rate, count)]
    found = [out for frame in given for out in one_rate.add(frame)] + list(one_rate.end())
    assert {frame.sample_rate for frame in found} == {frame.sample_rate for frame in given[:1]}
    rates = [frame.sample_rate for frame in given]
    kept_s = 0.0
    num_stray = 0
    for rate, run in groupby(rates):
        count = len(list(run))
        num_stray += count if rate != rates[0] and count < 3 else 0
        kept_s += 0 if rate != rates[0] and count < 3 else count * 480 / rate
    found_s = sum(frame.samples / frame.sample_rate for frame in found)
    assert one_rate.num_dropped <= num_stray
    assert found_s >= kept_s - 0.001 * len(runs)


@settings(max_examples=40)
@given(
    num_samples=st.integers(0, 30_000),
    old=st.sampled_from([8000, 16_000, 22_050, 44_100, 48_000]),
    new=st.sampled_from([8000, 16_000, 22_050, 44_100, 48_000]),
)
def test_resampling_keeps_duration_to_half_a_sample(num_samples: int, old: int, new: int) -> None:
    found = resample(noise(num_samples, old), new)
    assert found.sample_rate_hz == new
    assert found.samples_CN.shape == (
        1,
        math.floor(Fraction(num_samples * new, old) + Fraction(1, 2)),
    )


def test_resampling_keeps_a_tone_and_its_phase() -> None:
    def tone(rate: int) -> Audio:
        samples_N = np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
        return Audio(samples_CN=samples_N[None].astype(np.float32), sample_rate_hz=rate)

    found = resample(tone(44_100), 16_000).samples_CN[:, 800:-800]
    assert np.abs(found - tone(16_000).samples_CN[:, 800:-800]).max() < 1e-3


def test_mono_is_the_mean_at_the_asked_rate(tmp_path: Path) -> None:
    left = noise(32_000, 32_000).samples_CN
    stereo = Audio(samples_CN=np.concatenate([left, -left]), sample_rate_hz=32_000)
    write_audio(tmp_path / "a.wav", stereo)
    found = read_audio(tmp_path / "a.wav", sample_rate_hz=16_000, mono=True)
    assert found.samples_CN.shape == (1, 16_000)
    assert np.abs(found.samples_CN).max() < 1e-3


@pytest.mark.parametrize("delay_s", [-0.25, 0.0, 0.4])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_keeps_its_distance_from_the_first_picture(
    tmp_path: Path, suffix: str, delay_s: float
) -> None:
    rate = 48_000
    path = write_video(
        tmp_path / f"clip{suffix}",
        ticks=range(600, 1800, 30),  # pictures begin at 1 s
        sound=clicks([0.5], duration_s=1, sample_rate_hz=rate),
        sound_codec="aac" if suffix == ".mp4" else "libopus",
        sound_first_sample=round((1 + delay_s) * rate),
    )
    first_picture_s, _ = next(iter_pictures(path))
    found_s = onset_s(read_audio(path)) - float(first_picture_s)
    assert found_s == pytest.approx(0.5 + delay_s, abs=0.003)
    assert read_audio(path, duration_s=probe(path).duration_s).duration_s >= 1  # all of it


def test_eight_channels_of_a_planar_codec(tmp_path: Path) -> None:
    audio = noise(20_000, 48_000, channels=8)
    write_audio(tmp_path / "a.m4a", audio)
    assert read_audio(tmp_path / "a.m4a").samples_CN.shape == (8, 20_000)


def test_cover_art_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    picture = write_video(
        tmp_path / "cover.jpg", ticks=[0], time_base=Fraction(1, 25), codec="mjpeg",
        pix_fmt="yuvj420p", container_format="image2pipe",
    )  # fmt: skip
    with av.open(str(path), "w") as container, av.open(str(picture)) as source:
        track = container.add_stream("libmp3lame", rate=16_000)
        track.layout = "mono"
        cover = container.add_stream_from_template(source.streams.video[0], opaque=True)
        cover.disposition = av.stream.Disposition.attached_pic
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = cover
                container.mux(packet)
        write_track(container, track, noise(16_000), 0)
    info = probe(path)
    assert info.video is None
    assert read_audio(path).duration_s == 1


def test_no_sound(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", ticks=[0, 300])
    with pytest.raises(MediaError, match="no sound"):
        read_audio(path)


@pytest.mark.parametrize(
    ("samples_CN", "rate"),
    [
        (np.zeros(5, np.float32), 16_000),
        (np.zeros((1, 5)), 16_000),
        (np.zeros((0, 5), np.float32), 16_000),
        (np.zeros((1, 5), np.float32), 0),
    ],
)
def test_audio_refuses_other_shapes(samples_CN: np.ndarray, rate: int) -> None:
    with pytest.raises(ShapeError):
        Audio(samples_CN=samples_CN, sample_rate_hz=rate)


def test_channels_that_a_format_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="channels"):
        write_audio(tmp_path / "a.mp3", noise(100, channels=3))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("late", [0, 1, 100, 256, 1000, 1023, 1024, 4000])
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_a_track_that_begins_late_keeps_its_end(tmp_path: Path, suffix: str, late: int) -> None:
    """FFmpeg 9 takes the length of such a track for its end."""
    sound, delay = noise(16_100), 1024
    path = write_video(
        tmp_path / f"late{suffix}", ticks=[0, 300, 600], sound=sound,
        sound_first_sample=late + delay, container_options={"movie_timescale": "48000"},
    )  # fmt: skip
    assert read_audio(path).samples_CN.shape[1] == late + delay + 16_100
