"""Training of the full-size autoencoder: multi-resolution spectra, KL, discriminators.

In:   recordings and optionally scenes, float32 at the model's rate.
Out:  an `Oobleck` with EMA weights and statistics of its latents; checkpoints and a log.

Autoencoder and discriminators are updated in the same step, each by its own loss. All
randomness of step k is derived from (seed, k), so a resumed run equals an uninterrupted one. It
saves at intervals, at its end, and on a signal (Ctrl-C, SIGTERM). A step with a non-finite
gradient is skipped and counted.

What not to get wrong: latents are standardised by the statistics that `fit_latents` measures at
the end, and the transformer learns *those*. Further training needs another transformer.

Sources: stable-audio-tools' settings for its autoencoder (weights of the losses; the released
model's own are not known), arXiv:2407.14358; spectra: Yamamoto et al. 2020, arXiv:1910.11480.
Shape suffixes: B batch, N samples, L latent frames, C latent channels.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from omni2sound.config import digest, to_json
from omni2sound.encoders.registry import SynchformerPart, TextPart, VisionPart
from omni2sound.errors import ConfigError
from omni2sound.models.adversary import Adversary, AdversaryConfig, feature_distance, hinge
from omni2sound.models.oobleck import Oobleck, OobleckConfig
from omni2sound.runtime import resolve_device
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.train.interrupt import Interrupt
from omni2sound.train.log import RunLog
from omni2sound.train.parts.material import training_attribution, training_sounds
from omni2sound.train.parts.vocoder import Waveform, draw_batch
from omni2sound.train.state import TrainState, latest_state, load_state, save_state
from omni2sound.train.step import update_ema
from omni2sound.weights import LARGE_FILE_BYTES, save_model

_log = logging.getLogger(__name__)

LOG_EVERY = 50
MAX_NON_FINITE = 20
"""Consecutive skipped steps after which a run stops."""
_FIT_STEP = 1_000_000_000
"""First step number that `fit_latents` draws at, beyond those of training."""
_FIT_BATCHES = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class OobleckRecipe:
    """Hyperparameters of the training."""

    num_steps: int = 500_000
    """Steps; chosen."""
    batch_size: int = 32
    """Excerpts per step; chosen."""
    crop_frames: int = 50
    """Latent frames of an excerpt (2 s); chosen."""
    lr: float = 1.5e-4
    """Learning rate of the autoencoder."""
    adversary_lr: float = 3e-4
    """Learning rate of the discriminators."""
    warmup_steps: int = 500
    """Steps of linear warm-up of both; chosen."""
    spectral_weight: float = 1.0
    """Loss weight of the spectral distance."""
    kl_weight: float = 1e-4
    """Loss weight of the KL divergence to a standard normal."""
    adversary_weight: float = 0.1
    """Loss weight of the discriminators' scores."""
    feature_weight: float = 5.0
    """Loss weight of feature matching."""
    adversary_from: int = 10_000
    """First step with an adversarial loss; discriminators train from the start. Chosen."""
    windows: tuple[int, ...] = (2048, 1024, 512, 256, 128, 64, 32)
    """Window lengths in samples of the compared spectra."""
    adversary: AdversaryConfig = field(default_factory=AdversaryConfig)
    """Shape of the discriminators."""
    scene_share: float = 0.5
    """Share of excerpts from scenes; chosen."""
    average_decay: float = 0.9995
    """Decay of the EMA weights, which are saved; chosen."""
    clip_norm: float = 1.0
    """Gradient norm to which larger gradients are clipped; chosen."""
    seed: int = 0
    """Random seed of batches and discriminators."""

    def __post_init__(self) -> None:
        if min(self.num_steps, self.batch_size, self.crop_frames) < 1:
            raise ConfigError("num_steps, batch_size and crop_frames must be at least 1")
        if not 0 <= self.average_decay < 1:
            raise ConfigError(f"average_decay must lie in [0, 1), got {self.average_decay}")


