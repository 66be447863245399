"""One sampling step of the transformer, laid out for a runtime without fused kernels.

In:   the transformer.
Out:  the same function, from a noisy latent and what `PrepareGraph` made.

Whatever `DiT` splits after a product is two or three products here, each with its part of the
weights, and the modulation is split once for all blocks: ONNX Runtime copies each part of a split,
a twelfth of a step. Masks are added to logits; the ones of scales and gates are in a block's parts.

Shape suffixes: B batch, L latent frames with the prepended token, T context tokens, D width,
N heads, H head dimension, M six widths of modulation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omni2sound.models.dit import DiT, DiTBlock
from omni2sound.models.layers import HeadNorm, apply_rope, rope_table, split_heads

_MASKED = -1e30
"""Added to logits of what is masked; with infinities, where all is masked nothing is defined."""


class DenoiseGraph(nn.Module):
    """`DiT.denoise`."""

    def __init__(self, dit: DiT) -> None:
        super().__init__()
        self.dit = dit
        self.blocks = nn.ModuleList(_Block(b) for b in dit.blocks if isinstance(b, DiTBlock))
        self.rotary_dim = dit.config.width // dit.config.num_heads // 2

    def forward(
        self,
        x_BLC: Tensor,
        t_B: Tensor,
        keys: Tensor,
        values: Tensor,
        mask_B11T: Tensor,
        modulation_BLM: Tensor,
        duration_BD: Tensor,
    ) -> Tensor:
        """Prediction (B, L, C)."""
        time_BD = self.dit.time(t_B)
        h_BLD = self.dit.proj_in(x_BLC + self.dit.pre(x_BLC))
        h_BLD = torch.cat([(time_BD + duration_BD)[:, None], h_BLD], dim=1)
        bias_B11T = torch.where(mask_B11T, 0.0, _MASKED)
        rope = rope_table(x_BLC.shape[1] + 1, self.rotary_dim, device=x_BLC.device)
        modulation = self._modulation(time_BD, modulation_BLM)
        for i, block in enumerate(self.blocks):
            h_BLD = block(h_BLD, modulation, keys[:, i], values[:, i], bias_B11T, rope)
        y_BLC = self.dit.proj_out(self.dit.norm_out(h_BLD[:, 1:]))
        return y_BLC + self.dit.post(y_BLC)  # type: ignore[no-any-return]

    def _modulation(self, time_BD: Tensor, sync_BLM: Tensor) -> Sequence[Tensor]:
        """Six parts (B, L, D) that blocks add their own to: scale, shift, negative gate, twice."""
        modulation_BLM = F.pad(sync_BLM, (0, 0, 1, 0))  # the token has no sync features
        if self.dit.time_modulation is not None:
            modulation_BLM = modulation_BLM + self.dit.time_modulation(F.silu(time_BD))[:, None]
        scale1, shift1, gate1, scale2, shift2, gate2 = modulation_BLM.chunk(6, dim=-1)
        return scale1, shift1, -gate1, scale2, shift2, -gate2


class _Block(nn.Module):
    """`DiTBlock`."""

    def __init__(self, block: DiTBlock) -> None:
        super().__init__()
        attention, cross, feed = block.self_attention, block.cross_attention, block.feed_forward
        self.num_heads = attention.num_heads
        self.norm_self, self.norm_cross, self.norm_ff = (
            block.norm_self,
            block.norm_cross,
            block.norm_ff,
        )
        self.query, self.key, self.value = _split(attention.qkv, 3)
        self.cross_query = cross.q
        self.outs = nn.ModuleList([attention.out, cross.out])
        self.q_norm, self.k_norm = _norm(attention.q_norm), _norm(attention.k_norm)
        self.cross_norm = _norm(cross.q_norm)
        self.up, self.gate = _split(feed.up, 2)
        self.down = feed.down
        assert block.modulation is not None
        scale1, shift1, gate1, scale2, shift2, gate2 = block.modulation.detach().chunk(6)
        self.parts = (1 + scale1, shift1, 1 - gate1, 1 + scale2, shift2, 1 - gate2)

    def forward(
        self,
        x_BLD: Tensor,
        modulation: Sequence[Tensor],
        keys_BNTH: Tensor,
        values_BNTH: Tensor,
        bias_B11T: Tensor,
        rope: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Apply the block to (B, L, D)."""
        scale1, shift1, gate1, scale2, shift2, gate2 = (
            shared_BLD + own_D for shared_BLD, own_D in zip(modulation, self.parts, strict=True)
        )
        h_BLD = self._self_attention(self.norm_self(x_BLD) * scale1 + shift1, rope)
        x_BLD = x_BLD + h_BLD * torch.sigmoid(gate1)
        query_BNLH = self.cross_norm(
            split_heads(self.cross_query(self.norm_cross(x_BLD)), self.num_heads)
        )
        x_BLD = x_BLD + self._attend(query_BNLH, keys_BNTH, values_BNTH, 1, bias_B11T)
        h_BLD = self.norm_ff(x_BLD) * scale2 + shift2
        h_BLD = self.down(self.up(h_BLD) * F.silu(self.gate(h_BLD)))
        made_BLD: Tensor = x_BLD + h_BLD * torch.sigmoid(gate2)
        return made_BLD

    def _self_attention(self, h_BLD: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        query, key, value = (
            split_heads(layer(h_BLD), self.num_heads)
            for layer in (self.query, self.key, self.value)
        )
        query, key = apply_rope(self.q_norm(query), rope), apply_rope(self.k_norm(key), rope)
        return self._attend(query, key, value, 0, None)

    def _attend(
        self,
        query_BNLH: Tensor,
        keys_BNTH: Tensor,
        values_BNTH: Tensor,
        which: int,
        bias_B11T: Tensor | None,
    ) -> Tensor:
        logits_BNLT = (query_BNLH * query_BNLH.shape[-1] ** -0.5) @ keys_BNTH.transpose(-1, -2)
        if bias_B11T is not None:
            logits_BNLT = logits_BNLT + bias_B11T
        y_BNLH = logits_BNLT.softmax(dim=-1) @ values_BNTH
        return self.outs[which](y_BNLH.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class _Norm(nn.Module):
    """`HeadNorm`, as a runtime recognises it."""

    def __init__(self, norm: HeadNorm) -> None:
        super().__init__()
        self.weight = norm.weight

    def forward(self, x_BNLH: Tensor) -> Tensor:
        """(B, N, L, H), normalised over H."""
        power = x_BNLH.pow(2.0).mean(dim=-1, keepdim=True)
        return x_BNLH / torch.sqrt(power + 1e-6) * self.weight


def _norm(norm: nn.Module) -> nn.Module:
    return _Norm(norm) if isinstance(norm, HeadNorm) else norm


def _split(layer: nn.Linear, count: int) -> list[nn.Linear]:
    """Layers that each give one part of a layer's output."""
    weights = layer.weight.detach().chunk(count)
    biases = [None] * count if layer.bias is None else layer.bias.detach().chunk(count)
    made = []
    for weight, bias in zip(weights, biases, strict=True):
        part = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
        part.weight = nn.Parameter(weight.clone(), requires_grad=False)
        if bias is not None:
            part.bias = nn.Parameter(bias.clone(), requires_grad=False)
        made.append(part)
    return made
