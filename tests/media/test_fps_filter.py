"""Pictures of ffmpeg's fps filter, beside the ones that the package sees with."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from omni2sound.errors import MediaError
from omni2sound.media.fps_filter import iter_filtered_frames
from omni2sound.media.video import iter_frames
from tests.media.clips import LEVELS, number_of, write_video


def shown(path: Path, fps: Fraction | int) -> list[int]:
    return [number_of(picture) for picture in iter_filtered_frames(path, fps=fps)]


@pytest.mark.parametrize("source_fps", [12, 24, 30, 50])
def test_it_differs_from_ours_only_in_the_middle_of_an_interval(
    tmp_path: Path, source_fps: int
) -> None:
    path = write_video(
        tmp_path / "v.mp4",
        ticks=range(2 * source_fps),
        time_base=Fraction(1, source_fps),
        rate=Fraction(source_fps),
    )
    filtered = shown(path, 25)
    ours = [number_of(picture) for picture in iter_frames(path, fps=25, duration_s=2)]
    assert len(filtered) == len(ours) == 50
    for i, (theirs, own) in enumerate(zip(filtered, ours, strict=True)):
        place = (Fraction(i) + Fraction(1, 2)) / 25 * source_fps
        late = 1 if place.denominator == 1 else 0  # that picture appears just then
        assert (own - theirs) % LEVELS == late


def test_a_short_video_gives_fewer_pictures(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", ticks=range(15), time_base=Fraction(1, 10))
    assert len(shown(path, 25)) in (37, 38)
    assert shown(path, Fraction(1, 2)) == [9]  # what is on screen just before 1 s


def test_a_file_without_pictures_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(b"nothing")
    with pytest.raises(MediaError):
        shown(path, 25)
