"""Sample sounds and spectrograms of a model in training.

In:   a model, clips of the validation store.
Out:  for each task a few pairs ``V2A-0.wav`` and ``V2A-0.png``: the spectrogram of the real
      sound above that of the generated one.

The solver is plain DDIM with even times, because training must not depend on the libraries of
`diffusion.samplers`. The noise is the same at every visit, so that differences are due to
training. Source of the solver: Song et al. 2020, arXiv:2010.02502.
"""

from __future__ import annotations

import wave
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from omni2sound.data.batches.batch import build_batch, sampler_for
from omni2sound.data.batches.hard_samples import Difficulty
from omni2sound.data.batches.sampler import StepDraw
from omni2sound.data.store.rows import FeatureStore
from omni2sound.diffusion.objective import Objective
from omni2sound.files import writing
from omni2sound.models.autoencoder import AudioVAE
from omni2sound.models.conditioning import Conditions
from omni2sound.timebase import TimeBase
from omni2sound.train.parallel import World
from omni2sound.train.recipe import Recipe
from omni2sound.train.step import to_device

SAMPLES_PER_TASK = 2
NUM_STEPS = 24
GUIDANCE = 3.0
_RANGE_DB = 80.0
"""Between black and white in a spectrogram."""


@torch.no_grad()
def write_samples(
    folder: Path,
    model: nn.Module,
    store: FeatureStore,
    vae: AudioVAE,
    recipe: Recipe,
    *,
    device: torch.device,
    world: World,
) -> None:
    """Generate sound for the same few clips; all ranks must call, the first one writes."""
    sampler = sampler_for(store, seed=recipe.seed + 2, batch_seconds=recipe.batch_seconds)
    was_training = model.training
    model.eval()
    for task in recipe.tasks:
        draw = sampler.draw(0, {task: 1.0})
        few = StepDraw(draw.task, draw.duration_s, draw.clips[:SAMPLES_PER_TASK])
        batch = build_batch(
            store,
            few,
            seed=recipe.seed + 2,
            step=0,
            difficulty=Difficulty(augment=False),
            text_tokens=recipe.text_tokens,
        )
        real_BN = batch.waveform_BN
        assert real_BN is not None  # read, since latents are made of it here
        shape = vae.encode(real_BN.to(device)).shape
        generator = torch.Generator().manual_seed(recipe.seed)
        noise_BLC = torch.randn(shape, generator=generator).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            x_BLC = denoise(model, noise_BLC, to_device(batch.conditions, device), recipe.objective)
        made_BN = vae.decode(x_BLC.float())[:, : real_BN.shape[1]].cpu()
        if world.is_first:
            folder.mkdir(parents=True, exist_ok=True)
            for i, (real_N, made_N) in enumerate(zip(real_BN, made_BN, strict=True)):
                picture = np.concatenate([_spectrogram(real_N), _spectrogram(made_N)])
                with writing(folder):
                    _write_wav(folder / f"{task}-{i}.wav", made_N.numpy())
                    _write_wav(folder / f"{task}-{i}.real.wav", real_N.numpy())
                    prompt = f"{batch.clip_ids[i]}: {batch.texts[i] or '(no prompt)'}\n"
                    (folder / f"{task}-{i}.txt").write_text(prompt, encoding="utf-8")
                    Image.fromarray(picture).save(folder / f"{task}-{i}.png")
    model.train(was_training)


def denoise(
    model: nn.Module,
    noise_BLC: Tensor,
    conditions: Conditions,
    objective: Objective,
) -> Tensor:
    """Denoise (B, L, C) to latents, in even steps of the noise time, with guidance."""
    x_BLC, batch_size = noise_BLC, noise_BLC.shape[0]
    all_B = torch.ones(batch_size, dtype=torch.bool, device=noise_BLC.device)
    times = torch.linspace(1, 0, NUM_STEPS + 1, device=noise_BLC.device)
    for now, then in pairwise(times):
        t_B = now.expand(batch_size)
        conditional = model(x_BLC, t_B, conditions).float()
        null = model(x_BLC, t_B, conditions, drop_B=all_B).float()
        data_BLC = objective.to_data(x_BLC, null + GUIDANCE * (conditional - null), t_B)
        alpha, sigma = objective.alpha_sigma(t_B)
        noise = (x_BLC - alpha * data_BLC) / sigma
        x_BLC = objective.add_noise(data_BLC, noise, then.expand(batch_size))
    return x_BLC


def _write_wav(path: Path, waveform_N: NDArray[np.float32]) -> None:
    """Write one channel of 16 bits, clipped at full scale."""
    pcm = np.round(np.clip(waveform_N, -1, 1) * 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(TimeBase().sample_rate_hz)
        file.writeframes(pcm.tobytes())


def _spectrogram(waveform_N: Tensor) -> NDArray[np.uint8]:
    """Spectrogram with high frequencies on top and a dark line at the bottom; white is loud."""
    magnitude_FT = torch.stft(
        waveform_N, 512, 160, window=torch.hann_window(512), return_complex=True
    ).abs()
    level_db = 20 * torch.log10(magnitude_FT / 128 + 1e-8)  # 128: a full-scale sine
    grey = ((level_db / _RANGE_DB + 1).clamp(0, 1) * 255).to(torch.uint8).flip(0).numpy()
    grey[-2:] = 0
    return grey
