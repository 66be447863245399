"""The picture of frames above a spectrogram: one time axis, one level scale."""

from __future__ import annotations

import numpy as np
import pytest

from omni2sound.media.figure import WIDTH_PX, frames_above_spectrogram
from omni2sound.media.samples import Audio
from omni2sound.media.spectrogram import log_spectrogram_FT

RATE_HZ = 16_000


@pytest.mark.parametrize("onset_s", [0.25, 1.0, 3.5])
def test_a_click_stands_in_its_own_column(onset_s: float) -> None:
    samples = np.zeros(4 * RATE_HZ, dtype=np.float32)
    samples[round(onset_s * RATE_HZ)] = 1.0
    level_FT = log_spectrogram_FT(samples, RATE_HZ, 64, 400)
    assert level_FT.sum(axis=0).argmax() == pytest.approx(onset_s * 100, abs=1)


@pytest.mark.parametrize("tone_hz", [200, 1000, 6000])
def test_a_tone_stands_in_its_own_row(tone_hz: int) -> None:
    time_s = np.arange(RATE_HZ) / RATE_HZ
    samples = np.sin(2 * np.pi * tone_hz * time_s).astype(np.float32)
    level_FT = log_spectrogram_FT(samples, RATE_HZ, 240, 10)
    rows_hz = np.geomspace(RATE_HZ / 2, 50, 240)
    assert rows_hz[level_FT[:, 5].argmax()] == pytest.approx(tone_hz, rel=0.1)


def test_silence_is_dark() -> None:
    assert not log_spectrogram_FT(np.zeros(RATE_HZ, dtype=np.float32), RATE_HZ, 8, 8).any()


def test_the_picture_holds_frames_and_sound() -> None:
    frames = [np.full((27, 64, 3), 200, dtype=np.uint8) for _ in range(8)]
    noise = np.random.default_rng(0).normal(size=(2, RATE_HZ)).astype(np.float32)
    audio = Audio(samples_CN=noise, sample_rate_hz=RATE_HZ)
    image = frames_above_spectrogram(frames, audio, title="a title")
    assert image.width == WIDTH_PX
    assert image.getpixel((200, 50)) == (200, 200, 200)
    assert frames_above_spectrogram([], audio, title="no video").height < image.height
