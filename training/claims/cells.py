"""Trains and measures the cells of the matrix: a recipe, a seed.

In:   the folder of `material`, recipes, a seed.
Out:  FOLDER/cells/RECIPE-SEED.json: losses, digests and what was measured of every test scene.

A cell that has its file is not run again, and neither is a stage that has its weights: recipes that
begin alike share them. A killed stage begins anew, with the same result.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from training.claims.material import PARTS, read_conditions
from training.claims.matrix import (
    DURATION_S,
    GUIDANCE,
    RECIPES,
    SAMPLING_STEPS,
    TRACKS,
    TRAINING,
    Track,
    base,
)

from omni2sound.bench.scoring.options import TAGGERS, ScoringOptions
from omni2sound.bench.scoring.sounds import TaggedSound, iter_features, tag_sounds
from omni2sound.bench.stats.distances import kl_divergences
from omni2sound.bench.systems.folder import check_folder
from omni2sound.bench.systems.model import clip_seed
from omni2sound.bench.systems.system import real_sounds
from omni2sound.bench.tracks.track import Track as SceneTrack
from omni2sound.bench.tracks.track import TrackClip, read_track
from omni2sound.config import digest
from omni2sound.data.store.rows import FeatureStore
from omni2sound.encoders.text import TextEncoder
from omni2sound.files import atomic_path, split_lines, write_json
from omni2sound.generate.pipeline import Omni2SoundPipeline
from omni2sound.media.audio import write_audio
from omni2sound.media.samples import Audio
from omni2sound.models.dit import DiT
from omni2sound.train.loop import TrainOptions, TrainResult, train
from omni2sound.train.recipe import TASKS, Recipe, Stage
from omni2sound.train.session import Components, compose, load_components, model_config
from omni2sound.train.validation import validation_loss
from omni2sound.weights import load_card, part_sha256, resolve_model

_BATCH = 16
PART_OF: Mapping[Track, str] = {
    "T2A": "main",
    "V2A": "main",
    "VT2A": "main",
    "off-screen": "offscreen",
}


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What the cells of one process share."""

    folder: Path

    @cached_property
    def parts(self) -> Components:
        """Autoencoder and encoders."""
        card = load_card(resolve_model(PARTS))
        recipe = base()
        return load_components(card, recipe, model_config(card, recipe))

    @cached_property
    def vae_sha256(self) -> str:
        """Digest of the autoencoder."""
        return part_sha256(self.parts.card, "autoencoder")

    @cached_property
    def prompts(self) -> Any:
        """Encoder of prompts that training changes."""
        return TextEncoder.load()

    @cached_property
    def track(self) -> SceneTrack:
        """The test scenes."""
        return read_track(self.folder / "track")

    def store(self, *names: str) -> FeatureStore:
        """Open features by the names of their folders."""
        folders = [self.folder / "features" / name for name in names]
        return FeatureStore(folders, autoencoder_sha256=self.vae_sha256)

    @property
    def scoring(self) -> ScoringOptions:
        """The bundled taggers, in this process."""
        return ScoringOptions(taggers=TAGGERS, cache_folder=self.folder / "cache")


def run_seed(folder: Path, seed: int, recipes: Sequence[str], *, lock: Path | None = None) -> None:
    """Run the cells of a seed that are missing, one after another.

    Args:
        folder: That of `material`.
        seed: Random seed.
        recipes: Names in `RECIPES`.
        lock: File that is held while a cell runs, for machines that are shared. Default: none.
    """
    bench = Bench(folder=folder)
    for name in recipes:
        path = cell_path(folder, name, seed)
        if not path.is_file():
            with _held(lock):
                begin = time.process_time()
                cell = run_cell(bench, name, RECIPES[name], seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {**cell, "cpu_s": round(time.process_time() - begin, 1)})
            print(f"{name} {seed}: {time.process_time() - begin:.0f} s of CPU", flush=True)


@contextmanager
def _held(lock: Path | None) -> Iterator[None]:
    """Hold a file as `flock` does, and let others have their turn afterwards."""
    if lock is None:
        yield
        return
    import fcntl

    with lock.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    time.sleep(2.0)


def cell_path(folder: Path, name: str, seed: int) -> Path:
    """File of a cell."""
    return folder / "cells" / f"{name}-{seed}.json"


def run_cell(bench: Bench, name: str, stages: Sequence[Stage], seed: int) -> dict[str, Any]:
    """Train the stages of a recipe and measure the result."""
    weights, curve = None, []
    recipes = [stage_recipe(stages, number, seed) for number in range(len(stages))]
    for number in range(len(stages)):
        weights, lines = _trained(bench, recipes[: number + 1], weights)
        curve += lines
    assert weights is not None
    model = DiT(base().dit)
    model.load_state_dict(weights)
    return {
        "recipe": name,
        "seed": seed,
        "recipe_sha256": [digest(recipe)[:16] for recipe in recipes],
        "weights_sha256": _digest_of(weights),
        "steps": sum(stage.steps for stage in stages),
        "curve": curve,
        "validation": _validation(bench, model),
        "tracks": _measured(bench, weights, f"{name}-{seed}", seed),
    }


def stage_recipe(stages: Sequence[Stage], number: int, seed: int) -> Recipe:
    """The run of one stage; each stage has random draws of its own, equal in all recipes."""
    recipe = base()
    return replace(recipe, stages=(stages[number],), seed=100 * seed + number)


