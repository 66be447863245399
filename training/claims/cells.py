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
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from training.claims.material import PARTS, read_conditions
from training.claims.matrix import (
    DURATION_S,
    GUIDANCE,
    NUM_DRAWS,
    NUM_SOUNDS,
    RECIPES,
    SAMPLING_STEPS,
    TRACKS,
    TRAINING,
    Track,
    base,
    read_cell,
    recipe_digests,
    stage_recipe,
)

from omni2sound.bench.metrics.onset import ONSET_TOLERANCE_S
from omni2sound.bench.metrics.onsets import Onsets, count_pairs
from omni2sound.bench.scoring.options import TAGGERS, ScoringOptions
from omni2sound.bench.scoring.sounds import iter_features, tag_sounds
from omni2sound.bench.stats.distances import kl_divergences
from omni2sound.bench.systems.folder import check_folder
from omni2sound.bench.systems.model import clip_seed
from omni2sound.bench.systems.system import real_sounds
from omni2sound.bench.tracks.scenes import read_truth
from omni2sound.bench.tracks.track import Track as SceneTrack
from omni2sound.bench.tracks.track import read_track
from omni2sound.config import digest
from omni2sound.data.batches.batch import Batch
from omni2sound.data.store.rows import FeatureStore
from omni2sound.encoders.text import TextEncoder
from omni2sound.errors import UserError
from omni2sound.files import atomic_path, split_lines, write_json
from omni2sound.generate.torch_pipeline import TorchPipeline
from omni2sound.media.audio import read_audio, write_audio
from omni2sound.media.samples import Audio
from omni2sound.models.conditioning import Conditions
from omni2sound.models.dit import DiT
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ
from omni2sound.train.loop import TrainOptions, TrainResult, train
from omni2sound.train.recipe import Recipe, Stage
from omni2sound.train.session import Components, compose, load_components, model_config
from omni2sound.train.step import batch_loss
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


def run_seed(
    bench: Bench,
    seed: int,
    recipes: Sequence[str],
    *,
    kept: Collection[tuple[str, int]] = (),
    train_only: bool = False,
) -> None:
    """Run the cells of a seed that are missing, one after another.

    Args:
        bench: What the cells share.
        seed: Random seed.
        recipes: Names in `RECIPES`.
        kept: Recipes and seeds whose cells are kept elsewhere, which are left out.
        train_only: Train, and leave the measurements to a later call.
    """
    for name in (x for x in recipes if (x, seed) not in kept):
        path = cell_path(bench.folder, name, seed)
        if path.is_file():
            read_cell(path)  # refuses one of another matrix
            continue
        begin = time.process_time()
        cell, weights = train_cell(bench, name, RECIPES[name], seed)
        if not train_only:
            cell["tracks"] = _measured(bench, weights, f"{name}-{seed}", seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, cell)
        print(f"{name} {seed}: {time.process_time() - begin:.0f} s of CPU", flush=True)


def cell_path(folder: Path, name: str, seed: int) -> Path:
    """File of a cell."""
    return folder / "cells" / f"{name}-{seed}.json"


