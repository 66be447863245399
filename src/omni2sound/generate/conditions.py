"""Conditioning: from a video and a prompt to the `Conditions` of a clip of any length.

In:   a video file or arrays of pictures, prompts, a duration.
Out:  `Conditions` over the whole duration, and windows of them.

Pictures are decoded at two rates and sizes (few and large for *what*, many and small for
*when*) and embedded as they come, so an hour of video takes no more pictures in memory
than ten seconds. Text and picture encoders are loaded when first needed; those of the
full-size model come from the user's folder, and are dropped after use where memory is scarce.

What not to get wrong: sync feature i belongs to latent frame i, and is looked up in the middle
of that frame's interval. Where a video ends early, its last picture is repeated up to
`duration_s` (`iter_frames`); latent frames past the last sync feature get zeros
(`at_latent_rate`).

Shape suffixes: B batch, T frames or tokens, H W picture, K colours, L latent frames,
V picture features, S sync features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from omni2sound.encoders.metric.yamnet import YamNet, read_class_names
from omni2sound.encoders.registry import (
    SynchformerPart,
    at_latent_rate,
    load_synchformer,
)
from omni2sound.encoders.sync import SyncEncoder, at_rate
from omni2sound.errors import ShapeError
from omni2sound.generate.model import PipelineConfig
from omni2sound.generate.windows import (
    SYNC_CHUNK,
    SYNC_MARGIN,
    VISION_CHUNK,
    embed_in_chunks,
)
from omni2sound.generate.words.encoder import (
    EncoderName,
    RequestEncoder,
    motion_sampling,
    warn_of_syntax,
)
from omni2sound.generate.words.english import stems_of
from omni2sound.generate.words.kinds import mean_states
from omni2sound.media.video import Sampling, iter_frames
from omni2sound.models.conditioning import Conditions
from omni2sound.recognise.observe import Recogniser
from omni2sound.stages import enter
from omni2sound.timebase import TimeBase


class ConditionEncoder(RequestEncoder):
    """The frozen encoders of one model."""

    def __init__(
        self,
        config: PipelineConfig,
        sync: SyncEncoder | None,
        device: torch.device,
        *,
        published: Path | None = None,
        low_memory: bool = False,
        dtype: torch.dtype = torch.float32,
        loaders: Mapping[EncoderName, Callable[[], Any]] | None = None,
    ) -> None:
        """Note how encoders are loaded; each is loaded when first needed.

        Args:
            config: The model's configuration.
            sync: The model's own sync encoder; None if it has a published one.
            device: Device of the encoders.
            published: Folder of published encoders (`docs/guides/full-size.md`), one folder each.
            low_memory: Drop each encoder after it has encoded.
            dtype: Precision of the bundled picture encoder; features are always float32.
            loaders: Functions that load encoders, in place of those of the configuration.
        """
        super().__init__(
            {
                "text": lambda: config.text.spec.load(device, published=published),
                "vision": lambda: config.vision.spec.load(device, published=published, dtype=dtype),
                "sync": lambda: load_synchformer(device, published=published),
                "recogniser": lambda: Recogniser.load(device),
                "tagger": YamNet.load,
                **(loaders or {}),
            },
            {} if sync is None else {"sync": sync},
            near=config.text.spec.near,
            same=config.text.spec.same,
            low_memory=low_memory,
        )
        self.config = config
        self.timebase = config.timebase
        self.device = device

    def encode(
        self,
        video: Path | None,
        prompt: str | None,
        duration_s: float | Fraction,
        *,
        pictures: bool = True,
    ) -> Conditions:
        """Encode a video, a prompt, or both as conditions (B = 1).

        Args:
            video: A video or a still picture; None without.
            prompt: What should be heard; None without.
            duration_s: Seconds of sound.
            pictures: Whether picture tokens are given; otherwise all of them are masked, and the
                video says only when, by its sync features.

        Raises:
            MediaError: The video can't be read.
        """
        vision_BTV, sync_BTS, spec = None, None, self.config.vision.spec
        if video is not None and not pictures:
            num_pictures = self.timebase.num_vision_frames(duration_s)
            vision_BTV = torch.zeros(1, num_pictures, spec.dim, device=self.device)
        elif video is not None:
            vision_BTV = self._vision_features(video, duration_s)[None]
        if video is not None:
            sync_BTS = self._sync_features(video, duration_s)[None]
        if prompt is not None:
            warn_of_syntax(prompt)
        prompts = None if prompt is None else [prompt]
        made = self._conditions(vision_BTV, sync_BTS, prompts, duration_s, batch=1)
        if vision_BTV is None or pictures:
            return made
        return replace(made, vision_mask_BT=self._unseen(vision_BTV))

    def _unseen(self, vision_BTV: Tensor) -> Tensor:
        """Mask (B, T) of pictures of which none is given."""
        return torch.zeros(vision_BTV.shape[:2], dtype=torch.bool, device=self.device)

    def encode_each(
        self,
        video: Path | None,
        texts: Sequence[str | None],
        duration_s: float | Fraction,
        *,
        pictures: Sequence[bool],
    ) -> list[Conditions]:
        """Encode a video once, beside each of several texts (B = 1); see `encode`.

        Args:
            video: A video or a still picture; None without.
            texts: What should be heard; None without.
            duration_s: Seconds of sound.
            pictures: Whether picture tokens are given, for each text.

        Raises:
            MediaError: The video can't be read.
        """
        enter("encoding")
        if len(texts) == 1:
            made = [self.encode(video, texts[0], duration_s, pictures=pictures[0])]
            self.forget_frames()
            return made
        shown = None
        if video is not None:
            shown = self.encode(video, None, duration_s, pictures=any(pictures))
        self.forget_frames()
        made = []
        for text, has_pictures in zip(texts, pictures, strict=True):
            told = None if text is None else self.encode(None, text, duration_s)
            both = told if shown is None else shown
            assert both is not None  # without a video there is a text
            if shown is not None and told is not None:
                both = replace(shown, text_BTE=told.text_BTE, text_mask_BT=told.text_mask_BT)
            if both.vision_BTV is not None and not has_pictures:
                both = replace(both, vision_mask_BT=self._unseen(both.vision_BTV))
            made.append(both)
        return made

    def mean_states(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Mean token states (B, D), to compare; what can't be read is told by `encode` alone."""
        with self.use("text") as encoder:
            tokens = encoder.encode_ids(encoder.token_ids(texts))
        return mean_states(tokens.states_BTD.cpu().numpy(), tokens.mask_BT.cpu().numpy())

    def knows(self, word: str) -> bool:
        """Whether a word is in the text encoder's vocabulary as a whole."""
        with self.use("text") as texts:
            return len(set(texts.token_ids([word])[0]) - texts.special_ids) == 1

    def sound_stems(self) -> frozenset[str]:
        """Stems of AudioSet's names of sounds."""
        return stems_of(read_class_names())

    def encode_arrays(
        self,
        vision_frames_BTHWK: NDArray[np.uint8] | None,
        sync_frames_BTHWK: NDArray[np.uint8] | None,
        prompts: Sequence[str] | None,
        *,
        duration_s: float | Fraction,
    ) -> Conditions:
        """Encode a batch of clips of one length, from pictures in memory.

        Args:
            vision_frames_BTHWK: Pictures at the vision rate, 224 x 224 pixels; None without video.
            sync_frames_BTHWK: Pictures at the sync rate, `SyncConfig.frame_px` square; None without
                video.
            prompts: One per clip; None without.
            duration_s: Length of every clip in seconds.

        Raises:
            ShapeError: Batch sizes differ, nothing is given, or only one kind of pictures.
        """
        given = [len(x) for x in (vision_frames_BTHWK, sync_frames_BTHWK, prompts) if x is not None]
        if not given or len(set(given)) > 1:
            raise ShapeError(f"expected pictures or prompts of one batch size, got sizes {given}")
        if (vision_frames_BTHWK is None) != (sync_frames_BTHWK is None):
            raise ShapeError("vision and sync pictures come from one video; got only one of them")
        vision_BTV = sync_BTS = None
        if vision_frames_BTHWK is not None and sync_frames_BTHWK is not None:
            with self.use("vision") as pictures:
                vision_BTV = torch.stack([pictures.embed(x) for x in vision_frames_BTHWK])
            with self.use("sync") as motion:
                sync_BTS = torch.stack([motion.embed(x) for x in sync_frames_BTHWK])
        return self._conditions(vision_BTV, sync_BTS, prompts, duration_s, batch=given[0])

    def samplings(self, video: Path) -> tuple[Sampling, ...]:
        """How the encoders sample a video, where they take pictures of one size."""
        each = self._vision_sampling(), self._sync_sampling(video)
        return tuple(sampling for sampling in each if sampling is not None)

    def _vision_sampling(self) -> Sampling | None:
        # CLIP squashes pictures itself, with the filter that it was trained with.
        spec = self.config.vision.spec
        return None if spec.resizes else (self.timebase.vision_fps, spec.size_px)

    def _sync_sampling(self, video: Path) -> Sampling | None:
        if isinstance(self.config.sync, SynchformerPart):
            return None
        side_px = self.config.sync.frame_px
        return motion_sampling(video, fps=self.timebase.sync_fps, side_px=side_px)

    def _vision_features(self, video: Path, duration_s: float | Fraction) -> Tensor:
        def encode() -> Tensor:
            if (sampling := self._vision_sampling()) is None:
                frames = iter_frames(video, fps=self.timebase.vision_fps, duration_s=duration_s)
            else:
                frames = self.frames(video, sampling, duration_s)
            with self.use("vision") as vision:
                parts = embed_in_chunks(vision.embed, frames, chunk=VISION_CHUNK, margin=0)
                return torch.cat(list(parts))

        return self._encoded_once(("vision", video, duration_s), encode)

    def _sync_features(self, video: Path, duration_s: float | Fraction) -> Tensor:
        return self._encoded_once(
            ("sync", video, duration_s), lambda: self._encode_motion(video, duration_s)
        )

    def _encode_motion(self, video: Path, duration_s: float | Fraction) -> Tensor:
        fps, sampling = self.timebase.sync_fps, self._sync_sampling(video)
        if isinstance(self.config.sync, SynchformerPart):
            # Its segments start with the clip and overlap: the whole clip at once, as it is.
            least_s = max(Fraction(duration_s), self.config.sync.least_s)
            frames = np.stack(list(iter_frames(video, fps=fps, duration_s=least_s)))
            with self.use("sync") as motion:
                features_TS: Tensor = motion.embed(frames)
            return features_TS
        assert sampling is not None
        stream = self.frames(video, sampling, duration_s)
        with self.use("sync") as motion:
            parts = embed_in_chunks(motion.embed, stream, chunk=SYNC_CHUNK, margin=SYNC_MARGIN)
            features_TS = torch.cat(list(parts))
        wanted = math.ceil(Fraction(duration_s) * fps)
        return at_rate(features_TS, Fraction(sampling[0]), fps, wanted)

    def _conditions(
        self,
        vision_BTV: Tensor | None,
        sync_BTS: Tensor | None,
        prompts: Sequence[str] | None,
        duration_s: float | Fraction,
        *,
        batch: int,
    ) -> Conditions:
        tokens = None
        if prompts is not None:
            with self.use("text") as texts:
                tokens = texts(prompts)
        sync_BLS = None
        if sync_BTS is not None:
            sync_BLS = at_latent_rate(
                sync_BTS,
                features_per_s=self.config.sync.features_per_s,
                latent_rate_hz=self.timebase.latent_rate_hz,
                num_frames=self.timebase.num_latent_frames(duration_s),
            )
        zeros_B = torch.zeros(batch, device=self.device)
        return Conditions(
            seconds_start_B=zeros_B,
            seconds_total_B=zeros_B + float(duration_s),
            text_BTE=None if tokens is None else tokens.states_BTD,
            text_mask_BT=None if tokens is None else tokens.mask_BT,
            vision_BTV=vision_BTV,
            sync_BLS=sync_BLS,
        )


