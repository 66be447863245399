"""The parts that a recipe stands on, trained from the stage corpus, and the second judge.

In:   the folder of the stage corpus, a time limit.
Out:  a model folder that holds the part, for `--parts` of the next command. A vocoder that was
      trained for a whole model (`train autoencoder --parts MODEL`) gives that model with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omni2sound.cli.train_tagger import train_judge
from omni2sound.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from omni2sound.models.autoencoder import MelPcaAutoencoder
    from omni2sound.scenes.material.catalogue import Catalogue
    from omni2sound.weights import ModelCard

__all__ = ["PARTS", "merged_attribution", "save_autoencoder", "train_part"]

_SYNC_STEPS = 6000
_SYNC_LR = 2e-3
_SYNC_AGAIN_LR = 1e-3
_FIT_SCENES = 600
_FIT_SCENE_S = 4.0


def merged_attribution(lists: Iterable[str]) -> str:
    """One attribution list out of several: every id once, the last list that names it decides.

    So lists are given oldest first: a licence that was put right stays right.
    """
    rows: dict[str, str] = {}
    for text in lists:
        for line in text.splitlines(keepends=True):
            rows[line.partition("\t")[0]] = line
    return "".join(rows.values())


def _listed(catalogue: Catalogue) -> str:
    """The attribution of everything that parts are trained on."""
    from omni2sound.scenes.material.licences import attribution_tsv

    return attribution_tsv(
        (r for r in catalogue.recordings if r.split == "train"),
        (p for p in catalogue.pictures if p.split == "train"),
    )


def _train_sync(
    corpus: Path, out: Path, parts: str | None, max_minutes: float, *, init_from: str | None = None
) -> None:
    from safetensors.torch import load_file

    from omni2sound.config import from_json, to_json
    from omni2sound.encoders.sync import SyncConfig, SyncEncoder
    from omni2sound.scenes.export.sync_batches import sync_batches
    from omni2sound.scenes.material.assets import SceneAssets
    from omni2sound.train.sync import train_sync
    from omni2sound.weights import (
        load_card,
        load_part,
        part_sha256,
        resolve_model,
        save_model,
    )

    card = load_card(resolve_model(parts or "embedded"))
    config, assets, start, seed = SyncConfig(), SceneAssets.open(corpus), None, 0
    facts: dict[str, Any] = {
        "catalogue_sha256": assets.catalogue.digest,
        "max_minutes": max_minutes,
    }
    learnt_from = [card.attribution]
    if init_from is not None:
        parent = load_card(resolve_model(init_from))
        if "sync" not in parent.files:
            raise UserError(f"model {parent.name!r} has no sync encoder to start from")
        config = from_json(SyncConfig, parent.parts["sync"], where=f"sync of {parent.name}")
        start = SyncEncoder(config)
        load_part(parent, "sync", start)
        learnt_from.append(parent.attribution)
        facts["parent"] = parent.training.get("sync", {})
        facts["parent_sha256"] = part_sha256(parent, "sync")
        seed = _generations(facts)  # other scenes than those that its parents saw
    network = train_sync(
        config,
        sync_batches(corpus, config, split="train", seed=seed, num_batches=_SYNC_STEPS),
        out=out,
        num_steps=_SYNC_STEPS,
        max_minutes=max_minutes,
        lr=_SYNC_LR if start is None else _SYNC_AGAIN_LR,
        start=start,
    )
    save_model(
        out / "model",
        name="parts",
        parts={"autoencoder": card.parts["autoencoder"], "sync": to_json(config)},
        tensors={
            "autoencoder": load_file(card.folder / "autoencoder.safetensors"),
            "sync": network.state_dict(),
        },
        defaults={},
        training={**card.training, "sync": facts},
        attribution=merged_attribution([*learnt_from, _listed(assets.catalogue)]),
    )


def _generations(facts: Mapping[str, Any]) -> int:
    """How many runs were before the one that these facts are of."""
    return 1 + _generations(facts["parent"]) if "parent" in facts else 0


def _train_autoencoder(
    corpus: Path, out: Path, parts: str | None, max_minutes: float, *, refit: bool = False
) -> None:
    from omni2sound.config import from_json, to_json
    from omni2sound.models.autoencoder import MelPcaAutoencoder, MelPcaConfig
    from omni2sound.models.vocoder import VocoderConfig
    from omni2sound.scenes.draw import draw_scene
    from omni2sound.scenes.material.assets import SceneAssets
    from omni2sound.scenes.render.render import render_audio
    from omni2sound.train.vocoder import VocoderRecipe, fit_components, train_vocoder
    from omni2sound.weights import load_card, load_part, resolve_model

    assets = SceneAssets.open(corpus)
    recordings = [
        assets.waveform(r.recording_id) for r in assets.catalogue.recordings if r.split == "train"
    ]
    scenes = [
        render_audio(
            draw_scene(
                assets, split="train", seed=0, index=i, kind="audio", duration_s=_FIT_SCENE_S
            ),
            assets,
        )
        for i in range(_FIT_SCENES)
    ]
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
    facts = {
        "catalogue_sha256": assets.catalogue.digest,
        "recipe": to_json(recipe),
        "steps": steps,
    }
    save_autoencoder(out / "model", model, facts, _listed(assets.catalogue), card, refit=refit)


def save_autoencoder(
    folder: Path,
    model: MelPcaAutoencoder,
    facts: Mapping[str, Any],
    listed: str,
    card: ModelCard | None,
    *,
    refit: bool,
) -> None:
    """Write a trained autoencoder with what stays of the model that was given.

    Args:
        folder: To be written.
        model: The autoencoder.
        facts: How it was trained.
        listed: Attribution of what it was trained on.
        card: Of the model that was given; None if none was.
        refit: Whether its latents are other ones than that model's.
    """
    from omni2sound.config import to_json
    from omni2sound.weights import save_model

    name = "parts"
    defaults: Mapping[str, Any] = {}
    configs: Mapping[str, Any] = {}
    tensors: Mapping[str, Mapping[str, Tensor]] = {}
    training: Mapping[str, Any] = {}
    if card is not None and refit:
        # What was trained on the old latents goes; what sees pictures stays.
        configs = {k: card.parts[k] for k in ("sync", "text", "vision") if k in card.parts}
        tensors = {k: v for k, v in _stored(card).items() if k == "sync"}
        training = {k: v for k, v in card.training.items() if k == "sync"}
    elif card is not None:
        # The same latents: a whole model stays a whole model, and gets a new vocoder.
        name, defaults = card.name, card.defaults
        configs, tensors, training = card.parts, _stored(card), card.training
    save_model(
        folder,
        name=name,
        parts={**configs, "autoencoder": to_json(model.config)},
        tensors={**tensors, "autoencoder": model.state_dict()},
        defaults=defaults,
        training={**training, "autoencoder": facts},
        attribution=merged_attribution([listed] if card is None else [card.attribution, listed]),
    )


def _stored(card: ModelCard) -> dict[str, dict[str, Tensor]]:
    """Tensors of every part of a model, as they are stored."""
    from safetensors.torch import load_file

    tensors: dict[str, dict[str, Tensor]] = {}
    for name in card.files:
        part = re.sub(r"-\d+$", "", name)
        tensors.setdefault(part, {}).update(load_file(card.folder / f"{name}.safetensors"))
    return tensors


def _train_joint(corpus: Path, out: Path, parts: str | None, max_minutes: float) -> None:
    """It takes its number of steps, whatever the minutes."""
    from omni2sound.cli.progress import progress_bar
    from omni2sound.config import to_json
    from omni2sound.encoders.joint import JointConfig
    from omni2sound.scenes.export.joint_examples import JointPlan, joint_examples
    from omni2sound.scenes.material.assets import SceneAssets
    from omni2sound.train.joint import JointRecipe, retrieval_rates, train_joint
    from omni2sound.weights import save_model

    if parts:
        raise UserError("train joint takes no --parts: it keeps nothing of another model")
    assets, recipe = SceneAssets.open(corpus), JointRecipe()
    out.mkdir(parents=True, exist_ok=True)
    examples = {}
    for plan in (
        JointPlan(split="train", num_pictured=500, num_unseen=500),
        JointPlan(split="val", num_pictured=100, num_unseen=60),
    ):
        with progress_bar(f"{plan.split} scenes") as report:
            cache = out / f"examples-{plan.split}.safetensors"
            examples[plan.split] = joint_examples(corpus, plan, cache=cache, on_scene=report)
    heads = train_joint(JointConfig(), examples["train"], recipe=recipe)
    rates = retrieval_rates(heads, examples["val"])
    facts = {
        "catalogue_sha256": assets.catalogue.digest,
        "scenes": len(examples["train"]),
        "recipe": to_json(recipe),
        "validation_retrieval": {name: round(rate, 4) for name, rate in rates.items()},
    }
    save_model(
        out / "model",
        name="joint",
        parts={"joint": to_json(heads.config)},
        tensors={"joint": heads.state_dict()},
        defaults={},
        training={"joint": facts},
        attribution=_listed(assets.catalogue),
    )


Train = Callable[[Path, Path, str | None, float], None]
"""Given the corpus, the folder of the run, the model of --parts, and minutes."""

PARTS: Mapping[str, tuple[Train, float]] = {
    "autoencoder": (_train_autoencoder, 20.0),
    "sync": (_train_sync, 20.0),
    "joint": (_train_joint, 20.0),
    "tagger": (train_judge, 60.0),
}
"""What trains each part, and for how many minutes unless told."""


def train_part(
    name: str,
    corpus: Path,
    out: Path,
    parts: str | None,
    max_minutes: float | None,
    *,
    refit: bool,
    init_from: str | None = None,
) -> None:
    """Train one of `PARTS`; the arguments are those of the command.

    Raises:
        UserError: If `refit` or `init_from` is asked of a part that does not have it.
    """
    part, minutes = PARTS[name]
    if init_from is not None:
        if name != "sync":
            raise UserError("--init-from is for models and for train sync")
        part = partial(_train_sync, init_from=init_from)
    if refit:
        if name != "autoencoder":
            raise UserError("--refit is for train autoencoder only")
        part = partial(_train_autoencoder, refit=True)
    part(corpus, out, parts, minutes if max_minutes is None else max_minutes)
