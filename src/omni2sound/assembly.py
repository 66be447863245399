"""A whole model: which parts it has, whether they fit together, and its folder.

In:   a model's name or folder.
Out:  `Model`: the trained parts in memory and what its card says of them.

The card's `parts` are a `PipelineConfig` as JSON, its `defaults` a `Defaults`. Whoever
trains a model writes them with `Model.save`; there is no second list of what a model is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from omni2sound.config import from_json, to_json
from omni2sound.diffusion.objective import Objective
from omni2sound.diffusion.samplers import SamplerConfig
from omni2sound.encoders.sync import SyncConfig, SyncEncoder
from omni2sound.encoders.text import TextEncoder
from omni2sound.encoders.vision import VisionEncoder
from omni2sound.errors import ConfigError
from omni2sound.models.autoencoder import MelPcaAutoencoder, MelPcaConfig
from omni2sound.models.dit import DiT, DiTConfig
from omni2sound.timebase import TimeBase
from omni2sound.weights import load_card, load_part, resolve_model, save_model

__all__ = ["Defaults", "Model", "PipelineConfig", "TextPart", "VisionPart", "load_model"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TextPart:
    """Which text encoder the model listens to."""

    encoder: Literal["minilm"] = "minilm"


@dataclass(frozen=True, kw_only=True, slots=True)
class VisionPart:
    """Which picture encoder the model listens to."""

    encoder: Literal["mobilenetv2"] = "mobilenetv2"


@dataclass(frozen=True, kw_only=True, slots=True)
class PipelineConfig:
    """Everything about a model but its tensors; `parts` of its card."""

    timebase: TimeBase
    dit: DiTConfig
    objective: Objective
    sampler: SamplerConfig
    autoencoder: MelPcaConfig
    sync: SyncConfig
    text: TextPart = field(default_factory=TextPart)
    vision: VisionPart = field(default_factory=VisionPart)

    def __post_init__(self) -> None:
        listens = self.dit.conditioner
        pairs = {
            "text features": (listens.text_dim, TextEncoder.dim),
            "picture features": (listens.vision_dim, VisionEncoder.dim),
            "sync features": (listens.sync_dim, self.sync.feature_dim),
            "pictures per second": (listens.vision_fps, self.timebase.vision_fps),
            "sync pictures per second": (self.sync.fps, self.timebase.sync_fps),
            "latent channels": (self.dit.latent_dim, self.autoencoder.latent_dim),
            "samples per second": (self.timebase.sample_rate_hz, self.autoencoder.sample_rate_hz),
            "samples per latent frame": (self.timebase.hop_samples, self.autoencoder.hop_samples),
        }
        for what, (expected, given) in pairs.items():
            if expected != given:
                raise ConfigError(
                    f"model card: {what} differ between parts, {expected} and {given}"
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class Defaults:
    """Settings for what a request leaves open; `defaults` of the card."""

    steps: int = 16
    guidance: float = 3.0
    duration_s: float = 8.0
    """Length of sound that is made from a prompt alone."""
    max_duration_s: float = 10.0
    """The native window: the longest clip that training showed."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Model:
    """A model in memory.

    Attributes:
        config: Shapes of its parts.
        dit: The transformer.
        autoencoder: Latents to sound.
        sync: Pictures to sync features.
        name: The model's name.
        defaults: Settings for what a request leaves open.
        training: How the weights were made; free-form JSON data.
        attribution: Licence and author of everything learnt from; see `weights`.
        sha256: Digest of configuration and weights as they were loaded; empty if never saved.
    """

    config: PipelineConfig
    dit: DiT
    autoencoder: MelPcaAutoencoder
    sync: SyncEncoder
    name: str
    defaults: Defaults
    training: Mapping[str, Any]
    attribution: str = ""
    sha256: str = ""

    def save(self, folder: str | os.PathLike[str], *, half: bool = True) -> None:
        """Write the model folder, whole or not at all.

        Args:
            folder: Target; replaced if it is a model folder.
            half: Store tensors as fp16.

        Raises:
            UserError: `folder` exists and is no model folder.
        """
        save_model(
            Path(folder),
            name=self.name,
            parts=to_json(self.config),
            tensors={
                "dit": self.dit.state_dict(),
                "autoencoder": self.autoencoder.state_dict(),
                "sync": self.sync.state_dict(),
            },
            defaults=to_json(self.defaults),
            training=self.training,
            attribution=self.attribution,
            half=half,
        )


def load_model(model: str | os.PathLike[str]) -> Model:
    """Read a model by name, folder or Hub id; weights are float32 on the CPU.

    Raises:
        MissingPartError: There is no such model.
        ConfigError: The folder does not hold together.
        IntegrityError: A file's bytes are not those that its card recorded.
    """
    card = load_card(resolve_model(os.fspath(model)))
    config = from_json(PipelineConfig, card.parts, where="card.parts")
    loaded = Model(
        config=config,
        dit=DiT(config.dit),
        autoencoder=MelPcaAutoencoder(config.autoencoder),
        sync=SyncEncoder(config.sync),
        name=card.name,
        defaults=from_json(Defaults, card.defaults, where="card.defaults"),
        training=card.training,
        attribution=card.attribution,
        sha256=card.sha256,
    )
    load_part(card, "dit", loaded.dit)
    load_part(card, "autoencoder", loaded.autoencoder)
    load_part(card, "sync", loaded.sync)
    return loaded
