"""A model from a checkpoint, while its run goes on or after it.

In:   the folder of a run, the step of one of its checkpoints.
Out:  a model folder (or an adapter), as the run itself writes it at its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omni2sound.config import from_json
from omni2sound.data.store.rows import FeatureStore
from omni2sound.errors import ConfigError, MissingPartError
from omni2sound.models.lora import LoraConfig, adapter_of, save_adapter
from omni2sound.readers import read_object
from omni2sound.train.loop import TrainResult
from omni2sound.train.progress import Progress
from omni2sound.train.recipe import Recipe
from omni2sound.train.session import RUN_FILE, compose, load_components, model_config
from omni2sound.train.state import checkpoints, read_average
from omni2sound.weights import load_card, part_sha256, resolve_model


@dataclass(frozen=True, kw_only=True, slots=True)
class _Origin:
    """Content of a run's `run.json`."""

    parts: str
    data: tuple[str, ...]
    validation: str | None = None
    init_from: str | None = None
    lora: int | None = None


def export_checkpoint(run: Path, out: Path, *, step: int | None = None) -> Path:
    """Write the EMA weights of a checkpoint as a model.

    Args:
        run: Folder of the run.
        out: Model folder to write.
        step: Step of the checkpoint. Default: the newest.

    Raises:
        MissingPartError: If there is no such checkpoint.
        ConfigError: If `out` exists, or the run's components are no longer those it trained with.
        IntegrityError: If the checkpoint is not what was saved.
    """
    found = checkpoints(run)
    steps = [int(folder.name.removeprefix("step-")) for folder in found]
    if not found or (step is not None and step not in steps):
        known = ", ".join(map(str, steps)) or "none"
        raise MissingPartError(f"{run} has no checkpoint of step {step}; it has: {known}")
    if out.exists():
        raise ConfigError(f"{out} exists already; choose another folder", field="out")
    origin = from_json(_Origin, read_object(run / RUN_FILE), where=str(run / RUN_FILE))
    folder = found[-1] if step is None else found[steps.index(step)]
    description, weights = read_average(folder)
    identity = description["identity"]
    recipe = from_json(Recipe, identity["recipe"], where=f"{folder}: recipe")
    saved = {name: v for name, v in description["progress"].items() if name != "bins"}
    progress = Progress.from_json(recipe, {**saved, "step": description["step"]})
    result = TrainResult.of(progress, "exported")
    if origin.lora is not None:
        lora = LoraConfig(rank=origin.lora)
        save_adapter(out, adapter_of(weights, lora, model_sha256=result.parent_sha256 or ""))
        return out
    card = load_card(resolve_model(origin.parts, component="autoencoder"))
    vae_sha256 = part_sha256(card, "autoencoder")
    if vae_sha256 != identity["vae_sha256"]:
        raise ConfigError(f"{origin.parts} has another autoencoder than the run trained with")
    parts = load_components(card, recipe, model_config(card, recipe))
    if origin.init_from is not None:
        parts.parent = load_card(resolve_model(origin.init_from))
    store = FeatureStore(list(origin.data), autoencoder_sha256=vae_sha256)
    held_out = None
    if origin.validation is not None:
        held_out = FeatureStore([origin.validation], autoencoder_sha256=vae_sha256)
    compose(parts, weights, result, store, held_out).save(out)
    return out
