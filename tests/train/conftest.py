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


@pytest.fixture(scope="session")
def encoder() -> TextEncoder:
    return TextEncoder.load()


@pytest.fixture(scope="session")
def features(tmp_path_factory: pytest.TempPathFactory, encoder: TextEncoder) -> Path:
    """Folder of the store; not to be changed."""
    folder = tmp_path_factory.mktemp("clicks") / "features"
    click_store(folder, encoder)
    return folder


@pytest.fixture
def store(features: Path) -> FeatureStore:
    return FeatureStore([features])


@pytest.fixture(scope="module")
def vae() -> MelPcaAutoencoder:
    return click_autoencoder()
