"""Sound in blocks is the sound as a whole, however long the blocks are, and needs no more room."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omni2sound.media import Audio, long_sound, mux, probe, read_audio
from omni2sound.media.copy import track_sound
from omni2sound.media.copy.own_sound import read_own_sound
from omni2sound.media.copy.track_sound import read_track
from omni2sound.media.layouts import channel_names
from omni2sound.media.long_sound import (
    LongSound,
    change,
    fitted,
    in_blocks,
    mix,
    resampled,
    stacked,
    to_audio,
)
from omni2sound.media.loudness.level import level
from omni2sound.media.loudness.meter import measure
from omni2sound.media.samples import fit_length, resample
from omni2sound.stages import listening
from tests.media.films import Sound, stack, tone, write_film

LAYOUTS = ("mono", "stereo", "2.1", "5.1")


def noise(seed: int, num_samples: int, rate: int = 16_000, layout: str = "mono") -> Audio:
    generator = np.random.default_rng(seed)
    samples_CN = generator.normal(0, 0.1, (len(channel_names(layout)), num_samples))
    samples_CN[:, ::997] *= 30  # what a limiter has to hold
    return Audio(samples_CN=samples_CN.astype(np.float32), sample_rate_hz=rate, layout=layout)


def cut(audio: Audio, length: int) -> LongSound:
    """The same sound in blocks."""
    return change(audio, lambda: in_blocks(audio.read(), length))


parts = st.builds(
    noise,
    st.integers(0, 9),
    st.integers(1, 30_000),
    st.sampled_from([8000, 16_000, 44_100]),
    st.sampled_from(LAYOUTS),
)
lengths = st.integers(50, 9000)


@settings(max_examples=40, deadline=None)
@given(audio=parts, length=lengths, rate=st.sampled_from([8000, 44_100, 48_000]), num=lengths)
def test_rate_and_length(audio: Audio, length: int, rate: int, num: int) -> None:
    found = to_audio(resampled(cut(audio, length), rate))
    assert np.array_equal(found.samples_CN, resample(audio, rate).samples_CN)
    found = to_audio(fitted(cut(audio, length), num))
    assert np.array_equal(found.samples_CN, fit_length(audio, num).samples_CN)
    assert found.layout == audio.layout


@settings(max_examples=40, deadline=None)
@given(audios=st.lists(parts, min_size=1, max_size=3), length=lengths)
def test_mixes(audios: list[Audio], length: int) -> None:
    whole = to_audio(mix(*audios))
    found = to_audio(mix(*(cut(audio, length) for audio in audios)))
    assert np.array_equal(found.samples_CN, whole.samples_CN)
    rate = max(audio.sample_rate_hz for audio in audios)
    num_samples = max(resample(audio, rate).num_samples for audio in audios)
    assert whole.samples_CN.shape[1] == num_samples
    if len({audio.layout for audio in audios}) == 1:
        due_CN = sum(fit_length(resample(a, rate), num_samples).samples_CN for a in audios)
        assert np.allclose(whole.samples_CN, due_CN, atol=1e-6)
    one = [audio for audio in audios if audio.sample_rate_hz == rate]
    found = to_audio(stacked(*(cut(audio, length) for audio in one), layout=None))
    due_CN = np.concatenate([fit_length(a, found.num_samples).samples_CN for a in one])
    assert np.array_equal(found.samples_CN, due_CN)


@settings(max_examples=40, deadline=None)
@given(
    audio=parts,
    length=lengths,
    target=st.sampled_from([None, -30.0, -14.0]),
    between_samples=st.booleans(),
    remembered=st.booleans(),
)
def test_loudness_and_limiter(
    audio: Audio, length: int, target: float | None, between_samples: bool, remembered: bool
) -> None:
    assert measure(cut(audio, length)) == measure(audio)
    options: dict[str, Any] = {"target_lufs": target, "between_samples": between_samples}
    whole, done = level(audio, **options, ceiling=0.9)
    with pytest.MonkeyPatch.context() as patch:
        if not remembered:
            patch.setattr("omni2sound.media.loudness.level._REMEMBERED_SAMPLES", 0)
        found, told = level(cut(audio, length), **options, ceiling=0.9)
        found_CN = to_audio(found).samples_CN
    assert np.allclose(found_CN, to_audio(whole).samples_CN, atol=2e-6)
    for name in done.__dataclass_fields__:
        expected = getattr(done, name)
        if isinstance(expected, float):
            expected = pytest.approx(expected, abs=1e-4)
        assert getattr(told, name) == expected, name


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short blocks, and nothing is remembered."""
    for module in (long_sound, track_sound):
        monkeypatch.setattr(module, "BLOCK_SAMPLES", 2**12)
    monkeypatch.setattr(long_sound, "_REMEMBERED_VALUES", 0)
    monkeypatch.setattr("omni2sound.media.loudness.level._REMEMBERED_SAMPLES", 0)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts"])
