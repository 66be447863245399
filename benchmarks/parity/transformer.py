"""The transformer's parts against stable-audio-tools, with converted random weights."""

from __future__ import annotations

import torch

from benchmarks.parity._table import Row, relative
from omni2sound.models.layers import apply_rope, rope_table

AGAINST = "stable-audio-tools 0.0.19"


def _rotary() -> float:
    from stable_audio_tools.models.transformer import RotaryEmbedding, apply_rotary_pos_emb

    x_BNLH = torch.randn(2, 3, 251, 64, generator=torch.Generator().manual_seed(0))
    frequencies, _ = RotaryEmbedding(32).forward_from_seq_len(251)
    reference = apply_rotary_pos_emb(x_BNLH, frequencies)
    return relative(apply_rope(x_BNLH, rope_table(251, 32, device=x_BNLH.device)), reference)


ROWS = (
    Row(
        part="DiT: rotary positions",
        against=AGAINST,
        what="251 positions, half of 64 dimensions",
        limit=1e-6,
        measure=_rotary,
    ),
)
