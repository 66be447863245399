"""Autoencoders by the `kind` of their configuration in a model's card.

In:   a configuration: `MelPcaConfig`, `OobleckConfig`, or a plugin's.
Out:  the autoencoder, with initial weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from omni2sound.models.autoencoder import (
    AudioVAE,
    AutoencoderConfig,
    MelPcaAutoencoder,
    MelPcaConfig,
)
from omni2sound.models.oobleck import Oobleck, OobleckConfig
from omni2sound.plugins import Registry

_MEL_PCA = "mel-pca"
"""The kind of configurations without a field `kind`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoencoderSpec:
    """An autoencoder that models can name in their card.

    Attributes:
        config: Dataclass of its shape; its field `kind` holds the name in `AUTOENCODERS`.
        build: Called with such a configuration.
    """

    config: type[AutoencoderConfig]
    build: Callable[[Any], AudioVAE]


AUTOENCODERS: Registry[AutoencoderSpec] = Registry(
    "autoencoder",
    {
        _MEL_PCA: AutoencoderSpec(config=MelPcaConfig, build=MelPcaAutoencoder),
        "oobleck": AutoencoderSpec(config=OobleckConfig, build=Oobleck),
    },
    kind=AutoencoderSpec,
)


def _config_of(kind: str | None) -> type[AutoencoderConfig]:
    return AUTOENCODERS.find(kind or _MEL_PCA).config


AnyAutoencoderConfig = Annotated[AutoencoderConfig, _config_of]
"""Type of fields whose class `config.from_json` chooses by `kind`."""


def build_autoencoder(config: AutoencoderConfig) -> AudioVAE:
    """Build an autoencoder of that shape, with initial weights."""
    return AUTOENCODERS.find(getattr(config, "kind", _MEL_PCA)).build(config)
