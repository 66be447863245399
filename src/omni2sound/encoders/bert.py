"""A BERT encoder, for token states only.

In:   token ids and their mask (B, T).
Out:  states (B, T, D).

Written here because importing transformers' takes two seconds of a process that then computes for
one; it gives the same states (tested). Modules carry the names of the stored tensors, so loading is
strict. There is one segment and no pooler.

Shape suffixes: B batch, T tokens, D width, N heads.
Source: Devlin et al. 2018, arXiv:1810.04805, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omni2sound.errors import ConfigError

__all__ = ["Bert"]


class _Embeddings(nn.Module):
    def __init__(self, width: int, vocabulary: int, positions: int, types: int, eps: float) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(vocabulary, width)
        self.position_embeddings = nn.Embedding(positions, width)
        self.token_type_embeddings = nn.Embedding(types, width)
        self.LayerNorm = nn.LayerNorm(width, eps=eps)

    def forward(self, ids_BT: Tensor) -> Tensor:
        places_TD = self.position_embeddings.weight[: ids_BT.shape[1]]
        one_segment_D = self.token_type_embeddings.weight[0]
        states: Tensor = self.LayerNorm(self.word_embeddings(ids_BT) + places_TD + one_segment_D)
        return states


class _AddAndNorm(nn.Module):
    """A linear layer whose result is added to what came before, then normalised."""

    def __init__(self, width_in: int, width: int, eps: float) -> None:
        super().__init__()
        self.dense = nn.Linear(width_in, width)
        self.LayerNorm = nn.LayerNorm(width, eps=eps)

    def forward(self, h: Tensor, before_BTD: Tensor) -> Tensor:
        states: Tensor = self.LayerNorm(self.dense(h) + before_BTD)
        return states


class _Layer(nn.Module):
    def __init__(self, width: int, num_heads: int, inner: int, eps: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        parts = nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value")})
        self.attention = nn.ModuleDict({"self": parts, "output": _AddAndNorm(width, width, eps)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.output = _AddAndNorm(inner, width, eps)

    def forward(self, x_BTD: Tensor, mask_B11T: Tensor) -> Tensor:
        query, key, value = (
            part(x_BTD).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in self.attention["self"].children()
        )
        heard = F.scaled_dot_product_attention(query, key, value, attn_mask=mask_B11T)
        x_BTD = self.attention["output"](heard.transpose(1, 2).flatten(2), x_BTD)
        states: Tensor = self.output(F.gelu(self.intermediate["dense"](x_BTD)), x_BTD)
        return states


class Bert(nn.Module):
    """See the module's text.

    Args:
        config: The stored ``config.json`` of a BERT.

    Raises:
        ConfigError: It is another kind of network.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        asked = {
            "model_type": "bert",
            "hidden_act": "gelu",
            "position_embedding_type": "absolute",
        }
        for name, value in asked.items():
            if config.get(name, value) != value:
                raise ConfigError(f"expected {name} {value!r}, got {config[name]!r}")
        width, eps = config["hidden_size"], config["layer_norm_eps"]
        self.embeddings = _Embeddings(
            width,
            config["vocab_size"],
            config["max_position_embeddings"],
            config["type_vocab_size"],
            eps,
        )
        layers = [
            _Layer(width, config["num_attention_heads"], config["intermediate_size"], eps)
            for _ in range(config["num_hidden_layers"])
        ]
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layers)})

    def forward(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """States of all tokens; what the mask leaves out is attended to by none."""
        x_BTD = self.embeddings(ids_BT)
        mask_B11T = mask_BT.to(torch.bool)[:, None, None]
        for layer in self.encoder["layer"].children():
            x_BTD = layer(x_BTD, mask_B11T)
        return x_BTD  # type: ignore[no-any-return]
