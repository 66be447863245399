"""One step of training: what counts in its loss, and what it takes as stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.robustness.click_corpus import (
    click_clip,
    click_recipe,
)
from omni2sound.data.batches.batch import Batch, build_batch, pinned, sampler_for
from omni2sound.data.batches.hard_samples import Difficulty
from omni2sound.data.batches.sampler import StepDraw
from omni2sound.data.store.index import describe_store
from omni2sound.data.store.rows import ClipFeatures, FeatureStore, write_shard
from omni2sound.encoders.text import TextEncoder
from omni2sound.models.autoencoder import MelPcaAutoencoder
from omni2sound.models.dit import DiT
from omni2sound.train.step import batch_loss, clean_latents, frame_weights, to_device


def test_silent_frames_count_as_little_as_asked() -> None:
    waveform = torch.zeros(1, 10 * 640)
    waveform[:, 5 * 640 : 6 * 640] = 0.5
    weights = frame_weights(waveform, 10, silence=0.1)[0]
    torch.testing.assert_close(weights[[4, 5, 6]], torch.ones(3))
    torch.testing.assert_close(weights[:4], torch.full((4,), 0.1))


class OneClip:
    """A store of one clip."""

    def __init__(self, clip: ClipFeatures) -> None:
        self.clip = clip

    def row(self, index: int) -> ClipFeatures:
        return self.clip


def batch_of(clip: ClipFeatures) -> Batch:
    return build_batch(
        OneClip(clip),  # type: ignore[arg-type]
        StepDraw("V2A", clip.duration_s, (0,)),
        seed=0,
        step=0,
        difficulty=Difficulty(augment=False),
    )


def test_features_travel_as_they_are_stored_and_become_float32_on_the_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clip = click_clip(0, video=True)
    batch = batch_of(replace(clip, latents_LC=np.full((20, 8), 1 / 3, np.float16)))
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)  # needs a GPU
    for made in (batch, pinned(batch)):
        assert made.conditions.sync_BLS is not None
        assert made.conditions.sync_BLS.dtype == made.latents[0].dtype == torch.float16  # type: ignore[union-attr]
        moved = to_device(made.conditions, torch.device("cpu"))
        assert moved.sync_BLS is not None
        assert moved.sync_BLS.dtype == torch.float32
        np.testing.assert_array_equal(moved.sync_BLS[0].numpy(), clip.sync_LS)
    assert pinned(batch).conditions.sync_BLS is not batch.conditions.sync_BLS


def test_what_a_clip_was_filled_up_with_counts_in_no_loss(vae: MelPcaAutoencoder) -> None:
    """Whatever lies behind a clip's end, in its sound or its features: the loss is the same."""
    recipe = click_recipe()
    torch.manual_seed(0)
    model = DiT(recipe.dit)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    losses = []
    for filling in (0.0, 0.3):
        whole = click_clip(0, video=True)
        sound, sync = whole.sound_N.copy(), whole.sync_LS.copy()
        sound[12 * 640 + 240 :] = filling  # 240: the last window of frame 11 ends there
        sync[12:] = filling
        short = replace(whole, sound_N=sound, sync_LS=sync, valid_s=12 / 25)
        batch = batch_of(short)
        assert batch.conditions.seconds_total_B.tolist() == pytest.approx([12 / 25])
        loss_B, _ = batch_loss(model, batch, vae, recipe, torch.device("cpu"))
        losses.append(loss_B.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_stored_latents_are_taken_where_the_waveform_is_as_stored(
    tmp_path: Path, vae: MelPcaAutoencoder, encoder: TextEncoder
) -> None:
    """Known ones are not made again, others are; and the two learn the same."""
    describe_store(tmp_path / "f", {"made": "in code"})
    clips = [click_clip(i, encoder, video=True) for i in range(8)]
    kept = [
        replace(c, latents_LC=vae.encode(torch.from_numpy(c.sound_N)[None])[0].half().numpy())
        for c in clips[:6]  # two have none
    ]
    write_shard(tmp_path / "f" / "shard.arrow", [*kept, *clips[6:]])
    store = FeatureStore([tmp_path / "f"])
    recipe = replace(click_recipe(), augment=False)
    torch.manual_seed(0)
    model = DiT(recipe.dit)
    sampler = sampler_for(store, seed=0, batch_seconds=6.4)
    hard = Difficulty(offscreen_prob=0.5, augment=False)
    seen = {True: 0, False: 0}
    for step in range(4):
        batch = build_batch(
            store,
            sampler.draw(step, {"VT2A": 1.0}),
            seed=0,
            step=step,
            difficulty=hard,
            prompts=encoder,
        )
        for clip_id, mix, latents in zip(batch.clip_ids, batch.mixes, batch.latents, strict=True):
            known = mix is None and int(clip_id.removeprefix("clip-")) < 6
            assert (latents is not None) == known
            seen[known] += 1
        made = replace(batch, latents=(None,) * len(batch.clip_ids))
        losses = [batch_loss(model, b, vae, recipe, torch.device("cpu"))[0] for b in (batch, made)]
        torch.testing.assert_close(losses[0], losses[1], atol=0.02, rtol=0.02)  # 16 bits
    assert min(seen.values()) > 3
    augmented = build_batch(
        store,
        sampler.draw(0, {"T2A": 1.0}),
        seed=0,
        step=0,
        difficulty=Difficulty(augment=True),
    )
    assert set(augmented.latents) == {None}


def test_the_autoencoder_is_not_asked_for_what_is_known() -> None:
    known = torch.randn(5, 3)
    asked: list[int] = []

    class Counting:
        def encode(self, waveform_BN: torch.Tensor) -> torch.Tensor:
            asked.append(len(waveform_BN))
            return torch.zeros(len(waveform_BN), 5, 3)

    waveform_BN, cpu = torch.zeros(3, 5 * 640), torch.device("cpu")
    latents = clean_latents((known, None, known), waveform_BN, Counting(), cpu)  # type: ignore[arg-type]
    assert torch.equal(latents, torch.stack([known, torch.zeros(5, 3), known]))
    clean_latents((known,) * 3, None, Counting(), cpu)  # type: ignore[arg-type]
    assert asked == [1]
