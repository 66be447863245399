"""The full-size autoencoder at tiny sizes: lengths, reach, chunks, and diffusers beside it."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.parity._table import randomise
from omni2sound.convert.names import from_released, oobleck_links
from omni2sound.errors import ConfigError, ShapeError
from omni2sound.models.oobleck import Oobleck, OobleckConfig

TINY = OobleckConfig(channels=2, multiples=(1, 2), strides=(2, 4), latent_dim=3, chunk_frames=40)
HOP = 8


def tiny(config: OobleckConfig = TINY) -> Oobleck:
    model = Oobleck(config).eval().double()
    randomise(model, seed=3, gain=0.7)
    return model


def sound(samples: int, *, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, samples, generator=torch.Generator().manual_seed(samples))


@settings(max_examples=20)
@given(st.integers(1, 400))
def test_lengths_follow_the_hop(samples: int) -> None:
    model = tiny()
    latents = model.encode(sound(samples))
    assert latents.shape == (2, -(-samples // HOP), 3)
    assert model.decode(latents).shape == (2, latents.shape[1] * HOP)


@settings(max_examples=10)
@given(st.integers(1, 120), st.integers(1, 50))
def test_chunks_give_the_whole(frames: int, chunk: int) -> None:
    whole, parts = tiny(replace(TINY, chunk_frames=10_000)), tiny(replace(TINY, chunk_frames=chunk))
    waveform = sound(frames * HOP)
    torch.testing.assert_close(parts.encode(waveform), whole.encode(waveform))
    latents = torch.randn(1, frames, 3, generator=torch.Generator().manual_seed(chunk))
    torch.testing.assert_close(parts.decode(latents), whole.decode(latents))


def test_a_latent_frame_depends_on_no_sample_beyond_its_reach() -> None:
    model, middle = tiny(), 60
    waveform = sound(120 * HOP, batch=1).double().requires_grad_()
    mean, _ = model.posterior(waveform)
    (slope,) = torch.autograd.grad(mean[0, :, middle].sum(), waveform)
    reached = slope[0].reshape(-1, HOP).abs().sum(dim=1).nonzero()[:, 0]
    reach = TINY.encoder_reach_frames
    assert middle - reach <= int(reached.min()) < middle
    assert middle < int(reached.max()) <= middle + reach


def test_a_sample_depends_on_no_latent_frame_beyond_its_reach() -> None:
    model, middle = tiny(), 60
    latents = torch.randn(1, 3, 120, dtype=torch.float64).requires_grad_()
    samples = model.waveform(latents)[0, middle * HOP : (middle + 1) * HOP]
    (slope,) = torch.autograd.grad(samples.sum(), latents)
    reached = slope[0].abs().sum(dim=0).nonzero()[:, 0]
    reach = TINY.decoder_reach_frames
    assert middle - reach <= int(reached.min()) < middle
    assert middle < int(reached.max()) <= middle + reach


def test_statistics_standardise_latents_and_are_undone() -> None:
    model, waveform = tiny(), sound(400)
    plain = model.encode(waveform)
    sounds = model.decode(plain)
    mean_C, scale_C = torch.tensor([0.5, -1.0, 2.0]), torch.tensor([2.0, 0.5, 3.0])
    model.fit_statistics(mean_C, scale_C)
    torch.testing.assert_close(model.encode(waveform), (plain - mean_C) / scale_C)
    torch.testing.assert_close(model.decode(model.encode(waveform)), sounds)


@torch.no_grad()
def test_it_is_the_autoencoder_of_diffusers_bit_for_bit() -> None:
    from diffusers import AutoencoderOobleck

    config = replace(TINY, channels=6)  # theirs has latents of half its channels
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # their weight norm is the old one
        theirs = AutoencoderOobleck(
            encoder_hidden_size=6,
            downsampling_ratios=[2, 4],
            channel_multiples=[1, 2],
            decoder_channels=6,
            decoder_input_channels=3,
            audio_channels=1,
            sampling_rate=16_000,
        ).eval()
    randomise(theirs, seed=1, gain=0.7)
    ours = Oobleck(config).eval()
    wanted = {k: v for k, v in ours.state_dict().items() if k not in ("mean_C", "scale_C")}
    found, problems = from_released(
        theirs.state_dict(), oobleck_links(config, naming="diffusers"), wanted
    )
    assert not problems
    ours.load_state_dict(found, strict=False)
    waveform, latents = sound(30 * HOP), torch.randn(2, 30, 3)
    mean = theirs.encode(waveform[:, None]).latent_dist.mode().transpose(1, 2)
    assert torch.equal(ours.encode(waveform), mean)
    decoded = theirs.decode(latents.transpose(1, 2)).sample[:, 0]
    assert torch.equal(ours.decode(latents), decoded)


@pytest.mark.parametrize("shape", [(2, 0), (4,), (1, 1, 8)])
def test_what_is_no_batch_of_sound_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="waveform must be"):
        tiny().encode(torch.zeros(shape))


def test_what_is_no_batch_of_latents_is_refused() -> None:
    with pytest.raises(ShapeError, match="latents must be"):
        tiny().decode(torch.zeros(1, 4, 5))


def test_odd_strides_are_refused() -> None:
    with pytest.raises(ConfigError, match="at most 16, got 5000"):
        OobleckConfig(multiples=(1,) * 5000, strides=(2,) * 5000)
    with pytest.raises(ConfigError, match="strides must be even"):
        OobleckConfig(strides=(2, 3), multiples=(1, 2))


def test_the_full_size_is_25_frames_a_second() -> None:
    assert OobleckConfig().hop_samples == 640
