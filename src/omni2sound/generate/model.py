"""Model composition: which components a model has, whether they fit together, and its folder.

In:   a model's name or folder.
Out:  `Model`: the trained components in memory, and the contents of its card.

The card's `parts` are a `PipelineConfig` as JSON, its `defaults` a `Defaults`; training writes
them with `Model.save`. No other list says what a model consists of.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from omni2sound.config import from_json, to_json
from omni2sound.diffusion.objective import Objective
from omni2sound.diffusion.settings import SamplerConfig
from omni2sound.encoders.registry import SynchformerPart, TextPart, VisionPart
from omni2sound.encoders.sync import SyncConfig, SyncEncoder
from omni2sound.errors import ConfigError
from omni2sound.generate.request import Defaults, ModelFacts
from omni2sound.models.autoencoder import AudioVAE
from omni2sound.models.band import LOW_RATE_HZ, BandConfig, BandExtension
from omni2sound.models.dit import DiT, DiTConfig
from omni2sound.models.oobleck import OobleckConfig
from omni2sound.models.registry import AnyAutoencoderConfig, build_autoencoder
from omni2sound.readers import interpreting
from omni2sound.timebase import TimeBase
from omni2sound.weights import (
    ModelCard,
    check_component,
    is_shipped,
    load_card,
    load_part,
    resolve_model,
    save_model,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PipelineConfig:
    """Configuration of all components; `parts` of the model's card."""

    timebase: TimeBase
    dit: DiTConfig
    objective: Objective
    sampler: SamplerConfig
    autoencoder: AnyAutoencoderConfig
    sync: SyncConfig | SynchformerPart
    text: TextPart = field(default_factory=TextPart)
    vision: VisionPart = field(default_factory=VisionPart)
    band: BandConfig | None = None
    """Adds the band above that of the autoencoder; None: the sound stays at its rate."""

    def __post_init__(self) -> None:
        listens, seen = self.dit.conditioner, self.vision.spec.dim
        pairs = {
            "text features": (listens.text_dim, self.text.spec.dim),
            "picture features": (listens.vision_dim or seen, seen),
            "sync features": (listens.sync_dim or self.sync.feature_dim, self.sync.feature_dim),
            "pictures per second": (listens.vision_fps, self.timebase.vision_fps),
            "sync pictures per second": (self.sync.fps, self.timebase.sync_fps),
            "latent channels": (self.dit.latent_dim, self.autoencoder.latent_dim),
            "samples per second": (self.timebase.sample_rate_hz, self.autoencoder.sample_rate_hz),
            "samples per latent frame": (self.timebase.hop_samples, self.autoencoder.hop_samples),
        }
        if self.band is not None:
            pairs["samples per second below the added band"] = (
                self.autoencoder.sample_rate_hz,
                LOW_RATE_HZ,
            )
        for what, (expected, given) in pairs.items():
            if expected != given:
                raise ConfigError(
                    f"model card: {what} differ between components, {expected} and {given}"
                )


_MOST_LAYERS = 1024
_MOST_SIZE = 65_536
_MOST_HZ = 1_000_000
"""Largest numbers of a card's components: a slip of a digit must not fill the memory."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Model:
    """A model in memory.

    Attributes:
        config: Configuration of the components.
        dit: The transformer.
        autoencoder: Decodes latents to sound.
        sync: Encodes pictures to sync features; None if a published encoder does.
        name: The model's name.
        defaults: Settings that a request need not give.
        training: How the weights were made; free-form JSON data.
        attribution: Licence and author of all training data; see `weights`.
        sha256: Digest of configuration and weights as they were loaded; empty if never saved.
        card: The card of the folder that the model was read from; None if it was never saved.
        band: Adds the band above that of the autoencoder; None: the sound stays at its rate.
    """

    config: PipelineConfig
    dit: DiT
    autoencoder: AudioVAE
    sync: SyncEncoder | None
    name: str
    defaults: Defaults
    training: Mapping[str, Any]
    attribution: str = ""
    sha256: str = ""
    card: ModelCard | None = None
    band: BandExtension | None = None

    def tensors(self) -> dict[str, Mapping[str, Tensor]]:
        """State of each trained component."""
        components: dict[str, nn.Module | None] = {
            "dit": self.dit,
            "autoencoder": self.autoencoder,
            "sync": self.sync,
            "band": self.band,
        }
        return {k: c.state_dict() for k, c in components.items() if c is not None}

    @property
    def sample_rate_hz(self) -> int:
        """Samples per second of the model's sound."""
        band = self.config.band
        return self.config.timebase.sample_rate_hz if band is None else band.sample_rate_hz

    @property
    def facts(self) -> ModelFacts:
        """What a request has to know of it."""
        return ModelFacts(
            name=self.name,
            defaults=self.defaults,
            timebase=self.config.timebase,
            sample_rate_hz=self.sample_rate_hz,
            is_bounded=isinstance(self.config.sync, SynchformerPart),
        )

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
            tensors=self.tensors(),
            defaults=to_json(self.defaults),
            training=self.training,
            attribution=self.attribution,
            half=half,
        )


