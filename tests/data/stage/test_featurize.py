"""Features of scenes: complete, repeatable, resumable, and true to the tasks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from omni2sound.config import to_json
from omni2sound.data.features import FeatureStore
from omni2sound.data.stage.assets import SAMPLE_RATE_HZ, STORE_CATALOGUE, StageAssets
from omni2sound.data.stage.featurize import ScenePlan, build_features
from omni2sound.data.stage.render import render_sound
from omni2sound.data.stage.scene import draw_scene
from omni2sound.data.stage.sync_examples import sync_batches
from omni2sound.encoders.sync import SyncConfig, SyncEncoder
from omni2sound.errors import ConfigError, UserError
from omni2sound.timebase import TimeBase
from omni2sound.weights import save_model

SYNC = SyncConfig(frame_px=16, channels=(4, 8), feature_dim=6)
PLANS = (
    ScenePlan(kind="audio", count=2, duration_s=2.0),
    ScenePlan(kind="offscreen", count=2, duration_s=2.0),
)
ODD_S = 2.2  # just above 2.2 as a float: 56 frames of 1/25 s, but 55 latent frames


@pytest.fixture(scope="module")
def corpus(assets: StageAssets, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "recordings").mkdir()
    (folder / "pictures").mkdir()
    for r in assets.catalogue.recordings:
        path = folder / "recordings" / f"{r.recording_id}.flac"
        soundfile.write(path, assets.waveform(r.recording_id), SAMPLE_RATE_HZ)
    for p in assets.catalogue.pictures:
        Image.fromarray(assets.rgba(p.picture_id)).save(folder / "pictures" / f"{p.picture_id}.png")
    (folder / STORE_CATALOGUE).write_text(assets.catalogue.to_json())
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "parts"
    save_model(
        folder,
        name="parts",
        parts={"sync": to_json(SYNC)},
        tensors={"sync": SyncEncoder(SYNC).state_dict()},
        defaults={},
        training={},
    )
    return folder


@pytest.fixture(scope="module")
def built(corpus: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("features")
    build_features(out, assets=corpus, model=model, split="train", seed=0, plans=PLANS)
    return out


def test_every_planned_scene_is_there(built: Path) -> None:
    store = FeatureStore([built])
    assert len(store) == 4
    assert store.has_video == [False, False, True, True]
    for i in (2, 3):
        clip = store[i]
        assert clip.vision_TV is not None
        assert clip.sync_LS is not None
        assert clip.vision_TV.shape == (16, 1280)
        assert clip.sync_LS.shape == (50, 6)
        assert len(clip.sound_N) == 32_000
        roles = [t.role for t in clip.texts]
        assert set(roles) == {"caption", "dropped", "offscreen"}
        dropped = next(t.text for t in clip.texts if t.role == "dropped")
        assert set(dropped.split()) <= set(clip.texts[0].text.split())


def test_a_video_target_does_not_hold_the_unseen(built: Path, corpus: Path) -> None:
    """The target is the on-screen stems and ambience, up to one common factor."""
    assets = StageAssets.open(corpus)
    store = FeatureStore([built])
    scene = draw_scene(assets, split="train", seed=0, index=0, kind="offscreen", duration_s=2.0)
    sound = render_sound(scene, assets)
    seen = np.array([e.on_screen for e in scene.events])
    assert not seen.all()
    target = sound.stems_EN[seen].sum(axis=0) + sound.ambience_N
    clip = store[2]
    factor = float(clip.sound_N @ target / (target @ target))
    np.testing.assert_allclose(clip.sound_N, factor * target, atol=2e-4)
    assert clip.offscreen_N is not None
    unseen = sound.stems_EN[~seen].sum(axis=0)
    assert np.corrcoef(clip.offscreen_N, unseen)[0, 1] > 0.999


def test_a_stopped_build_goes_on_and_gives_the_same(
    built: Path, corpus: Path, model: Path, tmp_path: Path
) -> None:
    first = sorted(built.glob("*.arrow"))[0]
    arguments = {"assets": corpus, "model": model, "split": "train", "seed": 0}
    build_features(tmp_path, plans=PLANS, **arguments)  # type: ignore[arg-type]
    before = (tmp_path / first.name).stat().st_mtime_ns
    other = sorted(tmp_path.glob("*.arrow"))[1]
    other.unlink()
    build_features(tmp_path, plans=PLANS, **arguments)  # type: ignore[arg-type]
    assert (tmp_path / first.name).stat().st_mtime_ns == before
    for path in built.glob("*.arrow"):
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


def test_there_is_one_sync_feature_per_latent_frame(
    corpus: Path, model: Path, tmp_path: Path
) -> None:
    plans = [ScenePlan(kind="strike", count=1, duration_s=ODD_S)]
    build_features(tmp_path, assets=corpus, model=model, split="train", seed=0, plans=plans)
    clip = FeatureStore([tmp_path])[0]
    assert clip.sync_LS is not None
    assert len(clip.sync_LS) == TimeBase().num_latent_frames(ODD_S) == 55


def test_everything_used_is_listed_with_its_licence(built: Path, corpus: Path) -> None:
    catalogue = StageAssets.open(corpus).catalogue
    (listed,) = FeatureStore([built]).attribution
    for r in catalogue.recordings:
        assert (r.recording_id in listed) == (r.split == "train")


def test_a_store_made_otherwise_is_refused(built: Path, corpus: Path, model: Path) -> None:
    with pytest.raises(ConfigError, match="made with another seed"):
        build_features(built, assets=corpus, model=model, split="train", seed=1, plans=PLANS)
    with pytest.raises(UserError, match="need a model folder"):
        build_features(built, assets=corpus, model=None, split="train", seed=0, plans=PLANS)


def test_sync_examples_follow_the_truth(corpus: Path) -> None:
    config = replace(SYNC, frame_px=16)
    batches = list(
        sync_batches(corpus, config, split="train", seed=0, num_batches=1, num_workers=0)
    )
    assets = StageAssets.open(corpus)
    strike = draw_scene(assets, split="train", seed=0, index=1, kind="strike", duration_s=4.0)
    assert len(batches) == 1
    assert batches[0].frames_BTHWK.shape == (8, 100, 16, 16, 3)
    assert int(batches[0].onset_BT[1].argmax()) == int(strike.events[0].onset_s * 25)
    assert batches[0].level_BT.max() <= 1
