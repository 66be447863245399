"""Training of the band extension on recordings of the training split at their own rate.

In:   a complete corpus with `full-band/` (`omni2sound scenes fetch`), and the model
      whose autoencoder the low band goes through.
Out:  a model folder: the given model with the component `band`; checkpoints and a log.

An excerpt is mixed at 44.1 kHz; its low band is what is left at 16 kHz, half the time after the
autoencoder's components; the target is the difference. All randomness of step k is derived from
(seed, k), so a resumed run equals an uninterrupted one.

What not to get wrong: many files of 44.1 kHz hold nothing above 11 or 16 kHz because they were
once stored at a lower rate. Bands above such a cliff are left out of the loss, or the network
would learn the history of files.

Shape suffixes: B batch, N samples, T frames, M mel bands, H bands above.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

from omni2sound.config import digest, from_json, to_json
from omni2sound.errors import ConfigError, UserError
from omni2sound.models.autoencoder import MelPcaAutoencoder, MelPcaConfig
from omni2sound.models.band import (
    LOW_HOP_SAMPLES,
    LOW_RATE_HZ,
    RATE_HZ,
    BandConfig,
    BandExtension,
)
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.material.licences import merge_attribution
from omni2sound.scenes.material.synthesis import SYNTHESIS
from omni2sound.train.parts.material import training_attribution
from omni2sound.train.parts.small_network import train_network
from omni2sound.weights import load_card, load_part, load_tensors, resolve_model, save_model

if TYPE_CHECKING:
    from omni2sound.scenes.material.catalogue import Split

Waveform = NDArray[np.float32]

LEAST_RATE_HZ = 43_000
"""Rate of a file from which it is taken for full-band; SoundFonts hold odd rates near 44.1 kHz."""
_SAVE_EVERY = 500
_CLIFF_DB = 18.0
_CLIFF_BAND_HZ = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class BandRecipe:
    """Hyperparameters of the band extension's training; chosen, not searched."""

    num_steps: int = 2500
    """Optimizer steps; the learning rate falls to 2 % over them."""
    batch_size: int = 6
    """Excerpts per step."""
    crop_s: float = 2.0
    """Seconds of an excerpt."""
    lr: float = 2e-3
    """Peak learning rate."""
    weight_decay: float = 0.05
    """Weight decay of AdamW."""
    coded_share: float = 0.5
    """Share of excerpts whose low band went through the autoencoder's components."""
    share_weight: float = 1.0
    """Weight of the error in an excerpt's energy above the low band, beside that of each band."""
    seed: int = 0
    """Random seed of initial weights and batches."""

    def __post_init__(self) -> None:
        if min(self.num_steps, self.batch_size) < 1 or self.crop_s <= 0:
            raise ConfigError("num_steps and batch_size must be at least 1, crop_s positive")
        if not 0 <= self.coded_share <= 1:
            raise ConfigError(f"coded_share must lie in 0..1, got {self.coded_share}")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FullBand:
    """A recording at 44.1 kHz.

    Attributes:
        recording_id: Its name in the catalogue.
        class_id: Its class.
        samples_N: The waveform.
        cliff_hz: Above this its file holds nothing; 22,050 for most.
    """

    recording_id: str
    class_id: str
    samples_N: Waveform
    cliff_hz: float


def train_band_model(
    corpus: Path,
    out: Path,
    *,
    parts: str = "embedded",
    max_minutes: float = 20.0,
    resume: bool = False,
) -> Path:
    """Train the band extension and add it to a model.

    Args:
        corpus: Folder of the scenes' material, with `full-band/`.
        out: Folder of checkpoints, log and `model/`.
        parts: Model that gets the component; its autoencoder codes low bands.
        max_minutes: Time limit of the training.
        resume: Continue from the newest checkpoint in `out`, if there is one.

    Returns:
        The model folder.

    Raises:
        UserError: The material or the model can't be read.
        ConfigError: The model's autoencoder is not of mel components at 16 kHz.
    """
    card = load_card(resolve_model(parts))
    autoencoder = MelPcaAutoencoder(from_json(MelPcaConfig, card.parts["autoencoder"]))
    load_part(card, "autoencoder", autoencoder)
    assets = SceneAssets.open(corpus, kinds="all")
    recipe = BandRecipe()
    model = BandExtension(BandConfig())
    steps = train_band(
        model,
        autoencoder,
        full_band_recordings(assets, "train"),
        recipe=recipe,
        out=out,
        max_minutes=max_minutes,
        resume=resume,
    )
    training = {
        "catalogue_sha256": assets.catalogue.digest,
        "recipe": to_json(recipe),
        "steps": steps,
    }
    save_model(
        out / "model",
        name=card.name,
        parts={**card.parts, "band": to_json(model.config)},
        tensors={**load_tensors(card), "band": model.state_dict()},
        defaults=card.defaults,
        training={**card.training, "band": training},
        attribution=merge_attribution(
            [card.attribution, training_attribution(assets.catalogue, pictures=False)]
        ),
    )
    return out / "model"


