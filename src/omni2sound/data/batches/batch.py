"""Training batches from clips of the feature store, built on the host.

In:   a `StepDraw` and the stage's settings.
Out:  `Batch`: clean waveforms, their latents where known, conditions, guidance dropout, and a
      record of what was drawn; the same bytes for the same (seed, step, position), on any number
      of ranks.

What not to get wrong: off-screen sound and token dropout touch VT2A only. A V2A target holds
on-screen sound and ambience only, or the model learns to add sounds that nothing shows.

Shape suffixes: B samples, N waveform samples, T tokens or pictures, L latent frames,
E V S features.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from omni2sound.data.batches.augment import augment_waveform
from omni2sound.data.batches.hard_samples import (
    TRIES,
    Difficulty,
    OffscreenMix,
    PromptChange,
    PromptEncoder,
    add_embedding_noise,
    choose_text,
    drop_tokens,
    mix_offscreen,
    name_offscreen,
    order_by_unlikeness,
    require_encoder,
)
from omni2sound.data.batches.sampler import (
    MixedPool,
    Pool,
    StepDraw,
    TaskSampler,
    mix_pools,
    step_rng,
)
from omni2sound.data.store.rows import FeatureStore
from omni2sound.data.store.stored import StoredClip
from omni2sound.errors import ConfigError
from omni2sound.models.conditioning import Conditions
from omni2sound.timebase import TimeBase

_PURPOSE_SAMPLE = 2
_PURPOSE_DIFFICULTY = 3
_PURPOSE_WORDS = 4
_TIME = TimeBase()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Batch:
    """One micro-batch of a step.

    Attributes:
        task: "T2A", "V2A" or "VT2A".
        duration_s: Length of every clip.
        waveform_BN: Clean target sound, 16 kHz. Where the latents of every clip are known and
            nothing else asks for waveforms (`build_batch`), None; zero for a clip whose latents
            are known beside one whose latents are not.
        latents: For each sample its latents (L, C) where the features hold them; None where they
            have to be encoded.
        conditions: Conditions of the model; features in half precision, as they are stored.
        valid_frames_B: Number of latent frames of each clip before padding; None if all are.
        drop_B: True where guidance dropout takes the null branch.
        noise_seeds_B: Seed of each sample's noise and noise time; a single one for a batch that
            was built on a device (`on_device`).
        clip_ids: Id of each clip.
        texts: Prompt of each sample before token dropout, empty for V2A.
        mixes: Off-screen sound in each clip or None; () if not recorded.
        dropped_tokens: Positions of the tokens that each prompt lost; () if not recorded.
    """

    task: str
    duration_s: float
    waveform_BN: Tensor | None
    latents: tuple[Tensor | None, ...]
    conditions: Conditions
    valid_frames_B: Tensor | None
    drop_B: Tensor
    noise_seeds_B: tuple[int, ...]
    clip_ids: tuple[str, ...]
    texts: tuple[str, ...]
    mixes: tuple[OffscreenMix | None, ...]
    dropped_tokens: tuple[tuple[int, ...], ...]


def pinned(batch: Batch) -> Batch:
    """Copy what is large to page-locked memory, from which a GPU copies while it computes."""
    c = batch.conditions
    given = {f.name: x for f in fields(c) if (x := getattr(c, f.name)) is not None}
    return replace(
        batch,
        waveform_BN=None if batch.waveform_BN is None else batch.waveform_BN.pin_memory(),
        latents=tuple(None if x is None else x.pin_memory() for x in batch.latents),
        conditions=replace(c, **{name: x.pin_memory() for name, x in given.items()}),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Features that a stage draws from."""

    store: str
    """Name of a store: the last part of its path, or NAME of NAME=FOLDER."""
    weight: float = 1.0
    """Probability of its seconds, relative to the stage's other sources of a task."""
    tasks: tuple[str, ...] = ("T2A", "V2A", "VT2A")
    """Tasks that it serves."""
    min_quality: float | None = None
    """Least score of a clip; clips without one are left out."""

    def __post_init__(self) -> None:
        if not (0 < self.weight < math.inf and self.tasks):
            raise ConfigError(
                f"source {self.store!r}: needs a weight above 0 and a task, got {self.weight} and "
                f"{self.tasks}"
            )


