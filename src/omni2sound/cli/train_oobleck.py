"""`omni2sound train oobleck`: the full-size autoencoder, on the stage corpus.

In:   the corpus, changes of the settings (`model.channels=32`, `recipe.lr=1e-4`), limits.
Out:  checkpoints and a log in --out, and `model/` with the autoencoder, for `--parts`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omni2sound.errors import UserError
from omni2sound.models.oobleck import OobleckConfig
from omni2sound.train.oobleck import OobleckRecipe

__all__ = ["OobleckRun", "run"]

_SCENES, _SCENE_S = 600, 4.0


@dataclass(frozen=True, kw_only=True, slots=True)
class OobleckRun:
    """What --set changes."""

    model: OobleckConfig = field(default_factory=OobleckConfig)
    """Shape of the autoencoder."""
    recipe: OobleckRecipe = field(default_factory=OobleckRecipe)
    """How it is trained."""


def run(
    corpus: Path,
    out: Path,
    changes: list[str],
    *,
    max_steps: int | None,
    max_minutes: float | None,
    resume: bool,
    device: str,
) -> Path:
    """Train, and write the autoencoder as a model folder of parts; gives the folder."""
    import torch

    from omni2sound.config import override, to_json
    from omni2sound.encoders.registry import SynchformerPart, TextPart, VisionPart
    from omni2sound.models.oobleck import Oobleck
    from omni2sound.runtime import resolve_device
    from omni2sound.scenes.draw import draw_scene
    from omni2sound.scenes.material.assets import SceneAssets
    from omni2sound.scenes.material.licences import attribution_tsv
    from omni2sound.scenes.render.render import render_audio
    from omni2sound.train.oobleck import train_oobleck
    from omni2sound.weights import LARGE_FILE_BYTES, save_model

    settings = OobleckRun()
    for change in changes:
        path, sign, text = change.partition("=")
        if not sign:
            raise UserError(f"--set needs NAME=VALUE, got {change!r}")
        settings = override(settings, path, _value(text))
    assets = SceneAssets.open(corpus)
    used = [r for r in assets.catalogue.recordings if r.split == "train"]
    scenes = [
        render_audio(
            draw_scene(assets, split="train", seed=0, index=i, kind="audio", duration_s=_SCENE_S),
            assets,
        )
        for i in range(_SCENES)
    ]
    torch.manual_seed(settings.recipe.seed)  # of the first weights; nothing else draws from it
    model = Oobleck(settings.model)
    steps = train_oobleck(
        model,
        [assets.waveform(r.recording_id) for r in used],
        scenes,
        recipe=settings.recipe,
        out=out,
        device=str(resolve_device(device)),
        max_minutes=max_minutes,
        max_steps=max_steps,
        resume=resume,
        corpus_sha256=assets.catalogue.digest,
    )
    facts = {
        "catalogue_sha256": assets.catalogue.digest,
        "recipe": to_json(settings.recipe),
        "steps": steps,
    }
    save_model(
        out / "model",
        name="parts",
        # The full-size model's encoders go with it: `train paper` takes the folder as --parts.
        parts={
            "autoencoder": to_json(settings.model),
            "sync": to_json(SynchformerPart()),
            "text": to_json(TextPart(encoder="flan-t5-base")),
            "vision": to_json(VisionPart(encoder="dfn5b-clip-vit-h-14-384")),
        },
        tensors={"autoencoder": model.state_dict()},
        defaults={},
        training={"autoencoder": facts},
        attribution=attribution_tsv(used, []),
        half=False,
        max_file_bytes=LARGE_FILE_BYTES,
    )
    return out / "model"


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
