"""The stage material of tests/data/stage, here too; and a corpus that YAMNet can judge."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from omni2sound.data.stage.assets import SAMPLE_RATE_HZ, StageAssets
from tests.data.stage.conftest import assets  # noqa: F401 (a fixture)

HEARD_AS = {
    "bell": ("Sine wave", "Beep, bleep"),
    "drum": ("White noise", "Static", "Noise"),
}


@pytest.fixture(scope="session")
def tonal_assets(assets: StageAssets) -> StageAssets:  # noqa: F811
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
    return StageAssets.from_arrays(replace(catalogue, classes=classes), waveforms, pictures)
