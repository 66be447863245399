"""The networks of avbench-8s-v1 at tiny sizes, with weights that listen; importable by workers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from omni2sound.bench.metrics.avbench.clips import Networks
from omni2sound.encoders.metric.imagebind import ImageBind, ImageBindNetwork, ImageBindShape
from omni2sound.encoders.metric.panns import Cnn14, Panns
from omni2sound.encoders.metric.synchformer import (
    Synchformer,
    SynchformerConfig,
    SynchformerNetwork,
)
from omni2sound.encoders.synchformer import MotionConfig


def listening(network: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            size = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.3
            parameter.copy_(size * torch.randn(parameter.shape, generator=generator))


def tiny_networks(folder: Path | None = None, device: torch.device | str = "cpu") -> Networks:
    visual = MotionConfig(width=16, depth=1, num_heads=2, frame_px=224)
    sync = SynchformerNetwork(SynchformerConfig(visual=visual, depth=1, head_depth=1, head_heads=2))
    shape = ImageBindShape(
        vision_width=16, vision_depth=1, vision_heads=2,
        audio_width=16, audio_depth=1, audio_heads=2, dim=12,
    )  # fmt: skip
    bind, panns = ImageBindNetwork(shape), Cnn14(channels=(2, 2, 2, 2, 2, 4), num_classes=5)
    for network in (sync, bind, panns):
        listening(network)
    return Networks(
        panns=Panns(panns),
        sync=Synchformer(sync),
        imagebind=ImageBind(bind),
        missing={"passt": "no file passt.pt in the folder; see docs/guides/full-size.md"},
    )
