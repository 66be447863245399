"""LAION-CLAP: sounds and sentences as unit vectors in one space.

In:   mono waveforms at 48 kHz; sentences.
Out:  (B, 512) for either; the cosine of two of them is the CLAP score.

The network is transformers' `ClapModel` with the weights of LAION's checkpoint; this module maps
the names. The front end is LAION's (Slaney bands from 50 Hz), not that of transformers' feature
extractor. What not to get wrong: a clip shorter than 10 s is repeated as often as it fits
completely, then zero-padded; of a longer one the first 10 s are used, where LAION draws a place.

Shape suffixes: B clips or sentences, N samples, F frames, M mel bands (64), D features.
Source: Wu et al. 2022, arXiv:2211.06687; LAION-AI/CLAP, HTSAT-base without fusion.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omni2sound.encoders.metric.spectra import mel_matrix, power_spectrum
from omni2sound.encoders.published import CLAP, ROBERTA, fill, read_checkpoint, resolve
from omni2sound.errors import ShapeError, UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_RATE_HZ = 48_000
_CLIP_SAMPLES = 10 * _RATE_HZ
_MAX_TOKENS = 77
_PAD = 1
_NOT_NEEDED = (
    "audio_branch.spectrogram_extractor.",  # a Hann window of 1024; `clap_log_mel`
    "audio_branch.logmel_extractor.",
    "audio_branch.tscam_conv.",  # heads that tag sounds, and two that only training uses
    "audio_branch.head.",
    "audio_transform.",
    "text_transform.",
    "text_branch.embeddings.position_ids",
    "text_branch.embeddings.token_type_ids",
)
_RENAMED = (  # LAION's name, transformers' name
    (r"^audio_branch\.bn0\.", "audio_model.audio_encoder.batch_norm."),
    (r"^audio_branch\.", "audio_model.audio_encoder."),
    (r"\.attn\.relative", ".attention.self.relative"),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"(blocks\.\d+)\.norm1\.", r"\1.layernorm_before."),
    (r"(blocks\.\d+)\.norm2\.", r"\1.layernorm_after."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
    (r"^text_branch\.", "text_model."),
    (r"^(audio|text)_projection\.0\.", r"\1_projection.linear1."),
    (r"^(audio|text)_projection\.2\.", r"\1_projection.linear2."),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClapShape:
    """Shape of the network; HTSAT-base and RoBERTa-base by default."""

    audio_width: int = 128
    """Width of the first stage; it doubles three times."""
    audio_depths: tuple[int, ...] = (2, 2, 12, 2)
    audio_heads: tuple[int, ...] = (4, 8, 16, 32)
    text_width: int = 768
    text_depth: int = 12
    text_heads: int = 12
    vocabulary: int = 50_265
    joint_dim: int = 512


def build_clap(shape: ClapShape) -> nn.Module:
    """Build `ClapModel` with random weights."""
    from transformers import ClapConfig, ClapModel

    config = ClapConfig(
        text_config={
            "hidden_size": shape.text_width,
            "intermediate_size": 4 * shape.text_width,
            "num_hidden_layers": shape.text_depth,
            "num_attention_heads": shape.text_heads,
            "vocab_size": shape.vocabulary,
            "layer_norm_eps": 1e-5,
        },
        audio_config={
            "patch_embeds_hidden_size": shape.audio_width,
            "hidden_size": shape.audio_width * 2 ** (len(shape.audio_depths) - 1),
            "depths": list(shape.audio_depths),
            "num_attention_heads": list(shape.audio_heads),
            "num_hidden_layers": len(shape.audio_depths),
        },
        projection_dim=shape.joint_dim,
    )
    network: nn.Module = ClapModel(config)
    return network.eval().requires_grad_(False)


def from_laion(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename tensors as in transformers, and drop unneeded ones.

    Joint queries, keys and values are split. A leading "module." is a trace of training.
    """
    mapped: dict[str, Tensor] = {}
    for original, tensor in tensors.items():
        name = original.removeprefix("module.")
        if name.startswith(_NOT_NEEDED) or name.endswith(".attn_mask"):
            continue  # masks of shifted windows: transformers makes them as they are needed
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        joined = re.fullmatch(r"(.+)\.attn\.qkv\.(weight|bias)", name)
        if joined is None:
            mapped[name] = tensor
            continue
        for part, values in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
            mapped[f"{joined[1]}.attention.self.{part}.{joined[2]}"] = values
    return mapped