def window_of(
    conditions: Conditions, timebase: TimeBase, starts: Sequence[int], *, window: int
) -> Conditions:
    """Cut windows out of one long clip, as a batch of clips that each begin at 0.

    Args:
        conditions: Conditions of the whole clip (B = 1).
        timebase: The model's time base.
        starts: First latent frame of each window.
        window: Latent frames of each window.
    """
    seconds = window / timebase.latent_rate_hz
    zeros_B = conditions.seconds_start_B.new_zeros(len(starts))
    vision_BTV, sync_BLS = conditions.vision_BTV, conditions.sync_BLS
    vision_mask_BT = conditions.vision_mask_BT
    if vision_BTV is not None and sync_BLS is not None:
        pictures, masks = [], []
        for start in starts:
            first_s = start / timebase.latent_rate_hz
            # The picture whose interval holds the middle of the window's i-th one.
            first = int(first_s * timebase.vision_fps + Fraction(1, 2))
            index = torch.arange(first, first + timebase.num_vision_frames(seconds))
            index = index.clamp(max=vision_BTV.shape[1] - 1)
            pictures.append(vision_BTV[0, index])
            if vision_mask_BT is not None:
                masks.append(vision_mask_BT[0, index])
        vision_BTV = torch.stack(pictures)
        vision_mask_BT = torch.stack(masks) if masks else None
        sync_BLS = torch.stack([sync_BLS[0, start : start + window] for start in starts])
    text_BTE, text_mask_BT = conditions.text_BTE, conditions.text_mask_BT
    if text_BTE is not None and text_mask_BT is not None:
        text_BTE = text_BTE.expand(len(starts), -1, -1)
        text_mask_BT = text_mask_BT.expand(len(starts), -1)
    return Conditions(
        seconds_start_B=zeros_B,
        seconds_total_B=zeros_B + float(seconds),
        text_BTE=text_BTE,
        text_mask_BT=text_mask_BT,
        vision_BTV=vision_BTV,
        vision_mask_BT=vision_mask_BT,
        sync_BLS=sync_BLS,
    )
