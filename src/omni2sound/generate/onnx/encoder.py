"""Conditioning with exported encoders: from a video and a prompt to `ArrayConditions`.

In:   a video file, prompts, a duration.
Out:  conditions over the whole duration; what the video shows; tags of a sound.

The same steps as `conditions.ConditionEncoder`, on arrays.

Shape suffixes: B batch, T frames or tokens, H W picture, C colours, L latent frames, V picture
features, S sync features, N samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omni2sound.encoders.reading import load_tokenizer, read_texts
from omni2sound.generate.onnx.folder import TOKENIZER, ExportedModel, Session
from omni2sound.generate.onnx.network import ArrayConditions
from omni2sound.generate.windows import (
    SYNC_MARGIN,
    VISION_CHUNK,
    embed_in_chunks,
)
from omni2sound.generate.words.encoder import RequestEncoder, motion_sampling, warn_of_syntax
from omni2sound.generate.words.english import stems_of
from omni2sound.generate.words.kinds import mean_states
from omni2sound.media.video import Sampling
from omni2sound.recognise.boxes import Box, keep_best
from omni2sound.recognise.observe import Recogniser, Seen
from omni2sound.stages import enter
from omni2sound.timebase import indices_at, places_between

_TEXTS_PER_CALL = 64
_PICTURES_PER_CALL = 4
"""Of the picture encoder, so that activations fit the cache."""
_SYNC_CHUNK = 48
"""Pictures of the sync encoder, whose activations take a megabyte each."""
_PATCH_FRAMES, _PATCH_HOP_FRAMES = 96, 48
_WINDOW_SAMPLES, _STEP_SAMPLES = 400, 160
_PATCHES_PER_CALL = 32
"""YAMNet's patches; see `encoders.metric.yamnet`."""


