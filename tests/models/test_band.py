"""Laws of the band extension."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omni2sound.errors import ConfigError, ShapeError
from omni2sound.models.band import LOWEST_HZ, POWER_FLOOR, RATE_HZ, BandConfig, BandExtension


def tiny(*, tonal: float = 0.5) -> BandExtension:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return BandExtension(BandConfig(width=8, depth=2, tonal=tonal)).eval()


def noise(frames: int, *, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(1, 160 * frames, generator=torch.Generator().manual_seed(seed))


@given(frames=st.integers(1, 60), batch=st.integers(1, 3))
@settings(max_examples=15, deadline=None)
def test_441_samples_for_160_and_the_same_twice(frames: int, batch: int) -> None:
    low_BN = noise(frames).repeat(batch, 1)
    added_BN = tiny().added_band(low_BN)
    assert added_BN.shape == (batch, 441 * frames)
    assert torch.equal(added_BN, tiny().added_band(low_BN))
    assert torch.allclose(added_BN, added_BN[:1].expand_as(added_BN), atol=1e-6)


@given(seed=st.integers(0, 100), tonal=st.sampled_from([0.0, 0.5, 1.0]))
@settings(max_examples=10, deadline=None)
def test_nothing_is_added_below_the_lowest_frequency(seed: int, tonal: float) -> None:
    added_N = tiny(tonal=tonal).added_band(noise(80, seed=seed))[0]
    power = torch.fft.rfft(added_N * torch.hann_window(len(added_N))).abs().square()
    hz = torch.fft.rfftfreq(len(added_N), 1 / RATE_HZ)
    assert power[hz < LOWEST_HZ - 100].sum() < 1e-6 * power.sum()
    assert power[hz > 20_100].sum() < 1e-6 * power.sum()


@pytest.mark.parametrize("tonal", [0.0, 0.5, 1.0])
def test_bands_have_the_power_that_is_asked_for(tonal: float) -> None:
    model = tiny(tonal=tonal)
    wanted_BTH = torch.linspace(-9, -15, 24).expand(1, 100, 24)
    low_BTK = model.low_spectrum.transform(noise(100))
    found_BTH = model.log_power(model.synthesise(wanted_BTH, low_BTK))
    error_H = (found_BTH.exp().mean(dim=1).log() - wanted_BTH[:, 0])[0]
    assert error_H.abs().max() < 0.35  # 1.5 dB


def test_a_tone_is_moved_up_as_a_tone() -> None:
    time_s = torch.arange(16_000) / 16_000
    model = tiny(tonal=1.0)
    low_BTK = model.low_spectrum.transform(0.2 * torch.sin(2 * np.pi * 5000 * time_s)[None])
    added_N = model.synthesise(torch.full((1, 100, 24), -8.0), low_BTK)[0]
    power = torch.fft.rfft(added_N * torch.hann_window(len(added_N))).abs().square()
    hz = torch.fft.rfftfreq(len(added_N), 1 / RATE_HZ)
    near = (hz > 8250) & (hz < 8350)
    band = (hz > 7900) & (hz < 8700)
    assert power[near].sum() > 0.9 * power[band].sum()


def test_silence_stays_silence() -> None:
    model = tiny()
    silent_BTK = model.low_spectrum.transform(torch.zeros(1, 1600))
    floor = torch.full((1, 10, 24), float(np.log(POWER_FLOOR)))
    assert model.synthesise(floor, silent_BTK).abs().max() < 1e-4


@pytest.mark.parametrize("shape", [(1, 0), (1, 161), (160,), (1, 1, 160)])
def test_waveforms_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="multiple of 160"):
        tiny().added_band(torch.zeros(shape))


@pytest.mark.parametrize("change", [{"width": 0}, {"depth": 0}, {"tonal": 1.5}])
def test_a_configuration_out_of_range_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        BandConfig(**change)  # type: ignore[arg-type]
