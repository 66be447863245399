"""On-device features: all clips of a store in one device's memory, and batches built there.

In:   a `FeatureStore` that fits, a device.
Out:  `Batch`es by the rules of `batch`, from other random numbers.

A GPU trains a small model on ten times more sound a second than threads can read, equalise and
mix on the host. So waveforms and features are copied once; all choices are drawn on the host
(a batch is still a function of seed and step) and applied on the device.

Two things differ from `batch`. Clips for text-to-audio get speed perturbation
(`Difficulty.speed`): recordings are few beside the steps of a GPU and would be memorised; what is
played faster is a shorter clip, with its end masked. Off-screen sounds are taken from clips of the
same length. What not to get wrong: clips with pictures keep their time. The device draws noise, so
a step on a GPU differs from one on a CPU.

Shape suffixes: B samples, N waveform samples, T tokens or pictures, L latent frames, K samples
that are changed, Q knots of the equaliser, n clips of one length, E V S features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from omni2sound.data.batches.augment import augment_waveforms, draw_equaliser
from omni2sound.data.batches.batch import Batch
from omni2sound.data.batches.hard_samples import (
    AUDIBLE,
    FADE_SAMPLES,
    GATE,
    LATEST_ONSET,
    TRIES,
    Difficulty,
    PromptChange,
    PromptEncoder,
    choose_text,
    drop_tokens,
    name_offscreen,
    require_encoder,
)
from omni2sound.data.batches.sampler import StepDraw, step_rng
from omni2sound.data.store.rows import FeatureStore
from omni2sound.data.store.stored import StoredClip
from omni2sound.errors import ConfigError
from omni2sound.models.conditioning import Conditions
from omni2sound.timebase import TimeBase

_PURPOSE = 5
_FULL_SCALE = 32767.0
_TIME = TimeBase()

Numbers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Prompt:
    """One text; its states are rows of one large tensor on the device."""

    role: str
    text: str
    first: int
    count: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Clip:
    """The properties of a clip that choices depend on."""

    clip_id: str
    heard: frozenset[str]
    """Classes that are heard."""
    present: frozenset[str]
    """Classes that are heard or seen."""
    prompts: tuple[_Prompt, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Group:
    """Clips of one length, on the device."""

    clips: Numbers
    """Indices of the store, by row."""
    sound_nN: Tensor
    """int16."""
    begins_n: Numbers
    """Where the sound begins, less a fade; -1 for silence. On the host."""
    picture_rows_n: Numbers
    """Row of the two below, -1 without pictures. On the host."""
    vision_nTV: Tensor | None
    sync_nLS: Tensor | None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Offscreen:
    """Off-screen sounds of a batch."""

    own_K: Numbers
    """Samples of the batch."""
    other_K: Numbers
    """Rows of the group that are mixed into them."""
    onset_K: NDArray[np.float64]
    """Where they start, from 0 (at once) to 1 (at `LATEST_ONSET`)."""
    snr_db_K1: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Draws:
    """All choices of a batch, as data."""

    prompts: tuple[_Prompt, ...]
    changes: dict[int, PromptChange]
    """Prompts of some samples."""
    offscreen: _Offscreen | None
    rate_B: NDArray[np.float64] | None
    knots_db_BQ: NDArray[np.float64] | None
    null_B: NDArray[np.bool_]
    device_seed: int
    noise_seed: int


class DeviceFeatures:
    """Features of all clips of a store on one device."""

    def __init__(self, store: FeatureStore, device: torch.device) -> None:
        """Copy everything; takes as long as reading the store.

        Raises:
            ConfigError: If a clip is padded or lacks pictures at its end, which only `batch`
                masks; if the device's memory is too small.
        """
        try:
            self._copy(store, device)
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f"{len(store)} clips do not fit into the memory of {device}; use fewer clips, or "
                "resident=false (and speed=0 before it)"
            ) from error

    def _copy(self, store: FeatureStore, device: torch.device) -> None:
        self._device = device
        self._rows: Numbers = np.zeros(len(store), np.int64)
        self._clips: dict[int, _Clip] = {}
        self._groups: dict[float, _Group] = {}
        states: list[Tensor] = []
        lengths = store.durations_s
        for duration_s in np.unique(lengths).tolist():
            clips = np.flatnonzero(lengths == duration_s)
            self._rows[clips] = np.arange(len(clips))
            self._groups[duration_s] = self._copy_group(store, duration_s, clips, states)
        self._states_tE = torch.cat(states).to(device)

    def _copy_group(
        self, store: FeatureStore, duration_s: float, clips: Numbers, states: list[Tensor]
    ) -> _Group:
        sound_nN = torch.empty(
            len(clips), _TIME.num_samples(duration_s), dtype=torch.int16, device=self._device
        )
        vision: list[Tensor] = []
        sync: list[Tensor] = []
        picture_rows = np.full(len(clips), -1, np.int64)
        first = sum(len(s) for s in states)
        for row, index in enumerate(clips.tolist()):
            clip = store.row(index)
            _check_whole(clip)
            sound_nN[row] = torch.from_numpy(clip.pcm_N.copy())
            if clip.vision_TV is not None and clip.sync_LS is not None:
                picture_rows[row] = len(vision)
                vision.append(torch.from_numpy(clip.vision_TV.copy()))
                sync.append(torch.from_numpy(clip.sync_LS.copy()))
            prompts = []
            for text in clip.texts:
                count = len(text.states_TE)
                prompts.append(_Prompt(role=text.role, text=text.text, first=first, count=count))
                states.append(torch.from_numpy(text.states_TE.copy()))
                first += count
            self._clips[index] = _Clip(
                clip_id=clip.clip_id,
                heard=frozenset(clip.classes),
                present=frozenset(clip.classes) | frozenset(clip.pictured),
                prompts=tuple(prompts),
            )
        return _Group(
            clips=clips,
            sound_nN=sound_nN,
            begins_n=_find_beginnings(sound_nN),
            picture_rows_n=picture_rows,
            vision_nTV=torch.stack(vision).to(self._device) if vision else None,
            sync_nLS=torch.stack(sync).to(self._device) if sync else None,
        )

    def batch(
        self,
        draw: StepDraw,
        *,
        seed: int,
        step: int,
        difficulty: Difficulty,
        prompts: PromptEncoder | None = None,
        caption_role: str = "caption",
        text_tokens: int | None = None,
    ) -> Batch:
        """Build the whole batch of a step on the device; arguments are those of `build_batch`.

        Off-screen sounds and dropped tokens are not recorded.

        Raises:
            ConfigError: If a clip lacks a text of the role, or prompts are changed without an
                encoder.
        """
        rng = step_rng(seed, step, _PURPOSE)
        draws = self._draw(draw, difficulty, prompts, caption_role, rng)
        generator = torch.Generator(self._device).manual_seed(draws.device_seed)
        group, rows_B = self._groups[draw.duration_s], self._rows[list(draw.clips)]
        text_BTE = text_mask_BT = vision_BTV = sync_BLS = None
        if draw.task != "V2A":
            text_BTE, text_mask_BT = self._texts(draws, prompts, text_tokens)
            text_BTE, text_mask_BT = _add_embedding_noise(
                text_BTE, text_mask_BT, difficulty, generator
            )
        if draw.task != "T2A":
            assert group.vision_nTV is not None  # only clips with pictures are drawn for these
            assert group.sync_nLS is not None
            pictured_B = self._on(group.picture_rows_n[rows_B])
            vision_BTV = group.vision_nTV[pictured_B].float()
            sync_BLS = group.sync_nLS[pictured_B].float()
        seconds_B = torch.full((len(rows_B),), draw.duration_s, device=self._device)
        valid_frames_B = None
        if draws.rate_B is not None:
            seconds_B = seconds_B / torch.from_numpy(draws.rate_B).to(seconds_B).clamp_min(1.0)
            frames_B = seconds_B.double() * float(_TIME.latent_rate_hz)
            valid_frames_B = (frames_B + 1e-6).floor().long()
        texts = [draws.changes.get(i, prompt).text for i, prompt in enumerate(draws.prompts)]
        return Batch(
            task=draw.task,
            duration_s=draw.duration_s,
            waveform_BN=self._sounds(group, rows_B, draws),
            latents=(None,) * len(rows_B),
            conditions=Conditions(
                seconds_start_B=torch.zeros_like(seconds_B),
                seconds_total_B=seconds_B,
                text_BTE=text_BTE,
                text_mask_BT=text_mask_BT,
                vision_BTV=vision_BTV,
                sync_BLS=sync_BLS,
            ),
            valid_frames_B=valid_frames_B,
            drop_B=self._on(draws.null_B),
            noise_seeds_B=(draws.noise_seed,),
            clip_ids=tuple(self._clips[i].clip_id for i in draw.clips),
            texts=("",) * len(rows_B) if draw.task == "V2A" else tuple(texts),
            mixes=(),
            dropped_tokens=(),
        )

    def _draw(
        self,
        draw: StepDraw,
        difficulty: Difficulty,
        encoder: PromptEncoder | None,
        role: str,
        rng: np.random.Generator,
    ) -> _Draws:
        device_seed = int(rng.integers(2**62))
        count = len(draw.clips)
        want_offscreen_B, want_dropout_B, want_null_B, choice_B = rng.random((4, count))
        clips = [self._clips[i] for i in draw.clips]
        prompts = tuple(
            choose_text(clip.clip_id, clip.prompts, role, choice)
            for clip, choice in zip(clips, choice_B, strict=True)
        )
        changes: dict[int, PromptChange] = {}
        offscreen = rate_B = knots_db_BQ = None
        if draw.task == "VT2A":
            group, others = self._groups[draw.duration_s], {}
            for i in np.flatnonzero(want_offscreen_B < difficulty.offscreen_prob).tolist():
                row = self._find_offscreen(group, self._rows[draw.clips[i]], clips[i], rng)
                if row is not None:
                    other = self._clips[int(group.clips[row])]
                    caption = choose_text(other.clip_id, other.prompts, role, rng.random()).text
                    others[i] = row
                    changes[i] = name_offscreen(prompts[i].text, caption, rng.random(), encoder)
            if others:
                offscreen = _Offscreen(
                    own_K=np.array(list(others)),
                    other_K=np.array(list(others.values())),
                    onset_K=rng.random(len(others)),
                    snr_db_K1=rng.uniform(*difficulty.offscreen_snr_db, (len(others), 1)),
                )
            for i in np.flatnonzero(want_dropout_B < difficulty.token_drop_sample_prob).tolist():
                if i not in others:
                    changes[i] = drop_tokens(
                        prompts[i].text, difficulty.token_drop_prob, encoder, rng
                    )
        if draw.task == "T2A" and difficulty.speed:
            widest = np.log1p(difficulty.speed)
            rate_B = np.exp(rng.uniform(-widest, widest, count))
        if difficulty.augment:
            knots_db_BQ = draw_equaliser(count, rng)
        return _Draws(
            prompts=prompts,
            changes=changes,
            offscreen=offscreen,
            rate_B=rate_B,
            knots_db_BQ=knots_db_BQ,
            null_B=want_null_B < difficulty.null_prob,
            device_seed=device_seed,
            noise_seed=int(rng.integers(2**62)),
        )

    def _on(self, array: NDArray[np.int64] | NDArray[np.bool_]) -> Tensor:
        return torch.from_numpy(array).to(self._device)

    def _find_offscreen(
        self, group: _Group, row: int, clip: _Clip, rng: np.random.Generator
    ) -> int | None:
        """Find a row of the group with a sound of a class that is neither heard nor seen."""
        for other in rng.integers(len(group.clips), size=TRIES).tolist():
            audible = min(group.begins_n[row], group.begins_n[other]) >= 0
            if (
                audible
                and other != row
                and not clip.present & self._clips[int(group.clips[other])].heard
            ):
                return int(other)
        return None

    def _sounds(self, group: _Group, rows_B: Numbers, draws: _Draws) -> Tensor:
        sound_BN = group.sound_nN[self._on(rows_B)].float() / _FULL_SCALE
        if draws.offscreen is not None:
            sound_BN = self._mix_offscreen(sound_BN, group, draws.offscreen)
        if draws.rate_B is None and draws.knots_db_BQ is None:
            return sound_BN
        return augment_waveforms(
            sound_BN,
            knots_db_BQ=None if draws.knots_db_BQ is None else torch.from_numpy(draws.knots_db_BQ),
            rate_B=None if draws.rate_B is None else torch.from_numpy(draws.rate_B),
        )

    def _mix_offscreen(self, sound_BN: Tensor, group: _Group, drawn: _Offscreen) -> Tensor:
        """Apply `hard_samples.mix_offscreen` to some samples of a batch."""
        num_samples = sound_BN.shape[1]
        own_K = self._on(drawn.own_K)
        start_K1 = self._on((drawn.onset_K * LATEST_ONSET * num_samples).astype(np.int64))[:, None]
        since_KN = torch.arange(num_samples, device=self._device) - start_K1
        from_KN = since_KN + self._on(group.begins_n[drawn.other_K])[:, None]
        sounds_KN = (since_KN >= 0) & (from_KN < num_samples)
        other_KN = group.sound_nN[self._on(drawn.other_K)].gather(
            1, from_KN.clamp(0, num_samples - 1)
        )
        fade_KN = (since_KN / (FADE_SAMPLES - 1)).clamp(0, 1)
        added_KN = other_KN.float() / _FULL_SCALE * fade_KN * sounds_KN
        own_KN = sound_BN[own_K]
        own_power_K1 = own_KN.square().mean(dim=1, keepdim=True)
        power_K1 = added_KN.square().sum(1, keepdim=True) / sounds_KN.sum(1, keepdim=True)
        ratio_K1 = 10 ** (-torch.from_numpy(drawn.snr_db_K1) / 10)
        wanted_K1 = own_power_K1 * ratio_K1.to(sound_BN)
        mix_KN = own_KN + (wanted_K1 / power_K1.clamp_min(1e-12)).sqrt() * added_KN
        mix_KN = mix_KN / mix_KN.abs().amax(dim=1, keepdim=True).clamp_min(1.0)
        return sound_BN.index_copy(0, own_K, mix_KN)

    def _texts(
        self, draws: _Draws, encoder: PromptEncoder | None, text_tokens: int | None
    ) -> tuple[Tensor, Tensor]:
        """Look up or encode states (B, T, E), zero at padding; the mask is True at tokens."""
        first_B1 = self._on(np.array([[p.first] for p in draws.prompts]))
        counts = [p.count for p in draws.prompts]
        for i, change in draws.changes.items():
            counts[i] = len(change.token_ids)
        length = max(counts) if text_tokens is None else text_tokens
        places_T = torch.arange(length, device=self._device)
        mask_BT = places_T < self._on(np.array(counts))[:, None]
        rows_BT = (first_B1 + places_T).clamp(max=len(self._states_tE) - 1)
        states_BTE = self._states_tE[rows_BT].float()
        if draws.changes:
            tokens = require_encoder(encoder).encode_ids(
                [change.token_ids for change in draws.changes.values()]
            )
            # Half precision as in the store, so that precision does not mark changed prompts.
            made_KTE = tokens.states_BTD.half().float().to(self._device)[:, :length]
            states_BTE[self._on(np.array(list(draws.changes))), : made_KTE.shape[1]] = made_KTE
        return states_BTE * mask_BT[..., None], mask_BT


def _check_whole(clip: StoredClip) -> None:
    if clip.valid_s is not None and clip.valid_s < clip.duration_s:
        raise ConfigError(
            f"clip {clip.clip_id} is filled up with silence, which on-device features do not mask; "
            "train with resident=false"
        )
    if clip.vision_TV is None or clip.sync_LS is None:
        return
    found = len(clip.vision_TV), len(clip.sync_LS)
    whole = _TIME.num_vision_frames(clip.duration_s), _TIME.num_latent_frames(clip.duration_s)
    if found != whole:
        raise ConfigError(
            f"clip {clip.clip_id} has {found[0]} picture and {found[1]} sync features, "
            f"{clip.duration_s:g} s have {whole[0]} and {whole[1]}; on-device features are not "
            "filled up; train with resident=false"
        )


def _find_beginnings(sound_nN: Tensor) -> Numbers:
    """Find where `hard_samples.cut_offscreen` cuts each clip; -1 if what is left is silent."""
    found = []
    for chunk_nN in torch.split(sound_nN, 256):
        loud_nN = chunk_nN.float().abs() / _FULL_SCALE
        peak_n1 = loud_nN.amax(dim=1, keepdim=True)
        begin_n = (loud_nN >= GATE * peak_n1).byte().argmax(dim=1) - FADE_SAMPLES
        begin_n = begin_n.clamp_min(0)
        since_nN = torch.arange(loud_nN.shape[1], device=loud_nN.device) - begin_n[:, None]
        # A click at the very start is faded away; what is left of it must not be blown up.
        left_n = (loud_nN * (since_nN / (FADE_SAMPLES - 1)).clamp(0, 1)).amax(dim=1)
        found.append(torch.where(left_n < AUDIBLE, -1, begin_n))
    begins_n: Numbers = torch.cat(found).cpu().numpy()
    return begins_n


def _add_embedding_noise(
    states_BTE: Tensor, mask_BT: Tensor, difficulty: Difficulty, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Apply `hard_samples.add_embedding_noise` to a batch; dropped states are masked."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=states_BTE.device)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=states_BTE.device)

    num_texts, length, width = states_BTE.shape
    if difficulty.text_drop:
        one_stays_BT = (uniform(num_texts, length) * mask_BT).argmax(dim=1, keepdim=True)
        stays_BT = uniform(num_texts, length) >= difficulty.text_drop
        mask_BT = mask_BT & stays_BT.scatter(1, one_stays_BT, True)
    if difficulty.text_noise:
        spread_BT1 = states_BTE.std(dim=2, correction=0, keepdim=True)
        noise_BTE = normal(num_texts, 1, width) + normal(num_texts, length, width)
        states_BTE = states_BTE + difficulty.text_noise * spread_BT1 * noise_BTE
    return states_BTE * mask_BT[..., None], mask_BT