def _check_sizes(value: object, where: str) -> None:
    """Refuse sizes far above any model, before anything is built by them."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _check_sizes(inner, f"{where}.{name}")
    elif isinstance(value, list):
        if len(value) > _MOST_LAYERS:
            raise ConfigError(f"{where}: expected at most {_MOST_LAYERS} entries, got {len(value)}")
        for inner in value:
            _check_sizes(inner, where)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        field = where.rpartition(".")[2]
        most = _MOST_HZ if field.endswith("_hz") else _MOST_SIZE
        if field in ("depth", "blocks", "layers") or field.startswith("num_"):
            most = _MOST_LAYERS
        if not abs(value) <= most:
            raise ConfigError(f"{where}: expected at most {most}, got {value!r:.40}")


def _check_against_files(config: PipelineConfig, card: ModelCard) -> None:
    """Refuse components that are many times as large as the files that hold their weights."""
    with torch.device("meta"):
        networks: list[nn.Module] = [build_autoencoder(config.autoencoder)]
        if isinstance(config.sync, SyncConfig):
            networks.append(SyncEncoder(config.sync))
        if config.band is not None:
            networks.append(BandExtension(config.band))
    num_values = sum(value.numel() for n in networks for value in n.state_dict().values())
    stored = sum((card.folder / f"{name}.safetensors").stat().st_size for name in card.files)
    if num_values > stored:  # at least two bytes a value
        raise ConfigError(
            f"{card.folder}: its card describes {num_values} weights, its files hold {stored} bytes"
        )


def load_model(
    model: str | os.PathLike[str], *, dtype: torch.dtype | None = None, on_disk: bool = False
) -> Model:
    """Read a model by name, folder or Hub id, on the CPU.

    Args:
        model: "embedded", a model folder, or a Hub id.
        dtype: Precision of the transformer, which is never held in float32 on the way. Default:
            float32, like the other components.
        on_disk: Leave large components on the meta device, to be read when needed (`offload`).

    Raises:
        MissingPartError: There is no such model.
        ConfigError: The folder does not hold together.
        IntegrityError: A file's bytes are not those that its card recorded.
    """
    card = load_card(resolve_model(os.fspath(model), component="dit"))
    check_component(card, "dit", field="model", purpose="generates no sound")
    _check_sizes(card.parts, "card.parts")
    config = from_json(PipelineConfig, card.parts, where="card.parts")
    if not is_shipped(card):
        _check_against_files(config, card)
    large_vae = isinstance(config.autoencoder, OobleckConfig)
    with interpreting(card.folder, "a model that can be built"):
        with torch.device("meta"):  # shapes only: numbers come from the folder
            dit = DiT(config.dit)
            vae = build_autoencoder(config.autoencoder) if large_vae else None
        vae = vae or build_autoencoder(config.autoencoder)
        sync = SyncEncoder(config.sync) if isinstance(config.sync, SyncConfig) else None
        band = None if config.band is None else BandExtension(config.band)
    loaded = Model(
        config=config,
        dit=dit,
        autoencoder=vae,
        sync=sync,
        band=band,
        name=card.name,
        defaults=from_json(Defaults, card.defaults, where="card.defaults"),
        training=card.training,
        attribution=card.attribution,
        sha256=card.sha256,
        card=card,
    )
    if not on_disk:
        load_part(card, "dit", loaded.dit, dtype=dtype)
    if not (on_disk and large_vae):
        load_part(card, "autoencoder", loaded.autoencoder)
    if loaded.sync is not None:
        load_part(card, "sync", loaded.sync)
    if loaded.band is not None:
        load_part(card, "band", loaded.band)
    return loaded
