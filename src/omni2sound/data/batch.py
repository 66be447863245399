"""From clips of the feature store to one training batch.

In:   a `StepDraw` and the stage's settings.
Out:  `Batch`: clean waveforms, conditions, guidance dropout; the same bytes for the same
      (seed, step, position), whatever the number of ranks.

What not to get wrong: off-screen sound and dropped words touch VT2A only. A V2A target
holds on-screen sound and ambience only, or the model learns to invent the unseen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from omni2sound.data.augment import augment_waveform
from omni2sound.data.features import ClipFeatures, FeatureStore, TextFeatures
from omni2sound.data.sampler import StepDraw, TaskSampler, step_rng
from omni2sound.models.conditioning import Conditions

__all__ = ["Batch", "Difficulty", "build_batch", "sampler_for"]

_PURPOSE_SAMPLE = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Difficulty:
    """What stage 3 adds; all zero before it, and in validation."""

    offscreen_prob: float = 0.0
    token_drop_sample_prob: float = 0.0
    null_prob: float = 0.0
    augment: bool = True


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Batch:
    """One rank's part of a step.

    Attributes:
        task: "T2A", "V2A" or "VT2A".
        waveform_BN: Clean target sound, 16 kHz.
        conditions: What the model is told.
        drop_B: True where guidance dropout takes the null branch.
        noise_seeds_B: Seed of each sample's noise and noise time.
        clip_ids: Which clips these are.
        texts: The prompt of each sample, empty for V2A.
        offscreen_B: Whether an unseen sound was mixed in.
    """

    task: str
    waveform_BN: Tensor
    conditions: Conditions
    drop_B: Tensor
    noise_seeds_B: tuple[int, ...]
    clip_ids: tuple[str, ...]
    texts: tuple[str, ...]
    offscreen_B: tuple[bool, ...]


def sampler_for(store: FeatureStore, *, seed: int, batch_seconds: float) -> TaskSampler:
    """Every clip serves T2A; those with video serve V2A and VT2A as well."""
    groups: dict[str, dict[float, list[int]]] = {}
    for index, duration_s in enumerate(store.durations_s):
        tasks = ["T2A"] + (["V2A", "VT2A"] if store.has_video[index] else [])
        for task in tasks:
            groups.setdefault(task, {}).setdefault(duration_s, []).append(index)
    return TaskSampler(seed=seed, batch_seconds=batch_seconds, clips_by_task=groups)


def build_batch(
    store: FeatureStore,
    draw: StepDraw,
    *,
    seed: int,
    step: int,
    difficulty: Difficulty,
    rank: int = 0,
    world_size: int = 1,
) -> Batch:
    """The part of a step's batch that a rank computes."""
    positions = draw.rank_slice(rank, world_size)
    samples = [
        _sample(store, draw, p, difficulty, step_rng(seed, step, _PURPOSE_SAMPLE, p))
        for p in positions
    ]
    clips = [s.clip for s in samples]
    with_text = draw.task != "V2A"
    with_video = draw.task != "T2A"
    text_BTE, text_mask_BT = _pad([s.text for s in samples]) if with_text else (None, None)
    seconds = torch.full((len(samples),), draw.duration_s)
    conditions = Conditions(
        seconds_start_B=torch.zeros_like(seconds),
        seconds_total_B=seconds,
        text_BTE=text_BTE,
        text_mask_BT=text_mask_BT,
        vision_BTV=_stack([c.vision_TV for c in clips]) if with_video else None,
        sync_BLS=_stack([c.sync_LS for c in clips]) if with_video else None,
    )
    return Batch(
        task=draw.task,
        waveform_BN=torch.from_numpy(np.stack([s.waveform_N for s in samples])),
        conditions=conditions,
        drop_B=torch.tensor([s.drop for s in samples]),
        noise_seeds_B=tuple(s.noise_seed for s in samples),
        clip_ids=tuple(c.clip_id for c in clips),
        texts=tuple(s.text.text if with_text else "" for s in samples),
        offscreen_B=tuple(s.offscreen for s in samples),
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Sample:
    clip: ClipFeatures
    waveform_N: np.ndarray[tuple[int], np.dtype[np.float32]]
    text: TextFeatures
    offscreen: bool
    drop: bool
    noise_seed: int


def _sample(
    store: FeatureStore,
    draw: StepDraw,
    position: int,
    difficulty: Difficulty,
    rng: np.random.Generator,
) -> _Sample:
    # Every draw is made for every task, so that one probability does not shift the others.
    want_offscreen, want_dropped, want_null = rng.random(3)
    noise_seed, choice, redraw = int(rng.integers(2**62)), float(rng.random()), float(rng.random())
    index = draw.clips[position]
    pool = store.with_offscreen(draw.duration_s)
    offscreen = draw.task == "VT2A" and want_offscreen < difficulty.offscreen_prob and len(pool) > 0
    if offscreen:
        # Few clips have an unseen sound, so one of them takes the place of the drawn one.
        index = pool[int(redraw * len(pool))]
    clip = store[index]
    waveform, role = clip.sound_N, "caption"
    if offscreen:
        assert clip.offscreen_N is not None
        waveform, role = clip.sound_N + clip.offscreen_N, "offscreen"
    elif draw.task == "VT2A" and want_dropped < difficulty.token_drop_sample_prob:
        role = "dropped"
    texts = [t for t in clip.texts if t.role == role]
    if difficulty.augment:
        waveform = augment_waveform(waveform, rng)
    return _Sample(
        clip=clip,
        waveform_N=waveform.astype(np.float32),
        text=texts[int(choice * len(texts))],
        offscreen=offscreen,
        drop=bool(want_null < difficulty.null_prob),
        noise_seed=noise_seed,
    )


def _pad(texts: Sequence[TextFeatures]) -> tuple[Tensor, Tensor]:
    longest = max(len(t.states_TE) for t in texts)
    states = np.zeros((len(texts), longest, texts[0].states_TE.shape[1]), np.float32)
    mask = np.zeros((len(texts), longest), bool)
    for i, text in enumerate(texts):
        states[i, : len(text.states_TE)] = text.states_TE
        mask[i, : len(text.states_TE)] = True
    return torch.from_numpy(states), torch.from_numpy(mask)


def _stack(features: Sequence[np.ndarray[tuple[int, int], np.dtype[np.float16]] | None]) -> Tensor:
    present = [f for f in features if f is not None]
    return torch.from_numpy(np.stack(present).astype(np.float32))
