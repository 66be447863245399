"""Laws of the autoencoder's training."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omni2sound.errors import ConfigError, UserError
from omni2sound.models.autoencoder import MelPcaAutoencoder, MelPcaConfig
from omni2sound.models.vocoder import VocoderConfig
from omni2sound.train.parts.small_network import learning_rate
from omni2sound.train.parts.vocoder import (
    VocoderRecipe,
    draw_batch,
    fit_components,
    train_vocoder,
    vocoder_loss,
)


def recordings() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    time_s = np.arange(8000) / 16_000
    tones = [np.sin(2 * np.pi * f * time_s) * np.exp(-5 * time_s) for f in (220, 440, 1760)]
    noises = [0.3 * rng.standard_normal(6000) for _ in range(2)]
    return [x.astype(np.float32) for x in (*tones, *noises)]


def tiny() -> MelPcaAutoencoder:
    config = MelPcaConfig(
        num_bands=16,
        latent_dim=12,
        phase_iterations=2,
        vocoder=VocoderConfig(width=8, depth=1),
    )
    model = MelPcaAutoencoder(config)
    fit_components(model, recordings(), num_mixes=8)
    return model


def recipe(num_steps: int) -> VocoderRecipe:
    return VocoderRecipe(num_steps=num_steps, batch_size=2, crop_frames=6, precision="float32")


@given(step=st.integers(0, 10_000), share=st.sampled_from([0.0, 0.5, 1.0]))
@settings(max_examples=20, deadline=None)
def test_a_batch_is_a_function_of_seed_and_step(step: int, share: float) -> None:
    def draw(step: int) -> torch.Tensor:
        pool = recordings()
        return draw_batch(
            pool, pool, seed=3, step=step, batch_size=3, num_samples=3200, scene_share=share
        )

    once = draw(step)
    assert once.shape == (3, 3200)
    assert once.dtype == torch.float32
    assert bool(once.isfinite().all())
    assert torch.equal(once, draw(step))
    assert not torch.equal(once, draw(step + 1))


def test_the_likelihood_is_best_at_the_true_mean_and_spread() -> None:
    generator = torch.Generator().manual_seed(0)
    target = -3 + 0.5 * torch.randn(4, 50, 200, generator=generator)

    def loss(mean: float, spread: float) -> float:
        full = torch.full_like(target, mean), torch.full_like(target, math.log(spread))
        return float(vocoder_loss(*full, target)[0])

    best = loss(-3.0, 0.5)
    assert all(best < loss(m, s) for m, s in [(-2.8, 0.5), (-3.2, 0.5), (-3.0, 0.4), (-3.0, 0.6)])


def test_the_learning_rate_rises_then_falls() -> None:
    plan = VocoderRecipe(num_steps=1000)
    rates = [learning_rate(plan, step) for step in range(1001)]
    peak = rates.index(max(rates))
    assert 90 <= peak <= 110
    assert all(a >= b for a, b in zip(rates[peak:], rates[peak + 1 :], strict=False))
    assert rates[-1] == pytest.approx(0.02 * plan.lr)


def test_training_lowers_the_loss_and_leaves_latents_alone(tmp_path: Path) -> None:
    model = tiny()
    sound = draw_batch(recordings(), (), seed=9, step=0, batch_size=4, num_samples=3840)
    latents = model.encode(sound)

    def error() -> float:
        assert model.vocoder is not None
        with torch.no_grad():
            mean, log_spread = model.vocoder(model.log_mel_from_latents(latents))
            target = torch.log(model.spectrum.transform(sound).abs() + 1e-5)
            return sum(float(part) for part in vocoder_loss(mean, log_spread, target))

    before = error()
    assert train_vocoder(model, recordings(), recipe=recipe(150), out=tmp_path) == 150
    assert error() < before - 0.1
    assert torch.equal(model.encode(sound), latents)


def test_a_resumed_run_is_the_same_run(tmp_path: Path) -> None:
    whole, parts = tiny(), tiny()
    train_vocoder(whole, recordings(), recipe=recipe(6), out=tmp_path / "whole")
    done = train_vocoder(
        parts, recordings(), recipe=recipe(6), out=tmp_path / "parts", max_minutes=0.0
    )
    assert done < 6
    train_vocoder(parts, recordings(), recipe=recipe(6), out=tmp_path / "parts", resume=True)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, parts.state_dict()[name]), name


def test_another_run_is_not_resumed(tmp_path: Path) -> None:
    train_vocoder(tiny(), recordings(), recipe=recipe(1), out=tmp_path)
    with pytest.raises(ConfigError, match="can't resume"):
        train_vocoder(tiny(), recordings(), recipe=recipe(2), out=tmp_path, resume=True)


def test_what_can_not_be_trained_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no vocoder"):
        train_vocoder(
            MelPcaAutoencoder(MelPcaConfig()), recordings(), recipe=recipe(1), out=tmp_path
        )
    with pytest.raises(UserError, match="no sound"):
        train_vocoder(tiny(), [], recipe=recipe(1), out=tmp_path)
    for change in ({"num_steps": 0}, {"scene_share": 1.5}, {"precision": "float16"}):
        with pytest.raises(ConfigError):
            VocoderRecipe(**change)  # type: ignore[arg-type]
