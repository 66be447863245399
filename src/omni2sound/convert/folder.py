"""Conversion of released checkpoints into model folders, and back.

In:   a folder with `model_config.json` and one checkpoint (`.ckpt`, `.pt`, `.safetensors`); a
      diffusers folder with an `AutoencoderOobleck`; or a model folder.
Out:  a model folder; for a model folder, `model_config.json` and `model.safetensors`.

What not to get wrong: nothing is written unless every tensor fits; one error names all that are
missing, left over or of another shape.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from omni2sound.config import from_json, to_json
from omni2sound.convert.checkpoint import (
    SETTINGS,
    WeightSet,
    beside,
    choose_weights,
    find_checkpoint,
)
from omni2sound.convert.names import (
    ConditionNames,
    Link,
    constant_types,
    dit_links,
    from_released,
    oobleck_links,
    to_released,
)
from omni2sound.convert.settings import read_autoencoder_settings, read_settings
from omni2sound.convert.written import write_settings
from omni2sound.encoders.published import read_checkpoint
from omni2sound.errors import ConfigError, MissingPartError, UserError
from omni2sound.files import atomic_folder, save_tensors
from omni2sound.generate.model import PipelineConfig
from omni2sound.models.dit import DiT
from omni2sound.models.oobleck import Oobleck, OobleckConfig
from omni2sound.models.released import ReleasedConditionerConfig
from omni2sound.readers import interpreting, read_json
from omni2sound.weights import LARGE_FILE_BYTES, load_card, load_tensors, save_model

_STATISTICS = ("mean_C", "scale_C")
_PRETRANSFORM = "pretransform.model."


@dataclass(frozen=True, kw_only=True, slots=True)
class Converted:
    """Result of a conversion.

    Attributes:
        folder: Written folder.
        direction: "in" for a model folder, "out" for a checkpoint.
        num_tensors: Number of converted tensors.
        set_aside: Number of tensors of the weights that were not chosen.
        unverified: Components whose layout is known from the sibling release alone.
    """

    folder: Path
    direction: Literal["in", "out"] = "in"
    num_tensors: int
    set_aside: int = 0
    unverified: tuple[str, ...] = ()


def convert(source: Path, target: Path, *, weights: WeightSet | None = None) -> Converted:
    """Convert in the direction that the source implies, and write the target atomically.

    Args:
        source: Folder as listed in the module, or a checkpoint file beside its settings.
        target: Folder to write, which must not exist.
        weights: Which of the two sets of a training checkpoint: "trained" or "average".

    Raises:
        MissingPartError: The source or a file in it does not exist.
        ConfigError: Settings or tensors do not fit (all are named), or the file holds code.
        UserError: The target exists, or `weights` does not fit the checkpoint.
    """
    if target.exists():
        raise UserError(f"{target} exists; give a folder that does not")
    if not source.exists():
        raise MissingPartError(f"{source} does not exist")
    if (source / "card.json").is_file():
        return _out(source, target)
    if (source / "config.json").is_file() and not (source / SETTINGS).is_file():
        return _in_from_diffusers(source, target)
    return _in(source, target, weights)


def _in(source: Path, target: Path, weights: WeightSet | None) -> Converted:
    checkpoint = find_checkpoint(source)
    data = read_json(beside(checkpoint, SETTINGS))
    tensors, set_aside = choose_weights(
        read_checkpoint(checkpoint, inside="state_dict"), weights, checkpoint
    )
    facts = {
        "layout": "stable-audio-tools",
        "file": checkpoint.name,
        "weights": weights or "stored",
    }
    if isinstance(data, Mapping) and data.get("model_type") == "autoencoder":
        oobleck = read_autoencoder_settings(data)
        prefix = "autoencoder." if any(k.startswith("autoencoder.") for k in tensors) else ""
        links = oobleck_links(oobleck, naming="stable-audio-tools", prefix=prefix)
        return _save_autoencoder(target, oobleck, tensors, links, facts, checkpoint, set_aside)
    released = read_settings(data)
    config = released.config
    assert isinstance(config.autoencoder, OobleckConfig)
    vae_links = oobleck_links(config.autoencoder, naming="stable-audio-tools", prefix=_PRETRANSFORM)
    kind = "of a model that can be built"
    with interpreting(beside(checkpoint, SETTINGS), kind), torch.device("meta"):
        dit, vae = DiT(config.dit), Oobleck(config.autoencoder)
    parts = _matched(
        tensors,
        {
            "dit": (dit_links(config.dit, released.names), dit),
            "autoencoder": (vae_links, vae),
        },
        checkpoint,
    )
    parts["autoencoder"] |= _statistics(config.autoencoder, released.latent_scale)
    unverified = _unverified(config)
    constants = constant_types(tensors, dit_links(config.dit, released.names))
    save_model(
        target,
        name=re.sub(r"[^\w.-]", "-", target.name),
        parts=to_json(config),
        tensors=parts,
        defaults=to_json(released.defaults),
        training={"source": facts | {"unverified": list(unverified), "constants": constants}},
        half=False,
        max_file_bytes=LARGE_FILE_BYTES,
    )
    return Converted(
        folder=target,
        num_tensors=len(tensors),
        set_aside=set_aside,
        unverified=unverified,
    )


def _in_from_diffusers(source: Path, target: Path) -> Converted:
    data = read_json(source / "config.json")
    if not isinstance(data, Mapping) or data.get("_class_name") != "AutoencoderOobleck":
        raise ConfigError(f"{source / 'config.json'} describes no AutoencoderOobleck")
    path = source / "diffusion_pytorch_model.safetensors"
    if not path.is_file():
        raise MissingPartError(f"{path} is missing")
    try:
        channels, latent_dim = data["decoder_channels"], data["decoder_input_channels"]
        one_width = data["encoder_hidden_size"] == channels == 2 * latent_dim
        config = OobleckConfig(
            sample_rate_hz=data["sampling_rate"],
            channels=channels,
            multiples=tuple(data["channel_multiples"]),
            strides=tuple(data["downsampling_ratios"]),
            latent_dim=latent_dim,
        )
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{source / 'config.json'} lacks {error}") from None
    if data.get("audio_channels") != 1 or not one_width:
        raise ConfigError(
            f"{source}: this package takes one channel of sound, and one width both ways"
        )
    facts = {"layout": "diffusers", "file": path.name}
    tensors = read_checkpoint(path)
    with interpreting(source / "config.json", "of an autoencoder that can be built"):
        links = oobleck_links(config, naming="diffusers")
        return _save_autoencoder(target, config, tensors, links, facts, path, 0)


def _save_autoencoder(
    target: Path,
    config: OobleckConfig,
    tensors: dict[str, Tensor],
    links: list[Link],
    facts: dict[str, str],
    path: Path,
    set_aside: int,
) -> Converted:
    with interpreting(path, "of an autoencoder that can be built"), torch.device("meta"):
        vae = Oobleck(config)
    parts = _matched(tensors, {"autoencoder": (links, vae)}, path)
    parts["autoencoder"] |= _statistics(config, 1.0)
    save_model(
        target,
        name="parts",
        parts={"autoencoder": to_json(config)},
        tensors=parts,
        defaults={},
        training={"autoencoder": facts},
        half=False,
        max_file_bytes=LARGE_FILE_BYTES,
    )
    return Converted(folder=target, num_tensors=len(tensors), set_aside=set_aside)


def _out(source: Path, target: Path) -> Converted:

    card = load_card(source)
    config = from_json(PipelineConfig, card.parts, where="card.parts")
    stored = load_tensors(card)
    if set(stored) != {"dit", "autoencoder"} or not isinstance(config.autoencoder, OobleckConfig):
        raise ConfigError(
            f"{source} has parts {sorted(stored)}; a checkpoint of the released layout holds a "
            "transformer of that layout and an Oobleck autoencoder"
        )
    mean_C, scale_C = (stored["autoencoder"].pop(name) for name in _STATISTICS)
    if mean_C.any() or not bool((scale_C == scale_C[0]).all()):
        raise ConfigError(
            f"{source}: its latents are standardised channel by channel; "
            "the released layout has one scale for all"
        )
    links = dit_links(config.dit, ConditionNames())
    vae_links = oobleck_links(config.autoencoder, naming="stable-audio-tools", prefix=_PRETRANSFORM)
    constants = card.training.get("source", {}).get("constants", {})
    tensors = to_released(stored["dit"], links, constant_types=constants)
    tensors |= to_released(stored["autoencoder"], vae_links)
    settings = write_settings(config, latent_scale=float(scale_C[0]))
    with atomic_folder(target, marker=SETTINGS, kind="folder of a checkpoint") as staging:
        save_tensors(staging / "model.safetensors", tensors)
        (staging / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return Converted(
        folder=target,
        direction="out",
        num_tensors=len(tensors),
        unverified=_unverified(config),
    )


def _matched(
    tensors: Mapping[str, Tensor],
    parts: Mapping[str, tuple[list[Link], nn.Module]],
    path: Path,
) -> dict[str, dict[str, Tensor]]:
    """Assign every tensor of the source to a component, by our names.

    Raises:
        ConfigError: If tensors are missing, left over or of another shape.
    """
    matched, problems, reached = {}, [], set()
    for part, (links, module) in parts.items():
        wanted = {k: v for k, v in module.state_dict().items() if k not in _STATISTICS}
        matched[part], wrong = from_released(tensors, links, wanted)
        problems += wrong
        reached |= {link.source for link in links}
    problems += [f"left over {name}" for name in tensors if name not in reached]
    if problems:
        raise ConfigError(f"{path.name} does not fit its settings: {'; '.join(problems)}")
    return matched


def _statistics(config: OobleckConfig, scale: float) -> dict[str, Tensor]:
    return {
        "mean_C": torch.zeros(config.latent_dim),
        "scale_C": torch.full((config.latent_dim,), scale),
    }


def _unverified(config: PipelineConfig) -> tuple[str, ...]:
    conditioner = config.dit.conditioner
    assert isinstance(conditioner, ReleasedConditionerConfig)
    unverified = []
    if conditioner.vision_dim:
        unverified.append("picture tokens and their positions")
    if conditioner.sync_dim:
        unverified.append("the sync path: resampling, projections, frame-wise modulation")
    return tuple(unverified)
