"""`omni2sound train`: run a recipe, or train one of the parts that a recipe stands on.

In:   a recipe's name, a folder of features (or the stage corpus, for parts), a time limit.
Out:  a run folder: checkpoints, `log.jsonl`, and `model/`, which `generate --model` takes.

The order from nothing: `train autoencoder`, `train sync`, `scenes features`,
`train embedded`. Each takes the model folder of the step before as `--parts`. Under
`torchrun` every rank runs this command; the first one writes.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omni2sound.cli.progress import progress_bar
from omni2sound.cli.train_parts import PARTS, merged_attribution, train_part
from omni2sound.errors import ConfigError, UserError

if TYPE_CHECKING:
    import torch

    from omni2sound.data.batches.hard_samples import PromptEncoder
    from omni2sound.encoders.registry import TextPart
    from omni2sound.generate.model import PipelineConfig
    from omni2sound.models.autoencoder import MelPcaAutoencoder
    from omni2sound.models.dit import DiT
    from omni2sound.models.oobleck import Oobleck
    from omni2sound.train.recipe import Recipe
    from omni2sound.weights import ModelCard

__all__ = ["train"]

_log = logging.getLogger(__name__)
_PARTS_CONFIG = ("autoencoder", "sync", "text", "vision")
"""What a recipe takes from `--parts`."""


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            help="tiny, embedded or paper, also as RECIPE+ABLATION; or a part: "
            "autoencoder, oobleck, sync, joint or tagger (the second judge)."
        ),
    ],
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", help="Folder of features (may repeat); for a part, the corpus."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the run.")] = None,
    validation: Annotated[
        Path | None,
        typer.Option(
            "--validation", help="Features of the validation split; no stage is judged without."
        ),
    ] = None,
    parts: Annotated[
        str | None,
        typer.Option(
            "--parts",
            help="Model whose autoencoder and sync encoder are used; embedded unless given. "
            "For a part: whose other parts are kept, and for `autoencoder` its latents too.",
        ),
    ] = None,
    encoders: Annotated[
        Path | None,
        typer.Option(
            help="Folder of published encoders (docs/guides/full-size.md); by default the cache."
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
        str | None,
        typer.Option(help="Start a new run from this model's weights (a recipe's, or `sync`'s)."),
    ] = None,
    lora: Annotated[
        int | None,
        typer.Option(min=1, help="Train an adapter of this rank on the model of --init-from."),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change the recipe: stages.1.lr=3e-4.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what the recipe costs; train nothing.")
    ] = False,
    on: Annotated[str, typer.Option(help="For --dry-run: kind of device.")] = "h100",
    devices: Annotated[int, typer.Option(min=1, help="For --dry-run: how many.")] = 1,
    clip_seconds: Annotated[
        float, typer.Option(min=0.1, help="For --dry-run: length of clips.")
    ] = 10.0,
) -> None:
    """Train a model, or a part of one."""
    if max_minutes is not None and max_minutes <= 0:
        raise UserError(f"--max-minutes must be positive, got {max_minutes}")
    if dry_run:
        from omni2sound.cli.costs import print_costs

        print_costs(_recipe(recipe, set_ or []), on=on, devices=devices, clip_s=clip_seconds)
        return
    if not data or out is None:
        raise UserError(f"train {recipe} needs --data and --out (or --dry-run)")
    if recipe == "oobleck":
        from omni2sound.cli.train_oobleck import run

        if init_from or parts or validation or refit or lora or len(data) != 1:
            raise UserError("train oobleck takes one --data, the stage corpus, and no parts")
        model = run(
            data[0],
            out,
            set_ or [],
            max_steps=max_steps,
            max_minutes=max_minutes,
            resume=resume,
            device=device,
        )
        print(json.dumps({"model": str(model)}))
        return
    if recipe in PARTS:
        if max_steps is not None or resume or set_ or validation or lora:
            raise UserError(
                f"train {recipe} takes --data, --out, --parts and --max-minutes (autoencoder also "
                "--refit, sync also --init-from)"
            )
        if device != "auto":
            raise UserError(f"train {recipe} runs on the CPU; leave --device out")
        if (out / "model").exists():
            raise UserError(f"{out} holds a model already; use another --out")
        if len(data) != 1:
            raise UserError(f"train {recipe} takes one --data, the stage corpus; got {len(data)}")
        train_part(recipe, data[0], out, parts, max_minutes, refit=refit, init_from=init_from)
        first = True
    else:
        chosen = _recipe(recipe, set_ or [])
        if resume and init_from:
            raise UserError("--resume goes on with a run, --init-from starts one; give one of them")
        if lora and not (init_from or resume):
            raise UserError("--lora trains on a model that is there; name it with --init-from")
        first = _train_model(
            chosen,
            data,
            out,
            validation,
            parts,
            max_steps,
            max_minutes,
            resume,
            init_from,
            device,
            lora,
            encoders,
        )
    if first:
        made = "adapter" if lora else "model"
        print(json.dumps({made: str(out / made)}))


def _recipe(name: str, changes: list[str]) -> Recipe:
    from omni2sound.config import override
    from omni2sound.recipes import recipe_named

    recipe = recipe_named(name)
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
    lora: int | None,
    encoders: Path | None,
) -> bool:
    """Run a recipe; says whether this process is the one that speaks for all ranks."""
    import torch

    from omni2sound.config import digest, from_json, to_json
    from omni2sound.data.store.rows import FeatureStore
    from omni2sound.diffusion.samplers import SamplerConfig
    from omni2sound.encoders.sync import SyncConfig, SyncEncoder
    from omni2sound.generate.model import Defaults, Model, PipelineConfig, build_autoencoder
    from omni2sound.models.dit import DiT
    from omni2sound.models.lora import LoraConfig, adapter_of, add_lora, save_adapter
    from omni2sound.runtime import resolve_device
    from omni2sound.timebase import TimeBase
    from omni2sound.train.loop import INTERRUPTED, TrainOptions
    from omni2sound.train.loop import train as run
    from omni2sound.train.parallel import joined_world
    from omni2sound.weights import load_card, load_part, part_sha256, resolve_model

    card = load_card(resolve_model(parts or "embedded"))
    latent_dim = card.parts["autoencoder"]["latent_dim"]
    if recipe.dit.latent_dim != latent_dim:
        _log.info("latents have %d channels, as those of %s", latent_dim, card.name)
        recipe = replace(recipe, dit=replace(recipe.dit, latent_dim=latent_dim))
    vae_sha256 = part_sha256(card, "autoencoder")
    store = FeatureStore(data, autoencoder_sha256=vae_sha256)
    held_out = None
    if validation is not None:
        held_out = FeatureStore([validation], autoencoder_sha256=vae_sha256)
    # Before hours of training: parts that do not fit together are refused here.
    sampler = SamplerConfig(kind="dpmpp-2m" if recipe.objective.kind == "v" else "euler")
    own = {"timebase": TimeBase(), "dit": recipe.dit, "objective": recipe.objective}
    config = from_json(
        PipelineConfig,
        {
            **{name: card.parts[name] for name in _PARTS_CONFIG if name in card.parts},
            **{name: to_json(value) for name, value in own.items()},
            "sampler": to_json(sampler),
        },
        where=f"parts of {card.name}",
    )
    held_out_description = [] if held_out is None else held_out.description
    _check_features([*store.description, *held_out_description], config, part_sha256(card, "sync"))
    vae = build_autoencoder(config.autoencoder)
    load_part(card, "autoencoder", vae)
    sync = None
    if isinstance(config.sync, SyncConfig):
        sync = SyncEncoder(config.sync)
        load_part(card, "sync", sync)
    torch.manual_seed(recipe.seed)  # of the initial weights; nothing else draws from it
    model = DiT(recipe.dit)
    parent = None
    learnt_from = [card.attribution]
    if init_from is not None:
        parent_card = load_card(resolve_model(init_from))
        _start_from(parent_card, model, vae)
        parent = parent_card.sha256
        learnt_from.append(parent_card.attribution)
    if lora is not None:
        # Muon is for whole matrices; these are thin ones.
        recipe = replace(recipe, optimizer="adamw")
        add_lora(model, LoraConfig(rank=lora), seed=recipe.seed)
    longest_s = max(store.durations_s)
    with joined_world(resolve_device(device)) as (world, where):
        if not world.is_first:
            logging.getLogger("omni2sound").setLevel(logging.ERROR)
        if held_out is None:
            _log.warning(
                "no --validation: whether a stage has converged is not judged, and none is extended"
            )
        options = TrainOptions(
            out=out,
            max_steps=max_steps,
            max_minutes=max_minutes,
            resume=resume,
            device=str(where),
            num_readers=4 if where.type == "cuda" else 0,
        )
        with progress_bar("training", recipe.num_steps) as on_step:
            weights, result = run(
                model,
                recipe,
                store,
                held_out,
                vae.to(where),
                options,
                prompts=_prompt_encoder(recipe, config.text, encoders, where),
                world=world,
                parent_sha256=parent,
                vae_sha256=vae_sha256,
                on_step=on_step,
            )
        first = world.is_first
    _log.info("stopped at step %d: %s", result.steps, result.reason)
    if first and lora is not None:
        adapter = adapter_of(
            weights, LoraConfig(rank=lora), model_sha256=result.parent_sha256 or ""
        )
        save_adapter(out / "adapter", adapter)
    elif first:
        training = {
            "recipe": to_json(recipe, with_runtime=False),  # just what the digest names
            "recipe_sha256": digest(recipe),
            "data": store.description,
            "validation": held_out_description or "no validation features",
            "steps": result.steps,
            "finished": result.finished,
            "stage_converged": result.stage_converged,
            "skipped": result.skipped,
            "parent_sha256": result.parent_sha256,
        }
        dit = DiT(recipe.dit)
        dit.load_state_dict(weights)
        Model(
            config=config,
            dit=dit,
            autoencoder=vae,
            sync=sync,
            name=recipe.name,
            defaults=Defaults(max_duration_s=longest_s, duration_s=min(8.0, longest_s)),
            training={**card.training, "dit": training},
            attribution=merged_attribution([*learnt_from, *store.attribution]),
        ).save(out / "model")
    if result.reason == INTERRUPTED:
        raise KeyboardInterrupt
    return first


def _start_from(card: ModelCard, model: DiT, vae: MelPcaAutoencoder | Oobleck) -> None:
    """Give the transformer the weights of another model, mapped if that has other components.

    Raises:
        ConfigError: If the weights do not fit, or the two autoencoders are of different kinds.
    """
    import torch

    from omni2sound.config import from_json
    from omni2sound.models.autoencoder import MelPcaAutoencoder, MelPcaConfig
    from omni2sound.models.dit import DiT
    from omni2sound.models.transfer import transferred
    from omni2sound.weights import load_part

    if not isinstance(vae, MelPcaAutoencoder):
        load_part(card, "dit", model)  # the full-size autoencoder: its latents are one space
        return
    old = MelPcaAutoencoder(from_json(MelPcaConfig, card.parts["autoencoder"]))
    load_part(card, "autoencoder", old)
    if old.latent_dim == vae.latent_dim and torch.equal(old.basis_CK, vae.basis_CK):
        load_part(card, "dit", model)
        return
    _log.info("the latents of %s are mapped to those of --parts", card.name)
    parent = DiT(replace(model.config, latent_dim=old.latent_dim))
    load_part(card, "dit", parent)
    model.load_state_dict(transferred(parent.state_dict(), old, vae))


def _check_features(descriptions: list[Any], config: PipelineConfig, sync_sha256: str) -> None:
    """Refuse features that the model would not understand.

    Raises:
        ConfigError: If an encoder is another than that of the parts.
    """
    wanted = {
        "text": config.text.encoder,
        "vision": config.vision.encoder,
        "sync": getattr(config.sync, "kind", None),
        "sync_sha256": sync_sha256 or None,
    }
    for description in descriptions:
        for name, value in wanted.items():
            # What a store does not name it does not hold, or it is older than the name.
            if description.get(name) not in (None, value):
                raise ConfigError(
                    f"the features were made with another {name.partition('_')[0]} encoder than "
                    "that of --parts; make them again, or give the model that they were made with"
                )


def _prompt_encoder(
    recipe: Recipe, part: TextPart, published: Path | None, device: torch.device
) -> PromptEncoder | None:
    """The text encoder, if some stage changes prompts.

    Raises:
        MissingPartError: If it is a published one, and its folder is not there.
    """
    from omni2sound.encoders.registry import load_text

    if not any(stage.makes_prompts for stage in recipe.stages):
        return None
    return load_text(part, device, published=published)
