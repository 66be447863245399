"""`omni2sound train`: run a recipe, or train one of the parts that a recipe stands on.

In:   a recipe's name, a folder of features (or the stage corpus, for parts), a time limit.
Out:  a run folder: checkpoints, `log.jsonl`, and `model/`, which `generate --model` takes.

The order from nothing: `train autoencoder`, `train sync`, `data stage features`,
`train embedded`. Each takes the model folder of the step before as `--parts`.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omni2sound.cli.progress import progress_bar
from omni2sound.errors import ConfigError, UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from omni2sound.data.stage.catalogue import Catalogue
    from omni2sound.train.recipe import Recipe

__all__ = ["train"]

_log = logging.getLogger(__name__)
_PARTS = ("autoencoder", "sync")
_SYNC_STEPS = 6000
_FIT_SCENES = 600
_FIT_SCENE_S = 4.0


def train(
    recipe: Annotated[
        str, typer.Argument(help="tiny or embedded; or a part: autoencoder or sync.")
    ],
    data: Annotated[
        list[Path],
        typer.Option("--data", help="Folder of features (may repeat); for a part, the corpus."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.")],
    validation: Annotated[
        Path | None, typer.Option("--validation", help="Features of the validation split.")
    ] = None,
    parts: Annotated[
        str | None,
        typer.Option(
            "--parts",
            help="Model whose autoencoder and sync encoder are used; embedded unless given. "
            "For a part: whose other parts are kept, and for `autoencoder` its latents too.",
        ),
    ] = None,
    refit: Annotated[
        bool,
        typer.Option("--refit", help="For `autoencoder`: fit its latents anew despite --parts."),
    ] = False,
    max_steps: Annotated[
        int | None, typer.Option(min=1, help="Stop after this many steps.")
    ] = None,
    max_minutes: Annotated[float | None, typer.Option(help="Stop after this long.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    init_from: Annotated[
        str | None, typer.Option(help="Start a new run from this model's weights.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change the recipe: stages.1.lr=3e-4.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Train a model, or a part of one."""
    if max_minutes is not None and max_minutes <= 0:
        raise UserError(f"--max-minutes must be positive, got {max_minutes}")
    if recipe in _PARTS:
        if refit and recipe != "autoencoder":
            raise UserError("--refit is for train autoencoder only")
        if max_steps is not None or resume or init_from or set_ or validation:
            raise UserError(f"train {recipe} takes --data, --out, --parts and --max-minutes only")
        if device != "auto":
            raise UserError(f"train {recipe} runs on the CPU; leave --device out")
        if (out / "model").exists():
            raise UserError(f"{out} holds a model already; use another --out")
        if len(data) != 1:
            raise UserError(f"train {recipe} takes one --data, the stage corpus; got {len(data)}")
        if recipe == "sync":
            _train_sync(data[0], out, parts, max_minutes or 20.0)
        else:
            _train_autoencoder(data[0], out, parts, max_minutes or 20.0, refit=refit)
    else:
        chosen = _recipe(recipe, set_ or [])
        if resume and init_from:
            raise UserError("--resume goes on with a run, --init-from starts one; give one of them")
        _train_model(
            chosen, data, out, validation, parts, max_steps, max_minutes, resume, init_from, device
        )
    print(json.dumps({"model": str(out / "model")}))


def _recipe(name: str, changes: list[str]) -> Recipe:
    from omni2sound.config import override
    from omni2sound.recipes import RECIPES

    if name not in RECIPES:
        known = ", ".join([*RECIPES, *_PARTS])
        raise UserError(f"no recipe {name!r}; known: {known}")
    recipe = RECIPES[name]()
    for change in changes:
        path, sign, text = change.partition("=")
        if not sign:
            raise UserError(f"--set needs NAME=VALUE, got {change!r}")
        try:
            value: Any = json.loads(text)
        except ValueError:
            value = text
        recipe = override(recipe, path, value)
    return recipe


