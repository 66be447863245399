"""Front ends in closed form; `make parity` compares with librosa, torchaudio and Kaldi."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omni2sound.encoders.metric.spectra import mel_matrix, power_spectrum, resample


def bands(**changes: object) -> torch.Tensor:
    settings: dict[str, object] = {
        "sample_rate_hz": 16_000,
        "fft_samples": 512,
        "num_mels": 64,
        "lowest_hz": 50,
        "highest_hz": 8000,
        "scale": "slaney",
        "straight_in": "hz",
    }
    return mel_matrix(**(settings | changes))  # type: ignore[arg-type]


def test_a_tone_lies_in_its_own_bin() -> None:
    rate, size = 16_000, 512
    tone_N = torch.sin(2 * math.pi * 1000 * torch.arange(rate) / rate)
    power_FK = power_spectrum(
        tone_N, window_N=torch.hann_window(size), hop_samples=160, fft_samples=size
    )
    assert power_FK.shape == (101, 257)
    assert (power_FK[5:-5].argmax(dim=1) == 1000 * size // rate).all()
    # A Hann window of amplitude 1/2 on average: (512 / 4)^2 in the tone's own bin.
    torch.testing.assert_close(power_FK[50, 32], torch.tensor(128.0**2), rtol=1e-3, atol=0)


@pytest.mark.parametrize("scale", ["htk", "slaney"])
@pytest.mark.parametrize("straight_in", ["hz", "mel"])
def test_neighbouring_triangles_sum_to_one(scale: str, straight_in: str) -> None:
    matrix_KM = bands(scale=scale, straight_in=straight_in, num_mels=20, lowest_hz=0)
    inner = matrix_KM.sum(dim=1)[10:-60]  # where every frequency is under two triangles
    torch.testing.assert_close(inner, torch.ones_like(inner), atol=1e-5, rtol=0)


def test_equal_area_makes_every_band_of_white_noise_equal() -> None:
    matrix_KM = bands(equal_area=True, fft_samples=16_384, num_mels=30)
    areas = matrix_KM.sum(dim=0) * 16_000 / 16_384
    torch.testing.assert_close(areas, torch.ones_like(areas), atol=0.01, rtol=0)


def test_slaney_bands_are_evenly_wide_below_1000_hz_and_grow_above() -> None:
    centres = bands(fft_samples=65_536, lowest_hz=0).argmax(dim=0).double() * 16_000 / 65_536
    steps = torch.diff(centres)
    low = steps[centres[1:] < 1000]
    assert float(low.max() - low.min()) < 1
    high = steps[centres[:-1] > 1000]
    assert (torch.diff(high) > 0).all()


RATES = st.sampled_from([8000, 16_000, 22_050, 32_000, 44_100, 48_000])


@given(RATES, RATES, st.integers(500, 3000))
def test_resampling_keeps_the_duration(old: int, new: int, samples: int) -> None:
    assert resample(torch.zeros(2, samples), old, new).shape == (2, -(-samples * new // old))


@given(RATES, RATES)
def test_resampling_keeps_a_tone(old: int, new: int) -> None:
    seconds = 0.25
    tone = {
        rate: torch.sin(2 * math.pi * 700 * torch.arange(int(rate * seconds)) / rate)
        for rate in (old, new)
    }
    edge = new // 50
    heard = resample(tone[old], old, new)[edge:-edge]
    torch.testing.assert_close(heard, tone[new][edge : edge + len(heard)], atol=2e-3, rtol=0)


def test_what_the_new_rate_can_not_hold_is_gone() -> None:
    high = torch.from_numpy(np.sin(2 * np.pi * 15_000 * np.arange(12_000) / 48_000)).float()
    assert float(resample(high, 48_000, 16_000)[200:-200].abs().max()) < 0.01
