"""Your own picture encoder: mean colours of a 4 x 4 grid, 48 numbers for each picture.

A model uses it if its card says `"vision": {"encoder": "colour-grid"}`; then
`omni2sound --plugin examples/plugins/encoder.py generate clip.mp4 --model MY_MODEL`.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from omni2sound.encoders.registry import VISION_ENCODERS, VisionEncoderSpec


class ColourGrid:
    def __init__(self, device: torch.device | str) -> None:
        self.device = device

    def embed(self, frames_THWC: Any) -> Tensor:
        """(T, 48) in -1 to 1, of uint8 pictures (T, 64, 64, 3)."""
        x_TCHW = torch.as_tensor(frames_THWC, device=self.device).permute(0, 3, 1, 2).float()
        return F.adaptive_avg_pool2d(x_TCHW, 4).flatten(1) / 127.5 - 1


def load(device: torch.device | str, **_: Any) -> ColourGrid:
    """`published=` and `dtype=` are for encoders with weights."""
    return ColourGrid(device)


VISION_ENCODERS.register("colour-grid", VisionEncoderSpec(dim=48, size_px=(64, 64), load=load))