def _train_model(
    recipe: Recipe,
    data: list[Path],
    out: Path,
    validation: Path | None,
    parts: str | None,
    max_steps: int | None,
    max_minutes: float | None,
    resume: bool,
    init_from: str | None,
    device: str,
) -> None:
    import torch

    from omni2sound.assembly import Defaults, Model, PipelineConfig
    from omni2sound.config import digest, from_json, to_json
    from omni2sound.data.features import FeatureStore
    from omni2sound.diffusion.samplers import SamplerConfig
    from omni2sound.encoders.sync import SyncConfig, SyncEncoder
    from omni2sound.models.autoencoder import MelPcaAutoencoder, MelPcaConfig
    from omni2sound.models.dit import DiT
    from omni2sound.runtime import resolve_device
    from omni2sound.timebase import TimeBase
    from omni2sound.train.loop import INTERRUPTED, TrainOptions
    from omni2sound.train.loop import train as run
    from omni2sound.weights import load_card, load_part, resolve_model

    card = load_card(resolve_model(parts or "embedded"))
    store = FeatureStore(data)
    held_out = FeatureStore([validation]) if validation is not None else store
    for description in [*store.description, *held_out.description]:
        if description.get("sync_sha256") not in (None, card.files.get("sync")):
            raise ConfigError(
                "the features were made with another sync encoder than that of --parts; "
                "make them again, or give the model that they were made with"
            )
    where = resolve_device(device)
    vae = MelPcaAutoencoder(from_json(MelPcaConfig, card.parts["autoencoder"]))
    load_part(card, "autoencoder", vae)
    sync = SyncEncoder(from_json(SyncConfig, card.parts["sync"]))
    load_part(card, "sync", sync)
    torch.manual_seed(recipe.seed)  # of the initial weights; nothing else draws from it
    model = DiT(recipe.dit)
    parent = None
    if init_from is not None:
        parent_card = load_card(resolve_model(init_from))
        load_part(parent_card, "dit", model)
        parent = parent_card.sha256
    # Before hours of training: parts that do not fit together are refused here.
    config = PipelineConfig(
        timebase=TimeBase(),
        dit=recipe.dit,
        objective=recipe.objective,
        sampler=SamplerConfig(kind="dpmpp-2m" if recipe.objective.kind == "v" else "euler"),
        autoencoder=vae.config,
        sync=sync.config,
    )
    longest_s = max(store.durations_s)
    options = TrainOptions(
        out=out, max_steps=max_steps, max_minutes=max_minutes, resume=resume, device=str(where)
    )
    with progress_bar("training", recipe.num_steps) as on_step:
        weights, result = run(
            model, recipe, store, held_out, vae.to(where), options, on_step=on_step
        )
    _log.info("stopped at step %d of %d: %s", result.steps, recipe.num_steps, result.reason)
    training = {
        "recipe": to_json(recipe),
        "recipe_sha256": digest(recipe),
        "data": store.description,
        "steps": result.steps,
        "finished": result.finished,
        "stage_converged": result.stage_converged,
        "parent_sha256": parent,
    }
    model.load_state_dict(weights)
    Model(
        config=config,
        dit=model,
        autoencoder=vae,
        sync=sync,
        name=recipe.name,
        defaults=Defaults(max_duration_s=longest_s, duration_s=min(8.0, longest_s)),
        training={**card.training, "dit": training},
        attribution=_merged([card.attribution, *store.attribution]),
    ).save(out / "model")
    if result.reason == INTERRUPTED:
        raise KeyboardInterrupt


def _merged(lists: Iterable[str]) -> str:
    """One attribution list out of several: the header, then every line once."""
    lines = [line for text in lists for line in text.splitlines(keepends=True)]
    return "".join(dict.fromkeys(lines))


def _listed(catalogue: Catalogue) -> str:
    """The attribution of everything that parts are trained on."""
    from omni2sound.data.stage.licences import attribution_tsv

    return attribution_tsv(
        (r for r in catalogue.recordings if r.split == "train"),
        (p for p in catalogue.pictures if p.split == "train"),
    )


def _train_sync(corpus: Path, out: Path, parts: str | None, max_minutes: float) -> None:
    from safetensors.torch import load_file

    from omni2sound.config import to_json
    from omni2sound.data.stage.assets import StageAssets
    from omni2sound.data.stage.sync_examples import sync_batches
    from omni2sound.encoders.sync import SyncConfig
    from omni2sound.train.sync import train_sync
    from omni2sound.weights import load_card, resolve_model, save_model

    card = load_card(resolve_model(parts or "embedded"))
    config, assets = SyncConfig(), StageAssets.open(corpus)
    network = train_sync(
        config,
        sync_batches(corpus, config, split="train", seed=0, num_batches=_SYNC_STEPS),
        out=out,
        num_steps=_SYNC_STEPS,
        max_minutes=max_minutes,
    )
    facts = {"catalogue_sha256": assets.catalogue.digest, "max_minutes": max_minutes}
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
        attribution=_merged([card.attribution, _listed(assets.catalogue)]),
    )


def _train_autoencoder(
    corpus: Path, out: Path, parts: str | None, max_minutes: float, *, refit: bool
) -> None:
    from safetensors.torch import load_file

    from omni2sound.config import from_json, to_json
    from omni2sound.data.stage.assets import StageAssets
    from omni2sound.data.stage.render import render_audio
    from omni2sound.data.stage.scene import draw_scene
    from omni2sound.models.autoencoder import MelPcaAutoencoder, MelPcaConfig
    from omni2sound.models.vocoder import VocoderConfig
    from omni2sound.train.vae import VocoderRecipe, fit_components, train_vocoder
    from omni2sound.weights import load_card, load_part, resolve_model, save_model

    assets = StageAssets.open(corpus)
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
    configs, tensors = {"autoencoder": to_json(model.config)}, {"autoencoder": model.state_dict()}
    training, attribution = {"autoencoder": facts}, [_listed(assets.catalogue)]
    if card is not None:
        configs["sync"] = card.parts["sync"]
        tensors["sync"] = load_file(card.folder / "sync.safetensors")
        training["sync"] = card.training.get("sync", {})
        attribution.insert(0, card.attribution)
    save_model(
        out / "model",
        name="parts",
        parts=configs,
        tensors=tensors,
        defaults={},
        training=training,
        attribution=_merged(attribution),
    )