def sampler_for(
    store: FeatureStore,
    *,
    seed: int,
    batch_seconds: float,
    t2a_best_share: float = 1.0,
    sources: Sequence[Source] = (),
    tasks: Collection[str] = ("T2A", "V2A", "VT2A"),
) -> TaskSampler:
    """Make the sampler of a store: T2A draws all clips or the best scored, V2A and VT2A videos.

    Args:
        store: Features.
        seed: Random seed of the run.
        batch_seconds: Seconds of sound in a batch.
        t2a_best_share: Share of clips that T2A uses, those with the best-scored captions.
        sources: Stores to draw from, with weights and filters. Default: all clips alike.
        tasks: Tasks that will be drawn; sources need clips for these alone.

    Raises:
        ConfigError: If the best are asked for and no clip is scored, or a source is unknown or
            has no clips for a task.
    """
    clips_by_task: Mapping[str, Mapping[float, Pool]]
    if sources:
        clips_by_task = _mixed(store, sources, t2a_best_share, tasks)
    else:
        every = np.arange(len(store), dtype=np.int32)
        clips_by_task = _clips_of_tasks(store, every, t2a_best_share)
    return TaskSampler(seed=seed, batch_seconds=batch_seconds, clips_by_task=clips_by_task)


def _clips_of_tasks(
    store: FeatureStore, clips: NDArray[np.int32], t2a_best_share: float
) -> dict[str, dict[float, Sequence[int]]]:
    """Group clips by task and length."""
    t2a = clips
    if t2a_best_share < 1:
        scored = clips[~np.isnan(store.qualities[clips])]
        if not len(scored):
            raise ConfigError(
                f"t2a_best_share is {t2a_best_share}, and no clip of the features has a quality; "
                "score the captions, or set t2a_best_share to 1"
            )
        best_first = scored[np.argsort(-store.qualities[scored], kind="stable")]
        t2a = np.sort(best_first[: math.ceil(t2a_best_share * len(scored))])
    pictured = _by_length(store, clips[store.has_video[clips]])
    groups = {"T2A": _by_length(store, t2a), "V2A": pictured, "VT2A": pictured}
    return {task: lengths for task, lengths in groups.items() if lengths}


def _mixed(
    store: FeatureStore, sources: Sequence[Source], t2a_best_share: float, tasks: Collection[str]
) -> dict[str, dict[float, MixedPool]]:
    by_task: dict[str, list[tuple[float, Mapping[float, Sequence[int]]]]] = {}
    for source in sources:
        if source.store not in store.spans:
            raise ConfigError(
                f"no features named {source.store!r}; the run has {', '.join(store.spans)}"
            )
        span = store.spans[source.store]
        clips = np.arange(span.start, span.stop, dtype=np.int32)
        if source.min_quality is not None:
            clips = clips[store.qualities[clips] >= source.min_quality]
        served = [task for task in source.tasks if task in tasks]
        found = _clips_of_tasks(store, clips, t2a_best_share if "T2A" in served else 1.0)
        for task in served:
            if task not in found:
                raise ConfigError(
                    f"source {source.store!r} has no clips for {task}; name the tasks that it "
                    "serves, or lower min_quality"
                )
            by_task.setdefault(task, []).append((source.weight, found[task]))
    return {task: mix_pools(some) for task, some in by_task.items()}


def _by_length(store: FeatureStore, clips: NDArray[np.int32]) -> dict[float, Sequence[int]]:
    """Group clips by their length; four bytes a clip, or none if they follow each other."""
    durations_s = store.durations_s[clips]
    groups: dict[float, Sequence[int]] = {}
    for duration_s in np.unique(durations_s).tolist():
        group = clips[durations_s == duration_s]
        first, last = int(group[0]), int(group[-1])
        whole = last - first + 1 == len(group)
        groups[duration_s] = range(first, last + 1) if whole else group
    return groups


