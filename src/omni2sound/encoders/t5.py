"""Flan-T5: token states for the full-size model.

In:   texts.
Out:  `Tokens` (B, 128, 768): always 128 tokens, zero after the end of a text.

The network is the encoder of transformers' T5, in float32. What not to get wrong: the full-size
transformer uses no attention mask, so padding must be zeros, and as long as in training.

Shape suffixes: B batch, T tokens, D features.
Source: Chung et al. 2022, arXiv:2210.11416; google/flan-t5-base.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from omni2sound.encoders.base import TextEncoderBase
from omni2sound.encoders.published import FLAN_T5, fill, read_checkpoint, resolve
from omni2sound.errors import ConfigError
from omni2sound.readers import read_object

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_log = logging.getLogger(__name__)

_EMBEDDING = "shared.weight"
_EMBEDDING_AGAIN = "encoder.embed_tokens.weight"
_NOT_NEEDED = ("decoder.", "lm_head.")
"""Prefixes of the decoder."""


class T5TextEncoder(TextEncoderBase):
    """Flan-T5's encoder (110 M parameters, frozen). Build it with `T5TextEncoder.load`."""

    max_tokens = 128
    """Every text is padded to this length; longer ones are cut, with a warning in the log."""
    chunk_texts = 32

    def __init__(
        self, network: nn.Module, tokenizer: Tokenizer, device: torch.device | str = "cpu"
    ) -> None:
        self.network: Any = network.eval().requires_grad_(False).to(device)
        tokenizer.enable_truncation(self.max_tokens)
        tokenizer.enable_padding(pad_id=0, pad_token="<pad>", length=self.max_tokens)
        self._tokenizer = tokenizer
        self.device = torch.device(device)

    @classmethod
    def load(
        cls, source: str | os.PathLike[str], device: torch.device | str = "cpu"
    ) -> T5TextEncoder:
        """Load a T5 of any size.

        Args:
            source: The folder of `config.json`, `tokenizer.json` and `model.safetensors`, or
                a Hub id with its revision.
            device: Device to run on.

        Raises:
            MissingPartError: A file is missing.
            ConfigError: The tensors do not fit the network of the configuration.
        """
        from tokenizers import Tokenizer

        folder = resolve(FLAN_T5, source)
        network = build_t5(read_object(folder / "config.json"))
        tensors = read_checkpoint(folder / "model.safetensors")
        # One table of embeddings under two names; files hold either or both.
        if _EMBEDDING in tensors:
            again = tensors.setdefault(_EMBEDDING_AGAIN, tensors[_EMBEDDING])
            if not torch.equal(again, tensors[_EMBEDDING]):
                raise ConfigError(
                    f"{folder}: {_EMBEDDING} and {_EMBEDDING_AGAIN} differ; it is no T5"
                )
        fill(network, tensors, title=FLAN_T5.title, not_needed=_NOT_NEEDED)
        return cls(network, Tokenizer.from_file(str(Path(folder) / "tokenizer.json")), device)

    @torch.no_grad()
    def _states(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        states: Tensor = self.network(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state
        return states.float() * mask_BT[..., None]


def build_t5(config: dict[str, Any]) -> nn.Module:
    """Build T5's encoder by a published `config.json`, with random weights."""
    from transformers import T5Config, T5EncoderModel

    network: nn.Module = T5EncoderModel(T5Config(**config))
    return network
