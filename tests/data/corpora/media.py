"""Small real media made in code, with pictures or without, and corpora imported from them."""

from __future__ import annotations

import io
import wave
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np

from omni2sound.data.corpora import importer
from omni2sound.data.corpora.assemble import ImportReport, assemble
from omni2sound.data.corpora.finding.folder import MediaFolder
from omni2sound.data.corpora.manifest import Clip

_RATE_HZ = 8000


@cache
def sound(duration_s: float, tone_hz: float = 0.0) -> bytes:
    """A WAV file; players tell it by its contents, whatever its suffix is."""
    times = np.arange(round(duration_s * _RATE_HZ)) / _RATE_HZ
    samples = np.round(64 * np.sin(2 * np.pi * tone_hz * times)).astype(np.int16)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(_RATE_HZ)
        out.writeframes(samples.tobytes())
    return file.getvalue()


@cache
def video(duration_s: float, *, has_sound: bool = True, has_pictures: bool = True) -> bytes:
    """An mp4 file of two pictures a second, and of AAC."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        if has_pictures:
            pictures = out.add_stream("mpeg4", rate=Fraction(2))
            pictures.width = pictures.height = 16
            pictures.pix_fmt = "yuv420p"
        if has_sound:
            tone = out.add_stream("aac", rate=_RATE_HZ, layout="mono")
        for number in range(round(duration_s * 2) if has_pictures else 0):
            grey = np.full((16, 16, 3), number % 256, np.uint8)
            out.mux(pictures.encode(av.VideoFrame.from_ndarray(grey)))
        if has_pictures:
            out.mux(pictures.encode(None))
        if has_sound:
            num_samples = round(duration_s * _RATE_HZ)
            for first in range(0, num_samples, 1024):
                size = min(1024, num_samples - first)
                frame = av.AudioFrame.from_ndarray(
                    np.zeros((1, size), np.float32), format="fltp", layout="mono"
                )
                frame.sample_rate, frame.pts = _RATE_HZ, first
                out.mux(tone.encode(frame))
            out.mux(tone.encode(None))
    return file.getvalue()


def write(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files below a folder, by their paths in it."""
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def run(
    name: str, tables: dict[str, str], files: dict[str, bytes], tmp_path: Path
) -> tuple[dict[str, Clip], ImportReport]:
    """Import a corpus from its published tables and the files that somebody has of it."""
    published, media = tmp_path / "published", tmp_path / "media"
    write(published, {n: text.encode() for n, text in tables.items()})
    write(media, files)
    clips, report = assemble(name, importer(name)(published), MediaFolder(media))
    return {clip.clip_id: clip for clip in clips}, report


def unsure(report: ImportReport) -> dict[str, str]:
    """The reasons by clip."""
    return {u.clip_id: u.reason for u in report.unsure}
