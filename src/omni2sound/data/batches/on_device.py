"""All clips of a store in one device's memory, and training batches that are made there.

In:   a `FeatureStore` that fits, a device.
Out:  `Batch`es by the laws of `data.batch`, from other random numbers.

A GPU trains a small model on ten times more sound a second than threads can read, equalise
and mix on the host. So waveforms and features are copied once; choices are drawn on the host
(a batch is still a function of seed and step), and what touches samples is done on the device.

Two things are not as there. Clips for text-to-audio are played faster or slower
(`Difficulty.speed`): recordings are few beside the steps of a GPU, and would be learnt by heart;
what is played faster is a shorter clip, with its end masked. Unseen sounds are taken from clips of
the same length. What not to get wrong: clips with pictures keep their time. The device draws
noise, so a step on a GPU is another one than on a CPU.

Shape suffixes: B samples, N waveform samples, T tokens or pictures, L latent frames, K samples
that are changed, n clips of one length, E V S features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from omni2sound.data.batches.augment import draw_equaliser, remade
from omni2sound.data.batches.batch import Batch
from omni2sound.data.batches.hard_samples import (
    AUDIBLE,
    FADE_SAMPLES,
    GATE,
    LATEST_ONSET,
    Difficulty,
    PromptEncoder,
    joined_caption,
    lost_tokens,
    needed,
)
from omni2sound.data.batches.sampler import StepDraw, step_rng
from omni2sound.data.store.rows import FeatureStore
from omni2sound.errors import ConfigError
from omni2sound.models.conditioning import Conditions
from omni2sound.timebase import TimeBase

__all__ = ["ResidentFeatures"]

_PURPOSE = 5
_TRIES = 8
"""Clips looked at for an unseen sound of another class."""
_FULL_SCALE = 32767.0
_TIME = TimeBase()

Numbers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Prompt:
    """One text; its states are rows of one large tensor on the device."""

    text: str
    token_ids_T: NDArray[np.int32] | None
    first: int
    count: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Facts:
    """What choices ask of a clip."""

    clip_id: str
    sounding: frozenset[str]
    """Classes that are heard."""
    present: frozenset[str]
    """Classes that are heard or seen."""
    prompts: dict[str, tuple[_Prompt, ...]]
    """By role."""


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


class ResidentFeatures:
    """See the module's text."""

    def __init__(self, store: FeatureStore, device: torch.device) -> None:
        """Copies everything; takes as long as reading the store.

        Raises:
            ConfigError: If a clip is filled up with silence or lacks pictures at its end, which
                only `data.batch` masks; if the device's memory is too small.
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
        self._facts: list[_Facts | None] = [None] * len(store)
        states: list[Tensor] = []
        num_states = 0
        self._groups: dict[float, _Group] = {}
        lengths = np.array(store.durations_s)
        for duration_s in np.unique(lengths).tolist():
            clips = np.flatnonzero(lengths == duration_s)
            self._rows[clips] = np.arange(len(clips))
            sound_nN = torch.empty(
                len(clips), _TIME.num_samples(duration_s), dtype=torch.int16, device=device
            )
            vision: list[Tensor] = []
            sync: list[Tensor] = []
            picture_rows = np.full(len(clips), -1, np.int64)
            for row, index in enumerate(clips.tolist()):
                clip = store.without_sound(index)
                if clip.valid_s is not None and clip.valid_s < clip.duration_s:
                    raise ConfigError(
                        f"clip {clip.clip_id} is filled up with silence, which resident features "
                        "do not mask; train with resident=false"
                    )
                sound_nN[row] = torch.from_numpy(store.pcm_N(index).copy())
                if clip.vision_TV is not None and clip.sync_LS is not None:
                    found = len(clip.vision_TV), len(clip.sync_LS)
                    whole = _TIME.num_vision_frames(duration_s), _TIME.num_latent_frames(duration_s)
                    if found != whole:
                        raise ConfigError(
                            f"clip {clip.clip_id} has {found[0]} picture and {found[1]} sync "
                            f"features, {duration_s:g} s have {whole[0]} and {whole[1]}; resident "
                            "features are not filled up; train with resident=false"
                        )
                    picture_rows[row] = len(vision)
                    vision.append(torch.from_numpy(clip.vision_TV.copy()))
                    sync.append(torch.from_numpy(clip.sync_LS.copy()))
                prompts: dict[str, tuple[_Prompt, ...]] = {}
                for text in clip.texts:
                    prompt = _Prompt(
                        text=text.text,
                        token_ids_T=text.token_ids_T,
                        first=num_states,
                        count=len(text.states_TE),
                    )
                    prompts[text.role] = (*prompts.get(text.role, ()), prompt)
                    states.append(torch.from_numpy(text.states_TE.copy()))
                    num_states += prompt.count
                self._facts[index] = _Facts(
                    clip_id=clip.clip_id,
                    sounding=frozenset(clip.classes),
                    present=frozenset(clip.classes) | frozenset(clip.pictured),
                    prompts=prompts,
                )
            self._groups[duration_s] = _Group(
                clips=clips,
                sound_nN=sound_nN,
                begins_n=_begins(sound_nN),
                picture_rows_n=picture_rows,
                vision_nTV=torch.stack(vision).to(device) if vision else None,
                sync_nLS=torch.stack(sync).to(device) if sync else None,
            )
        self._states_tE = torch.cat(states).to(device)

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
        """The whole batch of a step, on the device; arguments are those of `build_batch`.

        What was mixed in and which tokens were lost is not recorded.

        Raises:
            ConfigError: If a clip lacks the asked text, or prompts are to be changed without
                an encoder.
        """
        rng = step_rng(seed, step, _PURPOSE)
        generator = torch.Generator(self._device).manual_seed(int(rng.integers(2**62)))
        count = len(draw.clips)
        want_offscreen_B, want_lost_B, want_null_B, choice_B = rng.random((4, count))
        group = self._groups[draw.duration_s]
        rows_B = self._rows[list(draw.clips)]
        facts = [self._of(i) for i in draw.clips]
        sound_BN = group.sound_nN[self._on(rows_B)].float() / _FULL_SCALE
        told = [_chosen(f, caption_role, c) for f, c in zip(facts, choice_B, strict=True)]
        changed: dict[int, tuple[str, list[int]]] = {}
        if draw.task == "VT2A":
            unseen = {}
            for i in np.flatnonzero(want_offscreen_B < difficulty.offscreen_prob).tolist():
                other = self._unseen(group, rows_B[i], facts[i], rng)
                if other is not None:
                    caption = _chosen(self._of(int(group.clips[other])), caption_role, rng.random())
                    unseen[i] = other
                    words = joined_caption(told[i].text, caption.text, rng.random())
                    changed[i] = words, needed(prompts).token_ids([words])[0]
            if unseen:
                sound_BN = self._mixed(sound_BN, group, unseen, difficulty, rng)
            for i in np.flatnonzero(want_lost_B < difficulty.token_drop_sample_prob).tolist():
                if i not in changed:
                    encoder, words = needed(prompts), told[i].text
                    ids = encoder.token_ids([words])[0]
                    lost = lost_tokens(ids, encoder.special_ids, difficulty.token_drop_prob, rng)
                    changed[i] = words, [t for at, t in enumerate(ids) if at not in lost]
        rate_B = knots_db_BQ = None
        if draw.task == "T2A" and difficulty.speed:
            widest = np.log1p(difficulty.speed)
            rate_B = torch.from_numpy(np.exp(rng.uniform(-widest, widest, count)))
        if difficulty.augment:
            knots_db_BQ = torch.from_numpy(draw_equaliser(count, rng))
        if rate_B is not None or knots_db_BQ is not None:
            sound_BN = remade(sound_BN, knots_db_BQ=knots_db_BQ, rate_B=rate_B)
        text_BTE = text_mask_BT = vision_BTV = sync_BLS = None
        if draw.task != "V2A":
            text_BTE, text_mask_BT = self._texts(told, changed, prompts, text_tokens)
            text_BTE, text_mask_BT = _blurred(text_BTE, text_mask_BT, difficulty, generator)
        if draw.task != "T2A":
            assert group.vision_nTV is not None  # only clips with pictures are drawn for these
            assert group.sync_nLS is not None
            pictured_B = self._on(group.picture_rows_n[rows_B])
            vision_BTV = group.vision_nTV[pictured_B].float()
            sync_BLS = group.sync_nLS[pictured_B].float()
        seconds_B = torch.full((count,), draw.duration_s, device=self._device)
        valid_frames_B = None
        if rate_B is not None:
            seconds_B = seconds_B / rate_B.to(seconds_B).clamp_min(1.0)
            frames_B = seconds_B.double() * float(_TIME.latent_rate_hz)
            valid_frames_B = (frames_B + 1e-6).floor().long()
        return Batch(
            task=draw.task,
            waveform_BN=sound_BN,
            latents=(None,) * count,
            conditions=Conditions(
                seconds_start_B=torch.zeros_like(seconds_B),
                seconds_total_B=seconds_B,
                text_BTE=text_BTE,
                text_mask_BT=text_mask_BT,
                vision_BTV=vision_BTV,
                sync_BLS=sync_BLS,
            ),
            valid_frames_B=valid_frames_B,
            drop_B=self._on(want_null_B < difficulty.null_prob),
            noise_seeds_B=(int(rng.integers(2**62)),),
            clip_ids=tuple(f.clip_id for f in facts),
            texts=tuple(
                "" if draw.task == "V2A" else changed[i][0] if i in changed else told[i].text
                for i in range(count)
            ),
            mixes=(),
            lost_tokens=(),
        )

    def _of(self, index: int) -> _Facts:
        facts = self._facts[index]
        assert facts is not None  # every clip has one of the lengths
        return facts

    def _on(self, array: NDArray[np.int64] | NDArray[np.bool_]) -> Tensor:
        return torch.from_numpy(array).to(self._device)

    def _unseen(
        self, group: _Group, row: int, facts: _Facts, rng: np.random.Generator
    ) -> int | None:
        """A row of the group with a sound of a class that is neither heard nor seen."""
        for other in rng.integers(len(group.clips), size=_TRIES).tolist():
            audible = min(group.begins_n[row], group.begins_n[other]) >= 0
            if (
                audible
                and other != row
                and not facts.present & self._of(int(group.clips[other])).sounding
            ):
                return int(other)
        return None

    def _mixed(
        self,
        sound_BN: Tensor,
        group: _Group,
        unseen: dict[int, int],
        difficulty: Difficulty,
        rng: np.random.Generator,
    ) -> Tensor:
        """`difficulty.mixed` for some samples of a batch."""
        count, num_samples = len(unseen), sound_BN.shape[1]
        own_K = self._on(np.array(list(unseen)))
        other_K = np.array(list(unseen.values()))
        start_K1 = self._on((rng.random(count) * LATEST_ONSET * num_samples).astype(np.int64))[
            :, None
        ]
        snr_db_K1 = torch.from_numpy(rng.uniform(*difficulty.offscreen_snr_db, (count, 1)))
        since_KN = torch.arange(num_samples, device=self._device) - start_K1
        from_KN = since_KN + self._on(group.begins_n[other_K])[:, None]
        sounds_KN = (since_KN >= 0) & (from_KN < num_samples)
        other_KN = group.sound_nN[self._on(other_K)].gather(1, from_KN.clamp(0, num_samples - 1))
        fade_KN = (since_KN / (FADE_SAMPLES - 1)).clamp(0, 1)
        added_KN = other_KN.float() / _FULL_SCALE * fade_KN * sounds_KN
        own_KN = sound_BN[own_K]
        own_power_K1 = own_KN.square().mean(dim=1, keepdim=True)
        power_K1 = added_KN.square().sum(1, keepdim=True) / sounds_KN.sum(1, keepdim=True)
        wanted_K1 = own_power_K1 * (10 ** (-snr_db_K1 / 10)).to(sound_BN)
        mix_KN = own_KN + (wanted_K1 / power_K1.clamp_min(1e-12)).sqrt() * added_KN
        mix_KN = mix_KN / mix_KN.abs().amax(dim=1, keepdim=True).clamp_min(1.0)
        return sound_BN.index_copy(0, own_K, mix_KN)

    def _texts(
        self,
        told: list[_Prompt],
        changed: dict[int, tuple[str, list[int]]],
        encoder: PromptEncoder | None,
        text_tokens: int | None,
    ) -> tuple[Tensor, Tensor]:
        """States (B, T, E), zero at padding, and the mask of real ones."""
        first_B1 = self._on(np.array([[p.first] for p in told]))
        counts = [p.count for p in told]
        for i, (_, ids) in changed.items():
            counts[i] = len(ids)
        length = max(counts) if text_tokens is None else text_tokens
        places_T = torch.arange(length, device=self._device)
        mask_BT = places_T < self._on(np.array(counts))[:, None]
        rows_BT = (first_B1 + places_T).clamp(max=len(self._states_tE) - 1)
        states_BTE = self._states_tE[rows_BT].float()
        if changed:
            tokens = needed(encoder).encode_ids([ids for _, ids in changed.values()])
            # Half precision as in the store, so that changed prompts are not told by it.
            made_KTE = tokens.states_BTD.half().float().to(self._device)[:, :length]
            states_BTE[self._on(np.array(list(changed))), : made_KTE.shape[1]] = made_KTE
        return states_BTE * mask_BT[..., None], mask_BT


def _chosen(facts: _Facts, role: str, choice: float) -> _Prompt:
    prompts = facts.prompts.get(role)
    if not prompts:
        raise ConfigError(
            f"clip {facts.clip_id} has no text of role {role!r}; it has {sorted(facts.prompts)}"
        )
    return prompts[int(choice * len(prompts))]


def _begins(sound_nN: Tensor, *, at_once: int = 256) -> Numbers:
    """Where `difficulty.unseen_part` would cut each clip; -1 if what is left is silence."""
    found = []
    for chunk_nN in torch.split(sound_nN, at_once):
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


def _blurred(
    states_BTE: Tensor, mask_BT: Tensor, difficulty: Difficulty, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """`difficulty.blurred_states` for a batch; lost states are masked, not taken out."""

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
