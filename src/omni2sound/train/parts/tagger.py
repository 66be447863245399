"""Training of the in-domain tagger, a small network over log-mel patches.

In:   recordings by class (training split) and optionally their reconstructions by an
      autoencoder.
Out:  a `TaggerNetwork` in evaluation mode; a log.

A training patch mixes zero to three recordings, each with its own gain, equaliser and onset,
sometimes low-passed, over noise. A class is a label of the patch if its recording is not much
quieter there than the loudest one. Classes are drawn uniformly, whatever their number of
recordings. All randomness of step k is derived from (seed, k).

What not to get wrong: the tagger is applied to *generated* sounds, which come out of a decoder.
Trained on recordings alone it mistakes decoder artefacts for hissing classes, so a share of the
recordings is replaced by reconstructions.

Shape suffixes: B batch, N samples, K classes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from omni2sound.config import to_json
from omni2sound.data.batches.augment import augment_waveform
from omni2sound.encoders.metric.tagger import TaggerConfig, TaggerNetwork
from omni2sound.errors import ConfigError, UserError
from omni2sound.generate.model import load_model
from omni2sound.models.autoencoder import AudioVAE
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets
from omni2sound.train.log import RunLog
from omni2sound.train.parts.material import training_attribution
from omni2sound.weights import save_model

_log = logging.getLogger(__name__)

Waveform = NDArray[np.float32]
LOG_EVERY = 50
_MAX_RECORDING_S = 6.0
"""Longer recordings are cut to their beginning."""
MOST_OCTAVES = 0.35
"""Range of the speed perturbation: six recordings of a class have few pitches."""
_MASKED_BANDS, _MASKED_FRAMES = 10, 16
"""Widest masked stripes, so that no single band or moment decides."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaggerRecipe:
    """Hyperparameters of the training; chosen, not searched."""

    num_steps: int = 2000
    """Optimizer steps; the learning rate falls to zero over them."""
    batch_size: int = 64
    """Patches per step."""
    lr: float = 3e-3
    """Peak learning rate."""
    empty_share: float = 0.05
    """Share of patches with noise alone."""
    mixed_share: float = 0.4
    """Share of patches with two or three recordings."""
    decoded_share: float = 0.5
    """Probability that a recording is replaced by its reconstruction."""
    audible_db: float = 15.0
    """A recording is a label if it is at most this much below the loudest one of the patch."""
    average_decay: float = 0.995
    """Decay of the EMA weights, which are saved."""
    seed: int = 0
    """Random seed of weights and batches."""

    def __post_init__(self) -> None:
        if min(self.num_steps, self.batch_size) < 1:
            raise ConfigError("num_steps and batch_size must be at least 1")
        for name in ("empty_share", "mixed_share", "decoded_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must lie in 0..1, got {getattr(self, name)}")


def train_tagger_model(
    corpus: Path, out: Path, *, parts: str | None = None, max_minutes: float = 60.0
) -> Path:
    """Train the in-domain tagger on the training recordings.

    Args:
        corpus: Folder of the scenes' material.
        out: Folder of the log and of `model/`.
        parts: Model whose autoencoder reconstructs recordings; None: "embedded".
        max_minutes: Time limit; a run that exceeds it fails.

    Returns:
        The model folder, with the tagger alone.

    Raises:
        UserError: If the material or the model can't be read, or time is up.
    """
    assets, model = SceneAssets.open(corpus), load_model(parts or "embedded")
    catalogue, longest = assets.catalogue, round(_MAX_RECORDING_S * SAMPLE_RATE_HZ)
    recordings = {
        c: [assets.waveform(r.recording_id)[:longest] for r in catalogue.recordings_of(c, "train")]
        for c in catalogue.class_ids
        if catalogue.recordings_of(c, "train")
    }
    decoded = {
        c: [_reconstruct(x_N, model.autoencoder) for x_N in of_class]
        for c, of_class in recordings.items()
    }
    recipe = TaggerRecipe()
    network = train_tagger(recordings, decoded, recipe=recipe, out=out, max_minutes=max_minutes)
    save_model(
        out / "model",
        name="tagger",
        parts={"tagger": to_json(network.config)},
        tensors={"tagger": network.state_dict()},
        defaults={},
        training={
            "catalogue_sha256": catalogue.digest,
            "recipe": to_json(recipe),
            "autoencoder_of": model.sha256,
        },
        attribution=training_attribution(catalogue, pictures=False),
    )
    return out / "model"