@dataclass(frozen=True, kw_only=True, slots=True)
class OobleckSettings:
    """Settings of a run: what `train-part oobleck --set` changes."""

    model: OobleckConfig = field(default_factory=OobleckConfig)
    """Shape of the autoencoder."""
    recipe: OobleckRecipe = field(default_factory=OobleckRecipe)
    """Hyperparameters of the training."""


def train_oobleck_model(
    corpus: Path,
    out: Path,
    *,
    settings: OobleckSettings | None = None,
    max_steps: int | None = None,
    max_minutes: float | None = None,
    resume: bool = False,
    device: str = "auto",
) -> Path:
    """Train the full-size autoencoder on the training recordings and rendered scenes.

    Args:
        corpus: Folder of the scenes' material.
        out: Folder of checkpoints, log and `model/`.
        settings: Shape and recipe; None: the defaults.
        max_steps: Stop once this many steps are done in all.
        max_minutes: Stop after this long.
        resume: Continue the run in `out`.
        device: "auto", "cpu", "cuda" or "mps".

    Returns:
        The model folder, with the autoencoder and the full-size encoders' settings.

    Raises:
        UserError: If the material can't be read, or the checkpoint is of another run.
    """
    settings = settings or OobleckSettings()
    assets = SceneAssets.open(corpus)
    recordings, scenes = training_sounds(assets)
    torch.manual_seed(settings.recipe.seed)  # for the initial weights; nothing else draws from it
    model = Oobleck(settings.model)
    steps = train_oobleck(
        model,
        recordings,
        scenes,
        recipe=settings.recipe,
        out=out,
        device=str(resolve_device(device)),
        max_minutes=max_minutes,
        max_steps=max_steps,
        resume=resume,
        corpus_sha256=assets.catalogue.digest,
    )
    training = {
        "catalogue_sha256": assets.catalogue.digest,
        "recipe": to_json(settings.recipe),
        "steps": steps,
    }
    save_model(
        out / "model",
        name="parts",
        # With the full-size encoders' settings, so that `train paper --parts` takes the folder.
        parts={
            "autoencoder": to_json(settings.model),
            "sync": to_json(SynchformerPart()),
            "text": to_json(TextPart(encoder="flan-t5-base")),
            "vision": to_json(VisionPart(encoder="dfn5b-clip-vit-h-14-384")),
        },
        tensors={"autoencoder": model.state_dict()},
        defaults={},
        training={"autoencoder": training},
        attribution=training_attribution(assets.catalogue, pictures=False),
        half=False,
        max_file_bytes=LARGE_FILE_BYTES,
    )
    return out / "model"


def spectral_distance(made_BN: Tensor, real_BN: Tensor, windows: Sequence[int]) -> Tensor:
    """Spectral convergence plus log-magnitude distance, averaged over resolutions."""
    distances = []
    for window in windows:
        made, real = (_magnitude(x, window) for x in (made_BN, real_BN))
        convergence = (real - made).norm() / real.norm().clamp_min(1e-6)
        distances.append(convergence + (real.log() - made.log()).abs().mean())
    return torch.stack(distances).mean()


def _magnitude(waveform_BN: Tensor, window: int) -> Tensor:
    shape = torch.hann_window(window, device=waveform_BN.device)
    spectrum = torch.stft(
        waveform_BN, window, hop_length=window // 4, window=shape, return_complex=True
    )
    # Not abs(): its slope at zero is not defined.
    return (spectrum.real.square() + spectrum.imag.square() + 1e-8).sqrt()


def kl_to_normal(mean_BCL: Tensor, std_BCL: Tensor) -> Tensor:
    """Twice the Kullback-Leibler divergence to a standard normal, summed over channels."""
    return (mean_BCL.square() + std_BCL.square() - 2 * std_BCL.log() - 1).sum(dim=1).mean()


