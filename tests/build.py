"""Builders that several test modules share: real classes at tiny sizes, media made in code."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

from omni2sound.diffusion.objective import Objective
from omni2sound.diffusion.settings import SamplerConfig
from omni2sound.encoders.sync import SyncConfig, SyncEncoder
from omni2sound.generate.model import Model, PipelineConfig
from omni2sound.generate.request import Defaults
from omni2sound.models.autoencoder import MelPcaAutoencoder, MelPcaConfig
from omni2sound.models.conditioning import ConditionerConfig
from omni2sound.models.dit import DiT, DiTConfig
from omni2sound.timebase import TimeBase

TINY = PipelineConfig(
    timebase=TimeBase(),
    dit=DiTConfig(
        latent_dim=8,
        width=32,
        depth=2,
        num_heads=2,
        feed_forward_expansion=2,
        conditioner=ConditionerConfig(sync_dim=6),
    ),
    objective=Objective(),
    sampler=SamplerConfig(),
    autoencoder=MelPcaConfig(latent_dim=8, phase_iterations=2),
    sync=SyncConfig(frame_px=32, channels=(4, 4, 4, 4), feature_dim=6),
)


def tiny_model(
    *, seed: int = 0, config: PipelineConfig = TINY, max_duration_s: float = 2.0
) -> Model:
    """Every part for real, random, and listening to all of its conditions."""
    generator = torch.Generator().manual_seed(seed)
    dit, sync = DiT(config.dit), SyncEncoder(config.sync)
    with torch.no_grad():
        for module in (dit, sync):
            for parameter in module.parameters():
                # As trained ones, no layer is zero: each condition reaches the output.
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(noise * parameter.shape[-1] ** -0.5)
    autoencoder = MelPcaAutoencoder(config.autoencoder)
    autoencoder.mean_K.fill_(-5.0)
    return Model(
        config=config,
        dit=dit,
        autoencoder=autoencoder,
        sync=sync,
        name="tiny",
        defaults=Defaults(steps=3, guidance=2.0, duration_s=1.0, max_duration_s=max_duration_s),
        training={"note": "random"},
    )


def tiny_model_folder(folder: Path, *, seed: int = 0) -> Path:
    """`tiny_model` as a model folder."""
    tiny_model(seed=seed).save(folder)
    return folder


def film_of_waves(
    path: Path, *, duration_s: float = 1.0, fps: int = 30, size_px: tuple[int, int] = (180, 320)
) -> Path:
    """A film in H.264, which browsers decode, of waves that move and change."""
    height, width = size_px
    y, x = np.mgrid[:height, :width]
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps), options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i in range(round(duration_s * fps)):
            wave = 128 + 100 * np.sin((x + 4 * i) / 9) * np.cos(y / (7 + i / 9))
            picture = np.repeat(wave[..., None], 3, axis=2).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def video_with_square(
    path: Path, *, duration_s: float = 1.0, fps: int = 25, size_px: tuple[int, int] = (48, 64)
) -> Path:
    """A video without sound in which a white square crosses a dark picture."""
    height, width = size_px
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(fps))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(round(duration_s * fps)):
            picture = np.full((height, width, 3), 20, dtype=np.uint8)
            left = (3 * index) % (width - 8)
            picture[height // 3 : height // 3 + 8, left : left + 8] = 240
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path
