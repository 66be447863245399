"""ImageNet labels of pictures: EfficientNet-lite3, in PyTorch.

In:   uint8 RGB pictures (T, 280, 280, 3).
Out:  probabilities of 1,000 labels, (T, 1000).

The weights are those of the int8 network in a bundled package, rounded to float16. Values between
the layers are not rounded, so that probabilities differ from TensorFlow Lite's by some thousandths.
What not to get wrong: TensorFlow pads "SAME" convolutions of stride 2 more at the end than at the
start; a block adds its input only if neither size nor channels change.

Shape suffixes: T pictures, H W pixels, C channels, K labels.
Source: Tan & Le 2019, EfficientNet, arXiv:1905.11946; lite variants: TensorFlow TPU models.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from omni2sound.encoders.pictures import rgb_tensor
from omni2sound.errors import IntegrityError
from omni2sound.recognise.detector import Conv
from omni2sound.recognise.tflite import Layer, read_labeller

_STAGES = ((1, 1), (3, 2), (3, 2), (5, 2), (5, 1), (6, 2), (1, 1))
"""Blocks and stride of the first one."""
_ZERO = 130.0
_SCALE = 0.012667337
"""Of the input, as the file states them."""


class EfficientNetLite3(nn.Module):
    """The network: normalised pictures to logits."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        """Build it from weights in order of execution.

        Raises:
            IntegrityError: They are not of this network.
        """
        super().__init__()
        strides = [s if i == 0 else 1 for count, s in _STAGES for i in range(count)]
        if len(layers) != 3 * len(strides) + 2:
            raise IntegrityError(f"EfficientNet-lite3 has 74 layers, got {len(layers)}")
        rest = iter(layers)
        self.stem = _conv(next(rest), stride=2)
        self.blocks = nn.ModuleList()
        for i, stride in enumerate(strides):
            widen = [_conv(next(rest))] if i else []
            narrow = [_conv(next(rest), stride=stride), _conv(next(rest), relu=False)]
            self.blocks.append(nn.Sequential(*widen, *narrow))
        self.last = _conv(next(rest))
        labels = next(rest)
        self.weight_KC = nn.Parameter(torch.from_numpy(labels.weight), requires_grad=False)
        self.bias_K = nn.Parameter(torch.from_numpy(labels.bias_C), requires_grad=False)

    def pooled(self, x_TCHW: Tensor) -> Tensor:
        """Features (T, 1280)."""
        x = self.stem(x_TCHW)
        for block in self.blocks:
            y = block(x)
            x = x + y if y.shape == x.shape else y
        pooled: Tensor = self.last(x).mean(dim=(2, 3))
        return pooled

    def forward(self, x_TCHW: Tensor) -> Tensor:
        """Logits (T, K) of pictures with colours from about -1.6 to 1.6."""
        logits: Tensor = self.pooled(x_TCHW) @ self.weight_KC.T + self.bias_K
        return logits


class Labeller:
    """EfficientNet-lite3 (8.2 M parameters, frozen). Build it with `Labeller.load`."""

    size_px = (280, 280)
    """Height and width of its input pictures."""

    def __init__(self, network: EfficientNetLite3, device: torch.device) -> None:
        self.network = network.eval().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._device = device

    @classmethod
    def load(cls, device: torch.device | str = "cpu") -> Labeller:
        """Load the bundled network.

        Raises:
            MissingPartError: The bundled package is not installed.
        """
        return cls(EfficientNetLite3(read_labeller()), torch.device(device))

    def probabilities(self, frames_THWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """`classify` as an array."""
        found: NDArray[np.float32] = self.classify(frames_THWC).cpu().numpy()
        return found

    @torch.inference_mode()
    def classify(self, frames_THWC: NDArray[np.uint8] | Tensor) -> Tensor:
        """Return ImageNet probabilities (T, 1000), float32.

        Args:
            frames_THWC: uint8 RGB, (T, 280, 280, 3).

        Raises:
            ShapeError: If shape or dtype is another.
        """
        frames = rgb_tensor(frames_THWC, size_px=self.size_px)
        none = torch.zeros(0, len(self.network.bias_K), device=self._device)
        found = [  # one at a time: activations stay in the CPU's cache
            self.network(normalise(frame_HWC[None].to(self._device))).softmax(dim=-1)
            for frame_HWC in frames
        ]
        return torch.cat([none, *found])


def normalise(frames_THWC: Tensor) -> Tensor:
    """Convert uint8 pictures to the network's input (T, C, H, W)."""
    return ((frames_THWC.float() - _ZERO) * _SCALE).permute(0, 3, 1, 2)


def _conv(layer: Layer, *, stride: int = 1, relu: bool = True) -> Conv:
    weight = torch.from_numpy(layer.weight)
    is_depthwise = len(weight) == 1
    weight = weight.permute(3, 0, 1, 2) if is_depthwise else weight.permute(0, 3, 1, 2)
    return Conv(
        weight.contiguous(),
        torch.from_numpy(layer.bias_C),
        stride=stride,
        groups=len(weight) if is_depthwise else 1,
        relu=relu,
    )