@pytest.mark.parametrize("duration_s", [None, Fraction(3, 2)])
def test_a_track_in_blocks_is_the_track(
    tmp_path: Path, no_memory: None, suffix: str, duration_s: Fraction | None
) -> None:
    sound = noise(1, 3 * 44_100, 44_100, "stereo")
    film = write_film(tmp_path / f"in{suffix}", [Sound(audio=sound, start_s=0.3)], duration_s=2)
    index = next(iter(probe(film).sounds))
    whole = read_audio(film, duration_s=duration_s)
    found = read_track(film, index, duration_s)
    for _ in range(2):
        assert np.array_equal(to_audio(found.sound).samples_CN, whole.samples_CN)
    assert found.peak >= float(np.abs(whole.samples_CN).max())
    assert (found.sound.layout, found.sound.num_samples) == (whole.layout, whole.num_samples)


@pytest.mark.parametrize("kind", ["drifts", "hole", "repeats", "leads back"])
def test_a_track_whose_clock_is_odd(tmp_path: Path, no_memory: None, kind: str) -> None:
    """Timestamps of PCM blocks in Matroska, moved."""
    rate = 16_000
    sound = noise(2, 20 * rate, rate)
    film = write_film(tmp_path / "in.mkv", [Sound(audio=sound, codec="pcm_s16le")], duration_s=1)
    odd = tmp_path / "odd.mkv"
    with av.open(str(film)) as source, av.open(str(odd), "w") as target:
        tracks = {s.index: target.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.pts is None:
                continue
            if packet.stream.type == "audio":
                moved = {
                    "drifts": packet.pts * 3 // 1000,
                    "hole": 700 if packet.pts > 8000 else 0,
                    "repeats": -500 if packet.pts > 8000 else 0,
                    "leads back": -6000 if 8000 < packet.pts < 9000 else 0,
                }[kind]
                packet.pts = packet.dts = packet.pts + moved
            packet.stream = tracks[packet.stream.index]
            try:
                target.mux(packet)
            except av.FFmpegError:
                return  # a muxer may refuse to go back
    index = next(iter(probe(odd).sounds))
    whole = read_audio(odd)
    found = to_audio(read_track(odd, index).sound)
    assert np.allclose(found.samples_CN, whole.samples_CN, atol=1e-6)


@pytest.mark.slow
def test_kept_sound_of_any_length_fits_in_memory(tmp_path: Path, no_memory: None) -> None:
    peaks = []
    for seconds in (4, 24):
        quiet = tone(300, duration_s=seconds, level=0.1)
        film = write_film(
            tmp_path / f"{seconds}.mkv",
            [Sound(audio=stack(*[quiet] * 6)), Sound(audio=tone(900, duration_s=seconds))],
            duration_s=seconds,
        )
        new = tone(1500, duration_s=1, rate=16_000)
        probe(film)
        tracemalloc.start()
        mux(film, new, tmp_path / f"out{seconds}.mp4", keep_audio=True, loudness_lufs=-20)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        own = read_own_sound(film)
        assert own.sound.layout == "5.1"
    assert peaks[1] < 1.5 * peaks[0]


def test_work_on_a_sound_in_memory_can_be_ended_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    audio = noise(1, 20_001, 44_100, "stereo")

    def leveled(most_looks: float) -> list[Any]:
        looks = 0

        def look(*_: object) -> None:
            nonlocal looks
            looks += 1
            if looks > most_looks:
                raise KeyboardInterrupt

        with listening(look):
            made, _ = level(resampled(audio, 48_000), ceiling=0.9, between_samples=True)
            return list(made.read())

    whole = leveled(float("inf"))
    monkeypatch.setattr(long_sound, "BLOCK_SAMPLES", 1000)
    for one, other in zip(whole, leveled(float("inf")), strict=True):
        np.testing.assert_array_equal(one, other)
    for number in (0, 10, 50):
        with pytest.raises(KeyboardInterrupt):
            leveled(number)
