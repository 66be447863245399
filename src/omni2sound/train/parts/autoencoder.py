"""The embedded autoencoder from the synthetic scenes: components, then its vocoder.

In:   the folder of the scenes' material and, if wanted, a model to take the latents from.
Out:  a model folder: autoencoder alone, or the given model with a new vocoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omni2sound.config import from_json, to_json
from omni2sound.models.autoencoder import MelPcaAutoencoder, MelPcaConfig
from omni2sound.models.vocoder import VocoderConfig
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.material.licences import merge_attribution
from omni2sound.train.parts.material import training_attribution, training_sounds
from omni2sound.train.parts.vocoder import VocoderRecipe, fit_components, train_vocoder
from omni2sound.weights import (
    ModelCard,
    load_card,
    load_part,
    load_tensors,
    resolve_model,
    save_model,
)

if TYPE_CHECKING:
    from torch import Tensor


def train_autoencoder_model(
    corpus: Path,
    out: Path,
    *,
    parts: str | None = None,
    refit: bool = False,
    max_minutes: float = 20.0,
) -> Path:
    """Train the vocoder, and fit the latents unless a model gives them.

    Args:
        corpus: Folder of the scenes' material.
        out: Folder of checkpoints, log and `model/`.
        parts: Model whose latents, and other components, are kept.
        refit: Fit new latents despite `parts`; of that model only the encoders are kept.
        max_minutes: Time limit of the vocoder's training.

    Returns:
        The model folder.

    Raises:
        UserError: If the material or the model can't be read.
    """
    assets = SceneAssets.open(corpus)
    recordings, scenes = training_sounds(assets)
    card = None if parts is None else load_card(resolve_model(parts))
    if card is None or refit:
        model = MelPcaAutoencoder(MelPcaConfig(vocoder=VocoderConfig()))
        fit_components(model, recordings, scenes)
    else:
        fitted = MelPcaAutoencoder(from_json(MelPcaConfig, card.parts["autoencoder"]))
        load_part(card, "autoencoder", fitted)
        model = MelPcaAutoencoder(replace(fitted.config, vocoder=VocoderConfig()))
        model.copy_components(fitted)
    recipe = VocoderRecipe()
    steps = train_vocoder(
        model, recordings, scenes, recipe=recipe, out=out, max_minutes=max_minutes
    )
    training = {
        "catalogue_sha256": assets.catalogue.digest,
        "recipe": to_json(recipe),
        "steps": steps,
    }
    attribution = training_attribution(assets.catalogue)
    save_autoencoder(out / "model", model, training, attribution, card, refit=refit)
    return out / "model"


def save_autoencoder(
    folder: Path,
    model: MelPcaAutoencoder,
    training: Mapping[str, Any],
    attribution: str,
    card: ModelCard | None,
    *,
    refit: bool,
) -> None:
    """Write a trained autoencoder with the components of the given model that still fit.

    Args:
        folder: Model folder to write.
        model: The autoencoder.
        training: Entry of the card: how it was trained.
        attribution: TSV list of the material that it was trained on.
        card: The given model; None if there was none.
        refit: Whether the latents differ from that model's.
    """
    name = "parts"
    defaults: Mapping[str, Any] = {}
    configs: Mapping[str, Any] = {}
    tensors: Mapping[str, Mapping[str, Tensor]] = {}
    previous: Mapping[str, Any] = {}
    if card is not None and refit:
        # Whatever was trained on the old latents is dropped; encoders of pictures stay.
        configs = {k: card.parts[k] for k in ("sync", "text", "vision") if k in card.parts}
        tensors = {k: v for k, v in load_tensors(card).items() if k == "sync"}
        previous = {k: v for k, v in card.training.items() if k == "sync"}
    elif card is not None:
        # The same latents: a whole model stays a whole model, and gets a new vocoder.
        name, defaults = card.name, card.defaults
        configs, tensors, previous = card.parts, load_tensors(card), card.training
    save_model(
        folder,
        name=name,
        parts={**configs, "autoencoder": to_json(model.config)},
        tensors={**tensors, "autoencoder": model.state_dict()},
        defaults=defaults,
        training={**previous, "autoencoder": training},
        attribution=merge_attribution(
            [attribution] if card is None else [card.attribution, attribution]
        ),
    )
