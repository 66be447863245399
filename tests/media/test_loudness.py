"""Loudness: the limiter's laws, BS.1770 beside FFmpeg's meter, and targets that ruin nothing."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pyloudnorm
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.robustness.loudness import LAYOUTS, ffmpeg_meter
from omni2sound.errors import UserError
from omni2sound.media.layouts import channel_names
from omni2sound.media.long_sound import to_audio
from omni2sound.media.loudness.level import (
    MAX_FLATTENING_DB,
    MAX_FLOOR_LUFS,
    MAX_GAIN_DB,
    SILENT_LUFS,
    TOLERANCE_LU,
    Leveling,
)
from omni2sound.media.loudness.level import level as level_sound
from omni2sound.media.loudness.limiter import (
    LIMITER_REACH_S,
    TRUE_PEAK_CEILING,
    Limiter,
    true_peak,
    with_envelope,
)
from omni2sound.media.loudness.meter import measure
from omni2sound.media.samples import Audio

RATE = 16_000
REACH = 2 * round(LIMITER_REACH_S * RATE)
ROUNDING = 1e-6

spikes = st.dictionaries(st.integers(0, 5999), st.floats(-40, 40, width=32), max_size=6)
levels = st.floats(0, 0.5)


def sound(num_samples: int, seed: int, noise: float, spikes: dict[int, float]) -> Audio:
    generator = np.random.default_rng(seed)
    samples_CN = noise * generator.uniform(-1, 1, (1 + seed % 2, num_samples))
    for place, value in spikes.items():
        samples_CN[place % len(samples_CN), place % num_samples] = value
    return Audio(samples_CN=samples_CN.astype(np.float32), sample_rate_hz=RATE)


def limit_peaks(audio: Audio, ceiling: float = 1.0) -> Audio:
    parts = with_envelope(audio, between_samples=False)
    (samples_CN,) = Limiter(ceiling, audio.sample_rate_hz).limit(parts)
    return replace(audio, samples_CN=samples_CN)


def level(audio: Audio, **options: Any) -> tuple[Audio, Leveling]:
    found, done = level_sound(audio, **options)
    return to_audio(found), done


def of(samples: NDArray[np.float64], rate: int = RATE, layout: str | None = None) -> Audio:
    samples_CN = np.atleast_2d(samples).astype(np.float32)
    return Audio(samples_CN=samples_CN, sample_rate_hz=rate, layout=layout)


def noise_of(duration_s: float, rms: float, rate: int = RATE, seed: int = 0) -> NDArray[np.float64]:
    return rms * np.random.default_rng(seed).standard_normal(round(duration_s * rate))


def bark_of(duration_s: float, begin_s: float, peak: float) -> NDArray[np.float64]:
    """A bark in silence: 60 ms of harmonics with a steep attack."""
    time_s = np.arange(round(duration_s * RATE)) / RATE - begin_s
    tone_N = sum(np.sin(2 * np.pi * 420 * k * time_s) / k for k in range(1, 8))
    bark_N = tone_N * np.exp(-np.clip(time_s, 0, None) / 0.03) * (time_s >= 0)
    return np.asarray(peak * bark_N / np.abs(bark_N).max())


# --- the limiter


@settings(max_examples=60)
@given(
    num_samples=st.integers(1, 6000),
    seed=st.integers(0, 9),
    noise=st.floats(0, 5),
    spikes=spikes,
    ceiling=st.floats(0.1, 1),
)
def test_nothing_is_above_the_ceiling_nor_louder_than_it_was(
    num_samples: int, seed: int, noise: float, spikes: dict[int, float], ceiling: float
) -> None:
    audio = sound(num_samples, seed, noise, spikes)
    found_CN = limit_peaks(audio, ceiling).samples_CN
    assert found_CN.shape == audio.samples_CN.shape
    assert np.abs(found_CN).max() <= ceiling + ROUNDING
    assert (np.abs(found_CN) <= np.abs(audio.samples_CN)).all()
    assert (found_CN * audio.samples_CN >= 0).all()


@given(seed=st.integers(0, 9), noise=st.floats(0, 1))
def test_what_stays_under_the_ceiling_stays_as_it_is(seed: int, noise: float) -> None:
    audio = sound(2000, seed, noise, {})
    np.testing.assert_array_equal(limit_peaks(audio).samples_CN, audio.samples_CN)
    assert level(audio)[0] is audio


@settings(max_examples=60)
@given(seed=st.integers(0, 9), noise=levels, spikes=spikes)
def test_far_from_a_peak_nothing_changes(seed: int, noise: float, spikes: dict[int, float]) -> None:
    audio = sound(6000, seed, noise, spikes)
    over_N = np.abs(audio.samples_CN).max(axis=0) > 1
    near_N = np.convolve(over_N, np.ones(2 * REACH + 1), mode="same") > 0.5
    for found in (limit_peaks(audio), level(audio)[0]):  # a few spikes are no hits
        np.testing.assert_array_equal(found.samples_CN[:, ~near_N], audio.samples_CN[:, ~near_N])


@given(place=st.integers(0, 5999), value=st.floats(1.5, 40), noise=levels)
def test_a_strike_stays_where_it_was_and_at_the_ceiling(
    place: int, value: float, noise: float
) -> None:
    found_CN = limit_peaks(sound(6000, 0, noise, {place: value})).samples_CN
    assert np.argmax(np.abs(found_CN[0])) == place
    assert found_CN[0, place] == pytest.approx(1, abs=ROUNDING)


def test_a_low_tone_keeps_its_shape() -> None:
    """One gain for the whole of it: the limiter is no distortion."""
    tone_N = 3 * np.sin(2 * np.pi * 50 * np.arange(RATE) / RATE)
    audio = of(tone_N)
    found_CN = limit_peaks(audio).samples_CN
    np.testing.assert_allclose(found_CN[:, REACH:-REACH], tone_N[None, REACH:-REACH] / 3, atol=1e-4)


def test_a_true_peak_lies_between_samples() -> None:
    """A quarter of the rate, sampled half way up on both sides of its crests."""
    tone_N = np.sin(np.pi / 2 * np.arange(RATE) + np.pi / 4)
    audio = of(tone_N)
    assert np.abs(audio.samples_CN).max() == pytest.approx(0.707, abs=0.001)
    assert true_peak(audio) == pytest.approx(1, abs=0.02)
    assert level(audio)[1].true_peak_db == pytest.approx(0, abs=0.2)


# --- the meter


@settings(max_examples=40)
@given(
    layout=st.sampled_from(LAYOUTS),
    rate=st.sampled_from([8000, 12_000, 16_000, 22_050, 44_100, 48_000, 96_000]),
    duration_s=st.floats(0.4, 5),
    levels_db=st.lists(st.floats(-60, -5), min_size=1, max_size=6),
    seed=st.integers(0, 99),
)
def test_loudness_is_that_of_ffmpegs_meter(
    layout: str, rate: int, duration_s: float, levels_db: list[float], seed: int
) -> None:
    """FFmpeg cuts its result to 0.01 LU; near a gate one block more or less may count."""
    generator = np.random.default_rng(seed)
    num_samples = math.ceil(duration_s * rate)
    level_N = np.interp(
        np.linspace(0, 1, num_samples), np.linspace(0, 1, len(levels_db)), levels_db
    )
    samples_CN = generator.standard_normal((len(channel_names(layout)), num_samples))
    samples_CN *= generator.uniform(0.1, 1, (len(samples_CN), 1)) * 10 ** (level_N / 20)
    audio = of(samples_CN, rate, layout)
    expected, found = ffmpeg_meter(audio), measure(audio)
    for name in ("integrated_lufs", "momentary_lufs", "short_term_lufs"):
        other = getattr(expected, name)
        if other is not None:
            assert getattr(found, name) == pytest.approx(other, abs=0.02)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100, 48_000, 96_000])
def test_a_whole_number_of_blocks_measures_as_with_pyloudnorm(rate: int) -> None:
    """An independent implementation, with the standard's filters, on what it measures right."""
    noise_N = noise_of(4, 0.1, rate)
    meter = pyloudnorm.Meter(rate, filter_class="DeMan")
    expected = meter.integrated_loudness(noise_N.astype(np.float32).astype(np.float64))
    tolerance = 1e-2 if rate % 10 else 1e-6
    assert measure(of(noise_N, rate)).integrated_lufs == pytest.approx(expected, abs=tolerance)


