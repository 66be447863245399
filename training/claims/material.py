"""What all runs share, made once: features, copies with other captions, the test scenes.

In:   the scene corpus, a folder.
Out:  FOLDER/features (stores "train", "held", "by-ear", "wrong"), FOLDER/track (scenes with their
      truth), FOLDER/conditions.safetensors (what a model is shown of each test scene).

Nothing is made twice: each part is whole once its name is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from training.claims.matrix import (
    BY_EAR,
    CLASSES,
    DURATION_S,
    NUM_CLIPS,
    SCENES,
    TRAINING,
    WRONG,
)

from omni2sound.bench.tracks.scene_clips import draw_clips
from omni2sound.bench.tracks.scenes import TrackPlan, build_scene_track
from omni2sound.bench.tracks.track import Track
from omni2sound.data.store.builder import build_store
from omni2sound.data.store.encode import EncoderSource
from omni2sound.data.store.rows import ClipFeatures, FeatureStore, TextFeatures
from omni2sound.data.store.stored import StoredClip
from omni2sound.files import atomic_path, write_text
from omni2sound.generate.torch_pipeline import TorchPipeline
from omni2sound.models.conditioning import Conditions
from omni2sound.scenes.export.features import ScenePlan, build_features
from omni2sound.scenes.material.assets import STORE_CATALOGUE, SceneAssets
from omni2sound.weights import resolve_model

PARTS = "embedded"
SEED_OF = {"train": 5, "held": 7, "track": 11}
_BATCH = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class _Copy:
    """The one shard of a store with other captions."""

    name: str
    source: Path
    captions: str


def make_material(folder: Path, corpus: Path) -> None:
    """Make everything that is missing in `folder`."""
    for store, split in (("held", "test"), (TRAINING, "train")):
        build_features(
            folder / "features" / store,
            assets=corpus,
            encoders=EncoderSource(model=resolve_model(PARTS)),
            split=split,  # type: ignore[arg-type]
            seed=SEED_OF[store],
            plans=[
                ScenePlan(kind=kind, count=count, duration_s=DURATION_S)  # type: ignore[arg-type]
                for kind, count in SCENES[store]
            ],
            latents=True,
            classes=CLASSES,
        )
    for captions in (BY_EAR, WRONG):
        copy_with_captions(folder / "features" / TRAINING, folder / "features" / captions, captions)
    track = make_track(folder, corpus)
    path = folder / "conditions.safetensors"
    if not path.is_file():
        conditions = _conditions(SceneAssets.open(corpus).of_classes(CLASSES), track)
        with atomic_path(path) as temporary:
            save_file(conditions, temporary)


def copy_with_captions(source: Path, out: Path, captions: str) -> None:
    """Copy the clips with pictures, with captions by ear or those of another clip.

    Args:
        source: A feature store.
        out: The new store.
        captions: `BY_EAR`, or `WRONG`: of a clip in which none of the classes is heard.
    """
    build_store(
        out,
        description={"copy_of": FeatureStore([source]).sha256, "captions": captions},
        jobs=[_Copy(name="copies", source=source, captions=captions)],
        make=_copies,
    )


def _copies(job: _Copy) -> Iterator[ClipFeatures]:
    store = FeatureStore([job.source])
    clips = [store.row(int(i)) for i in np.flatnonzero(store.has_video)]
    others = other_clips([frozenset(c.classes) for c in clips])
    for clip, other in zip(clips, others, strict=True):
        if job.captions == WRONG:
            texts = _texts(clips[other], "caption")
        else:
            texts = _texts(clip, "audio-only")
        yield ClipFeatures(
            clip_id=clip.clip_id,
            duration_s=clip.duration_s,
            sound_N=clip.sound_N,
            texts=texts,
            vision_TV=clip.vision_TV,
            sync_LS=clip.sync_LS,
            classes=clip.classes,
            latents_LC=clip.latents_LC,
            pictured=clip.pictured,
        )


def other_clips(classes: list[frozenset[str]]) -> list[int]:
    """For each clip the next one, cyclically, that shares no class with it."""
    count = len(classes)
    found = []
    for i in range(count):
        later = ((i + k) % count for k in range(1, count))
        found.append(next(j for j in later if not classes[i] & classes[j]))
    return found


def _texts(clip: StoredClip, role: str) -> tuple[TextFeatures, ...]:
    return tuple(
        TextFeatures(role="caption", text=t.text, states_TE=t.states_TE, token_ids_T=t.token_ids_T)
        for t in clip.texts
        if t.role == role
    )


def make_track(folder: Path, corpus: Path) -> Track:
    """Make the test scenes, of the classes of the matrix."""
    chosen = folder / "corpus"
    if not (chosen / STORE_CATALOGUE).is_file():
        chosen.mkdir(parents=True, exist_ok=True)
        for name in ("recordings", "pictures"):
            (chosen / name).unlink(missing_ok=True)
            (chosen / name).symlink_to((corpus / name).resolve())
        catalogue = SceneAssets.open(corpus).of_classes(CLASSES).catalogue
        write_text(chosen / STORE_CATALOGUE, catalogue.to_json())
    plan = TrackPlan(num_clips=NUM_CLIPS, seed=SEED_OF["track"], duration_s=DURATION_S)
    return build_scene_track(chosen, folder / "track", plan)


def _conditions(assets: SceneAssets, track: Track) -> dict[str, Tensor]:
    """Encode pictures and captions of the test scenes, in the order of the track."""
    pipeline = TorchPipeline.load(PARTS, device="cpu", dtype="float32")
    config = pipeline.model.config
    parts: dict[str, list[Tensor]] = {}
    for first in range(0, len(track.clips), _BATCH):
        block = track.clips[first : first + _BATCH]
        vision, sync = [], []
        for clip in block:
            (scene,) = draw_clips(
                assets,
                clip.part,
                split="test",
                seed=SEED_OF["track"],
                num_clips=1,
                duration_s=DURATION_S,
                first=clip.origin["index"],
            )
            assert scene.caption == clip.caption
            vision.append(scene.frames(config.timebase.vision_fps, 224))
            sync.append(scene.frames(config.timebase.sync_fps, config.sync.frame_px))  # type: ignore[union-attr]
        encoded = pipeline.encoder.encode_arrays(
            np.stack(vision), np.stack(sync), [c.caption for c in block], duration_s=DURATION_S
        )
        for name in ("text_BTE", "text_mask_BT", "vision_BTV", "sync_BLS"):
            rows = getattr(encoded, name)
            parts.setdefault(name, []).extend(rows)
    longest = max(len(t) for t in parts["text_BTE"])
    for name in ("text_BTE", "text_mask_BT"):
        parts[name] = [_padded(t, longest) for t in parts[name]]
    return {name: torch.stack(rows).contiguous() for name, rows in parts.items()}


def _padded(rows: Tensor, length: int) -> Tensor:
    missing = torch.zeros(length - len(rows), *rows.shape[1:], dtype=rows.dtype)
    return torch.cat([rows, missing])


def read_conditions(folder: Path, rows: list[int]) -> Conditions:
    """Read what is shown of some test scenes: caption and pictures."""
    tensors = {k: v[rows] for k, v in load_file(folder / "conditions.safetensors").items()}
    seconds_B = torch.full((len(rows),), DURATION_S)
    return Conditions(
        seconds_start_B=torch.zeros_like(seconds_B), seconds_total_B=seconds_B, **tensors
    )
