"""Vision transformer block with the names of the timm library.

In:   tokens (B, T, D).
Out:  tokens (B, T, D).

Published files use these names: `norm1`, `attn.qkv`, `attn.proj`, `norm2`, `mlp.fc1`,
`mlp.fc2`. Pre-norm, with an epsilon of 1e-6.

Shape suffixes: B batch, T tokens, D features, N heads, H features of a head.
Source: Dosovitskiy et al. 2020, arXiv:2010.11929.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn import functional as F


class Named(nn.Module):
    """Container that adds a level to the names of its members, as published files have it."""

    def __init__(self, **members: nn.Module | nn.Parameter) -> None:
        super().__init__()
        for name, member in members.items():
            setattr(self, name, member)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


class Attention(nn.Module):
    """Self-attention over all tokens."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D)."""
        query, key, value = self.heads(x_BTD)
        return self.merge(F.scaled_dot_product_attention(query, key, value))

    def heads(self, x_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (B, N, T, H)."""
        shaped = self.qkv(x_BTD).unflatten(-1, (3, self.num_heads, -1))  # B T 3 N H
        query, key, value = shaped.permute(2, 0, 3, 1, 4).unbind(0)
        return query, key, value

    def merge(self, x_BNTH: Tensor) -> Tensor:
        """Project the concatenated heads to (B, T, D)."""
        projected: Tensor = self.proj(x_BNTH.transpose(1, 2).flatten(2))
        return projected


class Mlp(nn.Module):
    """Two linear layers with an inner width of four widths."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D)."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x_BTD)))
        return out


class Block(nn.Module):
    """Attention, then an MLP, each residual."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, num_heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D)."""
        x_BTD = x_BTD + self.attn(self.norm1(x_BTD))
        out: Tensor = x_BTD + self.mlp(self.norm2(x_BTD))
        return out
