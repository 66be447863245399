"""Recorded values: digests and draws that no refactoring may change.

A model, recipe, track, scene or feature store is named by its digest in files that users keep.
A value here changes only with a deliberate new version (`RENDER_VERSION`, a protocol, a model),
and then together with that version.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.robustness.click_corpus import click_store
from omni2sound.bench.tracks.scenes import TrackPlan, build_scene_track
from omni2sound.config import digest, to_json
from omni2sound.data.batches.batch import build_batch, sampler_for
from omni2sound.data.batches.hard_samples import Difficulty
from omni2sound.data.batches.on_device import DeviceFeatures
from omni2sound.data.store.encode import EncoderSource
from omni2sound.data.store.rows import FeatureStore
from omni2sound.encoders.sync import SyncConfig, SyncEncoder
from omni2sound.encoders.text import TextEncoder
from omni2sound.recipes import RECIPES, recipe_named
from omni2sound.recipes.ablations import ABLATIONS
from omni2sound.scenes.draw import draw_scene
from omni2sound.scenes.export.features import ScenePlan, build_features
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.material.catalogue import Catalogue
from omni2sound.scenes.render.render import render_frames, render_sound
from omni2sound.scenes.scene import RENDER_VERSION
from omni2sound.weights import load_card, resolve_model, save_model
from tests.bench.conftest import (
    store,  # noqa: F401 (a fixture)
    tonal_assets,  # noqa: F401
)
from tests.scenes.conftest import assets  # noqa: F401

RECORDED = json.loads((Path(__file__).parent / "recorded.json").read_text(encoding="utf-8"))


def _short(*texts: str | bytes) -> str:
    joined = hashlib.sha256()
    for text in texts:
        joined.update(text if isinstance(text, bytes) else text.encode())
    return joined.hexdigest()[:16]


def _seen_from_afar(sound: NDArray[np.float32]) -> list[float]:
    """Sums of a sound under four fixed patterns of signs, over the root of its length.

    Any sample that changes moves them; the last bits of its floats, which differ between
    processors, don't. A digest of rounded samples would change with a value on an edge.
    """
    signs = np.random.default_rng(0).choice((-1.0, 1.0), size=(4, sound.size))
    sums = signs @ sound.ravel().astype(np.float64) / np.sqrt(sound.size)
    return [round(float(x), 6) for x in sums]


def _near(values: object) -> object:
    """What was recorded, with room for the last bits."""
    return pytest.approx(values, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", ["embedded-v3", "tagger", "joint-v1"])
def test_digests_of_bundled_models(name: str) -> None:
    assert load_card(resolve_model(name)).sha256[:16] == RECORDED["models"][name]


def test_digests_of_recipes_and_ablations() -> None:
    names = [*RECIPES, *(f"{base}+{name}" for base in RECIPES for name in ABLATIONS)]
    assert {name: digest(recipe_named(name))[:16] for name in names} == RECORDED["recipes"]


def test_the_catalogue_and_the_version_of_rendering() -> None:
    found = {"catalogue": Catalogue.load().digest[:16], "render_version": RENDER_VERSION}
    assert found == RECORDED["material"]


@pytest.mark.parametrize("kind", ["main", "strike", "offscreen", "audio"])
def test_scenes_of_a_seed(assets: SceneAssets, kind: str) -> None:  # noqa: F811
    drawn, heard = [], []
    for seed in range(3):
        scene = draw_scene(
            assets,
            split="test",
            seed=seed,
            index=seed,
            kind=kind,  # type: ignore[arg-type]
            duration_s=2.0,
        )
        drawn.append(_short(json.dumps(asdict(scene), sort_keys=True, default=str)))
        heard += _seen_from_afar(render_sound(scene, assets).mix_N)
    assert drawn == RECORDED["scenes"][kind]["drawn"]
    assert heard == _near(RECORDED["scenes"][kind]["heard"])


def test_pictures_of_a_scene(assets: SceneAssets) -> None:  # noqa: F811
    scene = draw_scene(assets, split="test", seed=1, index=1, kind="main", duration_s=1.5)
    frames = render_frames(scene, assets, fps=25, size_px=96)
    assert _short(np.stack(list(frames)).tobytes()) == RECORDED["pictures"]


@pytest.mark.slow
def test_clips_of_a_track(store: Path, tmp_path: Path) -> None:  # noqa: F811
    track = build_scene_track(store, tmp_path, TrackPlan(num_clips=4, seed=3, duration_s=2.0))
    assert track.clips_sha256[:16] == RECORDED["track"]


@pytest.mark.slow
def test_a_feature_store(store: Path, tmp_path: Path) -> None:  # noqa: F811
    torch.manual_seed(0)
    sync = SyncConfig(frame_px=16, channels=(4, 8), feature_dim=6)
    save_model(
        tmp_path / "parts",
        name="parts",
        parts={"sync": to_json(sync)},
        tensors={"sync": SyncEncoder(sync).state_dict()},
        defaults={},
        training={},
    )
    plans = (
        ScenePlan(kind="audio", count=2, duration_s=2.0),
        ScenePlan(kind="offscreen", count=2, duration_s=2.0),
    )
    out = tmp_path / "features"
    encoders = EncoderSource(model=tmp_path / "parts")
    build_features(out, assets=store, encoders=encoders, split="train", seed=0, plans=plans)
    rows = FeatureStore([out])
    drawn = [_short(repr([t.role for t in rows[i].texts]), *rows[i].classes) for i in range(4)]
    heard = [x for i in range(4) for x in _seen_from_afar(rows[i].sound_N)]
    assert drawn == RECORDED["features"]["drawn"]
    assert heard == _near(RECORDED["features"]["heard"])
    assert sorted(p.name for p in out.iterdir()) == RECORDED["features"]["files"]


def test_batches_of_a_seed(tmp_path: Path) -> None:
    encoder = TextEncoder.load()
    clips = click_store(tmp_path / "features", encoder)
    hard = Difficulty(
        offscreen_prob=0.5, token_drop_sample_prob=0.5, null_prob=0.5, text_drop=0.5, speed=0.2
    )
    recorded = RECORDED["batches"]
    for step, task in enumerate(("T2A", "V2A", "VT2A")):
        draw = sampler_for(clips, seed=0, batch_seconds=12.8).draw(step, {task: 1.0})
        settings = {"seed": 0, "step": step, "difficulty": hard, "prompts": encoder}
        batches = {
            "host": build_batch(clips, draw, **settings),  # type: ignore[arg-type]
            "device": DeviceFeatures(clips, torch.device("cpu")).batch(draw, **settings),  # type: ignore[arg-type]
        }
        for name, batch in batches.items():
            drawn = (batch.clip_ids, batch.texts, batch.noise_seeds_B, batch.drop_B.tolist())
            assert _short(repr(drawn)) == recorded[name]["drawn"][step]
            heard = _seen_from_afar(batch.waveform_BN.numpy())
            assert heard == _near(recorded[name]["heard"][step])
