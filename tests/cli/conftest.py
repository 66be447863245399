"""A small model, and a current folder with a video, for tests of commands that generate."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.build import tiny_model_folder, video_with_square


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a video in it."""
    video_with_square(tmp_path / "clip.mp4", duration_s=1.2)
    monkeypatch.chdir(tmp_path)
    return tmp_path