def full_band_recordings(assets: SceneAssets, split: Split) -> list[FullBand]:
    """Read the recordings of a split whose files have at least 43 kHz, at 44.1 kHz.

    Raises:
        MissingPartError: If the folder lacks one.
        UserError: If there are none.
    """
    found = []
    for recording in assets.catalogue.recordings:
        if recording.split != split or recording.package == SYNTHESIS:
            continue
        samples_N, rate_hz = assets.full_band(recording.recording_id)
        if rate_hz < LEAST_RATE_HZ:
            continue
        if rate_hz != RATE_HZ:
            samples_N = soxr.resample(samples_N, rate_hz, RATE_HZ)
        found.append(
            FullBand(
                recording_id=recording.recording_id,
                class_id=recording.class_id,
                samples_N=samples_N,
                cliff_hz=cliff_hz(samples_N),
            )
        )
    if not found:
        raise UserError(f"the corpus has no {split} recording at 43 kHz or more")
    return found


def cliff_hz(samples_N: Waveform) -> float:
    """Frequency above which a sound at 44.1 kHz was cut off when it was once stored.

    That is where the mean spectrum falls by 18 dB within 1 kHz and stays there; half the sample
    rate if it does so nowhere above 8 kHz.
    """
    window = 2048
    padded_N = np.pad(samples_N, (0, max(0, window - len(samples_N))))
    frames = np.lib.stride_tricks.sliding_window_view(padded_N, window)[:: window // 4]
    power_F = np.square(np.abs(np.fft.rfft(frames * np.hanning(window)))).mean(axis=0)
    per_band = _CLIFF_BAND_HZ * window / RATE_HZ
    edges = np.round(np.arange(int(len(power_F) / per_band) + 1) * per_band).astype(int)
    level_db = 10 * np.log10(np.add.reduceat(power_F, edges[:-1]) / per_band + 1e-12)
    for i in range(8000 // _CLIFF_BAND_HZ, len(level_db) - 1):
        before = level_db[i - 1]
        if before - level_db[i + 1] > _CLIFF_DB and level_db[i + 1 :].max() < before - 15:
            return float((i - 0.5) * _CLIFF_BAND_HZ)
    return RATE_HZ / 2


def split_bands(sound_N: Waveform) -> tuple[Waveform, Waveform]:
    """Low band (N * 160 / 441,) at 16 kHz, and what it lacks (N,) at 44.1 kHz."""
    low_N = soxr.resample(sound_N, RATE_HZ, LOW_RATE_HZ)
    back_N = soxr.resample(low_N, LOW_RATE_HZ, RATE_HZ)
    back_N = np.pad(back_N, (0, max(0, len(sound_N) - len(back_N))))[: len(sound_N)]
    return low_N.astype(np.float32), (sound_N - back_N).astype(np.float32)


def train_band(
    model: BandExtension,
    autoencoder: MelPcaAutoencoder,
    recordings: Sequence[FullBand],
    *,
    recipe: BandRecipe,
    out: Path,
    max_minutes: float | None = None,
    resume: bool = False,
) -> int:
    """Train the network in place, from initial weights of the recipe's seed.

    Args:
        model: The band extension; reinitialised.
        autoencoder: Its components code the low band of a share of the excerpts.
        recordings: Recordings of the training split.
        recipe: Hyperparameters.
        out: Folder of checkpoints and log.
        max_minutes: Stop after this long, but after one step at the earliest.
        resume: Continue from the newest checkpoint in `out`, if there is one.

    Returns:
        Number of steps done: `recipe.num_steps` unless time was up.

    Raises:
        ConfigError: The autoencoder has another rate, or the checkpoint is of another run.
    """
    if autoencoder.sample_rate_hz != LOW_RATE_HZ or autoencoder.config.num_bands != 80:
        raise ConfigError("the band extension goes with an autoencoder of 80 mel bands at 16 kHz")

    def losses_of(step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        error, share = _losses(model, autoencoder, recordings, recipe, step)
        return error + recipe.share_weight * share, {"error": error, "share": share}

    return train_network(
        model,
        losses_of,
        recipe=recipe,
        weight_decay=recipe.weight_decay,
        identity={
            "recipe": digest(recipe),
            "model": digest(to_json(model.config)),
            "recordings": digest([r.recording_id for r in recordings]),
        },
        out=out,
        max_minutes=max_minutes,
        resume=resume,
        save_every=_SAVE_EVERY,
    )


def band_loss(
    predicted_BTH: Tensor, target_BTH: Tensor, known_BH: Tensor, width_H: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean absolute error of log band powers, and of the logarithm of excerpts' energies.

    Args:
        predicted_BTH: Log of band powers.
        target_BTH: Those of the real sound.
        known_BH: 1 for bands below the file's cliff, else 0.
        width_H: Bins of each band.
    """
    # Errors in loud frames are more audible than in room tone.
    weight_BT1 = torch.exp(0.125 * target_BTH.amax(dim=-1, keepdim=True))
    weight_BTH = weight_BT1 / weight_BT1.mean() * known_BH[:, None]
    error = ((predicted_BTH - target_BTH).abs() * weight_BTH).sum() / known_BH[:, None].expand_as(
        predicted_BTH
    ).sum().clamp_min(1)
    counted_BH = known_BH * width_H
    predicted_B, target_B = (
        torch.log((x.exp().mean(dim=1) * counted_BH).sum(dim=-1) + 1e-9)
        for x in (predicted_BTH, target_BTH)
    )
    return error, (predicted_B - target_B).abs().mean()


def _losses(
    model: BandExtension,
    autoencoder: MelPcaAutoencoder,
    recordings: Sequence[FullBand],
    recipe: BandRecipe,
    step: int,
) -> tuple[Tensor, Tensor]:
    low_BN, added_BN, cliffs_B = draw_excerpts(recordings, recipe, step)
    with torch.no_grad():
        coded = round(recipe.coded_share * len(low_BN))
        log_mel_BTM = model.log_mel(model.low_spectrum.transform(low_BN))
        if coded:
            latents = autoencoder.encode(low_BN[:coded])
            coded_BTM = autoencoder.log_mel_from_latents(latents)[:, : log_mel_BTM.shape[1]]
            log_mel_BTM = torch.cat([coded_BTM, log_mel_BTM[coded:]])
        target_BTH = model.log_power(added_BN)
        top_H = model.band_edges_hz()[:, 1]
        known_BH = (top_H[None] <= cliffs_B[:, None]).float()
    return band_loss(model(log_mel_BTM), target_BTH, known_BH, (model.bands_HF > 0).sum(dim=1))


def draw_excerpts(
    recordings: Sequence[FullBand], recipe: BandRecipe, step: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw varied excerpts: low bands (B, N) at 16 kHz, what they lack, and cliffs (B,) in Hz.

    An excerpt holds one to three recordings of any class with equal chance, each at its own speed,
    gain and place; it is tilted, scaled by up to -24 dB, and sometimes laid over a noise floor.
    """
    rng = np.random.default_rng([recipe.seed, step])
    by_class: dict[str, list[FullBand]] = {}
    for recording in recordings:
        by_class.setdefault(recording.class_id, []).append(recording)
    frames = max(4, round(recipe.crop_s * LOW_RATE_HZ / LOW_HOP_SAMPLES) // 4 * 4)
    num_samples = frames * LOW_HOP_SAMPLES * RATE_HZ // LOW_RATE_HZ
    pairs, cliffs = [], []
    for _ in range(recipe.batch_size):
        sound_N, cliff = _mix(rng, list(by_class.values()), num_samples)
        pairs.append(split_bands(sound_N))
        cliffs.append(cliff)
    low_BN, added_BN = (torch.from_numpy(np.stack(bands)) for bands in zip(*pairs, strict=True))
    return low_BN[:, : frames * LOW_HOP_SAMPLES], added_BN, torch.tensor(cliffs)


def _mix(
    rng: np.random.Generator, classes: Sequence[Sequence[FullBand]], num_samples: int
) -> tuple[Waveform, float]:
    mix, cliff = np.zeros(num_samples), RATE_HZ / 2
    for i in range(1 if rng.random() < 0.7 else int(rng.integers(2, 4))):
        group = classes[int(rng.integers(len(classes)))]
        recording = group[int(rng.integers(len(group)))]
        speed = 2 ** rng.uniform(-0.2, 0.2)
        piece = _cut(rng, recording.samples_N, speed, num_samples)
        mix += piece * 10 ** (-rng.uniform(0, 18 if i else 3) / 20)
        cliff = min(cliff, recording.cliff_hz * min(speed, 1.0))
    if rng.random() < 0.5:
        spectrum = np.fft.rfft(mix)
        octaves = np.log2(np.maximum(np.linspace(0, RATE_HZ / 2, len(spectrum)), 60) / 1000)
        mix = np.fft.irfft(spectrum * 10 ** (1.5 * rng.normal() * octaves / 20), num_samples)
    mix *= 10 ** (-rng.uniform(0, 24) / 20) / max(float(np.abs(mix).max()), 1e-3)
    if rng.random() < 0.2:
        noise = np.fft.rfft(rng.normal(size=num_samples))
        noise /= np.maximum(np.arange(len(noise)), 20) ** rng.random()
        floor = np.fft.irfft(noise, num_samples)
        mix += floor / floor.std() * 10 ** (-rng.uniform(35, 70) / 20)
    return mix.astype(np.float32), cliff


def _cut(rng: np.random.Generator, sound: Waveform, speed: float, num_samples: int) -> Waveform:
    """Cut an excerpt that may begin before the sound or end after it, at another speed."""
    wanted = math.ceil(num_samples * speed) + 1
    start = int(rng.integers(-wanted // 2, max(len(sound) - wanted // 2, 1)))
    begin, end = max(start, 0), min(start + wanted, len(sound))
    piece = np.zeros(wanted, np.float32)
    piece[begin - start : end - start] = sound[begin:end]
    played = soxr.resample(piece, RATE_HZ * speed, RATE_HZ)
    return np.pad(played, (0, max(0, num_samples - len(played))))[:num_samples]