def test_the_tone_of_the_standard() -> None:
    """BS.1770: a sine of 997 Hz at full scale in one front channel is -3.01 LKFS."""
    tone_N = np.sin(2 * np.pi * 997 * np.arange(10 * 48_000) / 48_000)
    assert measure(of(tone_N, 48_000)).integrated_lufs == pytest.approx(-3.01, abs=0.01)


@settings(max_examples=20)
@given(seed=st.integers(0, 9), gain_db=st.floats(-20, 20), rate=st.sampled_from([4000, 16_000]))
def test_a_gain_adds_to_the_loudness(seed: int, gain_db: float, rate: int) -> None:
    noise_N = noise_of(1.3, 0.05, rate, seed)
    before, after = measure(of(noise_N, rate)), measure(of(noise_N * 10 ** (gain_db / 20), rate))
    for name in ("integrated_lufs", "momentary_lufs", "floor_lufs"):
        assert getattr(after, name) == pytest.approx(getattr(before, name) + gain_db, abs=1e-4)


@settings(max_examples=20)
@given(extra=st.integers(1, RATE // 10 - 1), value=st.floats(-1, 1))
def test_a_block_that_is_not_full_does_not_count(extra: int, value: float) -> None:
    noise_N = noise_of(0.7, 0.01)
    longer_N = np.concatenate([noise_N, np.full(extra, value)])
    assert measure(of(longer_N)) == measure(of(noise_N))


@pytest.mark.parametrize(
    ("num_samples", "rms", "missing"),
    [
        (0, 0.0, "shorter than 0.4 s"),
        (RATE * 2 // 5 - 1, 0.1, "shorter than 0.4 s"),
        (RATE * 2 // 5, 0.1, ""),
        (RATE, 0.0, "silent"),
        (RATE, 1e-5, "silent"),
    ],
)
def test_what_has_no_loudness_says_why(num_samples: int, rms: float, missing: str) -> None:
    found = measure(of(noise_of(2, rms)[:num_samples]))
    assert found.missing == missing
    assert (found.integrated_lufs is None) == bool(missing)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_channel_has_the_weight_of_its_place(layout: str) -> None:
    names = channel_names(layout)
    alone = measure(of(noise_of(1, 0.1))).integrated_lufs
    assert alone is not None
    for channel, name in enumerate(names):
        samples_CN = np.zeros((len(names), RATE))
        samples_CN[channel] = noise_of(1, 0.1)
        found = measure(of(samples_CN, RATE, layout)).integrated_lufs
        if name == "LFE":
            assert found is None
        else:
            more_db = 10 * math.log10(1.41) if name in ("BL", "BR", "SL", "SR") else 0
            assert found == pytest.approx(alone + more_db, abs=1e-6)


def test_the_rear_pair_of_7_1_is_no_surround() -> None:
    """BS.1770 weights 60 to 120 degrees; the rear loudspeakers stand at 135."""
    found = []
    for channel in (0, 4, 6):
        samples_CN = np.zeros((8, RATE))
        samples_CN[channel] = noise_of(1, 0.1)
        found.append(measure(of(samples_CN, RATE, "7.1")).integrated_lufs)
    front, back, side = found
    assert front is not None
    assert back == front
    assert side == pytest.approx(front + 10 * math.log10(1.41))


# --- targets


@settings(max_examples=15)
@given(
    seed=st.integers(0, 9),
    noise=st.floats(0.02, 5),
    target=st.floats(-35, -16),
    spike=st.floats(0, 35),
)
@example(seed=0, noise=0.0234375, target=-16, spike=3)
@example(seed=0, noise=0.02, target=-35, spike=35)
def test_a_target_is_reached_under_its_ceiling(
    seed: int, noise: float, target: float, spike: float
) -> None:
    found, done = level(sound(2 * RATE, seed, noise, {4000: spike}), target_lufs=target)
    assert done.target_missed == ""
    assert done.leveled_by == "integrated"
    assert measure(found).integrated_lufs == pytest.approx(target, abs=TOLERANCE_LU)
    assert done.lufs == pytest.approx(target, abs=TOLERANCE_LU)
    assert np.abs(found.samples_CN).max() <= TRUE_PEAK_CEILING + ROUNDING
    assert 20 * math.log10(true_peak(found) / TRUE_PEAK_CEILING) < 0.3


@settings(max_examples=40)
@given(
    floor_db=st.floats(-100, -30),
    peak_db=st.floats(-60, 30),
    begins_s=st.lists(st.floats(0, 5), min_size=1, max_size=3),
    target=st.floats(-50, -5),
)
def test_a_target_is_reached_or_said_to_be_missed_and_ruins_nothing(
    floor_db: float, peak_db: float, begins_s: list[float], target: float
) -> None:
    samples_N = noise_of(6, 10 ** (floor_db / 20))
    for begin_s in begins_s:
        samples_N += bark_of(6, begin_s, 10 ** (peak_db / 20))
    before = measure(of(samples_N))
    found, done = level(of(samples_N), target_lufs=target)
    after = measure(found)
    assert done.gain_db <= MAX_GAIN_DB
    values = {
        "integrated": after.integrated_lufs,
        "short-term": after.short_term_lufs,
        "momentary": after.momentary_lufs,
        "": None,
    }
    if not done.target_missed:
        assert values[done.leveled_by] == pytest.approx(target, abs=TOLERANCE_LU)
    if before.momentary_lufs is None or before.momentary_lufs < SILENT_LUFS:
        assert done.gain_db <= 0
        assert done.target_missed
    elif done.leveled_by != "integrated" and done.gain_db > 0:
        assert after.floor_lufs is not None
        assert after.floor_lufs <= MAX_FLOOR_LUFS + 0.1


def test_a_bark_keeps_its_shape() -> None:
    """It was raised by 36 dB, and 35 of them taken away by the limiter: a square wave."""
    bark = of(bark_of(8, 3, 0.9))
    found, done = level(bark, target_lufs=-14)
    assert done.leveled_by == "momentary"
    assert done.gain_db < 8
    assert done.limited_db <= MAX_FLATTENING_DB + 2
    assert "its peaks would be flattened" in done.target_missed
    quiet, done = level(bark, target_lufs=-35)
    assert done.target_missed == ""
    assert done.limited_db == 0
    assert measure(quiet).momentary_lufs == pytest.approx(-35, abs=TOLERANCE_LU)
    assert found.sample_rate_hz == RATE


def test_a_passage_is_leveled_by_its_loudest_three_seconds() -> None:
    samples_N = np.concatenate([np.zeros(8 * RATE), noise_of(5, 0.02), np.zeros(8 * RATE)])
    found, done = level(of(samples_N), target_lufs=-20)
    assert (done.leveled_by, done.target_missed) == ("short-term", "")
    assert measure(found).short_term_lufs == pytest.approx(-20, abs=TOLERANCE_LU)


@pytest.mark.parametrize("rms", [1e-3, 2e-3])
def test_near_silence_does_not_become_hiss(rms: float) -> None:
    audio = of(noise_of(5, rms))
    found, done = level(audio, target_lufs=-14)
    assert found is audio
    assert "nearly silent" in done.target_missed


def test_noise_under_a_sparse_sound_stays_under_it() -> None:
    samples_N = noise_of(8, 0.004)
    samples_N[RATE : 3 * RATE // 2] *= 8  # BS.1770's own gate keeps the noise in
    found, done = level(of(samples_N), target_lufs=-16)
    assert "noise under it" in done.target_missed
    after = measure(found)
    assert after.floor_lufs == pytest.approx(MAX_FLOOR_LUFS, abs=0.5)


@pytest.mark.parametrize("num_samples", [0, 100, 2 * RATE])
def test_silence_stays_silent(num_samples: int) -> None:
    audio = of(np.zeros((1, num_samples)))
    found, done = level(audio, target_lufs=-16)
    assert not found.samples_CN.any()
    assert done.target_missed == f"it is {done.no_loudness}"
    assert done.true_peak_db is None


@settings(max_examples=20)
@given(peak=st.floats(3, 60), begin_s=st.floats(0, 2), target=st.sampled_from([None, -16.0]))
def test_hits_far_over_full_scale_lower_the_sound_and_keep_their_shape(
    peak: float, begin_s: float, target: float | None
) -> None:
    bark_N = bark_of(3, begin_s, peak) + noise_of(3, 0.01)
    _, done = level(of(bark_N), target_lufs=target)
    assert done.gain_db <= MAX_FLATTENING_DB + 3 - 20 * math.log10(peak)
    assert done.limited_db <= MAX_FLATTENING_DB + 3
    assert done.peak == pytest.approx(peak, rel=0.05)


def test_what_the_limiter_does_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    level(of(bark_of(3, 1, 40.0)), name="bark.wav")
    level(of(bark_of(3, 1, 0.9)), target_lufs=-20, name="quiet.wav")
    level(of(bark_of(3, 1, 0.9)), target_lufs=-5, name="loud.wav")
    said = [record.getMessage() for record in caplog.records]
    assert any("bark.wav: peaks up to 40 times full scale; the whole" in text for text in said)
    assert any("loud.wav: peaks were lowered, by up to" in text for text in said)
    assert any("loud.wav: did not reach its loudness" in text for text in said)


def test_an_unstated_layout_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    samples_CN = np.stack([noise_of(1, 0.1)] * 3)
    level(of(samples_CN), name="a.wav")
    level(of(samples_CN, RATE, "2.1"), name="b.wav")
    level(of(samples_CN[:2]), name="c.wav")
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == "a.wav: nothing says what its 3 channels are; they are taken as 3.0"


@pytest.mark.parametrize("target", [0, -60, math.nan, math.inf])
def test_a_target_that_no_sound_should_have_is_refused(target: float) -> None:
    with pytest.raises(UserError, match="loudness_lufs: expected"):
        level(sound(RATE, 0, 0.1, {}), target_lufs=target)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    for target in (None, -20.0):
        with pytest.raises(UserError, match="finite"):
            level(sound(RATE, 0, 0.1, {5: bad}), target_lufs=target)


def test_a_sound_is_measured_even_without_a_target() -> None:
    audio = of(noise_of(4, 0.1))
    same, done = level(audio)
    assert same is audio
    found = measure(audio)
    assert (done.lufs, done.short_term_lufs, done.momentary_lufs) == (
        found.integrated_lufs,
        found.short_term_lufs,
        found.momentary_lufs,
    )
    assert done.true_peak_db == pytest.approx(20 * math.log10(true_peak(audio)))
    assert (done.gain_db, done.limited_db) == (0, 0)