def clap_log_mel(waveform_BN: Tensor) -> Tensor:
    """Log-mel frames (B, 1, 1001, 64) in decibels of clips of 10 s: the audio half's input."""
    num_samples = waveform_BN.shape[1]
    if num_samples < _CLIP_SAMPLES:
        waveform_BN = waveform_BN.repeat(1, _CLIP_SAMPLES // num_samples)
        waveform_BN = F.pad(waveform_BN, (0, _CLIP_SAMPLES - waveform_BN.shape[1]))
    power_BFK = power_spectrum(
        waveform_BN[:, :_CLIP_SAMPLES],
        window_N=torch.hann_window(1024, device=waveform_BN.device),
        hop_samples=480,
        fft_samples=1024,
    )
    bands_KM = mel_matrix(
        sample_rate_hz=_RATE_HZ,
        fft_samples=1024,
        num_mels=64,
        lowest_hz=50,
        highest_hz=14_000,
        scale="slaney",
        straight_in="hz",
        equal_area=True,
    ).to(waveform_BN.device)
    return 10 * (power_BFK @ bands_KM).clamp(min=1e-10).log10()[:, None]


class Clap:
    """LAION-CLAP (194 M parameters, frozen). Build it with `Clap.load`."""

    sample_rate_hz = _RATE_HZ

    def __init__(
        self, network: nn.Module, tokenizer: Tokenizer, device: torch.device | str = "cpu"
    ) -> None:
        self._network: Any = network.eval().to(device)
        tokenizer.enable_truncation(_MAX_TOKENS)
        tokenizer.enable_padding(pad_id=_PAD, pad_token="<pad>")
        self._tokenizer = tokenizer
        self.device = torch.device(device)

    @classmethod
    def load(
        cls,
        source: str | os.PathLike[str],
        device: torch.device | str = "cpu",
        *,
        tokenizer: str | os.PathLike[str] | None = None,
    ) -> Clap:
        """Load LAION's checkpoint.

        Args:
            source: The folder of `music_speech_audioset_epoch_15_esc_89.98.pt`, or a Hub id
                with its revision.
            device: Device to run on.
            tokenizer: The folder of RoBERTa's `tokenizer.json`, or a Hub id with its
                revision; None: `source`.

        Raises:
            MissingPartError: A file is missing.
            ConfigError: Its tensors do not fit this network.
        """
        from tokenizers import Tokenizer

        folder = resolve(ROBERTA, source if tokenizer is None else tokenizer)
        words = Tokenizer.from_file(str(Path(folder) / ROBERTA.files[0].name))
        stored = read_checkpoint(resolve(CLAP, source) / CLAP.files[0].name, inside="state_dict")
        network = build_clap(ClapShape())
        fill(network, with_constants(from_laion(stored), network), title=CLAP.title)
        return cls(network, words, device)

    @torch.no_grad()
    def embed_audio(self, waveform_BN: Tensor) -> Tensor:
        """Unit vectors (B, 512) of mono clips of one length at 48 kHz, on the CPU.

        Raises:
            ShapeError: Not (B, N) with N >= 1.
        """
        if waveform_BN.ndim != 2 or waveform_BN.shape[1] == 0:
            raise ShapeError(f"waveforms must be (B, N) at 48 kHz, got {tuple(waveform_BN.shape)}")
        features = self._network.audio_model(clap_log_mel(waveform_BN.to(self.device)))
        projected: Tensor = self._network.audio_projection(features.pooler_output)
        return F.normalize(projected, dim=-1).cpu()

    @torch.no_grad()
    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (B, 512) of sentences, on the CPU; more than 77 tokens are cut.

        Raises:
            UserError: No text, or a single string.
        """
        if isinstance(texts, str) or len(texts) == 0:
            raise UserError(f"texts must be a non-empty list of strings, got {texts!r}")
        encodings = self._tokenizer.encode_batch(list(texts))
        ids_BT = torch.tensor([e.ids for e in encodings], device=self.device)
        mask_BT = torch.tensor([e.attention_mask for e in encodings], device=self.device)
        features = self._network.text_model(input_ids=ids_BT, attention_mask=mask_BT)
        projected: Tensor = self._network.text_projection(features.pooler_output)
        return F.normalize(projected, dim=-1).cpu()


def with_constants(tensors: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Add the constant buffers of transformers: position ids and token type ids."""
    constants = ("text_model.embeddings.position_ids", "text_model.embeddings.token_type_ids")
    own = network.state_dict()
    return {**tensors, **{name: own[name] for name in constants}}
