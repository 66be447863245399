"""A small store of clicks, and the networks that know them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.robustness.click_corpus import (
    click_autoencoder,
    click_store,
)
from omni2sound.data.store.rows import FeatureStore
from omni2sound.encoders.text import TextEncoder
from omni2sound.models.autoencoder import MelPcaAutoencoder


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder.load()


@pytest.fixture
def store(tmp_path: Path, encoder: TextEncoder) -> FeatureStore:
    return click_store(tmp_path / "features", encoder)


@pytest.fixture(scope="module")
def vae() -> MelPcaAutoencoder:
    return click_autoencoder()