def train_oobleck(
    model: Oobleck,
    recordings: Sequence[Waveform],
    scenes: Sequence[Waveform] = (),
    *,
    recipe: OobleckRecipe,
    out: Path,
    device: str = "cpu",
    max_minutes: float | None = None,
    max_steps: int | None = None,
    resume: bool = False,
    save_minutes: float = 10.0,
    save_steps: int | None = None,
    corpus_sha256: str | None = None,
) -> int:
    """Train `model` in place, then measure the statistics of its latents.

    Args:
        model: Autoencoder with its initial weights.
        recordings: Waveforms (N,) at the model's rate; mixed, filtered and scaled.
        scenes: Longer waveforms, only cut and scaled; may be empty.
        recipe: Hyperparameters.
        out: Folder of checkpoints and log.
        device: Device to train on.
        max_minutes: Stop after this long, but after one step at the earliest.
        max_steps: Stop once this many steps are done in all.
        resume: Continue from the newest checkpoint in `out`, if there is one.
        save_minutes: Time between checkpoints.
        save_steps: Steps between checkpoints, if that is sooner.
        corpus_sha256: Digest of the material of the waveforms.

    Returns:
        Number of steps done.

    Raises:
        ConfigError: If the checkpoint is of another run, or gradients stay non-finite.
        KeyboardInterrupt: After a signal; the step is finished and a checkpoint saved.
    """
    out.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        adversary = Adversary(recipe.adversary)
    state = _initial_state(model, adversary, recipe, device)
    settings = {"recipe": digest(recipe), "model": digest(to_json(model.config))}
    identity = {**settings, "corpus_sha256": corpus_sha256}
    counts = _resume(out, state, identity, resume=resume)
    step = counts["step"]
    log, started = RunLog(out, first_step=step), time.monotonic()
    saved = started

    def save() -> None:
        progress = {name: counts[name] for name in ("skipped", "skipped_in_a_row")}
        save_state(out, state, step=step, identity=identity, progress=progress)

    last = min(recipe.num_steps, max_steps or recipe.num_steps)
    with closing(log), Interrupt() as interrupt:
        while step < last and not interrupt.asked:
            losses, finite = _step(
                model, adversary, state, recordings, scenes, recipe, step, device
            )
            step += 1
            counts["skipped"] += not finite
            counts["skipped_in_a_row"] = 0 if finite else counts["skipped_in_a_row"] + 1
            _check_gradients(counts["skipped_in_a_row"], out)
            if step % LOG_EVERY == 0 or step == last:
                log.write(step, **losses, skipped=counts["skipped"])
                _log.info("step %d: %s", step, losses)
            now = time.monotonic()
            if max_minutes is not None and now - started >= 60 * max_minutes:
                break
            if now - saved >= 60 * save_minutes or (save_steps and step % save_steps == 0):
                save()
                saved = time.monotonic()
        save()
    if interrupt.asked:
        raise KeyboardInterrupt
    model.load_state_dict(state.ema)
    model.eval()
    fit_latents(model, recordings, scenes, recipe=recipe, device=device)
    return step


def _resume(
    out: Path, state: TrainState, identity: Mapping[str, Any], *, resume: bool
) -> dict[str, int]:
    """Load the newest checkpoint, if there is one; return its counts, or zeros."""
    newest = latest_state(out)
    if newest is None:
        return {"step": 0, "skipped": 0, "skipped_in_a_row": 0}
    if not resume:
        raise ConfigError(f"{out} holds a run ({newest.name}); resume it or use another folder")
    return load_state(newest, state, identity=identity)


def _initial_state(
    model: Oobleck, adversary: Adversary, recipe: OobleckRecipe, device: str
) -> TrainState:
    both = nn.ModuleDict({"autoencoder": model, "adversary": adversary}).to(device).train()
    optimizer = torch.optim.AdamW(
        [
            {"params": list(model.parameters()), "peak": recipe.lr},
            {"params": list(adversary.parameters()), "peak": recipe.adversary_lr},
        ],
        lr=0.0,
        betas=(0.8, 0.99),
        weight_decay=1e-3,
    )
    ema = {k: v.detach().clone() for k, v in model.state_dict().items()}
    return TrainState(model=both, ema=ema, optimizer=optimizer)


