"""Laws of what leaves the pipeline: band extension, channels, rate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.signal import fftconvolve, firwin

from omni2sound import Omni2SoundPipeline
from omni2sound.errors import UserError
from omni2sound.generate.finish import extend
from omni2sound.generate.model import Model
from omni2sound.generate.request import GenerationRequest
from omni2sound.media.samples import Audio, resample
from omni2sound.models.band import BandConfig, BandExtension
from tests.build import TINY, tiny_model, video_with_square


@pytest.fixture(scope="module")
def model() -> Model:
    config = replace(TINY, band=BandConfig(width=8, depth=2))
    plain = tiny_model(config=config)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        band = BandExtension(BandConfig(width=8, depth=2)).eval()
    return replace(plain, band=band, defaults=replace(plain.defaults, stereo=True))


@pytest.fixture(scope="module")
def pipeline(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Omni2SoundPipeline:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    model.save(folder, half=False)
    return Omni2SoundPipeline.from_pretrained(folder, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return video_with_square(tmp_path_factory.mktemp("videos") / "square.mp4", duration_s=1.2)


def below(samples_CN: NDArray[np.float32], hz: float) -> NDArray[np.float32]:
    """Low-passed at 44.1 kHz, without the first and last tenth of a second."""
    taps = firwin(1023, hz, fs=44_100)
    filtered: NDArray[np.float32] = fftconvolve(samples_CN, taps[None], mode="same")
    return filtered[:, 4410:-4410]


def test_the_band_is_saved_and_read(model: Model, pipeline: Omni2SoundPipeline) -> None:
    assert pipeline.model.config == model.config and pipeline.model.sample_rate_hz == 44_100
    assert model.band is not None and pipeline.model.band is not None
    for name, tensor in model.band.state_dict().items():
        assert torch.equal(tensor, pipeline.model.band.state_dict()[name])


def test_the_low_band_is_that_of_16_khz(pipeline: Omni2SoundPipeline) -> None:
    full = pipeline(prompt="rain", duration_s=1.5, seed=3).audio
    low = pipeline(prompt="rain", duration_s=1.5, seed=3, sample_rate_hz=16_000).audio
    assert full.sample_rate_hz == 44_100 and full.samples_CN.shape == (1, 66_150)
    assert low.samples_CN.shape == (1, 24_000)
    expected_CN = below(resample(low, 44_100).samples_CN, 7100)
    error_CN = below(full.samples_CN, 7100) - expected_CN
    assert np.abs(error_CN).max() < 0.003 * np.abs(expected_CN).max()
    high_CN = full.samples_CN[:, 4410:-4410] - below(full.samples_CN, 8200)
    assert np.abs(high_CN).max() > 0.01 * np.abs(full.samples_CN).max()


def test_16_khz_is_the_sound_of_the_model_without_the_band(
    model: Model, pipeline: Omni2SoundPipeline, tmp_path: Path
) -> None:
    bare = replace(model, config=replace(model.config, band=None), band=None)
    bare.save(tmp_path / "bare", half=False)
    plain = Omni2SoundPipeline.from_pretrained(tmp_path / "bare", device="cpu", dtype="float32")
    one = plain(prompt="rain", seed=1).audio
    other = pipeline(prompt="rain", seed=1, sample_rate_hz=16_000).audio
    assert one.sample_rate_hz == 16_000
    assert np.array_equal(one.samples_CN, other.samples_CN)


@pytest.mark.parametrize(
    ("rate_hz", "expected"), [(48_000, 48_000), (22_050, 22_050), (8000, 8000)]
)
def test_other_rates_are_resampled(
    pipeline: Omni2SoundPipeline, rate_hz: int, expected: int
) -> None:
    audio = pipeline(prompt="rain", duration_s=1.0, sample_rate_hz=rate_hz, seed=0).audio
    assert (audio.sample_rate_hz, audio.samples_CN.shape) == (rate_hz, (1, expected))


@pytest.mark.parametrize("wrong", [7999, 192_001, 44_100.5, "high", True])
def test_rates_out_of_range_are_refused(wrong: object) -> None:
    with pytest.raises(UserError) as told:
        GenerationRequest(prompt="rain", sample_rate_hz=wrong)  # type: ignore[arg-type]
    assert told.value.field == "sample_rate_hz"


def test_channels_are_one_or_two() -> None:
    with pytest.raises(UserError) as told:
        GenerationRequest(prompt="rain", channels=3)
    assert told.value.field == "channels"


def test_a_video_gets_stereo_whose_mean_is_mono(pipeline: Omni2SoundPipeline, video: Path) -> None:
    stereo = pipeline(video, recognise=False, seed=2).audio
    mono = pipeline(video, recognise=False, seed=2, channels=1).audio
    assert (stereo.num_channels, mono.num_channels) == (2, 1)
    assert np.abs(stereo.samples_CN.mean(axis=0) - mono.samples_CN[0]).max() < 1e-6
    assert pipeline(prompt="rain", seed=0).audio.num_channels == 1


def test_chunks_are_as_the_whole(model: Model) -> None:
    rng = np.random.default_rng(0)
    low_1N = (0.1 * rng.normal(size=(1, 45 * 16_000 + 77))).astype(np.float32)
    low = Audio(samples_CN=low_1N, sample_rate_hz=16_000)
    assert model.band is not None
    full = extend(low, model.band.added_array)
    assert full.samples_CN.shape[1] == round((45 + 77 / 16_000) * 44_100)
    error_CN = below(full.samples_CN, 7100) - below(resample(low, 44_100).samples_CN, 7100)
    assert np.abs(error_CN).max() < 0.003
    added_N = full.samples_CN[0] - resample(low, 44_100).samples_CN[0]
    levels = [np.sqrt(np.mean(added_N[k * 2205 : (k + 4) * 2205] ** 2)) for k in range(4, 892)]
    assert max(levels) < 1.6 * min(levels)  # no gap, no bump where chunks meet