def _trained(
    bench: Bench, recipes: Sequence[Recipe], start: Mapping[str, Tensor] | None
) -> tuple[dict[str, Tensor], list[list[float]]]:
    """Averaged weights after the last of these runs, and its curve; read if they are there."""
    recipe = recipes[-1]
    key = hashlib.sha256(" ".join(map(digest, recipes)).encode()).hexdigest()[:16]
    out = bench.folder / "stages" / key
    path = out / "averaged.safetensors"
    if not path.is_file():
        shutil.rmtree(out, ignore_errors=True)
        torch.manual_seed(recipe.seed)
        model = DiT(recipe.dit)
        if start is not None:
            model.load_state_dict(start)
        stage = recipe.stages[0]
        stores = dict.fromkeys([TRAINING, *(source.store for source in stage.data)])
        weights, _ = train(
            model,
            recipe,
            bench.store(*stores),
            None,
            bench.parts.autoencoder,
            TrainOptions(out=out, save_minutes=1e9),
            prompts=bench.prompts if stage.makes_prompts else None,
            vae_sha256=bench.vae_sha256,
        )
        for state in out.glob("step-*"):
            shutil.rmtree(state)
        with atomic_path(path) as temporary:
            save_file(weights, temporary)
    return load_file(path), _curve(out / "log.jsonl")


def _curve(path: Path) -> list[list[float]]:
    """Step and mean loss of each line of a log."""
    lines = [json.loads(line) for line in split_lines(path.read_text(encoding="utf-8"))]
    return [[line["step"], round(line["loss"], 4)] for line in lines if "loss" in line]


def _digest_of(weights: Mapping[str, Tensor]) -> str:
    found = hashlib.sha256()
    for name in sorted(weights):
        found.update(weights[name].numpy().tobytes())
    return found.hexdigest()[:16]


def _validation(bench: Bench, model: DiT) -> dict[str, float]:
    """Loss of held-out features by task, also of tasks that were not trained."""
    recipe = base()
    means = validation_loss(model, bench.store("held"), bench.parts.autoencoder, recipe)
    assert set(means) == set(TASKS)
    return {task: round(loss, 5) for task, loss in means.items()}


def _measured(
    bench: Bench, weights: dict[str, Tensor], name: str, seed: int
) -> dict[str, dict[str, Any]]:
    """Make a sound for each test scene of each track, and measure it by the benchmark's engine."""
    result = TrainResult(
        steps=0,
        finished=True,
        reason="",
        stage_converged={},
        skipped=0,
        parent_sha256=None,
    )
    model = compose(bench.parts, weights, result, bench.store("held"), None)
    pipeline = Omni2SoundPipeline(model, device=torch.device("cpu"), dtype=torch.float32)
    measured: dict[str, dict[str, Any]] = {}
    for track in TRACKS:
        rows = [i for i, c in enumerate(bench.track.clips) if c.part == PART_OF[track]]
        clips = [bench.track.clips[i] for i in rows]
        folder = bench.folder / "sounds" / name / track
        _make_sounds(bench, pipeline, track, rows, clips, folder, seed)
        checked = check_folder(folder, clips)
        assert len(checked.sounds) == len(clips), checked.problems
        pairs = list(zip(clips, checked.sounds, strict=True))
        measured[track] = _numbers(bench, clips, tag_sounds(bench.track, pairs, bench.scoring))
    shutil.rmtree(bench.folder / "sounds" / name)
    return measured


def _make_sounds(
    bench: Bench,
    pipeline: Omni2SoundPipeline,
    track: Track,
    rows: Sequence[int],
    clips: Sequence[TrackClip],
    folder: Path,
    seed: int,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for first in range(0, len(rows), _BATCH):
        shown = read_conditions(bench.folder, list(rows[first : first + _BATCH]))
        if track == "T2A":
            shown = replace(shown, vision_BTV=None, sync_BLS=None)
        elif track == "V2A":
            shown = shown.without_text()
        block = clips[first : first + _BATCH]
        sounds_BN = pipeline.generate_batch(
            shown,
            duration_s=DURATION_S,
            seeds=[clip_seed(seed, clip.clip_id) for clip in block],
            num_steps=SAMPLING_STEPS,
            guidance=GUIDANCE,
        )
        for clip, sound_N in zip(block, sounds_BN.numpy(), strict=True):
            audio = Audio(samples_CN=sound_N[None], sample_rate_hz=16_000)
            write_audio(folder / f"{clip.clip_id}.wav", audio, overwrite=True)


def _numbers(
    bench: Bench, clips: Sequence[TrackClip], tagged: Sequence[TaggedSound]
) -> dict[str, Any]:
    """Lists of one number a clip, in the order of the track."""
    scores = [one.score for one in tagged]
    found: dict[str, Any] = {
        name: [None if s is None else _rounded(getattr(s, name)) for s in scores]
        for name in (
            *("num_true", "num_found", "pairs"),
            *("seen_heard", "seen_heard_2nd", "unseen_heard", "unseen_heard_2nd"),
        )
    }
    real = real_sounds(bench.track)
    pairs = [(clip, real[clip.clip_id]) for clip in clips]
    truth = tag_sounds(bench.track, pairs, bench.scoring)
    for tagger in TAGGERS:
        real_NK, made_NK = (
            [f.logits_K for f in iter_features(some, tagger)] for some in (truth, tagged)
        )
        kl_N = kl_divergences(real_NK, made_NK)
        found[f"kl_{tagger}"] = [round(v, 3) for v in kl_N.tolist()]
    return found


def _rounded(value: float | None) -> float | None:
    return value if value is None else round(value, 3)
