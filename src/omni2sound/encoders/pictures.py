"""Resizing and cropping of pictures, as published networks were trained.

In:   uint8 RGB pictures (T, H, W, 3).
Out:  uint8 RGB pictures of another size.

Bicubic or bilinear with antialiasing, rounded to uint8, as torchvision's `Resize` does with
tensors. What not to get wrong: the bicubic filters of swscale and Pillow differ from it.

Shape suffixes: T pictures, H W pixels, K colours.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from omni2sound.encoders.base import own_tensor
from omni2sound.errors import ShapeError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Mean and deviation of each colour, from 0 to 1, as CLIP and ImageBind were trained with."""


def rgb_tensor(
    frames_THWK: NDArray[np.uint8] | Tensor,
    *,
    least: int = 0,
    size_px: tuple[int, int] | None = None,
) -> Tensor:
    """Convert pictures to a tensor that owns its memory.

    Raises:
        ShapeError: If they are not uint8 (T, H, W, 3) with T >= `least`, or not of the height and
            width `size_px`.
    """
    frames = own_tensor(frames_THWK)
    if size_px is not None and (frames.dtype != torch.uint8 or frames.shape[1:] != (*size_px, 3)):
        raise ShapeError(
            f"frames must be uint8 (T, {size_px[0]}, {size_px[1]}, 3), "
            f"got {frames.dtype} {tuple(frames.shape)}; decode with iter_frames(size_px={size_px})"
        )
    if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise ShapeError(
            f"frames must be uint8 (T, H, W, 3), got {frames.dtype} {tuple(frames.shape)}"
        )
    if len(frames) < least:
        raise ShapeError(f"expected at least {least} frames, got {len(frames)}")
    return frames


def resize(
    frames_THWK: Tensor,
    size_px: tuple[int, int],
    mode: Literal["bicubic", "bilinear"] = "bicubic",
) -> Tensor:
    """Squash to (height, width)."""
    if tuple(frames_THWK.shape[1:3]) == size_px:
        return frames_THWK
    # As in torchvision: the CPU has a kernel for uint8, which may differ by one level;
    # accelerators have none.
    pixels = frames_THWK.permute(0, 3, 1, 2)
    values = pixels if pixels.device.type == "cpu" else pixels.float()
    resized = F.interpolate(values, size_px, mode=mode, antialias=True)
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
