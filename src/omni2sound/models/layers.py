"""Building blocks of the transformer.

Shape suffixes: B batch, L latent frames (or tokens), T context tokens, D width,
N heads, H head dimension, E dimension of an encoder's features.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omni2sound.models import fused


def sinusoid(position: Tensor, dim: int, *, longest: float = 10_000.0) -> Tensor:
    """Sines and cosines of `position` at `dim / 2` wavelengths from 2 pi to 2 pi `longest`.

    Args:
        position: Any shape, float.
        dim: Even size of the added last axis.
        longest: Ratio of the longest to the shortest wavelength.

    Source:
        Vaswani et al. 2017, arXiv:1706.03762, section 3.5.
    """
    exponent = torch.arange(dim // 2, device=position.device, dtype=torch.float32) / (dim // 2)
    angle = position.float()[..., None] * longest**-exponent
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def rope_table(num_positions: int, dim: int, *, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines (L, dim / 2) of rotary positions 0 .. L - 1.

    Source:
        Su et al. 2021, arXiv:2104.09864.
    """
    frequency = 10_000.0 ** -(torch.arange(0, dim, 2, device=device, dtype=torch.float32) / dim)
    angle_LF = torch.arange(num_positions, device=device, dtype=torch.float32)[:, None] * frequency
    return angle_LF.cos(), angle_LF.sin()


