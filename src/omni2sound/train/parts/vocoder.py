"""Training of the embedded autoencoder: components in closed form, then the vocoder.

In:   recordings and optionally scenes of the training split, float32 at 16 kHz.
Out:  a `MelPcaAutoencoder`; checkpoints and a log in the run's folder.

All randomness of step k is derived from (seed, k), so a resumed run equals an uninterrupted one.

What not to get wrong: fitted components are frozen. The transformer learns *these* latents; the
vocoder may be trained again at any time, and must not change them.

Shape suffixes: B batch, N samples, T frames, F frequency bins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from omni2sound.config import digest, to_json
from omni2sound.errors import ConfigError, UserError
from omni2sound.models.autoencoder import MelPcaAutoencoder
from omni2sound.models.vocoder import Vocoder
from omni2sound.train.parts.small_network import train_network

Waveform = NDArray[np.float32]

_FIT_STEP = 1_000_000
"""First step number that `fit_components` draws at, beyond those of training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VocoderRecipe:
    """Hyperparameters of the vocoder's training; chosen, not searched."""

    num_steps: int = 6000
    """Optimizer steps; the learning rate falls to 2 % over them."""
    batch_size: int = 8
    """Excerpts per step."""
    crop_frames: int = 20
    """Latent frames of an excerpt."""
    lr: float = 2e-3
    """Peak learning rate."""
    scene_share: float = 0.5
    """Share of excerpts from scenes; the others are mixed from recordings."""
    precision: str = "bfloat16"
    """Precision of the forward pass; the loss is always in float32."""
    seed: int = 0
    """Random seed of initial weights and batches."""

    def __post_init__(self) -> None:
        if min(self.num_steps, self.batch_size, self.crop_frames) < 1:
            raise ConfigError("num_steps, batch_size and crop_frames must be at least 1")
        if not 0 <= self.scene_share <= 1:
            raise ConfigError(f"scene_share must lie in 0..1, got {self.scene_share}")
        if self.precision not in ("bfloat16", "float32"):
            raise ConfigError(f"precision must be bfloat16 or float32, got {self.precision!r}")


def fit_components(
    model: MelPcaAutoencoder,
    recordings: Sequence[Waveform],
    scenes: Sequence[Waveform] = (),
    *,
    num_mixes: int = 300,
) -> None:
    """Fit the latents on all scenes and on 2 s mixes of recordings, noise, tones, clicks."""
    _check(recordings, 1)
    mixes = draw_batch(
        recordings,
        (),
        seed=0,
        step=_FIT_STEP,
        batch_size=num_mixes,
        num_samples=2 * model.sample_rate_hz,
    )
    model.fit_pca([*(torch.from_numpy(np.array(scene)) for scene in scenes), *mixes])