def train_cell(
    bench: Bench, name: str, stages: Sequence[Stage], seed: int
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Train the stages of a recipe; return what is kept of the run, and its averaged weights."""
    weights, curve = None, []
    recipes = [stage_recipe(stages, number, seed) for number in range(len(stages))]
    for number in range(len(stages)):
        weights, lines = _trained(bench, recipes[: number + 1], weights)
        curve += lines
    assert weights is not None
    kept = {
        "recipe": name,
        "seed": seed,
        "recipe_sha256": recipe_digests(name, seed),
        "weights_sha256": _digest_of(weights),
        "steps": sum(stage.steps for stage in stages),
        "curve": curve,
    }
    return kept, weights


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
        weights, result = train(
            model,
            recipe,
            bench.store(*stores),
            None,
            bench.parts.autoencoder,
            TrainOptions(out=out, save_minutes=1e9),
            prompts=bench.prompts if stage.makes_prompts else None,
            vae_sha256=bench.vae_sha256,
        )
        if not result.finished:  # stopped by a signal: its weights are no stage's
            raise UserError(f"{out.name}: {result.reason}; run the same command again")
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


def _measured(
    bench: Bench, weights: dict[str, Tensor], name: str, seed: int
) -> dict[str, dict[str, list[float]]]:
    """Measure every track: lists of one number a scene, in the order of the track."""
    result = TrainResult(
        steps=0,
        finished=True,
        reason="",
        stage_converged={},
        skipped=0,
        parent_sha256=None,
    )
    model = compose(bench.parts, weights, result, bench.store("held"), None)
    pipeline = TorchPipeline(model, device=torch.device("cpu"), dtype=torch.float32)
    measured = {}
    for track in TRACKS:
        rows = [i for i, c in enumerate(bench.track.clips) if c.part == PART_OF[track]]
        losses = _losses(bench, pipeline.model.dit, track, rows)
        rows = rows[:NUM_SOUNDS]
        folder = bench.folder / "sounds" / name / track
        _make_sounds(bench, pipeline, track, rows, folder, seed)
        measured[track] = {"loss": losses, **_scores(bench, rows, folder)}
    shutil.rmtree(bench.folder / "sounds" / name)
    return measured


def _shown(bench: Bench, track: Track, rows: list[int]) -> Conditions:
    """What a model is shown of some scenes."""
    shown = read_conditions(bench.folder, rows)
    if track == "T2A":
        return replace(shown, vision_BTV=None, sync_BLS=None)
    return shown.without_text() if track == "V2A" else shown


@torch.no_grad()
def _losses(bench: Bench, model: DiT, track: Track, rows: Sequence[int]) -> list[float]:
    """Training loss of each scene, mean over noise draws that are the same for all cells."""
    total = torch.zeros(len(rows))
    model.eval()
    for first in range(0, len(rows), _BATCH):
        some = list(rows[first : first + _BATCH])
        clips = [bench.track.clips[i] for i in some]
        sounds = [read_audio(bench.track.path(c.audio), mono=True).samples_CN[0] for c in clips]
        for draw in range(NUM_DRAWS):
            batch = Batch(
                task="VT2A" if track == "off-screen" else track,
                duration_s=DURATION_S,
                waveform_BN=torch.from_numpy(np.stack(sounds)),
                latents=(None,) * len(clips),
                conditions=_shown(bench, track, some),
                valid_frames_B=None,
                drop_B=torch.zeros(len(clips), dtype=torch.bool),
                noise_seeds_B=tuple(clip_seed(draw, c.clip_id) for c in clips),
                clip_ids=tuple(c.clip_id for c in clips),
                texts=(),
                mixes=(),
                dropped_tokens=(),
            )
            loss_B, _ = batch_loss(
                model, batch, bench.parts.autoencoder, base(), torch.device("cpu")
            )
            total[first : first + len(some)] += loss_B / NUM_DRAWS
    return [round(loss, 5) for loss in total.tolist()]


def _make_sounds(
    bench: Bench,
    pipeline: TorchPipeline,
    track: Track,
    rows: list[int],
    folder: Path,
    seed: int,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    clips = [bench.track.clips[i] for i in rows]
    sounds_BN = pipeline.generate_batch(
        _shown(bench, track, rows),
        duration_s=DURATION_S,
        seeds=[clip_seed(seed, clip.clip_id) for clip in clips],
        num_steps=SAMPLING_STEPS,
        guidance=GUIDANCE,
    )
    for clip, sound_N in zip(clips, sounds_BN.numpy(), strict=True):
        audio = Audio(samples_CN=sound_N[None], sample_rate_hz=SAMPLE_RATE_HZ)
        write_audio(folder / f"{clip.clip_id}.wav", audio, overwrite=True)


def _scores(bench: Bench, rows: Sequence[int], folder: Path) -> dict[str, list[float]]:
    """KL by tagger and the counts of onset F1, by the benchmark's engine."""
    clips = [bench.track.clips[i] for i in rows]
    checked = check_folder(folder, clips)
    assert len(checked.sounds) == len(clips), checked.problems
    found: dict[str, list[float]] = {"num_true": [], "num_found": [], "pairs": []}
    for clip, sound in zip(clips, checked.sounds, strict=True):
        assert clip.truth is not None
        _, events = read_truth(bench.track.path(clip.truth))
        true_s = sorted(t for e in events for t in (e.onset_s, *e.hits_s))
        made_N = read_audio(sound.path, sample_rate_hz=SAMPLE_RATE_HZ, mono=True).samples_CN[0]
        found_s = Onsets(made_N, SAMPLE_RATE_HZ).times_s
        found["num_true"].append(len(true_s))
        found["num_found"].append(len(found_s))
        found["pairs"].append(count_pairs(found_s, true_s, tolerance_s=ONSET_TOLERANCE_S))
    real = real_sounds(bench.track)
    truth, made = (
        tag_sounds(
            bench.track, list(zip(clips, sounds, strict=True)), bench.scoring, with_scores=False
        )
        for sounds in ([real[c.clip_id] for c in clips], checked.sounds)
    )
    for tagger in TAGGERS:
        real_NK, made_NK = ([f.logits_K for f in iter_features(x, tagger)] for x in (truth, made))
        kl_N = kl_divergences(real_NK, made_NK)
        found[f"kl_{tagger}"] = [round(v, 3) for v in kl_N.tolist()]
    return found
