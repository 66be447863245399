"""HEVC in mp4 and mov: "hvc1" where the header has all parameter sets, else nothing is dropped."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import pytest

from omni2sound.media import mux
from tests.media.clips import write_video
from tests.media.films import tone

WARNING = "tag is hev1, which Apple's players may refuse"


def joined(
    folder: Path, sizes: Sequence[tuple[int, int]], codec: str, options: dict[str, str]
) -> Path:
    """Parts of a transport stream, one a size, joined byte by byte."""
    parts = [
        write_video(
            folder / f"{number}.ts", ticks=range(20), time_base=Fraction(1, 25), codec=codec,
            size=size, options={"g": "10", "bf": "0"} | options,
        ).read_bytes()
        for number, size in enumerate(sizes)
    ]  # fmt: skip
    path = folder / "in.ts"
    path.write_bytes(b"".join(parts))
    return path


def hevc(folder: Path, sizes: Sequence[tuple[int, int]], params: str = "") -> Path:
    return joined(folder, sizes, "libx265", {"x265-params": f"log-level=none{params}"})


def pictures(path: Path) -> list[tuple[int, int, bytes]]:
    """Size and pixels of each picture as FFmpeg decodes it."""
    with av.open(str(path)) as container:
        return [(f.width, f.height, f.to_ndarray().tobytes()) for f in container.decode(video=0)]


def tag(path: Path) -> str:
    with av.open(str(path)) as container:
        return container.streams.video[0].codec_context.codec_tag


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_parts_with_other_parameters_keep_them(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    source = hevc(tmp_path, [(64, 96), (128, 192), (64, 96)])
    out = tmp_path / f"out{suffix}"
    with caplog.at_level(logging.WARNING, "omni2sound"):
        mux(source, tone(440), out)
    assert pictures(out) == pictures(source)
    assert {size[:2] for size in pictures(out)} == {(96, 64), (192, 128)}
    assert caplog.text.count(WARNING) == (suffix != ".mkv")
    if suffix != ".mkv":
        assert tag(out) == "hev1"
        again = tmp_path / f"again{suffix}"  # from sized units, not from start codes
        mux(out, tone(440), again)
        assert tag(again) == "hev1"
        assert pictures(again) == pictures(source)


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize("params", ["", ":repeat-headers=1"])
def test_parameters_that_only_repeat_are_hvc1(
    tmp_path: Path, params: str, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    source = hevc(tmp_path, [(64, 96)] * 2, params)
    out = tmp_path / f"out{suffix}"
    with caplog.at_level(logging.WARNING, "omni2sound"):
        mux(source, tone(440), out)
    assert tag(out) == "hvc1"
    assert pictures(out) == pictures(source)
    assert WARNING not in caplog.text


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_h264_keeps_its_parameters_under_each_tag(tmp_path: Path, suffix: str) -> None:
    source = joined(tmp_path, [(64, 96), (128, 192)], "libx264", {})
    mux(source, tone(440), tmp_path / f"out{suffix}")
    assert pictures(tmp_path / f"out{suffix}") == pictures(source)