def train_vocoder(
    model: MelPcaAutoencoder,
    recordings: Sequence[Waveform],
    scenes: Sequence[Waveform] = (),
    *,
    recipe: VocoderRecipe,
    out: Path,
    max_minutes: float | None = None,
    resume: bool = False,
) -> int:
    """Train `model.vocoder` in place; components do not change.

    Args:
        model: Autoencoder with fitted components and a vocoder, which is reinitialised.
        recordings: Waveforms (N,) at the model's rate; mixed, filtered and scaled.
        scenes: Longer waveforms, only cut and scaled; may be empty.
        recipe: Hyperparameters.
        out: Folder of checkpoints and log.
        max_minutes: Stop after this long, but after one step at the earliest.
        resume: Continue from the newest checkpoint in `out`, if there is one.

    Returns:
        Number of steps done: `recipe.num_steps` unless time was up.

    Raises:
        ConfigError: If the model has no vocoder, or the checkpoint is of another run.
        UserError: If there is no sound to train on.
    """
    vocoder = model.vocoder
    if vocoder is None:
        raise ConfigError("this autoencoder has no vocoder; set MelPcaConfig.vocoder")
    _check(recordings, recipe.crop_frames)

    def losses_of(step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        likelihood, error = _losses(model, vocoder, recordings, scenes, recipe, step)
        return likelihood + error, {"likelihood": likelihood, "error": error}

    steps = train_network(
        vocoder,
        losses_of,
        recipe=recipe,
        weight_decay=0.01,
        identity={"recipe": digest(recipe), "model": digest(to_json(model.config))},
        out=out,
        max_minutes=max_minutes,
        resume=resume,
    )
    model.eval()
    return steps


def vocoder_loss(
    mean_BTF: Tensor, log_spread_BTF: Tensor, target_BTF: Tensor
) -> tuple[Tensor, Tensor]:
    """Gaussian negative log-likelihood and mean absolute error of log-magnitudes.

    Frames are weighted by the fourth root of their largest magnitude, because errors in loud
    frames are more audible than in room tone.
    """
    error_BTF = mean_BTF - target_BTF
    likelihood = 0.5 * error_BTF.square() * torch.exp(-2 * log_spread_BTF) + log_spread_BTF
    weight_BT1 = torch.exp(0.25 * target_BTF.amax(dim=-1, keepdim=True))
    weight_BT1 = weight_BT1 / weight_BT1.mean()
    return (weight_BT1 * likelihood).mean(), (weight_BT1 * error_BTF.abs()).mean()


def _losses(
    model: MelPcaAutoencoder,
    vocoder: Vocoder,
    recordings: Sequence[Waveform],
    scenes: Sequence[Waveform],
    recipe: VocoderRecipe,
    step: int,
) -> tuple[Tensor, Tensor]:
    sound_BN = draw_batch(
        recordings,
        scenes,
        seed=recipe.seed,
        step=step,
        batch_size=recipe.batch_size,
        num_samples=recipe.crop_frames * model.hop_samples,
        scene_share=recipe.scene_share,
    )
    with torch.no_grad():
        log_mel_BTM = model.log_mel_from_latents(model.encode(sound_BN))
        magnitude_BTF = model.spectrum.transform(sound_BN).abs()
        target_BTF = torch.log(magnitude_BTF + model.config.magnitude_floor)
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        mean_BTF, log_spread_BTF = vocoder(log_mel_BTM)
    return vocoder_loss(mean_BTF.float(), log_spread_BTF.float(), target_BTF)


def draw_batch(
    recordings: Sequence[Waveform],
    scenes: Sequence[Waveform],
    *,
    seed: int,
    step: int,
    batch_size: int,
    num_samples: int,
    scene_share: float = 0.0,
) -> Tensor:
    """Draw varied excerpts (B, N): mixes of recordings, and cuts of scenes.

    A mix holds one to three recordings (occasionally a tone, clicks or a noise burst instead),
    each with its own gain and onset; it is filtered, scaled by up to -24 dB, and sometimes laid
    over a noise floor.
    """
    num_scenes = round(batch_size * scene_share) if scenes else 0
    rng = np.random.default_rng([seed, step])
    rows = [_mix(rng, recordings, num_samples) for _ in range(batch_size - num_scenes)]
    for _ in range(num_scenes):
        piece = _cut(rng, scenes, num_samples)
        rows.append(piece * 10 ** (rng.uniform(-8, 6) / 20))
    return torch.from_numpy(np.stack(rows).astype(np.float32))


def _mix(rng: np.random.Generator, pool: Sequence[Waveform], num_samples: int) -> Waveform:
    mix = np.zeros(num_samples)
    for i in range(1 if rng.random() < 0.65 else int(rng.integers(2, 4))):
        synthetic = rng.random() < 0.1
        sound = _synthesise(rng, num_samples) if synthetic else _cut(rng, pool, num_samples)
        mix += sound * 10 ** (-rng.uniform(0, 18 if i else 3) / 20)
    if rng.random() < 0.5:
        spectrum = np.fft.rfft(mix)
        where = np.linspace(-1, 1, len(spectrum))
        bow = np.cos(np.pi * where * rng.integers(1, 4))
        gain_db = 4 * rng.normal() * where + 3 * rng.normal() * bow
        mix = np.fft.irfft(spectrum * 10 ** (gain_db / 20), num_samples)
    mix *= 10 ** (-rng.uniform(0, 24) / 20) / max(float(np.abs(mix).max()), 1e-3)
    if rng.random() < 0.3:
        noise = np.fft.rfft(rng.normal(size=num_samples))
        noise /= np.maximum(np.arange(len(noise)), 20) ** rng.random()
        floor = np.fft.irfft(noise, num_samples)
        mix += floor / floor.std() * 10 ** (-rng.uniform(25, 65) / 20)
    return mix.astype(np.float32)


def _cut(rng: np.random.Generator, pool: Sequence[Waveform], num_samples: int) -> Waveform:
    """Cut an excerpt that may begin before the sound, or end after it."""
    sound = pool[int(rng.integers(len(pool)))]
    start = int(rng.integers(-num_samples // 2, max(len(sound) - num_samples // 2, 1)))
    begin, end = max(start, 0), min(start + num_samples, len(sound))
    piece = np.zeros(num_samples, np.float32)
    piece[begin - start : end - start] = sound[begin:end]
    return piece


def _synthesise(rng: np.random.Generator, num_samples: int) -> Waveform:
    """Draw a harmonic tone with a glide, a few clicks, or noise, with an onset and a decay."""
    time_s = np.arange(num_samples) / 16_000
    sound = np.zeros(num_samples)
    kind = int(rng.integers(3))
    if kind == 0:
        pitch_hz, glide = 60 * 50 ** rng.random(), 0.05 * rng.normal()
        for harmonic in range(1, int(rng.integers(2, 12))):
            if harmonic * pitch_hz < 7800:
                angle = 2 * np.pi * harmonic * pitch_hz * time_s * (1 + glide * time_s)
                sound += rng.random() / harmonic * np.sin(angle + 2 * np.pi * rng.random())
    elif kind == 1:
        sound[rng.integers(num_samples, size=int(rng.integers(1, 6)))] = rng.normal()
    else:
        sound = rng.normal(size=num_samples)
    since_onset_s = time_s - rng.random() * time_s[-1]
    envelope = np.exp(-np.maximum(since_onset_s, 0) * rng.exponential(8)) * (since_onset_s > 0)
    shaped: Waveform = (sound * envelope).astype(np.float32)
    return shaped


def _check(recordings: Sequence[Waveform], least: int) -> None:
    if not recordings or not any(len(r) >= least for r in recordings):
        raise UserError("there is no sound to train on; give the training split's recordings")