def apply_rope(x_BNLH: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate the first ``2 * F`` dimensions of each head by its position; leave the rest."""
    cos_LF, sin_LF = (table.to(x_BNLH.dtype) for table in rope)
    half = cos_LF.shape[-1]
    a, b, rest = x_BNLH[..., :half], x_BNLH[..., half : 2 * half], x_BNLH[..., 2 * half :]
    return torch.cat([a * cos_LF - b * sin_LF, b * cos_LF + a * sin_LF, rest], dim=-1)


def split_heads(x_BLD: Tensor, num_heads: int) -> Tensor:
    """(B, L, N * H) to (B, N, L, H)."""
    return x_BLD.reshape(*x_BLD.shape[:2], num_heads, -1).transpose(1, 2)


class HeadNorm(nn.Module):
    """Root-mean-square norm over a head's dimensions, with a learned scale.

    Normalised queries and keys keep logits bounded, so that bf16 needs no care.
    """

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(head_dim))

    def forward(self, x_BNLH: Tensor) -> Tensor:
        """(B, N, L, H), normalised over H."""
        # The scale is cast, or autocast would fall off the fused kernel.
        return F.rms_norm(x_BNLH, self.weight.shape, self.weight.to(x_BNLH.dtype), eps=1e-6)


def _scales(*norms: nn.Module) -> tuple[Tensor, ...]:
    """Scales of the norms of heads; empty if heads are not normalised."""
    return tuple(norm.weight for norm in norms if isinstance(norm, HeadNorm))


def attention(q_BNLH: Tensor, k_BNTH: Tensor, v_BNTH: Tensor, mask: Tensor | None) -> Tensor:
    """Scaled dot-product attention (B, N, L, H); `mask` is True at keys that may be attended to.

    On a CPU in bfloat16 it is written as two products: at a few hundred frames PyTorch's fused
    kernel takes two to nine times as long as these (benchmarks/speed/attention.py).
    """
    if q_BNLH.device.type != "cpu" or q_BNLH.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(q_BNLH, k_BNTH, v_BNTH, attn_mask=mask)
    logits_BNLT = (q_BNLH * q_BNLH.shape[-1] ** -0.5) @ k_BNTH.transpose(-1, -2)
    if mask is not None:
        logits_BNLT = logits_BNLT.masked_fill(~mask, -torch.inf)
    if fused.applies_to(logits_BNLT):  # summed in float32, too, without two copies
        weights_BNLT: Tensor = logits_BNLT.softmax(dim=-1)
    else:
        weights_BNLT = logits_BNLT.softmax(dim=-1, dtype=torch.float32).to(v_BNTH.dtype)
    return weights_BNLT @ v_BNTH


class SelfAttention(nn.Module):
    """Self-attention with rotary positions and, by default, normalised heads."""

    def __init__(self, width: int, num_heads: int, *, head_norm: bool = True) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_norm = HeadNorm(width // num_heads) if head_norm else nn.Identity()
        self.k_norm = HeadNorm(width // num_heads) if head_norm else nn.Identity()
        self.out = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.out.weight)  # each block starts as the identity

    def forward(
        self, x_BLD: Tensor, rope: tuple[Tensor, Tensor], mask_B11L: Tensor | None
    ) -> Tensor:
        """(B, L, D) to (B, L, D); `mask_B11L` is True at frames that may be attended to."""
        qkv = self.qkv(x_BLD)
        scales = _scales(self.q_norm, self.k_norm)
        if scales and fused.applies_to(qkv):
            q, k, v = fused.split_and_normalise(qkv, self.num_heads, (*scales, None), rope=rope)
        else:
            q, k, v = (split_heads(part, self.num_heads) for part in qkv.chunk(3, dim=-1))
            q, k = apply_rope(self.q_norm(q), rope), apply_rope(self.k_norm(k), rope)
        y_BNLH = attention(q, k, v, mask_B11L)
        return self.out(y_BNLH.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class CrossAttention(nn.Module):
    """Attention to the context; its keys and values are computed once per request."""

    def __init__(self, width: int, num_heads: int, *, head_norm: bool = True) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(width, width, bias=False)
        # No bias: a zeroed context (the null branch) then gives exactly zero.
        self.kv = nn.Linear(width, 2 * width, bias=False)
        self.q_norm = HeadNorm(width // num_heads) if head_norm else nn.Identity()
        self.k_norm = HeadNorm(width // num_heads) if head_norm else nn.Identity()
        self.out = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.out.weight)

    def keys_values(self, context_BTD: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values, each (B, N, T, H)."""
        kv = self.kv(context_BTD)
        scales = _scales(self.k_norm)
        if scales and fused.applies_to(kv):
            k, v = fused.split_and_normalise(kv, self.num_heads, (*scales, None))
            return k, v
        k, v = (split_heads(part, self.num_heads) for part in kv.chunk(2, dim=-1))
        return self.k_norm(k), v

    def forward(
        self, x_BLD: Tensor, keys_values: tuple[Tensor, Tensor], mask_B11T: Tensor | None
    ) -> Tensor:
        """(B, L, D) to (B, L, D) over keys and values of `keys_values`."""
        q_BLD = self.q(x_BLD)
        scales = _scales(self.q_norm)
        if scales and fused.applies_to(q_BLD):
            (q_BNLH,) = fused.split_and_normalise(q_BLD, self.num_heads, scales)
        else:
            q_BNLH = self.q_norm(split_heads(q_BLD, self.num_heads))
        y_BNLH = attention(q_BNLH, *keys_values, mask_B11T)
        return self.out(y_BNLH.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class GatedFeedForward(nn.Module):
    """SwiGLU feed-forward of inner width ``expansion * width``.

    Source:
        Shazeer 2020, arXiv:2002.05202.
    """

    def __init__(self, width: int, expansion: int, *, bias: bool = False) -> None:
        super().__init__()
        self.up = nn.Linear(width, 2 * expansion * width, bias=bias)
        self.down = nn.Linear(expansion * width, width, bias=bias)
        for parameter in self.down.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """(B, L, D) to (B, L, D)."""
        up_BLE = self.up(x_BLD)
        if fused.applies_to(up_BLE):
            return self.down(fused.gated(up_BLE))  # type: ignore[no-any-return]
        value, gate = up_BLE.chunk(2, dim=-1)
        return self.down(value * F.silu(gate))  # type: ignore[no-any-return]


class ScalarEmbedding(nn.Module):
    """Embedding of one number per sample (noise time, seconds).

    Sinusoids of bounded frequency, so that unseen durations are interpolated.
    """

    NUM_FEATURES = 128

    def __init__(self, width: int, *, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.mlp = nn.Sequential(
            nn.Linear(self.NUM_FEATURES, width), nn.SiLU(), nn.Linear(width, width)
        )

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        weight = self.mlp.get_submodule("0").weight
        assert isinstance(weight, Tensor)
        return weight.dtype

    def forward(self, value_B: Tensor) -> Tensor:
        """(B,) to (B, D)."""
        features = sinusoid(value_B * self.scale, self.NUM_FEATURES, longest=1000.0)
        return self.mlp(features.to(self.dtype))  # type: ignore[no-any-return]


def init_linear(module: nn.Module) -> None:
    """Normal(0, 1 / sqrt(fan-in)) for linear layers that are not zeroed on purpose.

    Nothing is drawn on the meta device: there torch would first import its compiler, a second.
    """
    if isinstance(module, nn.Linear) and not module.weight.is_meta and bool(module.weight.any()):
        nn.init.normal_(module.weight, std=1 / math.sqrt(module.in_features))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
