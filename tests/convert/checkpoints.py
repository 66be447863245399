"""A tiny model of the released layout, and checkpoints of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.parity._table import randomise
from omni2sound.convert.names import ConditionNames, dit_links, oobleck_links, to_released
from omni2sound.convert.written import write_settings
from omni2sound.diffusion.objective import Objective
from omni2sound.diffusion.settings import SamplerConfig
from omni2sound.encoders.registry import SynchformerPart, TextPart, VisionPart
from omni2sound.generate.model import PipelineConfig
from omni2sound.models.dit import RELEASED, DiT
from omni2sound.models.oobleck import Oobleck, OobleckConfig
from omni2sound.models.released import ReleasedConditionerConfig
from omni2sound.timebase import TimeBase

TINY = PipelineConfig(
    timebase=TimeBase(hop_samples=8),
    dit=replace(
        RELEASED,
        latent_dim=2,
        width=64,
        depth=2,
        num_heads=1,
        conditioner=ReleasedConditionerConfig(token_dim=8, max_pictures=16),
    ),
    objective=Objective(),
    sampler=SamplerConfig(kind="dpmpp-2m-sde", sigma_max=1000.0),
    autoencoder=OobleckConfig(channels=4, multiples=(1, 2), strides=(2, 4), latent_dim=2),
    sync=SynchformerPart(),
    text=TextPart(encoder="flan-t5-base"),
    vision=VisionPart(encoder="dfn5b-clip-vit-h-14-384"),
)


def tensors(config: PipelineConfig = TINY) -> dict[str, Tensor]:
    """Random weights under the names of the released layout."""
    dit = DiT(config.dit)
    assert isinstance(config.autoencoder, OobleckConfig)
    vae = Oobleck(config.autoencoder)
    randomise(dit, seed=1)
    randomise(vae, seed=2)
    vae_links = oobleck_links(
        config.autoencoder, naming="stable-audio-tools", prefix="pretransform.model."
    )
    return to_released(dit.state_dict(), dit_links(config.dit, ConditionNames())) | to_released(
        vae.state_dict(), vae_links
    )


def checkpoint(
    folder: Path, stored: dict[str, Any], *, settings: dict[str, Any] | None = None
) -> Path:
    folder.mkdir()
    data = write_settings(TINY) if settings is None else settings
    (folder / "model_config.json").write_text(json.dumps(data))
    torch.save({"state_dict": stored}, folder / "model.ckpt")
    return folder
