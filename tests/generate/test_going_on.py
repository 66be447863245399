"""Continuous sounds fill their span; everything else stays as it is."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from omni2sound.generate.going_on import (
    bed_below,
    fill,
    goes_on,
    longest_stretch,
    repeat_stretch,
    spans_of,
)
from omni2sound.generate.onnx.noise import Noise
from omni2sound.generate.torch_pipeline import silent_frame
from omni2sound.generate.words.cues import Cue, compose
from omni2sound.generate.words.kinds import GOING_ON, all_kinds, example_of
from omni2sound.media.loudness.meter import measure
from omni2sound.media.samples import Audio
from tests.build import tiny_model


@pytest.mark.parametrize(
    "text", ["rain falls", "Heavy rain.", "The sea rolls in.", "a fire crackles and rain falls"]
)
def test_continuous_kinds_go_on(text: str) -> None:
    assert goes_on(text)


@pytest.mark.parametrize(
    "text",
    [None, "a dog barks", "rain falls and a dog barks", "rain falls, then stops", "a burst of rain",
     "thunder rumbles", "applause", "the fire alarm rings", "a car alarm", "a car passes",
     "a truck drives by"],
)  # fmt: skip
def test_others_do_not(text: str | None) -> None:
    assert not goes_on(text)


def test_a_sound_goes_on_within_its_span() -> None:
    def spans(*cues: Cue) -> list[tuple[int, int]]:
        made = compose(None, cues, num_frames=200, frames_per_s=Fraction(25), pictures=False)
        return spans_of(made)

    rain = Cue(start_s=2, end_s=6, text="rain falls")
    assert spans(rain) == [(50, 150)]
    assert spans(rain, Cue(start_s=3, end_s=4, text="a dog barks")) == [(50, 75), (100, 150)][1:]
    assert spans(Cue(start_s=2, end_s=3, text="rain falls")) == []  # too short for two pieces


@given(st.integers(0, 80), st.integers(24, 100), st.integers(0, 5))
def test_a_stretch_fills_the_span_from_end_to_end(start: int, length: int, seed: int) -> None:
    """A constant stretch gives that constant everywhere: pieces and fades sum to 1."""
    end = min(start + length, 120)
    level_L = np.full(120, 1e-9)
    level_L[start:end] = 1
    latents = np.zeros((120, 3), np.float32)
    latents[start:end] = 5
    made = repeat_stretch(latents, level_L, [(0, 120)], Noise(seed))
    assert made.shape == latents.shape
    np.testing.assert_allclose(made[start + 10 : end - 10], 5.0, rtol=1e-6)
    if end - start >= 36:
        np.testing.assert_allclose(made, 5.0, rtol=1e-6)


def test_what_lies_outside_a_span_stays_and_seeds_do_not_mix() -> None:
    latents = np.random.default_rng(0).normal(size=(2, 100, 3)).astype(np.float32)
    level = np.ones((2, 100))
    spans = [[(50, 100)], []]

    def made(seeds: list[int]) -> NDArray[np.float32]:
        draws = [Noise(seed) for seed in seeds]
        return fill(latents, level, spans, draws, lambda noise, start: start + noise)

    first = made([1, 2])
    assert np.array_equal(first[0, :50], latents[0, :50])
    assert not np.array_equal(first[0, 50:], latents[0, 50:])
    assert np.array_equal(first[1], latents[1])
    assert np.array_equal(first, made([1, 3]))
    assert not np.array_equal(first, made([2, 2]))


def test_the_longest_stretch_is_found_across_short_pauses() -> None:
    level = np.full(200, 1e-9)
    level[20:40] = 1
    level[80:160] = 1
    level[100:108] = 1e-9  # a third of a second
    first, last = longest_stretch(level)
    assert 70 <= first <= 90
    assert 150 <= last <= 170


def test_a_bed_is_twenty_units_below_and_never_loud() -> None:
    rng = np.random.default_rng(0)

    def noise(level: float) -> Audio:
        return Audio(
            samples_CN=rng.normal(0, level, (1, 64_000)).astype(np.float32), sample_rate_hz=16_000
        )

    def bed_lufs(sound: Audio) -> float:
        value = measure(bed_below(sound, noise(0.3))).integrated_lufs
        assert value is not None
        return value

    loud = noise(0.1)
    own = measure(loud).integrated_lufs
    assert own is not None
    assert bed_lufs(loud) == pytest.approx(max(min(own - 20, -36), -50), abs=0.5)
    silent = Audio(samples_CN=np.zeros((1, 64_000), np.float32), sample_rate_hz=16_000)
    assert bed_lufs(silent) == pytest.approx(-40, abs=0.5)


def test_the_frame_of_silence_is_that_of_any_long_silence() -> None:
    autoencoder = tiny_model().autoencoder
    frame_C = silent_frame(autoencoder, torch.device("cpu"))
    long_LC = autoencoder.encode(torch.zeros(1, 40 * autoencoder.hop_samples))[0]
    torch.testing.assert_close(long_LC[5:-5], frame_C.expand(30, -1))


def test_each_continuous_kind_goes_on_in_its_own_words() -> None:
    for kind in all_kinds():
        assert goes_on(example_of(kind)) == (kind.class_id in GOING_ON), kind.class_id
