"""Synchformer: classification of the offset between sound and pictures.

In:   a waveform at 16 kHz, and the visual features of its video (`encoders.synchformer`).
Out:  audio features (S, 6, 768) of segments of 0.64 s every 0.32 s; for 14 segments of both,
      logits over 21 offsets from -2 to 2 s in steps of 0.2 s.

The audio half is the Audio Spectrogram Transformer, pooled over frequency; the head is a small
transformer over both sequences. Reimplemented with the names of the published file. What not to
get wrong: a segment has 65 frames; the 66th is 0 in the *log* spectrum, before normalisation.

Shape suffixes: N samples, S segments, F frames, M mel bands, B batch, P tokens, D features.
Source: Iashin et al. 2024, arXiv:2401.16423; Gong et al. 2021, arXiv:2104.01778.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from omni2sound.encoders.metric.spectra import mel_matrix, power_spectrum
from omni2sound.encoders.published import SYNCHFORMER, PublishedNetwork
from omni2sound.encoders.synchformer import (
    ClassPooling,
    MotionConfig,
    MotionTransformer,
    SynchformerVisual,
    segments,
)
from omni2sound.encoders.vit import Named
from omni2sound.errors import ShapeError

OFFSETS_S = tuple(round(-2 + 0.2 * i, 1) for i in range(21))
"""Offset in seconds of each of the 21 classes."""
WINDOW_SEGMENTS = 14
"""Segments (4.8 s) of one decision."""
SEGMENT_SAMPLES = 10_240
SEGMENT_HOP_SAMPLES = 5_120

_RATE_HZ = 16_000
_FRAMES = 66
_NUM_MELS = 128
_MEAN, _STD = -4.2677393, 4.5689974
_PATCH, _STRIDE = 16, 10
_AUDIO_ROWS = (_NUM_MELS - _PATCH) // _STRIDE + 1
_AUDIO_COLUMNS = (_FRAMES - _PATCH) // _STRIDE + 1
_MOMENTS = 8
_POSITIONS = 2 + WINDOW_SEGMENTS * (_MOMENTS + _AUDIO_COLUMNS)


@dataclass(frozen=True, kw_only=True, slots=True)
class SynchformerConfig:
    """Shape of the network; the published one by default."""

    visual: MotionConfig = field(default_factory=MotionConfig)
    depth: int = 12
    """Blocks of the audio half, which has the visual half's width and heads."""
    head_depth: int = 3
    head_heads: int = 8


class _Attention(nn.Module):
    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)

    def forward(self, x_BPD: Tensor) -> Tensor:
        query, key, value = (
            layer(x_BPD).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


class _Dense(nn.Module):
    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.dense = nn.Linear(c_in, c_out)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.dense(x)
        return out


class _AstLayer(nn.Module):
    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.attention = Named(attention=_Attention(width, num_heads), output=_Dense(width, width))
        self.intermediate = _Dense(width, 4 * width)
        self.output = _Dense(4 * width, width)
        self.layernorm_before = nn.LayerNorm(width, eps=1e-12)
        self.layernorm_after = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x_BPD: Tensor) -> Tensor:
        attended = self.attention.attention(self.layernorm_before(x_BPD))
        x_BPD = x_BPD + self.attention.output(attended)
        inner = F.gelu(self.intermediate(self.layernorm_after(x_BPD)))
        out: Tensor = x_BPD + self.output(inner)
        return out


class _Ast(nn.Module):
    """Audio Spectrogram Transformer over 12 x 6 patches and two extra tokens."""

    def __init__(self, width: int, num_heads: int, depth: int) -> None:
        super().__init__()
        tokens = _AUDIO_ROWS * _AUDIO_COLUMNS + 2
        self.embeddings = Named(
            cls_token=nn.Parameter(torch.zeros(1, 1, width)),
            distillation_token=nn.Parameter(torch.zeros(1, 1, width)),
            patch_embeddings=Named(projection=nn.Conv2d(1, width, _PATCH, _STRIDE)),
            position_embeddings=nn.Parameter(torch.zeros(1, tokens, width)),
        )
        layers = (_AstLayer(width, num_heads) for _ in range(depth))
        self.encoder = Named(layer=nn.ModuleList(layers))
        self.layernorm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, bands_SMF: Tensor) -> Tensor:
        inputs = self.embeddings
        patches = inputs.patch_embeddings.projection(bands_SMF[:, None]).flatten(2).mT
        extra = torch.cat([inputs.cls_token, inputs.distillation_token], dim=1)
        x = torch.cat([extra.expand(len(patches), -1, -1), patches], dim=1)
        x = x + inputs.position_embeddings
        for layer in self.encoder.layer:
            x = layer(x)
        out: Tensor = self.layernorm(x)
        return out


class _AudioHalf(nn.Module):
    def __init__(self, width: int, num_heads: int, depth: int) -> None:
        super().__init__()
        self.ast = _Ast(width, num_heads, depth)
        self.freq_attn_agg = ClassPooling(width, num_heads)

    def forward(self, bands_SMF: Tensor) -> Tensor:
        patches = self.ast(bands_SMF)[:, 2:].unflatten(1, (_AUDIO_ROWS, _AUDIO_COLUMNS))
        by_moment = patches.transpose(1, 2).flatten(0, 1)
        return self.freq_attn_agg.pool(by_moment).view(len(patches), _AUDIO_COLUMNS, -1)


class _HeadAttention(_Attention):
    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__(width, num_heads)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BPD: Tensor) -> Tensor:
        out: Tensor = self.proj(super().forward(x_BPD))
        return out


