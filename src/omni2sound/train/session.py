"""Training runs from Python, as `omni2sound train` does them.

In:   a `RunRequest`: a recipe, folders of features, an output folder, limits.
Out:  checkpoints and a log in that folder, and `model/` (or `adapter/`), ready to generate.

Example:
    request = RunRequest(recipe=tiny(), data=(Path("features"),), out=Path("runs/tiny"))
    model = load_model(train_recipe(request).written)

Under `torchrun` every rank calls `train_recipe` with the same request; the first one writes.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from omni2sound.config import checked_number, digest, from_json, to_json
from omni2sound.data.store.rows import FeatureStore
from omni2sound.diffusion.settings import SamplerConfig
from omni2sound.encoders.sync import SyncConfig, SyncEncoder
from omni2sound.errors import ConfigError, UserError
from omni2sound.files import as_path, write_json
from omni2sound.generate.model import Model, PipelineConfig
from omni2sound.generate.request import Defaults
from omni2sound.models.autoencoder import AudioVAE, MelPcaAutoencoder
from omni2sound.models.band import BandExtension
from omni2sound.models.dit import DiT
from omni2sound.models.lora import LoraConfig, adapter_of, add_lora, save_adapter
from omni2sound.models.registry import build_autoencoder
from omni2sound.models.transfer import transfer_weights
from omni2sound.readers import read_object, real_path
from omni2sound.runtime import resolve_device
from omni2sound.scenes.material.licences import merge_attribution
from omni2sound.staging import alone_in
from omni2sound.timebase import TimeBase
from omni2sound.train.log import OnLog
from omni2sound.train.loop import INTERRUPTED, TrainOptions, TrainResult, train
from omni2sound.train.parallel import World, joined_world
from omni2sound.train.recipe import Recipe
from omni2sound.train.state import ALLOWED, latest_state
from omni2sound.weights import (
    ModelCard,
    check_component,
    load_card,
    load_part,
    part_sha256,
    resolve_model,
)

_log = logging.getLogger(__name__)
RUN_FILE = "run.json"
"""Where a run's components and features are; in its folder."""
_SHARED_COMPONENTS = ("autoencoder", "sync", "text", "vision", "band")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRequest:
    """A training run: recipe, features and limits.

    Attributes:
        recipe: The run; its `dit.latent_dim` is replaced by that of the autoencoder.
        data: Folders or URLs of features, all made with the encoders of `parts`.
        out: Folder of the run.
        validation: Folder of features to measure convergence on; None: no stage is extended.
        parts: Model (name, folder or pinned Hub id) whose autoencoder and encoders are used.
        encoders: Folder of published encoders; None: in the cache. Only needed by stages that
            change prompts of a full-size model.
        init_from: Model whose transformer the run starts from; None: random weights.
        lora: Train an adapter of this rank on the model of `init_from`; None: all weights.
        max_steps: Stop once this many steps are done in all.
        max_minutes: Stop after this long.
        resume: Continue the run in `out`.
        device: "auto", "cpu", "cuda" or "mps".
        save_every: Steps between checkpoints; None: four minutes.
        keep_every: Checkpoints of multiples of this many steps stay; None: the two newest.
        allow_change: What a resumed run may change, keys of `train.state.ALLOWED`.

    Raises:
        UserError: If a value has the wrong type or is out of range, or two exclude each other.
    """

    recipe: Recipe
    data: Sequence[Path | str]
    out: Path
    validation: Path | None = None
    parts: str | Path = "embedded"
    encoders: Path | None = None
    init_from: str | Path | None = None
    lora: int | None = None
    max_steps: int | None = None
    max_minutes: float | None = None
    resume: bool = False
    device: str = "auto"
    save_every: int | None = None
    keep_every: int | None = None
    allow_change: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, kind, expected in (
            ("recipe", Recipe, "a recipe"),
            ("data", list | tuple, "a list of folders"),
            ("resume", bool, "True or False"),
            ("device", str, "a text"),
        ):
            if not isinstance(value := getattr(self, name), kind):
                raise UserError(f"expected {expected}, got {repr(value)[:80]}", field=name)
        if not self.data:
            raise UserError("is empty; give at least one folder of features", field="data")
        data = tuple(
            folder if isinstance(folder, str) and "://" in folder else as_path(folder, "data")
            for folder in self.data
        )
        object.__setattr__(self, "data", data)
        for name in ("out", "validation", "parts", "encoders", "init_from"):
            if (value := getattr(self, name)) is not None or name in ("out", "parts"):
                path = as_path(value, name)
                if name not in ("parts", "init_from"):  # those may be names
                    object.__setattr__(self, name, path)
        counts = ("lora", "max_steps", "save_every", "keep_every")
        for name, whole in (*((name, True) for name in counts), ("max_minutes", False)):
            if (value := getattr(self, name)) is not None:
                least = 1 if whole else math.ulp(0.0)
                value = checked_number(value, name, whole=whole, least=least)
                object.__setattr__(self, name, value)
        if unknown := sorted(set(self.allow_change) - set(ALLOWED)):
            raise UserError(
                f"expected some of {', '.join(ALLOWED)}, got {unknown[0]!r}", field="allow_change"
            )
        if self.lora and not (self.init_from or self.resume):
            raise UserError(
                "an adapter is trained on an existing model; name it with `init_from`", field="lora"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedRun:
    """Result of a run.

    Attributes:
        written: Folder of the model or adapter; None on other ranks than the first.
        result: Steps, convergence, and why the run stopped.
    """

    written: Path | None
    result: TrainResult


@dataclass(kw_only=True, slots=True, eq=False)
class Components:
    """Components of the model beside the trained transformer."""

    card: ModelCard
    recipe: Recipe
    config: PipelineConfig
    autoencoder: AudioVAE
    sync: SyncEncoder | None
    band: BandExtension | None = None
    parent: ModelCard | None = None


def train_recipe(
    request: RunRequest,
    *,
    on_step: Callable[[int, int], None] | None = None,
    on_log: OnLog | None = None,
) -> TrainedRun:
    """Run or resume a recipe, and save the model.

    Args:
        request: Recipe, features and limits.
        on_step: Called with (steps done, steps in all).
        on_log: Called on the first rank with (step, numbers) of each line of the log.

    Returns:
        The folder of the model or adapter, and how the run ended.

    Raises:
        ConfigError: If features, components, checkpoint and recipe do not fit together.
        MissingPartError: If a model or an encoder is missing.
        UserError: If another process is training in the same folder.
        KeyboardInterrupt: After Ctrl-C or SIGTERM; checkpoint and model are saved before.
    """
    card = _card_of_components(request)
    recipe = _with_latents_of(card, request.recipe)
    vae_sha256 = part_sha256(card, "autoencoder")
    store = FeatureStore(list(request.data), autoencoder_sha256=vae_sha256)
    held_out = None
    if request.validation is not None:
        held_out = FeatureStore([request.validation], autoencoder_sha256=vae_sha256)
    # Before hours of training: components that do not fit together are refused here.
    config = model_config(card, recipe)
    descriptions = [*store.description, *(held_out.description if held_out else [])]
    _check_features(descriptions, config, part_sha256(card, "sync"))
    parts = load_components(card, recipe, config)
    torch.manual_seed(recipe.seed)  # for the initial weights; nothing else draws from it
    model = DiT(recipe.dit)
    if request.init_from is not None:
        parts.parent = load_card(resolve_model(request.init_from))
        _start_from(parts.parent, model, parts)
    if request.lora is not None:
        # Muon is for whole matrices; these are thin ones.
        parts.recipe = recipe = replace(recipe, optimizer="adamw")
        add_lora(model, LoraConfig(rank=request.lora), seed=recipe.seed)
    with joined_world(resolve_device(request.device)) as (world, device), _alone(request, world):
        if world.is_first:
            _write_origin(request)
        if held_out is None:
            _log.warning(
                "no validation features: convergence is not measured, and no stage is extended"
            )
        weights, result = train(
            model,
            recipe,
            store,
            held_out,
            parts.autoencoder.to(device),
            _options(request, device),
            prompts=(
                config.text.spec.load(device, published=request.encoders)
                if any(stage.makes_prompts for stage in recipe.stages)
                else None
            ),
            world=world,
            parent_sha256=None if parts.parent is None else parts.parent.sha256,
            vae_sha256=vae_sha256,
            on_step=on_step,
            on_log=on_log,
        )
    _log.info("stopped at step %d: %s", result.steps, result.reason)
    written = None
    if world.is_first and request.lora is not None:
        written = request.out / "adapter"
        lora = LoraConfig(rank=request.lora)
        save_adapter(written, adapter_of(weights, lora, model_sha256=result.parent_sha256 or ""))
    elif world.is_first:
        written = request.out / "model"
        compose(parts, weights, result, store, held_out).save(written)
    if result.reason == INTERRUPTED:
        raise KeyboardInterrupt
    return TrainedRun(written=written, result=result)


def _options(request: RunRequest, device: torch.device) -> TrainOptions:
    return TrainOptions(
        out=request.out,
        max_steps=request.max_steps,
        max_minutes=request.max_minutes,
        save_steps=request.save_every,
        keep_every=request.keep_every,
        allow=request.allow_change,
        resume=request.resume,
        device=str(device),
        num_readers=4 if device.type == "cuda" else 0,
    )


def _write_origin(request: RunRequest) -> None:
    """Write what `train.export` needs beside a checkpoint; what a run began with stays."""
    path = request.out / RUN_FILE
    began = read_object(path) if request.resume and path.is_file() else {}

    def where(value: Path | str) -> str:
        path = Path(value)
        return str(real_path(path)) if path.exists() else str(value)

    given = None if request.init_from is None else where(request.init_from)
    origin = {
        "parts": where(request.parts),
        "data": [where(folder) for folder in request.data],
        "validation": None if request.validation is None else where(request.validation),
        "init_from": given or began.get("init_from"),
        "lora": request.lora,
    }
    write_json(path, origin)


@contextmanager
def _alone(request: RunRequest, world: World) -> Iterator[None]:
    """Keep other runs out of a run's folder.

    Raises:
        UserError: Another process is training in it.
    """
    if not world.is_first:
        yield
        return
    request.out.mkdir(parents=True, exist_ok=True)
    with alone_in(request.out):
        yield


def _card_of_components(request: RunRequest) -> ModelCard:
    """Read the card of `parts`; a run that is in the way is refused before.

    Raises:
        ConfigError: `out` holds a run and `resume` is off.
        UserError: `parts` has no autoencoder.
    """
    if not request.resume and (found := latest_state(request.out)) is not None:
        raise ConfigError(
            f"{request.out} holds a run ({found.name}); set `resume`, or give another folder",
            field="out",
        )
    card = load_card(resolve_model(request.parts, component="autoencoder"))
    check_component(card, "autoencoder", field="parts", purpose="has no latents to train on")
    return card


def _with_latents_of(card: ModelCard, recipe: Recipe) -> Recipe:
    latent_dim = card.parts["autoencoder"]["latent_dim"]
    if recipe.dit.latent_dim == latent_dim:
        return recipe
    _log.info("latents have %d channels, as those of %s", latent_dim, card.name)
    return replace(recipe, dit=replace(recipe.dit, latent_dim=latent_dim))


def model_config(card: ModelCard, recipe: Recipe) -> PipelineConfig:
    """Settings of the model to be made.

    Raises:
        ConfigError: If the recipe does not fit the components.
    """
    if recipe.sampling is not None:
        sampler = replace(recipe.sampling.sampler, bound=recipe.latent_bound)
    else:
        solver: Literal["dpmpp-2m", "euler"]
        solver = "dpmpp-2m" if recipe.objective.kind == "v" else "euler"
        sampler = SamplerConfig(kind=solver, bound=recipe.latent_bound)
    own = {
        "timebase": TimeBase(),
        "dit": recipe.dit,
        "objective": recipe.objective,
        "sampler": sampler,
    }
    return from_json(
        PipelineConfig,
        {
            **{name: card.parts[name] for name in _SHARED_COMPONENTS if name in card.parts},
            **{name: to_json(value) for name, value in own.items()},
        },
        where=f"parts of {card.name}",
    )


def load_components(card: ModelCard, recipe: Recipe, config: PipelineConfig) -> Components:
    """Load the components beside the transformer."""
    autoencoder = build_autoencoder(config.autoencoder)
    load_part(card, "autoencoder", autoencoder)
    sync = None
    if isinstance(config.sync, SyncConfig):
        sync = SyncEncoder(config.sync)
        load_part(card, "sync", sync)
    band = None
    if config.band is not None:
        band = BandExtension(config.band)
        load_part(card, "band", band)
    return Components(
        card=card, recipe=recipe, config=config, autoencoder=autoencoder, sync=sync, band=band
    )


def _start_from(parent: ModelCard, model: DiT, run: Components) -> None:
    """Give the transformer the weights of another model, mapped if the latents differ.

    Raises:
        ConfigError: If the weights do not fit, or the latents differ and can't be mapped.
    """
    config = from_json(PipelineConfig, parent.parts, where=f"parts of {parent.name}").autoencoder
    new, sha256s = run.autoencoder, {part_sha256(c, "autoencoder") for c in (parent, run.card)}
    if len(sha256s) == 1 and config == run.config.autoencoder:
        load_part(parent, "dit", model)
        return
    old = build_autoencoder(config)
    if not (isinstance(old, MelPcaAutoencoder) and isinstance(new, MelPcaAutoencoder)):
        raise ConfigError(
            f"{parent.name} was trained on the latents of another autoencoder than that of "
            "`parts`, and only those of two mel-pca ones can be mapped; give it as `parts` too, "
            "and features made with it",
            field="init_from",
        )
    load_part(parent, "autoencoder", old)
    if all(torch.equal(getattr(old, n), getattr(new, n)) for n in ("basis_CK", "scale_C")):
        load_part(parent, "dit", model)  # only the decoders differ
        return
    _log.info("mapping weights of %s to the latents of this run's autoencoder", parent.name)
    source = DiT(replace(model.config, latent_dim=old.latent_dim))
    load_part(parent, "dit", source)
    model.load_state_dict(transfer_weights(source.state_dict(), old, new))


def _check_features(descriptions: Sequence[Any], config: PipelineConfig, sync_sha256: str) -> None:
    """Refuse features of other encoders than the model's.

    Raises:
        ConfigError: If an encoder differs.
    """
    wanted = {
        "text": config.text.encoder,
        "vision": config.vision.encoder,
        "sync": getattr(config.sync, "kind", None),
        "sync_sha256": sync_sha256 or None,
    }
    for description in descriptions:
        for name, value in wanted.items():
            # A store that does not name an encoder has no such features, or predates the name.
            if description.get(name) not in (None, value):
                raise ConfigError(
                    f"the features were made with another {name.partition('_')[0]} encoder than "
                    "that of `parts`; make them again, or give the model that they were made with"
                )


def _habits(
    defaults: Mapping[str, Any], descriptions: Sequence[Mapping[str, Any]]
) -> dict[str, bool]:
    """Defaults of the parts' model that hold for another transformer, too.

    What is recognised is said in words of the scene catalogue: those of another corpus are unknown.
    """
    of_scenes = all("catalogue_sha256" in described for described in descriptions)
    return {
        "recognise": of_scenes and bool(defaults.get("recognise", False)),
        "stereo": bool(defaults.get("stereo", False)),
    }


def defaults_of(recipe: Recipe, longest_s: float) -> Defaults:
    """Settings of the model's requests, for training clips of up to `longest_s`."""
    asked = recipe.sampling
    if asked is None:
        return Defaults(max_duration_s=longest_s, duration_s=min(8.0, longest_s))
    return Defaults(
        steps=asked.steps,
        guidance=asked.guidance,
        duration_s=min(asked.duration_s, longest_s),
        max_duration_s=longest_s,
    )


def compose(
    parts: Components,
    weights: dict[str, Tensor],
    result: TrainResult,
    store: FeatureStore,
    held_out: FeatureStore | None,
) -> Model:
    """The trained model, with the card's record of how it was made."""
    recipe = parts.recipe
    training = {
        "recipe": to_json(recipe, with_runtime=False),  # exactly what the digest names
        "recipe_sha256": digest(recipe),
        "data": store.description,
        "validation": (held_out and held_out.description) or "no validation features",
        "steps": result.steps,
        "finished": result.finished,
        "stage_converged": result.stage_converged,
        "skipped": result.skipped,
        "parent_sha256": result.parent_sha256,
        **({"changes": list(result.changes)} if result.changes else {}),
        **({"spikes": list(result.spikes)} if result.spikes else {}),
    }
    dit = DiT(recipe.dit)
    dit.load_state_dict(weights)
    longest_s = float(store.durations_s.max())
    habits = _habits(parts.card.defaults, store.description)
    parents = [] if parts.parent is None else [parts.parent.attribution]
    return Model(
        config=parts.config,
        dit=dit,
        autoencoder=parts.autoencoder,
        sync=parts.sync,
        band=parts.band,
        name=recipe.name,
        defaults=replace(defaults_of(recipe, longest_s), **habits),
        training={**parts.card.training, "dit": training},
        attribution=merge_attribution([parts.card.attribution, *parents, *store.attribution]),
    )
