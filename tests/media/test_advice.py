"""Refusals of videos are true, and what they advise works."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from omni2sound.errors import MediaError, UserError
from omni2sound.media import Audio, mux, probe
from omni2sound.media.files import VIDEO_SUFFIXES

SOUND = Audio(samples_CN=np.zeros((1, 16_000), np.float32), sample_rate_hz=16_000)


def moving(path: Path, codec: str, pix_fmt: str) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=Fraction(10))
        stream.width = stream.height = 64
        stream.pix_fmt = pix_fmt
        for number in range(10):
            grey = np.full((64, 64, 3), 20 * number, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(grey)))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("raw.avi", "rawvideo", "bgr24"),
        ("raw420.avi", "rawvideo", "yuv420p"),
        ("huffyuv.avi", "huffyuv", "yuv422p"),
        ("moving.gif", "gif", "rgb8"),
        ("moving.apng", "apng", "rgb24"),
        ("old.avi", "msmpeg4v2", "yuv420p"),
    ],
)
@pytest.mark.parametrize("suffix", VIDEO_SUFFIXES)
def test_who_follows_the_advice_gets_a_video(
    tmp_path: Path, name: str, codec: str, pix_fmt: str, suffix: str
) -> None:
    # Kosinkadink/ComfyUI-VideoHelperSuite#302: shots come as gif and apng.
    video = moving(tmp_path / name, codec, pix_fmt)
    target = tmp_path / f"out{suffix}"
    try:
        mux(video, SOUND, target)
    except UserError as error:
        advice = str(error).partition("; ")[2]
        assert "`reencode`" in advice
        for advised in (s for s in VIDEO_SUFFIXES if s in advice):
            assert advised != suffix
            mux(video, SOUND, tmp_path / f"advised{advised}")
        mux(video, SOUND, target, reencode=True)
    found = probe(target).video
    assert found is not None
    assert found.num_frames == 10


def webp(flags: int) -> bytes:
    """The head of a WebP file with an extended header, and a frame that nothing can decode."""
    chunks = b"VP8X" + struct.pack("<I", 10) + bytes([flags]) + bytes(9)
    chunks += b"ANIM" + struct.pack("<I", 6) + bytes(6)
    chunks += b"ANMF" + struct.pack("<I", 16) + bytes(16)
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


@pytest.mark.parametrize("flags", [0x02, 0x12, 0x3E])
def test_an_animated_webp_is_called_one(tmp_path: Path, flags: int) -> None:
    # python-pillow/Pillow#7738: ComfyUI saves shots so.
    path = tmp_path / "shot.webp"
    path.write_bytes(webp(flags))
    with pytest.raises(MediaError, match=r"shot\.webp: is an animated WebP.*save it as mp4"):
        probe(path)


@pytest.mark.parametrize("data", [webp(0x10), webp(0x02)[:20], b"RIFF\0\0\0\0WEBP", b"RIFF"])
def test_another_webp_is_not(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "still.webp"
    path.write_bytes(data)
    with pytest.raises(MediaError) as refused:
        probe(path)
    assert "animated" not in str(refused.value)
