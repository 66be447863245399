"""aisfx: embeddings of sound effects up to 22 kHz, and the catalogue's classes from them.

In:   a mono waveform at 44.1 kHz in [-1, 1].
Out:  embeddings (P, 512), one row per patch of 2.3 s, and scores (P, K) of the catalogue's classes
      by a linear head of our own.

The network was trained on commercial libraries of sound effects, not on AudioSet, and hears what
lies above 8 kHz. It scores, and never ranks, chooses or trains (docs/decisions/0072). Its front end
is essentia's: magnitude of a Hann window of 2048, squared, 96 triangles that are straight in mel
(HTK) and sum to 1, log10(1 + 10 000 x), divided by the largest value of its training data.

Shape suffixes: N samples, P patches, F frames (100) or frequencies, M mel bands (96), C channels,
K classes, D embedding (512).
Source: Ma and Lerch, Representation Learning for the Automatic Indexing of Sound Effects Libraries,
ISMIR 2022; package aisfx 0.1.2.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from omni2sound.bundled import bundled_path
from omni2sound.config import from_json
from omni2sound.encoders.base import whole_patches
from omni2sound.encoders.metric.spectra import mel_matrix
from omni2sound.errors import ConfigError, IntegrityError
from omni2sound.weights import check_component, load_card, load_part, resolve_model

NAME = "aisfx"
EMBEDDING_DIM = 512

_PACKAGE = "aisfx"
_FILE = "models/checkpoint.pth"
_PREFIX = "embedding_net."
_WINDOW_SAMPLES = 2048
_HOP_SAMPLES = 1024
_NUM_MELS = 96
_PATCH_FRAMES = 100
_LARGEST = 9.457798957824707
"""Largest log-mel value of the network's training data, which it divides by."""
_CHANNELS = (64, 128, 256, 512)
_CHUNK_PATCHES = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadConfig:
    """The linear head: one logit a class from an embedding."""

    class_names: tuple[str, ...]
    """Classes K, in the order of the scores."""

    def __post_init__(self) -> None:
        if not self.class_names or len(set(self.class_names)) < len(self.class_names):
            raise ConfigError("class_names must be given, each once")


class Head(nn.Module):
    """Standardises embeddings (B, D) and maps them to logits (B, K)."""

    mean_D: Tensor
    deviation_D: Tensor

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean_D", torch.zeros(EMBEDDING_DIM))
        self.register_buffer("deviation_D", torch.ones(EMBEDDING_DIM))
        self.out = nn.Linear(EMBEDDING_DIM, len(config.class_names))

    def forward(self, embedding_BD: Tensor) -> Tensor:
        """Logits."""
        logits_BK: Tensor = self.out((embedding_BD - self.mean_D) / self.deviation_D)
        return logits_BK