@torch.no_grad()
def _reconstruct(sound_N: Waveform, autoencoder: AudioVAE) -> Waveform:
    latents_BLC = autoencoder.encode(torch.from_numpy(sound_N.copy())[None])
    decoded_N = autoencoder.decode(latents_BLC)[0, : len(sound_N)]
    return decoded_N.float().numpy()


def train_tagger(
    recordings: Mapping[str, Sequence[Waveform]],
    decoded: Mapping[str, Sequence[Waveform]],
    *,
    recipe: TaggerRecipe,
    out: Path,
    max_minutes: float,
) -> TaggerNetwork:
    """Train from scratch.

    Args:
        recordings: Waveforms (N,) at 16 kHz by class.
        decoded: Reconstructions of the recordings by class; may be empty.
        recipe: Hyperparameters.
        out: Folder of the log.
        max_minutes: Time limit, which the run must not exceed.

    Raises:
        UserError: If a class has no recording, or time is up before the last step.
    """
    if empty := [name for name, of_class in recordings.items() if not of_class]:
        raise UserError(f"no training recording of {', '.join(empty)}")
    config = TaggerConfig(class_names=tuple(recordings))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = TaggerNetwork(config).train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # twice as fast
    # BatchNorm's statistics are averaged too, to fit the averaged weights.
    ema = torch.optim.swa_utils.AveragedModel(
        network,
        multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(  # type: ignore[no-untyped-call]
            recipe.average_decay
        ),
        use_buffers=True,
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.lr, weight_decay=0.05)
    log, started, losses = RunLog(out), time.monotonic(), []
    for step in range(recipe.num_steps):
        if time.monotonic() - started > 60 * max_minutes:
            raise UserError(
                f"{max_minutes:g} minutes were over at step {step} of {recipe.num_steps}; "
                "give more `max_minutes`: the learning rate of a shorter run has not come down"
            )
        progress = step / recipe.num_steps
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * min(1, (step + 1) / 50) * 0.5 * (1 + np.cos(np.pi * progress))
        sound_BN, truth_BK = draw_patches(recordings, decoded, config, recipe=recipe, step=step)
        # Forked: dropout and masking draw from the global generator, which must not move.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1_000_003 * recipe.seed + step)
            log_mel_BMT = _mask_stripes(network.log_mel(sound_BN))
            with torch.autocast("cpu", torch.bfloat16):
                logits_BK, _ = network.classify(log_mel_BMT)
        loss = nn.functional.binary_cross_entropy_with_logits(logits_BK.float(), truth_BK)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        ema.update_parameters(network)
        losses.append(loss.item())
        if (step + 1) % LOG_EVERY == 0:
            mean = float(np.mean(losses[-LOG_EVERY:]))
            log.write(step + 1, loss=round(mean, 5), progress=round(progress, 3))
            _log.info("step %d: loss %.4f", step + 1, mean)
    log.close()
    averaged = TaggerNetwork(config)
    averaged.load_state_dict(ema.module.state_dict())
    return averaged.eval()


