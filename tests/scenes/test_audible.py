"""Loudness says when a sound begins, whoever placed it."""

from __future__ import annotations

import numpy as np
import pytest

from omni2sound.scenes.audible import beginning_of
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ

SECOND = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ


def stem(sound_N: np.ndarray, at_s: float, duration_s: float = 2.0) -> np.ndarray:
    stem_N = np.zeros(round(duration_s * SAMPLE_RATE_HZ), dtype=np.float32)
    first = round(at_s * SAMPLE_RATE_HZ)
    piece = sound_N[: len(stem_N) - first]
    stem_N[first : first + len(piece)] = piece
    return stem_N


HIT = 0.3 * np.exp(-SECOND / 0.1) * np.sin(2 * np.pi * 440 * SECOND)
NOISE = 0.1 * np.random.default_rng(0).standard_normal(SAMPLE_RATE_HZ)
SWELL = NOISE * np.minimum(SECOND / 0.2, 1)


@pytest.mark.parametrize("late_s", [-0.1, -0.02, -0.008, 0.008, 0.02, 0.1])
@pytest.mark.parametrize("sound_N", [HIT, NOISE])
def test_an_abrupt_sound_is_found_where_it_is(sound_N: np.ndarray, late_s: float) -> None:
    there = beginning_of(stem(sound_N, 0.7), 0.7)
    late = beginning_of(stem(sound_N, 0.7 + late_s), 0.7)

    assert there is not None and late is not None
    assert there.is_at_onset(0.005)
    assert not late.is_at_onset(0.005)
    assert late.audible_s == pytest.approx(late_s, abs=0.004)
    assert late.begun_s == pytest.approx(late_s, abs=0.004)


def test_a_swelling_sound_has_its_onset_between_the_two_times() -> None:
    beginning = beginning_of(stem(SWELL, 0.5), 0.52)

    assert beginning is not None
    assert beginning.audible_s < 0 < beginning.begun_s
    assert beginning.is_at_onset(0.005)
    for late_s in (-0.06, 0.06):
        moved = beginning_of(stem(SWELL, 0.5 + late_s), 0.52)
        assert moved is not None
        assert not moved.is_at_onset(0.005)


@pytest.mark.parametrize("at_s", [0.0, 0.05, 1.9, 1.99])
def test_a_sound_at_the_border_is_found(at_s: float) -> None:
    beginning = beginning_of(stem(HIT, at_s), at_s)

    assert beginning is not None
    assert beginning.is_at_onset(0.005)


def test_silence_does_not_begin() -> None:
    assert beginning_of(np.zeros(8000, dtype=np.float32), 0.2) is None
    assert beginning_of(stem(HIT, 1.5), 0.5) is None
