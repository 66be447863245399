"""The stage material of tests/scenes, here too; and a corpus that YAMNet can judge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from omni2sound.bench.tracks.scenes import TrackPlan, build_scene_track
from omni2sound.bench.tracks.track import Track
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets
from tests.scenes.conftest import assets  # noqa: F401 (a fixture)

HEARD_AS = {
    "bell": ("Sine wave", "Beep, bleep"),
    "drum": ("White noise", "Static", "Noise"),
}


@pytest.fixture(scope="session")
def tonal_assets(assets: SceneAssets) -> SceneAssets:  # noqa: F811
    """The same corpus, but bells are pure tones and drums are noise, and the judge is told so.

    Real names would need real recordings; these two YAMNet knows from any source.
    """
    catalogue = assets.catalogue
    classes = tuple(
        replace(c, yamnet_classes=HEARD_AS.get(c.class_id, c.yamnet_classes))
        for c in catalogue.classes
    )
    waveforms = {r.recording_id: assets.waveform(r.recording_id) for r in catalogue.recordings}
    time_s = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    for k in range(6):
        noise = 0.1 * np.random.default_rng(k).standard_normal(SAMPLE_RATE_HZ)
        waveforms[f"drum-{k}"] = noise.astype(np.float32)
        waveforms[f"bell-{k}"] = (0.3 * np.sin(2 * np.pi * 1000 * time_s)).astype(np.float32)
    pictures = {p.picture_id: assets.rgba(p.picture_id) for p in catalogue.pictures}
    return SceneAssets.from_arrays(replace(catalogue, classes=classes), waveforms, pictures)


@pytest.fixture(scope="session")
def store(tonal_assets: SceneAssets, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same corpus on disk, as `scenes fetch` leaves one."""
    folder = tmp_path_factory.mktemp("store")
    (folder / "recordings").mkdir()
    (folder / "pictures").mkdir()
    catalogue = tonal_assets.catalogue
    (folder / "catalogue.json").write_text(catalogue.to_json(), encoding="utf-8")
    for recording in catalogue.recordings:
        name = recording.recording_id
        soundfile.write(
            folder / "recordings" / f"{name}.flac", tonal_assets.waveform(name), SAMPLE_RATE_HZ
        )
    for picture in catalogue.pictures:
        image = Image.fromarray(tonal_assets.rgba(picture.picture_id))
        image.save(folder / "pictures" / f"{picture.picture_id}.png")
    return folder


@pytest.fixture(scope="session")
def scene_track(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Track:
    """Eight clips of 2 s."""
    plan = TrackPlan(num_clips=8, seed=3, duration_s=2.0)
    return build_scene_track(store, tmp_path_factory.mktemp("track"), plan)
