"""A corpus made in code, for training that must run anywhere: clicks and tones, told and seen.

In:   nothing but the text encoder.
Out:  a feature store of a few clips, an autoencoder that was fitted to it, a tiny recipe.

A clip holds one sound of one class; its sync features mark the latent frame in which it
starts. The parts are the real ones at small sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from omni2sound.data.store.index import describe_store
from omni2sound.data.store.rows import ClipFeatures, FeatureStore, TextFeatures, write_shard
from omni2sound.encoders.text import TextEncoder
from omni2sound.models.autoencoder import MelPcaAutoencoder, MelPcaConfig
from omni2sound.models.dit import DiTConfig
from omni2sound.recipes.tiny import tiny
from omni2sound.timebase import TimeBase
from omni2sound.train.recipe import Recipe

RATE_HZ = TimeBase().sample_rate_hz
DURATION_S = 0.8
CLASSES = ("click", "low tone", "high tone", "noise")


def click_clip(
    index: int, encoder: TextEncoder | None = None, *, video: bool, duration_s: float = DURATION_S
) -> ClipFeatures:
    """Clip `index`: one sound at a drawn time, silence around it.

    Without an encoder token states are random numbers, as many as there would be tokens.
    """
    rng = np.random.default_rng(index)
    time = TimeBase()
    samples, frames = time.num_samples(duration_s), time.num_latent_frames(duration_s)
    at = int(rng.integers(2, frames // 2))
    kind = CLASSES[index % len(CLASSES)]
    sound = np.zeros(samples, np.float32)
    sound[at * 640 :] = 0.2 * _sound(kind, samples - at * 640, rng)
    sync = np.zeros((frames, 64), np.float16)
    sync[at] = 1
    words = (f"a {kind} is heard", f"there is a {kind}")
    return ClipFeatures(
        clip_id=f"clip-{index}",
        duration_s=duration_s,
        sound_N=sound,
        texts=_texts(words, encoder, rng),
        vision_TV=(
            rng.random((time.num_vision_frames(duration_s), 1280)).astype(np.float16)
            if video
            else None
        ),
        sync_LS=sync if video else None,
        classes=(kind,),
        quality=index / 20 if index % 2 else None,
    )


def _sound(kind: str, num_samples: int, rng: np.random.Generator) -> np.ndarray:
    time_s = np.arange(num_samples) / RATE_HZ
    fade = np.exp(-8 * time_s)
    if kind == "click":
        return rng.standard_normal(num_samples) * np.exp(-60 * time_s)
    if kind == "noise":
        return rng.standard_normal(num_samples) * fade
    hz = 220 if kind == "low tone" else 1760
    return np.sin(2 * np.pi * hz * time_s) * fade


def _texts(
    words: Sequence[str], encoder: TextEncoder | None, rng: np.random.Generator
) -> tuple[TextFeatures, ...]:
    if encoder is None:
        states = [rng.standard_normal((len(w.split()) + 2, 384)).astype(np.float16) for w in words]
    else:
        tokens = encoder(words)
        states = [
            s[m].half().numpy() for s, m in zip(tokens.states_BTD, tokens.mask_BT, strict=True)
        ]
    return tuple(
        TextFeatures(role="caption", text=w, states_TE=s)
        for w, s in zip(words, states, strict=True)
    )


def click_store(
    folder: Path, encoder: TextEncoder | None = None, *, pictured: int = 12, heard: int = 6
) -> FeatureStore:
    """A store of `pictured` clips with features of pictures, and `heard` without."""
    describe_store(folder, {"made": "in code"})
    total = pictured + heard
    write_shard(
        folder / "shard-0.arrow", [click_clip(i, encoder, video=True) for i in range(pictured)]
    )
    write_shard(
        folder / "shard-1.arrow",
        [click_clip(i, encoder, video=False) for i in range(pictured, total)],
    )
    return FeatureStore([folder])


def click_autoencoder(latent_dim: int = 8) -> MelPcaAutoencoder:
    """Fitted to clips of the corpus."""
    model = MelPcaAutoencoder(MelPcaConfig(latent_dim=latent_dim))
    model.fit_pca(torch.from_numpy(click_clip(i, video=False).sound_N) for i in range(20))
    return model


def click_recipe(*, steps: int = 4, latent_dim: int = 8) -> Recipe:
    """`tiny` in three stages of `steps` steps over a network of some thousand parameters.

    Stage 3 is harder than usual, so that a few steps meet every way of changing a sample.
    """
    base = tiny()
    stages = tuple(replace(s, steps=steps, warmup_steps=min(2, steps)) for s in base.stages)
    hard = replace(
        stages[2],
        offscreen_prob=0.5,
        token_drop_sample_prob=0.5,
        task_weights={"T2A": 0.1, "V2A": 0.3, "VT2A": 0.6},
    )
    return replace(
        base,
        name="clicks",
        dit=DiTConfig(latent_dim=latent_dim, width=32, depth=2, num_heads=2),
        stages=(*stages[:2], hard),
        batch_seconds=4 * DURATION_S,
        optimizer="adamw",
        precision="float32",
        validate_every=1000,
    )