def build_batch(
    store: FeatureStore,
    draw: StepDraw,
    *,
    seed: int,
    step: int,
    difficulty: Difficulty,
    prompts: PromptEncoder | None = None,
    caption_role: str = "caption",
    text_tokens: int | None = None,
    part: int = 0,
    num_parts: int = 1,
    waveforms: bool = True,
) -> Batch:
    """Build one micro-batch of a step.

    Args:
        store: Feature store.
        draw: Task and clips of the step.
        seed: Random seed of the run.
        step: Step of the run, from 0.
        difficulty: Probabilities of changes to samples.
        prompts: Text encoder; needed if `difficulty` changes prompts.
        caption_role: Role of the text that is a clip's prompt.
        text_tokens: Number of tokens that prompts are padded or cut to. Default: the longest here.
        part: Index of the micro-batch, from 0.
        num_parts: Number of micro-batches over all ranks and accumulation steps.
        waveforms: Read the waveform of every clip, not only where latents have to be encoded.

    Raises:
        ConfigError: If the batch can't be shared equally, a clip lacks the asked text, or
            prompts are to be changed without an encoder.
    """
    samples = [
        _sample(store, draw, p, difficulty, seed, step, prompts, caption_role, waveforms)
        for p in draw.part(part, num_parts)
    ]
    clips = [s.clip for s in samples]
    with_text = draw.task != "V2A"
    with_video = draw.task != "T2A"
    text_BTE = text_mask_BT = vision_BTV = vision_mask_BT = sync_BLS = None
    if with_text:
        text_BTE, text_mask_BT = _pad([_present(s.states_TE) for s in samples], text_tokens)
    if with_video:
        vision_BTV, vision_mask_BT = _pad(
            [_present(c.vision_TV) for c in clips], _TIME.num_vision_frames(draw.duration_s)
        )
        # Where every picture is there, no mask is the faster way to say so.
        vision_mask_BT = None if bool(vision_mask_BT.all()) else vision_mask_BT
        num_frames = _TIME.num_latent_frames(draw.duration_s)
        sync_BLS, _ = _pad([_present(c.sync_LS) for c in clips], num_frames)
    seconds = [c.duration_s if c.valid_s is None else c.valid_s for c in clips]
    frames = [_TIME.num_latent_frames(s) for s in seconds]
    filled_up = any(s < draw.duration_s for s in seconds)
    seconds_B = torch.tensor(seconds, dtype=torch.float32)
    conditions = Conditions(
        seconds_start_B=torch.zeros_like(seconds_B),
        seconds_total_B=seconds_B,
        text_BTE=text_BTE,
        text_mask_BT=text_mask_BT,
        vision_BTV=vision_BTV,
        vision_mask_BT=vision_mask_BT,
        sync_BLS=sync_BLS,
    )
    return Batch(
        task=draw.task,
        duration_s=draw.duration_s,
        waveform_BN=_stack([s.waveform_N for s in samples]),
        latents=tuple(s.latents_LC for s in samples),
        conditions=conditions,
        valid_frames_B=torch.tensor(frames) if filled_up else None,
        drop_B=torch.tensor([s.drop for s in samples]),
        noise_seeds_B=tuple(s.noise_seed for s in samples),
        clip_ids=tuple(c.clip_id for c in clips),
        texts=tuple(s.text if with_text else "" for s in samples),
        mixes=tuple(s.mix for s in samples),
        dropped_tokens=tuple(s.dropped for s in samples),
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Sample:
    clip: StoredClip
    waveform_N: NDArray[np.float32] | None
    latents_LC: Tensor | None
    text: str
    states_TE: NDArray[np.float16] | None
    mix: OffscreenMix | None
    dropped: tuple[int, ...]
    drop: bool
    noise_seed: int


def _sample(
    store: FeatureStore,
    draw: StepDraw,
    position: int,
    difficulty: Difficulty,
    seed: int,
    step: int,
    prompts: PromptEncoder | None,
    caption_role: str,
    waveforms: bool,
) -> _Sample:
    # Every draw is made for every task, so that one probability does not shift the others.
    rng = step_rng(seed, step, _PURPOSE_SAMPLE, position)
    want_offscreen, want_dropout, want_null, choice = rng.random(4)
    noise_seed = int(rng.integers(2**62))
    clip = store.row(draw.clips[position])
    text = choose_text(clip.clip_id, clip.texts, caption_role, choice)
    waveform_N: NDArray[np.float32] | None = None
    mix: OffscreenMix | None = None
    change: PromptChange | None = None
    if draw.task == "VT2A" and want_offscreen < difficulty.offscreen_prob:
        # How much is drawn for difficulty varies, so it has a generator of its own.
        hard = step_rng(seed, step, _PURPOSE_DIFFICULTY, position)
        found = _add_offscreen(store, clip, difficulty, caption_role, hard)
        if found is not None:
            waveform_N, mix = found
            change = name_offscreen(text.text, mix.caption, hard.random(), prompts)
    elif draw.task == "VT2A" and want_dropout < difficulty.token_drop_sample_prob:
        # Not together with an off-screen sound: only the words tell that one.
        hard = step_rng(seed, step, _PURPOSE_DIFFICULTY, position)
        change = drop_tokens(text.text, difficulty.token_drop_prob, prompts, hard)
    if change is not None:
        states_TE = _encode(require_encoder(prompts), change.token_ids)
    elif draw.task == "V2A":
        states_TE = None  # not read: the model gets no text
    else:
        states_TE = text.states_TE
    if states_TE is not None and (difficulty.text_noise or difficulty.text_drop):
        states_TE = add_embedding_noise(
            states_TE,
            noise=difficulty.text_noise,
            drop=difficulty.text_drop,
            rng=step_rng(seed, step, _PURPOSE_WORDS, position),
        )
    latents_LC = None
    if waveform_N is None and not difficulty.augment and clip.latents_LC is not None:
        latents_LC = torch.from_numpy(clip.latents_LC.copy())
    if waveform_N is None and (waveforms or latents_LC is None):
        waveform_N = clip.sound_N
    if waveform_N is not None and difficulty.augment:
        waveform_N = augment_waveform(waveform_N, rng)
    return _Sample(
        clip=clip,
        waveform_N=None if waveform_N is None else waveform_N.astype(np.float32),
        latents_LC=latents_LC,
        text=text.text if change is None else change.text,
        states_TE=states_TE,
        mix=mix,
        dropped=() if change is None else change.dropped,
        drop=bool(want_null < difficulty.null_prob),
        noise_seed=noise_seed,
    )


def _add_offscreen(
    store: FeatureStore,
    clip: StoredClip,
    difficulty: Difficulty,
    caption_role: str,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], OffscreenMix] | None:
    """Mix a sound of another class into a clip's; None if none was found.

    Classes in the picture are excluded too: a dog that is seen must not be named as off screen.
    Where a clip has no classes, of the clips that are tried the one is taken whose caption means
    the least similar (`hard_samples.order_by_unlikeness`).
    """
    taken = {*clip.classes, *clip.pictured}
    if not taken:
        return _add_least_similar(store, clip, difficulty, caption_role, rng)
    snr_db, onset = float(rng.uniform(*difficulty.offscreen_snr_db)), float(rng.random())
    for _ in range(TRIES):
        other = store.row(int(rng.integers(len(store))))
        choice = float(rng.random())
        if other.clip_id == clip.clip_id or taken & set(other.classes):
            continue
        caption = choose_text(other.clip_id, other.texts, caption_role, choice).text
        found = mix_offscreen(
            clip.sound_N,
            other.sound_N,
            clip_id=other.clip_id,
            caption=caption,
            snr_db=snr_db,
            onset=onset,
        )
        if found is not None:
            return found
    return None


