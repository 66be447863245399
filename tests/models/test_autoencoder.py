"""Laws of the autoencoder and of the spectra beneath it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch.utils import _device

from omni2sound.errors import ConfigError, ShapeError, UserError
from omni2sound.models.autoencoder import MelPcaAutoencoder, MelPcaConfig, loudness_of
from omni2sound.models.spectrum import (
    Spectrum,
    mel_filterbank,
    noise_spectrum,
    phase_by_projection,
)
from omni2sound.models.vocoder import NOISE_SPREAD, Vocoder, VocoderConfig

RATE = 16_000
HOP = 640


def sounds(count: int = 24) -> Iterator[torch.Tensor]:
    """Clicks, tones, noises and silence with envelopes, 1 s each, known by seed."""
    generator = torch.Generator().manual_seed(7)
    time_s = torch.arange(RATE) / RATE
    for i in range(count):
        drawn = torch.rand(4, generator=generator)
        onset = (time_s - 0.8 * drawn[0]).clamp_min(0)
        envelope = (onset > 0) * torch.exp(-onset * (2 + 40 * drawn[1]))
        pitch_hz = 80 * 60 ** float(drawn[2])
        tone = torch.sin(2 * math.pi * pitch_hz * time_s)
        noise = torch.randn(RATE, generator=generator)
        click = torch.zeros(RATE)
        click[int(15_000 * drawn[0])] = 1.0
        kinds = [
            0.5 * tone * envelope,
            0.2 * noise * envelope,
            0.5 * click,
            0.1 * noise + 0.2 * tone,
        ]
        yield 2.0 * float(drawn[3]) * kinds[i % 4]


@pytest.fixture(scope="module", params=[None, VocoderConfig(width=24, depth=2)])
def fitted(request: pytest.FixtureRequest) -> MelPcaAutoencoder:
    """Without and with an (untrained) vocoder: the laws hold for both."""
    torch.manual_seed(0)
    model = MelPcaAutoencoder(MelPcaConfig(vocoder=request.param))
    model.fit_pca(sounds())
    return model.eval()


# ---- spectra ----


@given(frames=st.integers(1, 40), batch=st.integers(1, 3), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_the_inverse_undoes_the_transform(frames: int, batch: int, seed: int) -> None:
    spectrum = Spectrum(window_samples=480, hop_samples=160)
    generator = torch.Generator().manual_seed(seed)
    waveform_BN = torch.randn(batch, 160 * frames, generator=generator)
    spectrum_BTF = spectrum.transform(waveform_BN)
    assert spectrum_BTF.shape == (batch, frames, 241)
    torch.testing.assert_close(spectrum.inverse(spectrum_BTF), waveform_BN, atol=1e-4, rtol=1e-4)


def test_a_frame_is_centred_on_the_middle_of_its_own_samples() -> None:
    spectrum = Spectrum(window_samples=480, hop_samples=160)
    waveform_N = torch.zeros(1600)
    waveform_N[160 * 5 + 80] = 1.0
    energy_T = spectrum.transform(waveform_N[None])[0].abs().square().sum(dim=1)
    assert int(energy_T.argmax()) == 5
    torch.testing.assert_close(energy_T[4], energy_T[6])


def test_a_full_scale_sine_has_magnitude_one_half() -> None:
    spectrum = Spectrum(window_samples=480, hop_samples=160)
    waveform_N = torch.sin(2 * math.pi * 1000 * torch.arange(RATE) / RATE)
    magnitude_TF = spectrum.transform(waveform_N[None])[0].abs()
    assert float(magnitude_TF[50].max()) == pytest.approx(0.5, rel=1e-3)


@given(bands=st.integers(8, 96))
@settings(max_examples=15, deadline=None)
def test_every_mel_band_is_a_mean(bands: int) -> None:
    bank_MF = mel_filterbank(bands, 241, sample_rate_hz=RATE, lowest_hz=0.0, highest_hz=8000.0)
    assert bool((bank_MF >= 0).all())
    torch.testing.assert_close(bank_MF.sum(dim=1), torch.ones(bands))
    centre_M = (bank_MF * torch.arange(241)).sum(dim=1)
    assert bool((centre_M.diff() > 0).all())


def test_networks_are_built_without_numbers_after_another_library_changed_linspace() -> None:
    # transformers does this while it loads a model. If that is the process's first use of the meta
    # device, torch remembers the wrong linspace (findings/transformers-meta-linspace.sh).
    from transformers.initialization import meta_device_safe_creation_ops

    remembered = _device._device_constructors
    remembered.cache_clear()
    try:
        with torch.device("meta"), meta_device_safe_creation_ops():
            torch.empty(0)
        with torch.device("meta"):
            left_on_cpu = torch.linspace(0, 1, 2)
            bank_MF = mel_filterbank(80, 241, sample_rate_hz=RATE, lowest_hz=0, highest_hz=8000)
    finally:
        remembered.cache_clear()
    assert left_on_cpu.device.type == "cpu"
    assert bank_MF.is_meta


def test_projections_bring_magnitudes_nearer() -> None:
    spectrum = Spectrum(window_samples=480, hop_samples=160)
    waveform_BN = torch.stack(list(sounds(4)))
    wanted = spectrum.transform(waveform_BN).abs()
    start = noise_spectrum(wanted, spectrum)
    errors = []
    for iterations in (0, 4, 32):
        found = phase_by_projection(wanted, spectrum, iterations=iterations, start_BTF=start)
        errors.append(float((spectrum.transform(found).abs() - wanted).norm() / wanted.norm()))
    assert errors[0] > 1.3 * errors[1] > 1.3**2 * errors[2]


def test_the_fixed_noise_has_power_one_in_each_bin() -> None:
    spectrum = Spectrum(window_samples=480, hop_samples=160)
    noise_BTF = noise_spectrum(torch.zeros(1, 500, 1), spectrum)
    power_F = noise_BTF[0, 2:-2].abs().square().mean(dim=0)
    torch.testing.assert_close(power_F.mean(), torch.tensor(1.0), atol=0.03, rtol=0)
    spread = noise_BTF[0, 2:-2, 1:-1].abs().log().std()
    assert float(spread) == pytest.approx(NOISE_SPREAD, rel=0.03)


# ---- the vocoder ----


def vocoder(texture: float) -> Vocoder:
    torch.manual_seed(0)
    model = MelPcaAutoencoder(
        MelPcaConfig(vocoder=VocoderConfig(width=16, depth=1, texture=texture))
    )
    assert model.vocoder is not None
    return model.vocoder.requires_grad_(False)


@pytest.mark.parametrize("texture", [0.0, 0.6, 1.0])
def test_magnitudes_keep_the_level_of_each_band(texture: float) -> None:
    network = vocoder(texture)
    generator = torch.Generator().manual_seed(1)
    steps = torch.randn(1, 40, 80, generator=generator).cumsum(dim=2)
    log_mel_BTM = -6 + 0.2 * steps
    noise = torch.randn(1, 40, 241, dtype=torch.complex64, generator=generator)
    magnitude_BTF = network.magnitude(log_mel_BTM, noise)
    assert bool((magnitude_BTF >= 0).all())
    found = torch.log(magnitude_BTF @ network.filterbank_MF.T + 1e-5)
    assert float((found - log_mel_BTM).mean().abs()) < 0.1


def test_texture_varies_magnitudes_and_none_leaves_them_smooth() -> None:
    log_mel_BTM = torch.full((1, 40, 80), -5.0)
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(1, 40, 241, dtype=torch.complex64, generator=generator)
    inner = slice(8, -8)
    smooth = vocoder(0.0).magnitude(log_mel_BTM, noise)[0, inner, 40:200]
    rough = vocoder(1.0).magnitude(log_mel_BTM, noise)[0, inner, 40:200]
    assert float(smooth.log().std(dim=0).mean()) < 0.02
    assert float(rough.log().std(dim=0).mean()) > 0.2


# ---- the autoencoder ----


@given(samples=st.integers(1, 4000), batch=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_shapes_follow_the_hop(samples: int, batch: int) -> None:
    model = MelPcaAutoencoder(MelPcaConfig(latent_dim=8, phase_iterations=1))
    latents_BLC = model.encode(torch.zeros(batch, samples))
    assert latents_BLC.shape == (batch, -(-samples // HOP), 8)
    assert model.decode(latents_BLC).shape == (batch, HOP * latents_BLC.shape[1])


def test_latents_have_zero_mean_and_unit_variance(fitted: MelPcaAutoencoder) -> None:
    latents_NC = torch.cat([fitted.encode(x[None])[0] for x in sounds()])
    assert float(latents_NC.mean(dim=0).abs().max()) < 1e-3
    torch.testing.assert_close(
        latents_NC.std(dim=0, correction=0), torch.ones(fitted.latent_dim), atol=1e-2, rtol=0
    )


def test_all_components_together_lose_nothing_of_the_bands() -> None:
    model = MelPcaAutoencoder(MelPcaConfig(latent_dim=320))
    model.fit_pca(torch.cat([x, x.flip(0)]) for x in sounds())
    waveform_BN = next(sounds())[None]
    restored = model.log_mel_from_latents(model.encode(waveform_BN))
    torch.testing.assert_close(restored, model.log_mel(waveform_BN), atol=2e-2, rtol=0)


def test_constant_directions_do_not_blow_up() -> None:
    """Silence alone has no variance at all; other sounds must still get finite latents."""
    model = MelPcaAutoencoder(MelPcaConfig())
    model.fit_pca([torch.zeros(RATE * 6)])
    assert bool(model.encode(torch.randn(1, RATE)).isfinite().all())
    assert float(model.encode(torch.zeros(1, RATE)).abs().max()) < 1.0


def test_silence_comes_back_silent(fitted: MelPcaAutoencoder) -> None:
    restored = fitted.decode(fitted.encode(torch.zeros(1, RATE)))
    assert float(restored.abs().max()) < 1e-2


@given(position=st.integers(2 * HOP, RATE - 2 * HOP))
@settings(max_examples=12, deadline=None)
def test_a_click_comes_back_within_5_ms(fitted: MelPcaAutoencoder, position: int) -> None:
    waveform_BN = torch.zeros(1, RATE)
    waveform_BN[0, position] = 0.8
    restored_N = fitted.decode(fitted.encode(waveform_BN))[0]
    energy_N = restored_N.square()
    centre = float((energy_N * torch.arange(RATE)).sum() / energy_N.sum())
    assert abs(centre - position) <= 0.005 * RATE


@given(shift=st.integers(1, 10))
@settings(max_examples=5, deadline=None)
def test_shifting_by_whole_frames_shifts_latents(fitted: MelPcaAutoencoder, shift: int) -> None:
    x = next(sounds())
    padded = torch.nn.functional.pad(x, (HOP * shift, HOP))
    here, there = fitted.encode(x[None])[0], fitted.encode(padded[None])[0]
    torch.testing.assert_close(there[shift : shift + 24], here[:24], atol=1e-3, rtol=1e-3)


def test_decoding_is_deterministic_and_free_of_the_batch(fitted: MelPcaAutoencoder) -> None:
    latents_BLC = fitted.encode(torch.stack(list(sounds(3))))
    once, again = fitted.decode(latents_BLC), fitted.decode(latents_BLC)
    assert torch.equal(once, again)
    torch.testing.assert_close(fitted.decode(latents_BLC[1:2])[0], once[1], atol=1e-3, rtol=0)


def test_half_precision_weights_give_the_same_sound(
    fitted: MelPcaAutoencoder, tmp_path: Path
) -> None:
    path = tmp_path / "autoencoder.safetensors"
    save_file({k: v.half().contiguous() for k, v in fitted.state_dict().items()}, path)
    loaded = MelPcaAutoencoder(fitted.config)
    loaded.load_state_dict({k: v.float() for k, v in load_file(path).items()})
    waveform_BN = torch.stack(list(sounds(4)))
    before = fitted.log_mel_from_latents(fitted.encode(waveform_BN))
    after = loaded.log_mel_from_latents(loaded.encode(waveform_BN))
    assert float((before - after).abs().mean()) < 0.02


def test_latents_far_outside_the_data_give_finite_sound(fitted: MelPcaAutoencoder) -> None:
    generator = torch.Generator().manual_seed(0)
    latents_BLC = 1e4 * torch.randn(1, 10, fitted.latent_dim, generator=generator)
    assert bool(fitted.decode(latents_BLC).isfinite().all())


@given(seed=st.integers(0, 50), over=st.floats(0.5, 5.0))
@settings(max_examples=10, deadline=None)
def test_no_frame_is_louder_than_the_limit(
    fitted: MelPcaAutoencoder, seed: int, over: float
) -> None:
    drawn = torch.randn(1, 12, fitted.latent_dim, generator=torch.Generator().manual_seed(seed))
    latents_BLC = 2 * drawn
    plain_BN = fitted.decode(latents_BLC)
    loudest = float(loudness_of(fitted.log_mel_from_latents(latents_BLC)).max())
    limited = MelPcaAutoencoder(dataclasses.replace(fitted.config, loudest=loudest - over))
    limited.load_state_dict(fitted.state_dict())
    found_BN = limited.decode(latents_BLC)
    assert float(loudness_of(fitted.log_mel(found_BN)).max()) < loudest - over + 0.5
    assert found_BN.abs().max() < plain_BN.abs().max()
    above = MelPcaAutoencoder(dataclasses.replace(fitted.config, loudest=loudest + 0.01))
    above.load_state_dict(fitted.state_dict())
    assert torch.equal(above.decode(latents_BLC), plain_BN)  # what is below it stays


@pytest.mark.parametrize(
    "change",
    [
        {"window_samples": 481},
        {"frame_hop_samples": 161},
        {"latent_dim": 0},
        {"latent_dim": 321},
        {"magnitude_floor": 0.0},
    ],
)
def test_impossible_shapes_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        dataclasses.replace(MelPcaConfig(), **change)  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"width": 0}, {"depth": 0}, {"texture": 1.5}])
def test_impossible_vocoders_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        VocoderConfig(**change)  # type: ignore[arg-type]


def test_wrong_tensors_are_refused(fitted: MelPcaAutoencoder) -> None:
    for waveform in (torch.zeros(RATE), torch.zeros(1, 0)):
        with pytest.raises(ShapeError, match="waveform must be"):
            fitted.encode(waveform)
    for latents in (torch.zeros(4, 64), torch.zeros(1, 4, 63), torch.zeros(1, 0, 64)):
        with pytest.raises(ShapeError, match="latents must be"):
            fitted.decode(latents)
    with pytest.raises(UserError, match="give more sound"):
        fitted.__class__(fitted.config).fit_pca([torch.zeros(RATE)])
