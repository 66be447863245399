"""Resizing and cropping of pictures, as published networks were trained.

In:   uint8 RGB pictures (T, H, W, 3).
Out:  uint8 RGB pictures of another size.

Bicubic with antialiasing, rounded to uint8, as torchvision's `Resize` does with tensors. What
not to get wrong: the bicubic filters of swscale and Pillow differ from it.

Shape suffixes: T pictures, H W pixels, K colours.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["crop_centre", "resize", "resize_short_side"]


def resize(frames_THWK: Tensor, size_px: tuple[int, int]) -> Tensor:
    """Squash to (height, width)."""
    if tuple(frames_THWK.shape[1:3]) == size_px:
        return frames_THWK
    # As in torchvision: the CPU has a kernel for uint8, which may differ by one level;
    # accelerators have none.
    pixels = frames_THWK.permute(0, 3, 1, 2)
    values = pixels if pixels.device.type == "cpu" else pixels.float()
    resized = F.interpolate(values, size_px, mode="bicubic", antialias=True)
    if resized.dtype != torch.uint8:
        resized = resized.clamp(0, 255).round().to(torch.uint8)
    return resized.permute(0, 2, 3, 1)


def resize_short_side(frames_THWK: Tensor, side_px: int) -> Tensor:
    """Resize so that the shorter side is `side_px`; the longer one is rounded down."""
    height, width = frames_THWK.shape[1:3]
    if height <= width:
        return resize(frames_THWK, (side_px, int(side_px * width / height)))
    return resize(frames_THWK, (int(side_px * height / width), side_px))


def crop_centre(frames_THWK: Tensor, side_px: int) -> Tensor:
    """Crop the middle square; half of an odd margin is rounded as Python does."""
    height, width = frames_THWK.shape[1:3]
    top, left = round((height - side_px) / 2), round((width - side_px) / 2)
    return frames_THWK[:, top : top + side_px, left : left + side_px]