def _add_least_similar(
    store: FeatureStore,
    clip: StoredClip,
    difficulty: Difficulty,
    caption_role: str,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], OffscreenMix] | None:
    """Mix in the sound whose caption is least like the clip's; None if all are like it."""
    snr_db, onset = float(rng.uniform(*difficulty.offscreen_snr_db)), float(rng.random())
    others = [store.row(int(rng.integers(len(store)))) for _ in range(TRIES)]
    captions = [
        choose_text(other.clip_id, other.texts, caption_role, choice)
        for other, choice in zip(others, rng.random(TRIES), strict=True)
    ]
    own = [text for text in clip.texts if text.role == caption_role]
    for place in order_by_unlikeness(own, captions):
        mix = mix_offscreen(
            clip.sound_N,
            others[place].sound_N,
            clip_id=others[place].clip_id,
            caption=captions[place].text,
            snr_db=snr_db,
            onset=onset,
        )
        if mix is not None:
            return mix
    return None


def _encode(encoder: PromptEncoder, ids: Sequence[int]) -> NDArray[np.float16]:
    """Encode one prompt alone: its states must not depend on the rest of a micro-batch."""
    # Half precision as in the store, so that precision does not mark changed prompts.
    states: NDArray[np.float16] = encoder.encode_ids([list(ids)]).states_BTD[0].half().cpu().numpy()
    return states


def _present(features: NDArray[np.float16] | None) -> NDArray[np.float16]:
    assert features is not None  # only clips that have what a task needs are drawn for it
    return features


def _stack(waveforms: Sequence[NDArray[np.float32] | None]) -> Tensor | None:
    """Stack what was read (B, N), zeros elsewhere; None if nothing was."""
    length = max((len(w) for w in waveforms if w is not None), default=0)
    if not length:
        return None
    blank_N = np.zeros(length, np.float32)
    return torch.from_numpy(np.stack([blank_N if w is None else w for w in waveforms]))


def _pad(rows: Sequence[NDArray[Any]], length: int | None) -> tuple[Tensor, Tensor]:
    """Pad or cut rows of vectors to (B, length, D), of their type; the mask is (B, length)."""
    length = max(len(row) for row in rows) if length is None else length
    filled = np.zeros((len(rows), length, rows[0].shape[1]), rows[0].dtype)
    mask = np.zeros((len(rows), length), bool)
    for i, row in enumerate(rows):
        filled[i, : len(row)] = row[:length]
        mask[i, : len(row)] = True
    return torch.from_numpy(filled), torch.from_numpy(mask)