def draw_patches(
    recordings: Mapping[str, Sequence[Waveform]],
    decoded: Mapping[str, Sequence[Waveform]],
    config: TaggerConfig,
    *,
    recipe: TaggerRecipe,
    step: int,
) -> tuple[Tensor, Tensor]:
    """Draw patches (B, N) and their labels (B, K)."""
    rng = np.random.default_rng([recipe.seed, step])
    names, size = config.class_names, config.patch_samples
    sounds, truths = [], np.zeros((recipe.batch_size, len(names)), np.float32)
    for row in range(recipe.batch_size):
        drawn = rng.random()
        count = 0 if drawn < recipe.empty_share else 1
        if drawn > 1 - recipe.mixed_share:
            count = int(rng.integers(2, 4))
        pieces, classes = [], rng.choice(len(names), size=count, replace=False)
        for k in classes:
            pool = recordings
            if decoded and rng.random() < recipe.decoded_share:
                pool = decoded
            of_class = pool[names[k]]
            pieces.append(_cut(of_class[int(rng.integers(len(of_class)))], size, rng))
        levels_db = [10 * np.log10(float(np.mean(p**2)) + 1e-12) for p in pieces]
        for k, level_db in zip(classes, levels_db, strict=True):
            truths[row, k] = level_db > max(max(levels_db) - recipe.audible_db, -70)
        sounds.append(_degrade(np.sum([np.zeros(size, np.float32), *pieces], axis=0), rng))
    return torch.from_numpy(np.stack(sounds).astype(np.float32)), torch.from_numpy(truths)


def _mask_stripes(log_mel_BMT: Tensor) -> Tensor:
    """Mask two stripes of bands and one of frames in each patch, from the global generator.

    Source:
        SpecAugment, Park et al. 2019, arXiv:1904.08779.
    """
    batch, bands, frames = log_mel_BMT.shape
    for axis, size, widest in ((1, bands, _MASKED_BANDS),) * 2 + ((2, frames, _MASKED_FRAMES),):
        width_B1 = torch.rand(batch, 1) * widest
        first_B1 = torch.rand(batch, 1) * (size - width_B1)
        at_1X = torch.arange(size)[None]
        hidden_BX = (at_1X >= first_B1) & (at_1X < first_B1 + width_B1)
        log_mel_BMT = log_mel_BMT.masked_fill(hidden_BX.unsqueeze(3 - axis), 0.0)
    return log_mel_BMT


def _cut(sound_N: Waveform, size: int, rng: np.random.Generator) -> Waveform:
    """Cut an excerpt with its own speed, gain and equaliser; it may begin before the sound."""
    speed = 2 ** rng.uniform(-MOST_OCTAVES, MOST_OCTAVES)
    start = int(rng.integers(-size // 2, max(int(len(sound_N) / speed) - size // 3, 1)))
    at = (start + np.arange(size)) * speed
    cut = np.interp(at, np.arange(len(sound_N)), sound_N, left=0, right=0)
    shaped = augment_waveform(cut.astype(np.float32), rng)
    gained: Waveform = shaped * np.float32(10 ** (-rng.uniform(0, 12) / 20))
    return gained


def _degrade(mix_N: Waveform, rng: np.random.Generator) -> Waveform:
    """Apply a random low-pass, level and noise, as a room would."""
    size = len(mix_N)
    if rng.random() < 0.25:
        spectrum = np.fft.rfft(mix_N)
        position = np.arange(len(spectrum)) / len(spectrum)
        falling = 1 / (1 + (position / rng.uniform(0.25, 0.9)) ** 8)
        mix_N = np.fft.irfft(spectrum * falling, size).astype(np.float32)
    peak = float(np.abs(mix_N).max())
    mix_N = mix_N * (rng.uniform(0.1, 0.7) / peak) if peak > 1e-5 else mix_N
    if rng.random() < 0.5 or peak <= 1e-5:
        colour = np.fft.rfft(rng.normal(size=size))
        colour /= np.maximum(np.arange(len(colour)), 20) ** rng.random()
        noise = np.fft.irfft(colour, size)
        mix_N = mix_N + noise / noise.std() * 10 ** (-rng.uniform(25, 70) / 20)
    degraded: Waveform = mix_N.astype(np.float32)
    return degraded