def _check_gradients(skipped_in_a_row: int, out: Path) -> None:
    if skipped_in_a_row >= MAX_NON_FINITE:
        raise ConfigError(
            f"{MAX_NON_FINITE} steps in a row had a gradient that is not finite; lower the "
            f"learning rates, or look for damaged sounds. The last checkpoint is in {out}"
        )


def _step(
    model: Oobleck,
    adversary: Adversary,
    state: TrainState,
    recordings: Sequence[Waveform],
    scenes: Sequence[Waveform],
    recipe: OobleckRecipe,
    step: int,
    device: str,
) -> tuple[dict[str, float], bool]:
    """Return the losses, and whether gradients were finite; if not, nothing is updated."""
    real_BN = _excerpts(model, recordings, scenes, recipe, step).to(device)
    mean_BCL, std_BCL = model.posterior(real_BN)
    generator = torch.Generator().manual_seed(recipe.seed * 2**32 + step)
    noise_BCL = torch.randn(mean_BCL.shape, generator=generator).to(device)
    made_BN = model.waveform(mean_BCL + std_BCL * noise_BCL)
    against = hinge(adversary(real_BN), adversary(made_BN.detach()))
    spectral = spectral_distance(made_BN, real_BN, recipe.windows)
    kl = kl_to_normal(mean_BCL, std_BCL)
    loss = recipe.spectral_weight * spectral + recipe.kl_weight * kl
    losses = {"spectral": spectral.item(), "kl": kl.item(), "adversary": against.item()}
    if step >= recipe.adversary_from:
        real, made = adversary(real_BN), adversary(made_BN)
        opinion = -torch.stack([m.score.mean() for m in made]).mean()
        features = feature_distance(real, made)
        loss = loss + recipe.adversary_weight * opinion + recipe.feature_weight * features
        losses |= {"opinion": opinion.item(), "features": features.item()}
    finite = True
    for network, its_loss in ((model, loss), (adversary, against)):
        parameters = list(network.parameters())
        for parameter, gradient in zip(
            parameters, torch.autograd.grad(its_loss, parameters, retain_graph=True), strict=True
        ):
            parameter.grad = gradient
        norm = nn.utils.clip_grad_norm_(parameters, recipe.clip_norm)
        finite = finite and bool(torch.isfinite(norm))
    if not finite:
        return losses, False
    for group in state.optimizer.param_groups:
        group["lr"] = group["peak"] * _rate(recipe, step)
    state.optimizer.step()
    update_ema(state.ema, model, min(recipe.average_decay, (step + 1) / (step + 10)))
    return losses, True


def _excerpts(
    model: Oobleck,
    recordings: Sequence[Waveform],
    scenes: Sequence[Waveform],
    recipe: OobleckRecipe,
    step: int,
) -> Tensor:
    return draw_batch(
        recordings,
        scenes,
        seed=recipe.seed,
        step=step,
        batch_size=recipe.batch_size,
        num_samples=recipe.crop_frames * model.hop_samples,
        scene_share=recipe.scene_share,
    )


def _rate(recipe: OobleckRecipe, step: int) -> float:
    """Share of the peak learning rate: linear warm-up, then half a cosine down to a tenth."""
    rise = min(1.0, (step + 1) / max(recipe.warmup_steps, 1))
    fall = 0.5 * (1 + math.cos(math.pi * step / recipe.num_steps))
    return rise * (0.1 + 0.9 * fall)


@torch.no_grad()
def fit_latents(
    model: Oobleck,
    recordings: Sequence[Waveform],
    scenes: Sequence[Waveform] = (),
    *,
    recipe: OobleckRecipe,
    device: str = "cpu",
) -> None:
    """Measure the mean and deviation by which each latent channel is standardised, in place."""
    dim = model.latent_dim
    model.fit_statistics(torch.zeros(dim), torch.ones(dim))
    latents = [
        model.encode(
            _excerpts(model, recordings, scenes, recipe, _FIT_STEP + i).to(device)
        ).flatten(0, 1)
        for i in range(_FIT_BATCHES)
    ]
    values = torch.cat(latents)
    model.fit_statistics(values.mean(dim=0), values.std(dim=0).clamp_min(1e-4))