class AiSfx:
    """The bundled network (4.7 M parameters, frozen) with a head. Build it with `AiSfx.load`."""

    name = NAME
    top_k = 2
    """Best classes that count as present: the fewest with 0.8 recall on validation at both rates
    (docs/decisions/0072)."""
    least_score = 0.0
    vocabulary: Literal["catalogue"] = "catalogue"
    sample_rate_hz = 44_100
    patch_samples = _WINDOW_SAMPLES + (_PATCH_FRAMES - 1) * _HOP_SAMPLES
    """Samples of one patch: 103 424, 2.35 s."""
    patch_hop_samples = _PATCH_FRAMES // 2 * _HOP_SAMPLES
    """Samples from one patch to the next: 51 200, 1.16 s."""

    def __init__(self, network: nn.Module, head: Head) -> None:
        self._network = network.eval().requires_grad_(False)
        self._head = head.eval().requires_grad_(False)
        self.class_names = head.config.class_names
        self._window_N = torch.hann_window(_WINDOW_SAMPLES, periodic=False)
        self._mel_FM = _unit_sum_mels()

    @classmethod
    def load(cls, folder: Path | str = NAME) -> Self:
        """Load the bundled network and its head.

        Args:
            folder: Model with the head.

        Raises:
            MissingPartError: If the bundled package is not installed, or there is no such model.
            IntegrityError: If the checkpoint is not exactly this network.
            ConfigError: If the head's weights do not fit.
        """
        card = load_card(resolve_model(folder, component="aisfx_head"))
        check_component(card, "aisfx_head", field="tagger", purpose="detects no classes")
        head = Head(from_json(HeadConfig, card.parts["aisfx_head"]))
        load_part(card, "aisfx_head", head)
        return cls(load_network(), head)

    @torch.inference_mode()
    def scores_and_embeddings(
        self, waveform_N: NDArray[np.float32] | Tensor
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Tag a sound of any length.

        Args:
            waveform_N: Mono samples at 44.1 kHz, nominally in [-1, 1], at least one; zeros are
                appended up to a whole number of patches.

        Returns:
            Scores (P, K), a distribution each, and embeddings (P, 512), with
            P = 1 + ceil(max(0, N - 103 424) / 51 200).

        Raises:
            ShapeError: If the waveform is not one-dimensional or is empty.
            UserError: If it holds NaN or infinity.
        """
        padded_N = whole_patches(
            waveform_N, patch_samples=self.patch_samples, hop_samples=self.patch_hop_samples
        )
        frames_FM = self.log_mel(padded_N)
        patches_PFM = frames_FM.unfold(0, _PATCH_FRAMES, _PATCH_FRAMES // 2).mT
        parts = [self._network(x) for x in torch.split(patches_PFM, _CHUNK_PATCHES)]
        embeddings_PD = torch.cat(parts)
        return self._head(embeddings_PD).softmax(dim=-1).numpy(), embeddings_PD.numpy()

    def log_mel(self, padded_N: Tensor) -> Tensor:
        """Log-mel frames (F, 96), one per 23 ms: the network's input."""
        frames = padded_N.unfold(0, _WINDOW_SAMPLES, _HOP_SAMPLES) * self._window_N
        power = torch.fft.rfft(frames).abs().square()
        return torch.log10(1 + 1e4 * (power @ self._mel_FM)) / _LARGEST


def load_network() -> nn.Module:
    """Load the embedding network of the bundled package on the CPU.

    Raises:
        MissingPartError: If the bundled package is not installed.
        IntegrityError: If the checkpoint is not exactly this network.
    """
    path = bundled_path(_PACKAGE, _FILE)
    network = EmbeddingNetwork()
    try:
        # Beside tensors the file holds sizes as NumPy scalars, and nothing else may be rebuilt.
        scalar = np.float64(0).__reduce__()[0]
        allowed: list[Any] = [np.dtype, type(np.dtype("int64"))]
        allowed.append((scalar, "numpy.core.multiarray.scalar"))
        with torch.serialization.safe_globals(allowed):
            tensors, _ = torch.load(path, map_location="cpu", weights_only=True)
        own = {k.removeprefix(_PREFIX): v for k, v in tensors.items() if k.startswith(_PREFIX)}
        network.load_state_dict(own, strict=True)
    except (RuntimeError, ValueError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise IntegrityError(f"{path} is not the network of aisfx 0.1.2: {error}") from error
    return network.eval().requires_grad_(False)


class EmbeddingNetwork(nn.Module):
    """Log-mel patches (B, F, M) to embeddings (B, D)."""

    def __init__(self) -> None:
        super().__init__()
        for number, (before, channels) in enumerate(
            zip((1, *_CHANNELS[:-1]), _CHANNELS, strict=True), start=1
        ):
            self.add_module(f"conv_block{number}", _Block(before, channels, pools=number < 4))

    def forward(self, log_mel_BFM: Tensor) -> Tensor:
        """Embeddings: the mean over bands, the largest over time."""
        maps_BCFM = log_mel_BFM[:, None]
        for block in self.children():
            maps_BCFM = block(maps_BCFM)
        return maps_BCFM.mean(dim=3).amax(dim=2)


class _Block(nn.Module):
    def __init__(self, before: int, channels: int, *, pools: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self._pools = pools

    def forward(self, maps_BCFM: Tensor) -> Tensor:
        maps_BCFM = F.relu(self.bn1(self.conv1(maps_BCFM)))
        maps_BCFM = F.relu(self.bn2(self.conv2(maps_BCFM)))
        return F.max_pool2d(maps_BCFM, 2) if self._pools else maps_BCFM


def _unit_sum_mels() -> Tensor:
    mel_FM = mel_matrix(
        sample_rate_hz=AiSfx.sample_rate_hz,
        fft_samples=_WINDOW_SAMPLES,
        num_mels=_NUM_MELS,
        lowest_hz=0.0,
        highest_hz=AiSfx.sample_rate_hz / 2,
    )
    return mel_FM / mel_FM.sum(dim=0).clamp_min(1e-12)