class _HeadBlock(nn.Module):
    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(width)
        self.ln2 = nn.LayerNorm(width)
        self.attn = _HeadAttention(width, num_heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x_BPD: Tensor) -> Tensor:
        x_BPD = x_BPD + self.attn(self.ln1(x_BPD))
        out: Tensor = x_BPD + self.mlp(self.ln2(x_BPD))
        return out


class _OffsetHead(nn.Module):
    """[offset token, visual, modality token, audio] to 21 logits."""

    def __init__(self, width: int, num_heads: int, depth: int) -> None:
        super().__init__()
        self.vis_in_lnorm = nn.LayerNorm(width)
        self.aud_in_lnorm = nn.LayerNorm(width)
        self.OFF_tok = nn.Parameter(torch.zeros(1, 1, width))
        self.MOD_tok = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_emb_cfg = Named(pos_emb=nn.Parameter(torch.zeros(1, _POSITIONS, width)))
        self.blocks = nn.Sequential(*(_HeadBlock(width, num_heads) for _ in range(depth)))
        self.ln_f = nn.LayerNorm(width)
        self.off_head = nn.Linear(width, len(OFFSETS_S))

    def forward(self, visual_BPD: Tensor, audio_BPD: Tensor) -> Tensor:
        batch = len(visual_BPD)
        x = torch.cat(
            [
                self.OFF_tok.expand(batch, -1, -1),
                self.vis_in_lnorm(visual_BPD),
                self.MOD_tok.expand(batch, -1, -1),
                self.aud_in_lnorm(audio_BPD),
            ],
            dim=1,
        )
        x = self.blocks(x + self.pos_emb_cfg.pos_emb)
        out: Tensor = self.off_head(self.ln_f(x)[:, 0])
        return out


class SynchformerNetwork(nn.Module):
    """Both halves and the head, with every tensor of the published file."""

    def __init__(self, config: SynchformerConfig) -> None:
        super().__init__()
        width, num_heads = config.visual.width, config.visual.num_heads
        self.vfeat_extractor = MotionTransformer(config.visual)
        self.afeat_extractor = _AudioHalf(width, num_heads, config.depth)
        self.vproj = nn.Linear(width, width)
        self.aproj = nn.Linear(width, width)
        self.transformer = _OffsetHead(width, config.head_heads, config.head_depth)

    def compare(self, visual_BSZD: Tensor, audio_BSZD: Tensor) -> Tensor:
        """Logits (B, 21) of 14 segments of both."""
        visual, audio = self.vproj(visual_BSZD), self.aproj(audio_BSZD)
        out: Tensor = self.transformer(visual.flatten(1, 2), audio.flatten(1, 2))
        return out


def log_mel_segments(waveform_N: Tensor) -> Tensor:
    """Log-mel segments (S, 128, 66), about -1 to 1: the audio half's input.

    Raises:
        ShapeError: Fewer than 10 240 samples.
    """
    cuts_SN = segments(waveform_N, length=SEGMENT_SAMPLES, hop=SEGMENT_HOP_SAMPLES)
    power_SFK = power_spectrum(
        cuts_SN,
        window_N=torch.hann_window(400, device=waveform_N.device),
        hop_samples=160,
        fft_samples=1024,
    )
    bands_KM = mel_matrix(
        sample_rate_hz=_RATE_HZ,
        fft_samples=1024,
        num_mels=_NUM_MELS,
        lowest_hz=0,
        highest_hz=_RATE_HZ / 2,
        straight_in="hz",
    ).to(waveform_N.device)
    log_SMF = (power_SFK @ bands_KM + 1e-6).log().mT
    padded = F.pad(log_SMF, (0, _FRAMES - log_SMF.shape[-1]))
    return (padded - _MEAN) / (2 * _STD)


class Synchformer(PublishedNetwork[SynchformerNetwork]):
    """Synchformer, frozen (237 M parameters). Build it with `Synchformer.load`."""

    release = SYNCHFORMER
    sample_rate_hz = _RATE_HZ

    def __init__(self, network: SynchformerNetwork, device: torch.device | str = "cpu") -> None:
        super().__init__(network, device)
        self.visual = SynchformerVisual(network.vfeat_extractor, device)

    @staticmethod
    def build() -> SynchformerNetwork:
        """Build the network with random weights."""
        return SynchformerNetwork(SynchformerConfig())

    @torch.no_grad()
    def audio_features(self, waveform_N: Tensor) -> Tensor:
        """Features (S, 6, 768) of mono samples at 16 kHz, on the CPU.

        Raises:
            ShapeError: Not one-dimensional, or under 0.64 s.
        """
        if waveform_N.ndim != 1:
            raise ShapeError(f"waveform must be (N,) at 16 kHz, got {tuple(waveform_N.shape)}")
        features: Tensor = self._network.afeat_extractor(
            log_mel_segments(waveform_N.to(self.device))
        )
        return features.cpu()

    def visual_features(self, frames_THWK: NDArray[np.uint8] | Tensor) -> Tensor:
        """Features (S, 8, 768) of pictures at 25 per second, on the CPU."""
        return self.visual.segment_features(frames_THWK).cpu()

    @torch.no_grad()
    def offset_logits(self, visual_BSZD: Tensor, audio_BSZD: Tensor) -> Tensor:
        """Logits (B, 21) over `OFFSETS_S` of 14 segments of pictures and sound, on the CPU.

        Raises:
            ShapeError: Not 14 segments of each.
        """
        if not visual_BSZD.shape[1] == audio_BSZD.shape[1] == WINDOW_SEGMENTS:
            raise ShapeError(
                f"expected {WINDOW_SEGMENTS} segments of pictures and of sound, got "
                f"{visual_BSZD.shape[1]} and {audio_BSZD.shape[1]}"
            )
        return self._network.compare(visual_BSZD.to(self.device), audio_BSZD.to(self.device)).cpu()
