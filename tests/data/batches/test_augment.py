"""Equalised and played at another rate: closed-form answers, and one law on every device."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omni2sound.data.batches.augment import augment_waveform, augment_waveforms, draw_equaliser

RATE_HZ = 16_000


def tone(hz: float, count: int = 16_000) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(count) / RATE_HZ)).astype(np.float32)


@given(st.integers(0, 2**32), st.integers(400, 3000))
def test_many_at_once_are_what_one_alone_is(seed: int, count: int) -> None:
    """The device's equaliser and the host's are the same function of the same draws."""
    sound = np.random.default_rng(seed).uniform(-0.3, 0.3, (2, count)).astype(np.float32)
    alone = [augment_waveform(s, np.random.default_rng(seed + i)) for i, s in enumerate(sound)]
    knots = [draw_equaliser(1, np.random.default_rng(seed + i))[0] for i in range(2)]
    many = augment_waveforms(torch.from_numpy(sound), knots_db_BQ=torch.tensor(np.array(knots)))
    np.testing.assert_allclose(many.numpy(), alone, atol=2e-5)


@pytest.mark.parametrize("rate", [0.8, 0.93, 1.07, 1.25])
@pytest.mark.parametrize("hz", [110.0, 700.0, 2500.0])
def test_a_tone_that_is_played_faster_is_higher(rate: float, hz: float) -> None:
    sound = torch.from_numpy(tone(hz))[None]
    made = augment_waveforms(sound, rate_B=torch.tensor([rate]))[0].numpy()
    # Where the source's circular end does not ring into it.
    inside = slice(200, int(min(1, 1 / rate) * 16_000) - 200)
    np.testing.assert_allclose(made[inside], tone(hz * rate)[inside], atol=0.01)


def test_what_is_played_faster_ends_in_silence_and_aliases_nothing() -> None:
    made = augment_waveforms(torch.from_numpy(tone(7900.0))[None], rate_B=torch.tensor([1.25]))[0]
    assert made[12_900:].abs().max() == 0
    assert made.abs().max() < 0.01  # 9875 Hz has no place below 8 kHz


@pytest.mark.parametrize("hz", [2000.0, 6000.0])
@pytest.mark.parametrize("rate", [0.9, 1.1])
def test_what_a_rate_adds_to_a_tone_is_far_below_it(hz: float, rate: float) -> None:
    made = augment_waveforms(torch.from_numpy(tone(hz))[None], rate_B=torch.tensor([rate]))[
        0
    ].numpy()
    power = np.square(np.abs(np.fft.rfft(made[1000:13_000] * np.hanning(12_000))))
    at = round(hz * rate * 12_000 / RATE_HZ)
    tone_power = power[at - 5 : at + 6].sum()
    power[at - 5 : at + 6] = 0
    assert 10 * np.log10(power.max() / tone_power) < (-55 if hz < 4000 else -36)


def test_rate_one_and_no_gain_change_nothing() -> None:
    sound = torch.from_numpy(np.stack([tone(hz, 8000) for hz in (100, 1000, 7000)]))
    assert torch.allclose(augment_waveforms(sound), sound, atol=1e-6)
    same = augment_waveforms(sound, rate_B=torch.ones(3))
    assert torch.allclose(same, sound, atol=1e-6)
    zero = torch.zeros(3, 5)
    assert torch.allclose(augment_waveforms(sound, knots_db_BQ=zero), sound, atol=1e-6)


def test_nothing_is_louder_than_full_scale() -> None:
    sound = 0.9 * torch.ones(1, 1000).cumsum(1).cos()
    loud = augment_waveforms(sound, knots_db_BQ=torch.full((1, 5), 30.0))
    assert loud.abs().max() == pytest.approx(1.0)
