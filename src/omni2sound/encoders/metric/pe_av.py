"""PE-AV and PE-A-Frame: sound, pictures and sentences in one space; when a sound is heard.

In:   a mono waveform at 48 kHz; uint8 pictures; sentences.
Out:  PE-AV: unit vectors (D,), whose cosines are the scores. PE-A-Frame: for each sentence and
      each 40 ms the probability that it is heard.

Both are transformers' own networks and feature extractor. What not to get wrong: sentences have
one embedding for sounds and another for pictures; `get_text_audio_embeds` of transformers 5.23
fails (findings/transformers-pe-audio-text.sh), so the text model is called here as `forward` does.

Shape suffixes: N samples, T pictures, H W K picture, B sentences, F frames of 40 ms, L tokens, D
features.
Source: Vyas et al. 2025, arXiv:2512.19687; facebook/pe-av-*, facebook/pe-a-frame-* (Apache-2.0).
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from omni2sound.encoders.pictures import resize, rgb_tensor
from omni2sound.encoders.published import (
    PE_A_FRAME,
    PE_AV,
    Release,
    fill,
    read_checkpoint,
    resolve,
)
from omni2sound.errors import ConfigError, MissingPartError, ShapeError, UserError
from omni2sound.media.info import probe
from omni2sound.media.video import iter_frames
from omni2sound.readers import read_object

if TYPE_CHECKING:
    from tokenizers import Tokenizer

RATE_HZ = 48_000
FRAME_S = 0.04
"""Length of PE-A-Frame's frames."""
_HOP_SAMPLES = round(FRAME_S * RATE_HZ)
_MAX_TOKENS = 512
_MAX_FPS = 30
"""Of releases that see all pictures."""
_SHARED = (
    ("audio_model.text_model.", "text_model."),
    ("video_model.text_model.", "text_model."),
    ("audio_video_encoder.embedder.audio_encoder.", "audio_model.audio_encoder."),
    ("audio_video_encoder.embedder.video_encoder.", "video_model.video_encoder."),
)
"""Parts of PE-AV that are one: another name of it, and the stored one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureInput:
    """What the pictures of a release look like."""

    side_px: int = 336
    """Height and width; pictures are squashed to it."""
    count: int | None = 16
    """Pictures of a clip, evenly spread; None takes all of them."""

    @classmethod
    def read(cls, file: Path) -> PictureInput:
        """Read the processor's settings of a release.

        Raises:
            ConfigError: The file holds others than PE-AV's.
        """
        settings = read_object(file).get("video_processor")
        size = settings.get("size") if isinstance(settings, dict) else None
        side_px = size.get("height") if isinstance(size, dict) else None
        if not isinstance(settings, dict) or not isinstance(side_px, int) or not 0 < side_px < 4096:
            raise ConfigError(f"{file}: no size of pictures; is it PE-AV's?")
        count = settings.get("num_frames") if settings.get("do_sample_frames") else None
        if count is not None and not (isinstance(count, int) and 1 < count < 4096):
            raise ConfigError(f"{file}: num_frames={count!r}: expected 2 or more")
        return cls(side_px=side_px, count=count)

    def places(self, num_pictures: int) -> list[int]:
        """Indices of the pictures that the network sees, of a clip's `num_pictures`."""
        if self.count is None:
            return list(range(num_pictures))
        return [place * (num_pictures - 1) // (self.count - 1) for place in range(self.count)]


def read_pictures(
    video: Path, wanted: PictureInput, *, start_s: float = 0.0, duration_s: float | None = None
) -> NDArray[np.uint8]:
    """Decode the pictures of a clip that the network sees, (T, H, W, 3).

    Raises:
        MediaError: The file can't be decoded, or has no pictures.
    """
    info = probe(video).video
    fps = Fraction(_MAX_FPS) if info is None else min(info.average_fps, Fraction(_MAX_FPS))
    frames = iter_frames(
        video,
        fps=fps,
        size_px=None if wanted.count else (wanted.side_px, wanted.side_px),
        start_s=start_s,
        duration_s=duration_s,
    )
    if wanted.count is None:
        return np.stack(list(frames))
    if duration_s is None:
        assert info is not None  # iter_frames has refused a file without pictures
        duration_s = max(0.0, float(info.duration_s) - start_s)
    places = wanted.places(max(1, -int(-Fraction(duration_s) * fps // 1)))
    kept = {place: frame for place, frame in enumerate(frames) if place in set(places)}
    last = kept[max(kept)]
    return np.stack([kept.get(place, last) for place in places])


class _PeAudio:
    """What both networks have in common: sound in, sentences in."""

    def __init__(
        self, network: Any, tokenizer: Tokenizer, device: torch.device | str = "cpu"
    ) -> None:
        from transformers import PeAudioFeatureExtractor

        self._network = network.eval().requires_grad_(False).to(device)
        tokenizer.enable_truncation(_MAX_TOKENS)
        pad = network.config.text_config.pad_token_id
        tokenizer.enable_padding(pad_id=pad, pad_token=tokenizer.id_to_token(pad))
        self._tokenizer = tokenizer
        self._extractor = PeAudioFeatureExtractor(hop_length=_HOP_SAMPLES, sampling_rate=RATE_HZ)
        self.device = torch.device(device)

    @property
    def settings(self) -> str:
        """Settings beside the weights that change numbers."""
        return ""

    def _sound(self, waveform_N: NDArray[np.float32]) -> dict[str, Tensor]:
        if waveform_N.ndim != 1 or not len(waveform_N):
            raise ShapeError(f"waveform must be (N,) at 48 kHz, got {waveform_N.shape}")
        found = self._extractor([waveform_N], sampling_rate=RATE_HZ, return_tensors="pt")
        return {name: tensor.to(self.device) for name, tensor in found.items()}

    def _text(self, audio_model: Any, texts: Sequence[str]) -> Tensor:
        """Embed sentences for sounds, as `forward` of transformers does."""
        if isinstance(texts, str) or len(texts) == 0:
            raise UserError(f"texts must be a non-empty list of strings, got {texts!r}")
        encodings = self._tokenizer.encode_batch(list(texts))
        states = audio_model.text_model(
            input_ids=torch.tensor([e.ids for e in encodings], device=self.device),
            attention_mask=torch.tensor([e.attention_mask for e in encodings], device=self.device),
            output_hidden_states=True,
        ).hidden_states[-1]
        embedded: Tensor = audio_model.text_audio_head(states[:, 0])
        return embedded


class PeAv(_PeAudio):
    """PE-AV, frozen. Build it with `PeAv.load`."""

    def __init__(
        self,
        network: Any,
        tokenizer: Tokenizer,
        pictures: PictureInput,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(network, tokenizer, device)
        self.pictures = pictures

    @property
    def settings(self) -> str:
        """Settings beside the weights that change numbers."""
        return repr(self.pictures)

    @staticmethod
    def check(source: str | os.PathLike[str]) -> Path:
        """Find the folder of the weights, and what reads them.

        Raises:
            MissingPartError: A file is missing, or timm, which has the picture tower.
        """
        folder = resolve(PE_AV, source)
        if importlib.util.find_spec("timm") is None:
            raise MissingPartError("PE-AV's picture tower needs timm: pip install timm")
        return folder

    @classmethod
    def load(cls, source: str | os.PathLike[str], device: torch.device | str = "cpu") -> Self:
        """Load published weights of any size.

        Args:
            source: Folder of the release's files, or a Hub id with its revision.
            device: Device to run on.

        Raises:
            MissingPartError: A file or timm is missing.
            ConfigError: The tensors do not fit the network of the configuration.
        """
        from transformers import PeAudioVideoModel

        folder = cls.check(source)
        pictures = PictureInput.read(folder / "processor_config.json")
        return cls(*_read(PeAudioVideoModel, folder, PE_AV), pictures, device)

    @torch.no_grad()
    def embed_audio(self, waveform_N: NDArray[np.float32]) -> Tensor:
        """Embed a mono clip at 48 kHz: unit vector (D,), on the CPU.

        Raises:
            ShapeError: Not (N,) with N >= 1.
        """
        embedded = self._network.audio_model.get_audio_embeds(**self._sound(waveform_N))
        return F.normalize(embedded[0].float(), dim=-1).cpu()

    @torch.no_grad()
    def embed_pictures(self, frames_THWK: NDArray[np.uint8]) -> Tensor:
        """Embed the chosen pictures of a clip (`PictureInput.places`): unit vector (D,), CPU.

        Raises:
            ShapeError: Not uint8 (T, H, W, 3) with T >= 1.
        """
        side_px = self.pictures.side_px
        frames = rgb_tensor(frames_THWK, least=1)
        frames = resize(frames, (side_px, side_px), mode="bilinear").to(self.device)
        values_1TKHW = ((frames / 255 - 0.5) / 0.5).permute(0, 3, 1, 2)[None]
        model = self._network.video_model
        seen = model.video_encoder(pixel_values_videos=values_1TKHW).pooler_output
        return F.normalize(model.video_head(seen)[0].float(), dim=-1).cpu()

    @torch.no_grad()
    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Embed sentences for comparison with sounds: unit vectors (B, D), on the CPU.

        Raises:
            UserError: No text, or a single string.
        """
        return F.normalize(self._text(self._network.audio_model, texts).float(), dim=-1).cpu()


class PeAFrame(_PeAudio):
    """PE-A-Frame, frozen. Build it with `PeAFrame.load`."""

    @staticmethod
    def check(source: str | os.PathLike[str]) -> Path:
        """Find the folder of the weights.

        Raises:
            MissingPartError: A file is missing.
        """
        return resolve(PE_A_FRAME, source)

    @classmethod
    def load(cls, source: str | os.PathLike[str], device: torch.device | str = "cpu") -> Self:
        """Load published weights of any size; arguments and errors as `PeAv.load`."""
        from transformers import PeAudioFrameLevelModel

        return cls(*_read(PeAudioFrameLevelModel, cls.check(source), PE_A_FRAME), device)

    @torch.no_grad()
    def heard(self, waveform_N: NDArray[np.float32], texts: Sequence[str]) -> NDArray[np.float32]:
        """Probability that each sentence is heard, by frames of 40 ms.

        Args:
            waveform_N: One channel at 48 kHz.
            texts: Sentences or noun phrases, at least one.

        Returns:
            (B, F); the last frame may reach past the end of the sound.

        Raises:
            ShapeError: Not (N,) with N >= 1.
            UserError: No text, or a single string.
        """
        network = self._network
        sound_FD = network.get_audio_embeds(**self._sound(waveform_N))[0]
        logits_FB = sound_FD @ self._text(network, texts).T
        logits_FB = logits_FB * network.text_audio_logit_scale + network.text_audio_logit_bias
        found: NDArray[np.float32] = logits_FB.float().sigmoid().T.cpu().numpy()
        return found


def _read(kind: Any, folder: Path, release: Release) -> tuple[Any, Tokenizer]:
    """Read network and tokenizer; every stored tensor must have its place."""
    from tokenizers import Tokenizer

    config = read_object(folder / "config.json")
    tensors = read_checkpoint(folder / "model.safetensors")
    try:
        network = kind(kind.config_class(**config))
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # wrong configurations fail in any way
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{release.title}: {folder} can't be read: {reason}") from None
    names = network.state_dict()
    for alias, source in _SHARED:  # a file holds what is shared under one name
        for name in (name for name in names if name.startswith(alias)):
            original = source + name.removeprefix(alias)
            if original in tensors:
                tensors.setdefault(name, tensors[original])
    fill(network, tensors, title=release.title)
    return network, tokenizer