class ArrayTexts:
    """The text encoder."""

    def __init__(self, model: ExportedModel) -> None:
        path = model.verified(TOKENIZER, model.card.files[TOKENIZER])
        self._max_tokens = int(model.card.text["max_tokens"])
        self._tokenizer = load_tokenizer(path, max_tokens=self._max_tokens)
        self._special_ids = frozenset(self._tokenizer.encode("").ids)
        self._session = model.load("text")

    def __call__(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """States (B, T, D), zero at padding, and the mask (B, T) of real tokens."""
        return self.encode(read_texts(self._tokenizer, texts, max_tokens=self._max_tokens))

    def quietly(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The same, without warnings of what can't be read."""
        return self.encode(self._tokenizer.encode_batch(list(texts)))

    def knows(self, word: str) -> bool:
        """Whether a word is in the vocabulary as a whole."""
        return len(set(self._tokenizer.encode(word).ids) - self._special_ids) == 1

    def encode(self, encodings: Sequence[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """States and mask of texts that the tokenizer has read."""
        ids_BT = np.array([e.ids for e in encodings], np.int64)
        mask_BT = np.array([e.attention_mask for e in encodings], np.int64)
        states = [
            self._session.run(
                {
                    "ids_BT": ids_BT[i : i + _TEXTS_PER_CALL],
                    "mask_BT": mask_BT[i : i + _TEXTS_PER_CALL],
                }
            )[0]
            for i in range(0, len(encodings), _TEXTS_PER_CALL)
        ]
        return np.concatenate(states), mask_BT.astype(bool)


class ArrayPictures:
    """An encoder of pictures, a few at a time or all."""

    def __init__(self, session: Session, name: str, per_call: int | None = None) -> None:
        self._session, self._name, self._per_call = session, name, per_call

    def embed(self, frames_THWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features (T, D) of uint8 pictures."""
        size = self._per_call or len(frames_THWC)
        parts = [
            self._session.run({self._name: frames_THWC[i : i + size]})[0]
            for i in range(0, len(frames_THWC), size)
        ]
        return np.concatenate(parts)


class ArrayDetector:
    """The object detector."""

    size_px = (300, 300)

    def __init__(self, session: Session) -> None:
        self._session = session

    def find(self, picture_HWC: NDArray[np.uint8]) -> list[Box]:
        """Find things in a picture, best first."""
        scores_AK, corners_A4 = self._session.run({"picture_1HWC": picture_HWC[None]})
        return keep_best(scores_AK, corners_A4)


class ArrayLabeller:
    """The labeller of pictures."""

    size_px = (280, 280)

    def __init__(self, session: Session) -> None:
        self._session = session

    def probabilities(self, frames_THWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities (T, K) of labels."""
        found = [self._session.run({"picture_1HWC": x[None]})[0] for x in frames_THWC]
        return np.concatenate(found) if found else np.zeros((0, 1000), np.float32)


class ArrayTagger:
    """The tagger of sounds."""

    def __init__(self, session: Session, class_names: tuple[str, ...]) -> None:
        self._session = session
        self.class_names = class_names

    def scores(self, waveform_N: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores (P, K) of the patches of a mono sound at 16 kHz."""
        size = _WINDOW_SAMPLES + (_PATCH_FRAMES - 1) * _STEP_SAMPLES
        hop = _PATCH_HOP_FRAMES * _STEP_SAMPLES
        count = 1 + math.ceil(max(0, len(waveform_N) - size) / hop)
        padded_N = np.pad(waveform_N, (0, size + (count - 1) * hop - len(waveform_N)))
        frames = np.lib.stride_tricks.sliding_window_view(padded_N, _WINDOW_SAMPLES)
        frames_FN = frames[::_STEP_SAMPLES]
        firsts = np.arange(count) * _PATCH_HOP_FRAMES
        made = []
        for first in range(0, count, _PATCHES_PER_CALL):
            index = firsts[first : first + _PATCHES_PER_CALL, None] + np.arange(_PATCH_FRAMES)
            made.append(self._session.run({"patches_PTN": frames_FN[index]})[0])
        return np.concatenate(made)


class ArrayEncoder(RequestEncoder):
    """The frozen encoders of an exported model."""

    def __init__(self, model: ExportedModel, *, once: bool) -> None:
        card = model.card
        self._once = once
        super().__init__(
            {
                "text": lambda: ArrayTexts(model),
                "vision": lambda: ArrayPictures(
                    model.load("vision"), "frames_THWC", _PICTURES_PER_CALL
                ),
                "sync": lambda: ArrayPictures(model.load("sync"), "frames_THWK"),
                "recogniser": lambda: Recogniser(
                    ArrayDetector(model.load("detector")),
                    ArrayLabeller(model.load("labeller")),
                ),
                "tagger": lambda: ArrayTagger(model.load("tagger"), card.tags),
            },
            {},
            near=card.text["near"],
            same=card.text["same"],
        )
        self._model = model
        self.timebase = card.timebase

    def recognise(
        self, video: Path, duration_s: float | Fraction, *, then_encode: bool = False
    ) -> Seen:
        """Recognise what a video shows; see `RequestEncoder.recognise`.

        Raises:
            MediaError: The video can't be read.
        """
        seen = super().recognise(video, duration_s, then_encode=then_encode)
        if self._once:
            self.release()
        return seen

    def num_threads(self) -> int:
        """Threads of one operation."""
        return self._model.num_threads

    def mean_states(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Mean token states (B, D), to compare; what can't be read is told by `encode` alone."""
        with self.use("text") as encoder:
            return mean_states(*encoder.quietly(texts))

    def knows(self, word: str) -> bool:
        """Whether a word is in the text encoder's vocabulary as a whole."""
        with self.use("text") as texts:
            return bool(texts.knows(word))

    def sound_stems(self) -> frozenset[str]:
        """Stems of AudioSet's names of sounds."""
        return stems_of(self._model.card.tags)

    def encode(
        self,
        video: Path | None,
        prompt: str | None,
        duration_s: float | Fraction,
        *,
        pictures: bool = True,
    ) -> ArrayConditions:
        """Encode a video, a prompt, or both (B = 1); see `ConditionEncoder.encode`.

        Raises:
            MediaError: The video can't be read.
        """
        card, timebase = self._model.card, self.timebase
        vision_BTV = np.zeros((1, 1, card.vision["dim"]), np.float32)
        if video is not None:
            num_pictures = timebase.num_vision_frames(duration_s)
            vision_BTV = np.zeros((1, num_pictures, card.vision["dim"]), np.float32)
            if pictures:
                vision_BTV = self._encoded_once(
                    ("vision", video, duration_s), lambda: self._pictures(video, duration_s)
                )
        is_seen = video is not None and pictures
        num_frames = timebase.num_latent_frames(duration_s)
        sync_LS = np.zeros((num_frames, card.sync["dim"]), np.float32)
        if video is not None:
            sync_LS = self._encoded_once(
                ("sync", video, duration_s),
                lambda: self._sync_features(video, duration_s, num_frames),
            )
        text_BTE = np.zeros((1, 1, int(card.text["dim"])), np.float32)
        text_mask_BT = np.zeros((1, 1), bool)
        if prompt is not None:
            warn_of_syntax(prompt)
            with self.use("text") as texts:
                text_BTE, text_mask_BT = texts([prompt])
        return ArrayConditions(
            seconds_B=np.full(1, float(duration_s), np.float32),
            text_BTE=text_BTE,
            text_mask_BT=text_mask_BT,
            vision_BTV=vision_BTV,
            vision_mask_BT=np.full(vision_BTV.shape[:2], is_seen),
            sync_BLS=sync_LS[None],
            has_video=video is not None,
        )

    def encode_each(
        self,
        video: Path | None,
        texts: Sequence[str | None],
        duration_s: float | Fraction,
        *,
        pictures: Sequence[bool],
    ) -> list[ArrayConditions]:
        """Encode a video once, beside each of several texts; see `ConditionEncoder.encode_each`.

        Raises:
            MediaError: The video can't be read.
        """
        enter("encoding")
        shown = self.encode(video, None, duration_s, pictures=any(pictures))
        self.forget_frames()
        made = []
        for text, has_pictures in zip(texts, pictures, strict=True):
            both = shown
            if text is not None:
                told = self.encode(None, text, duration_s)
                both = replace(both, text_BTE=told.text_BTE, text_mask_BT=told.text_mask_BT)
            if not has_pictures:
                both = replace(both, vision_mask_BT=np.zeros_like(both.vision_mask_BT))
            made.append(both)
        return made

    def samplings(self, video: Path) -> tuple[Sampling, ...]:
        """How the encoders sample a video."""
        return self._vision_sampling(), self._sync_sampling(video)

    def _vision_sampling(self) -> Sampling:
        vision = self._model.card.vision
        return self.timebase.vision_fps, (vision["height_px"], vision["width_px"])

    def _sync_sampling(self, video: Path) -> tuple[Fraction, tuple[int, int]]:
        side_px = self._model.card.sync["side_px"]
        return motion_sampling(video, fps=self.timebase.sync_fps, side_px=side_px)

    def _pictures(self, video: Path, duration_s: float | Fraction) -> NDArray[np.float32]:
        frames = self.frames(video, self._vision_sampling(), duration_s)
        with self.use("vision") as vision:
            parts = list(embed_in_chunks(vision.embed, frames, chunk=VISION_CHUNK, margin=0))
        return np.concatenate(parts)[None]

    def _sync_features(
        self, video: Path, duration_s: float | Fraction, num_frames: int
    ) -> NDArray[np.float32]:
        """Sync features (L, S), one for each latent frame."""
        fps, (rate, size_px) = self.timebase.sync_fps, self._sync_sampling(video)
        stream = self.frames(video, (rate, size_px), duration_s)
        with self.use("sync") as motion:
            parts = embed_in_chunks(motion.embed, stream, chunk=_SYNC_CHUNK, margin=SYNC_MARGIN)
            features_TS = np.concatenate(list(parts))
        wanted = math.ceil(Fraction(duration_s) * fps)
        before, after, part = places_between(rate, fps, wanted, len(features_TS))
        part_T1 = part[:, None].astype(np.float32)
        features_TS = features_TS[before] * (1 - part_T1) + features_TS[after] * part_T1
        index = indices_at(self._model.card.sync["fps"], self.timebase.latent_rate_hz, num_frames)
        known = [i for i in index if i < wanted]
        found_LS = np.zeros((num_frames, features_TS.shape[1]), np.float32)
        found_LS[: len(known)] = features_TS[known]
        return found_LS
