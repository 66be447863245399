"""Shared pieces of frozen encoders: token sequences, text encoders, padding.

In:   texts; waveforms.
Out:  `Tokens` for sequences of vectors with a mask; padded waveforms.

Shape suffixes: B batch, N samples, T tokens, D features.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from omni2sound.encoders.reading import read_texts
from omni2sound.errors import ShapeError, UserError
from omni2sound.weights import digest_weights


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Tokens:
    """A batch of token sequences.

    Attributes:
        states_BTD: One vector per token; zero where the mask is False.
        mask_BT: True for real tokens, False for padding.
    """

    states_BTD: Tensor
    mask_BT: Tensor

    def __post_init__(self) -> None:
        if self.states_BTD.ndim != 3 or self.mask_BT.shape != self.states_BTD.shape[:2]:
            raise ShapeError(
                "states must be (B, T, D) and mask (B, T), got "
                f"{tuple(self.states_BTD.shape)} and {tuple(self.mask_BT.shape)}"
            )


class TextEncoderBase:
    """Base of text encoders: texts to token ids to states.

    Subclasses provide a network, a tokenizer, a device and `_states`.
    """

    max_tokens: int
    """Longer texts are cut, with a warning in the log."""
    chunk_texts: int
    """Texts per call of the network."""
    device: torch.device
    network: Any
    _tokenizer: Any

    def _states(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        raise NotImplementedError

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Encode a batch of texts.

        Args:
            texts: One or more texts, one row each. Empty texts are allowed; they have the tokens
                common to all texts.

        Returns:
            States (B, T, D) in float32, zero at padding, and the mask of real tokens.

        Raises:
            UserError: If `texts` is empty or a single string.
        """
        encodings = read_texts(self._tokenizer, texts, max_tokens=self.max_tokens)
        ids_BT = torch.tensor([e.ids for e in encodings], device=self.device)
        mask_BT = torch.tensor([e.attention_mask for e in encodings], device=self.device)
        chunks = zip(
            torch.split(ids_BT, self.chunk_texts),
            torch.split(mask_BT, self.chunk_texts),
            strict=True,
        )
        states = [self._states(ids, mask) for ids, mask in chunks]
        return Tokens(states_BTD=torch.cat(states), mask_BT=mask_BT.bool())

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, start and end included."""
        encodings = self._tokenizer.encode_batch(list(texts))
        return [[i for i, m in zip(e.ids, e.attention_mask, strict=True) if m] for e in encodings]

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids of the special tokens: start, end and padding."""
        return frozenset(self._tokenizer.encode("").ids)

    @cached_property
    def sha256(self) -> str:
        """Digest of weights and tokenizer, which determine the states."""
        digest = hashlib.sha256(self._tokenizer.to_str().encode())
        digest_weights(digest, self.network)
        return digest.hexdigest()

    def encode_ids(self, rows: Sequence[Sequence[int]]) -> Tokens:
        """Encode one or more rows of at least one id each, such as those of `token_ids`.

        States are float32; T is the longest row's length.
        """
        ids = [torch.tensor(list(row), device=self.device) for row in rows]
        ids_BT = pad_sequence(ids, batch_first=True)
        mask_BT = pad_sequence([torch.ones_like(row) for row in ids], batch_first=True)
        return Tokens(states_BTD=self._states(ids_BT, mask_BT), mask_BT=mask_BT.bool())


def own_tensor(array: NDArray[Any] | Tensor) -> Tensor:
    """Convert an array to a tensor that owns its memory; tensors are returned as they are.

    Arrays of a corpus are read-only, and tensors over read-only memory are undefined behaviour
    in torch, which also rejects negative strides.
    """
    return array if isinstance(array, Tensor) else torch.from_numpy(np.array(array))


def whole_patches(
    waveform_N: NDArray[np.float32] | Tensor, *, patch_samples: int, hop_samples: int
) -> Tensor:
    """Pad a mono sound with zeros to a whole number of patches, as float32 on the CPU.

    The result has patch + (P - 1) hop samples, with P = 1 + ceil(max(0, N - patch) / hop).

    Raises:
        ShapeError: If the waveform is not one-dimensional or is empty.
        UserError: If it holds NaN or infinity.
    """
    sound_N = own_tensor(waveform_N).to(device="cpu", dtype=torch.float32)
    if sound_N.ndim != 1 or len(sound_N) == 0:
        raise ShapeError(
            f"waveform must be (N,) with N >= 1, got {tuple(sound_N.shape)}; mix down to mono first"
        )
    if not bool(torch.isfinite(sound_N).all()):
        raise UserError("waveform holds NaN or infinity; check the sound that it comes from")
    hops = math.ceil(max(0, len(sound_N) - patch_samples) / hop_samples)
    num_samples = patch_samples + hops * hop_samples
    return torch.nn.functional.pad(sound_N, (0, num_samples - len(sound_N)))
