"""Object detector: SSD with MobileNetV2, trained on COCO, in PyTorch.

In:   uint8 RGB pictures (T, 300, 300, 3), squashed to the square.
Out:  `Box`es with COCO label, score and place, for each picture.

The weights are those of the TensorFlow detection zoo (`ssd_mobilenet_v2_coco_2018_03_29`), see
`ssd_weights`. What not to get wrong: TensorFlow pads "SAME" convolutions of stride 2 more at the
end than at the start.

Shape suffixes: T pictures, H W pixels, A anchors, K labels (0 is background).
Source: Liu et al. 2016, SSD, arXiv:1512.02325; Sandler et al. 2018, arXiv:1801.04381.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from omni2sound.encoders.pictures import rgb_tensor
from omni2sound.errors import IntegrityError
from omni2sound.recognise.boxes import Box, keep_best
from omni2sound.recognise.ssd_weights import Weights, read_detector

_BACKBONE = "FeatureExtractor/MobilenetV2"
_BLOCK_STRIDES = (1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1)
"""Of the seventeen inverted residuals of MobileNetV2."""
_FIRST_HEAD_BLOCK = 13
"""The first head reads the widened activations of this block, at a sixteenth of the size."""
_EXTRA = ((2, "256", "512"), (3, "128", "256"), (4, "128", "256"), (5, "64", "128"))
_SCALES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0)


class Conv(nn.Module):
    """Convolution with TensorFlow's "SAME" padding, folded batch norm, optional ReLU6."""

    def __init__(self, weight: Tensor, bias: Tensor, *, stride: int, groups: int, relu: bool):
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.stride, self.groups, self.relu = stride, groups, relu

    def forward(self, x: Tensor) -> Tensor:
        """Filter pictures (T, C, H, W); sizes shrink by the stride, rounded up."""
        size = self.weight.shape[-1]
        pads = []
        for length in (x.shape[-1], x.shape[-2]):
            total = max((-(-length // self.stride) - 1) * self.stride + size - length, 0)
            pads += [total // 2, total - total // 2]
        if any(pads):
            x = F.pad(x, pads)
        y = F.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)
        # Not `clamp`, which is exported as two operations that ONNX Runtime doesn't fuse.
        return F.hardtanh_(y, 0, 6) if self.relu else y


class SsdMobileNetV2(nn.Module):
    """The network: pictures to logits of labels and encoded boxes."""

    def __init__(self, weights: Mapping[str, Weights]) -> None:
        """Build it from the weights of all convolutions by name.

        Raises:
            IntegrityError: One is missing.
        """
        super().__init__()
        self._weights = weights
        self.stem = self._normed("Conv", stride=2)
        self.blocks = nn.ModuleList()
        for i, stride in enumerate(_BLOCK_STRIDES):
            name = f"expanded_conv_{i}" if i else "expanded_conv"
            block = [self._normed(f"{name}/expand")] if i else []
            block.append(self._normed(f"{name}/depthwise", stride=stride, depthwise=True))
            block.append(self._normed(f"{name}/project", relu=False))
            self.blocks.append(nn.ModuleList(block))
        self.last = self._normed("Conv_1")
        self.extra = nn.ModuleList()
        for i, narrow, wide in _EXTRA:
            name = f"layer_19_2_Conv2d_{i}_3x3_s2_{wide}"
            self.extra.append(
                nn.Sequential(
                    self._normed(f"layer_19_1_Conv2d_{i}_1x1_{narrow}"),
                    self._normed(f"{name}_depthwise", stride=2, depthwise=True),
                    self._normed(name),
                )
            )
        heads = range(len(_SCALES) - 1)
        self.label_heads = nn.ModuleList(self._head(i, "ClassPredictor") for i in heads)
        self.box_heads = nn.ModuleList(self._head(i, "BoxEncodingPredictor") for i in heads)
        del self._weights

    def _normed(
        self, name: str, *, stride: int = 1, depthwise: bool = False, relu: bool = True
    ) -> Conv:
        return self._conv(f"{_BACKBONE}/{name}", stride=stride, depthwise=depthwise, relu=relu)

    def _head(self, i: int, kind: str) -> Conv:
        return self._conv(f"BoxPredictor_{i}/{kind}", relu=False)

    def _conv(
        self, name: str, *, stride: int = 1, depthwise: bool = False, relu: bool = True
    ) -> Conv:
        if name not in self._weights:
            raise IntegrityError(f"object detector: convolution {name!r} is missing")
        weight, bias = map(torch.from_numpy, self._weights[name])
        groups = len(weight) if depthwise else 1
        return Conv(weight, bias, stride=stride, groups=groups, relu=relu)

    def forward(self, x_TCHW: Tensor) -> tuple[Tensor, Tensor, list[int]]:
        """Logits (T, A, K), boxes (T, A, 4) as offsets from their anchors, sizes of the grids.

        Args:
            x_TCHW: Pictures of 300 x 300 pixels, colours from -1 to 1.
        """
        x = self.stem(x_TCHW)
        maps = []
        for i, block in enumerate(self.blocks):
            y = x
            assert isinstance(block, nn.ModuleList)
            for j, conv in enumerate(block):
                y = conv(y)
                if i == _FIRST_HEAD_BLOCK and j == 0:
                    maps.append(y)
            x = x + y if y.shape == x.shape else y
        x = self.last(x)
        maps.append(x)
        for layers in self.extra:
            x = layers(x)
            maps.append(x)
        batch, logits, boxes = len(x_TCHW), [], []
        for features, label_head, box_head in zip(
            maps, self.label_heads, self.box_heads, strict=True
        ):
            offsets = box_head(features).permute(0, 2, 3, 1).reshape(batch, -1, 4)
            labels = label_head(features).permute(0, 2, 3, 1)
            boxes.append(offsets)
            logits.append(labels.reshape(batch, offsets.shape[1], -1))
        return torch.cat(logits, 1), torch.cat(boxes, 1), [m.shape[-1] for m in maps]


def anchors(grids: Sequence[int]) -> Tensor:
    """Anchors (A, 4) as centre y, centre x, height, width, in shares of the picture.

    Args:
        grids: Cells along one side of each feature map, largest first.
    """
    made = []
    for i, grid in enumerate(grids):
        scale, following = _SCALES[i], _SCALES[i + 1]
        if i == 0:
            shapes = [(0.1, 1.0), (scale, 2.0), (scale, 0.5)]
        else:
            shapes = [(scale, ratio) for ratio in (1.0, 2.0, 0.5, 3.0, 1 / 3)]
            shapes.append(((scale * following) ** 0.5, 1.0))
        sizes = torch.tensor([(s / ratio**0.5, s * ratio**0.5) for s, ratio in shapes])
        centres = (torch.arange(grid) + 0.5) / grid
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        places = torch.stack([y, x], -1).reshape(-1, 1, 2).expand(-1, len(shapes), -1)
        made.append(torch.cat([places, sizes.expand(len(places), -1, -1)], -1).reshape(-1, 4))
    return torch.cat(made)


class Detector:
    """COCO object detector (16.9 M parameters, frozen). Build it with `Detector.load`."""

    size_px = (300, 300)
    """Height and width of its input pictures."""

    def __init__(self, network: SsdMobileNetV2, device: torch.device) -> None:
        self.network = network.eval().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._device = device
        self._anchors: Tensor | None = None

    @classmethod
    def load(cls, device: torch.device | str = "cpu") -> Detector:
        """Load the bundled network.

        Raises:
            MissingPartError: The bundled package is not installed.
        """
        return cls(SsdMobileNetV2(read_detector()), torch.device(device))

    def find(self, picture_HWC: NDArray[np.uint8]) -> list[Box]:
        """Find things in one picture; see `detect`."""
        return self.detect(picture_HWC[None])[0]

    @torch.inference_mode()
    def detect(self, frames_THWC: NDArray[np.uint8] | Tensor) -> list[list[Box]]:
        """Find things in each picture, best first.

        Args:
            frames_THWC: uint8 RGB, (T, 300, 300, 3).

        Raises:
            ShapeError: If shape or dtype is another.
        """
        frames = rgb_tensor(frames_THWC, size_px=self.size_px)
        found = []
        for frame_HWC in frames:  # one at a time: activations stay in the CPU's cache
            x = (frame_HWC.to(self._device).float() / 127.5 - 1).permute(2, 0, 1)[None]
            logits_TAK, offsets_TA4, grids = self.network(x)
            if self._anchors is None:
                self._anchors = anchors(grids).to(self._device)
            corners_A4 = decode_boxes(offsets_TA4[0], self._anchors).cpu().numpy()
            found.append(keep_best(logits_TAK[0].sigmoid().cpu().numpy(), corners_A4))
        return found


def decode_boxes(offsets_A4: Tensor, anchors_A4: Tensor) -> Tensor:
    """Corners (top, left, bottom, right) of boxes that are encoded relative to their anchors."""
    centres = offsets_A4[:, :2] / 10 * anchors_A4[:, 2:] + anchors_A4[:, :2]
    halves = torch.exp(offsets_A4[:, 2:] / 5) * anchors_A4[:, 2:] / 2
    return torch.cat([centres - halves, centres + halves], 1).clamp(0, 1)
