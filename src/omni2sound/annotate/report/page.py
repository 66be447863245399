"""HTML page of one clip's history, in a single file.

In:   a run's folder, a clip's name.
Out:  an HTML file: frames above the spectrogram, the record of each step and its reasons.

All text from models and manifests is escaped.
"""

from __future__ import annotations

import io
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from omni2sound.annotate.media import SAMPLE_RATE_HZ, clip_sound, shots_of
from omni2sound.annotate.records import Failure
from omni2sound.annotate.roles import SourceClip
from omni2sound.annotate.runs import RunSettings, clip_name, source_clips, stories
from omni2sound.config import to_json
from omni2sound.data.corpora.manifest import read_manifest
from omni2sound.errors import MediaError, UserError
from omni2sound.files import write_text
from omni2sound.media.figure import frames_above_spectrogram
from omni2sound.media.page import data_uri, html_page
from omni2sound.media.samples import Audio

_NUM_FRAMES = 6
_FRAME_PX = 180
_STYLE = Path(__file__).with_name("page.css")


def write_page(run: Path, clip: str, output: Path) -> None:
    """Write the page.

    Raises:
        UserError: The run has no finished clip of that name.
    """
    story = next((s for s in stories(run) if clip_name(s.clip) == clip), None)
    if story is None:
        raise UserError(f"{run}: no clip {clip!r} has ended; names are CORPUS/CLIP_ID")
    manifest = read_manifest(Path(RunSettings.read(run).manifest))
    source = next(c for c in source_clips(manifest) if c.name == clip)
    caption = story.caption
    failed = [record for record in story.steps.values() if isinstance(record, Failure)]
    head = escape(caption.text if caption else "no caption")
    if failed:
        head = escape(f"{failed[0].kind}: {failed[0].reason}")
    rows = "".join(
        f"<tr><td>{escape(step)}<td>{_shown(to_json(record))}</tr>"
        for step, record in story.steps.items()
    )
    body = (
        f"<h1>{escape(clip)}</h1><p><b>{escape(story.ending.end)}</b>: {head}</p>"
        f"{image_of(source)}"
        f"<table><tr><th>step<th>what it found</tr>{rows}</table>"
    )
    write_text(output, html_page(clip, body, style=_STYLE))


def image_of(source: SourceClip) -> str:
    """Return an HTML image of frames above the spectrogram, or why there is none."""
    try:
        uri = data_uri("image/png", _picture(source))
    except MediaError as error:  # why the clip failed, perhaps
        return f"<p>{escape(str(error))}</p>"
    return f'<img alt="frames above a spectrogram" src="{uri}">'


def _picture(source: SourceClip) -> bytes:
    """Frames above the spectrogram, as PNG."""
    shots = shots_of(source, height_px=_FRAME_PX, frames_per_shot=_NUM_FRAMES)
    frames = [frame for shot in shots for frame in shot.frames_THWC]
    if frames:
        indices = ((np.arange(_NUM_FRAMES) + 0.5) * len(frames) / _NUM_FRAMES).astype(int)
        frames = [frames[index] for index in indices]
    image = frames_above_spectrogram(
        frames,
        Audio(samples_CN=clip_sound(source)[None], sample_rate_hz=SAMPLE_RATE_HZ),
        title=source.name,
    )
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def _shown(data: Any) -> str:
    """Render JSON data as nested lists; long lists of objects fold, vectors are left out."""
    if isinstance(data, dict):
        inner = "".join(
            f"<li>{escape(str(name))}: {_shown(value)}"
            for name, value in data.items()
            if name != "sound" and not (name == "rule" and value is None)
        )
        return f"<ul>{inner}</ul>"
    if isinstance(data, list):
        if len(data) > 8 and all(isinstance(item, dict) for item in data):
            return f"<details><summary>{len(data)}</summary>{_items(data)}</details>"
        return _items(data)
    return escape("unknown" if data is None else str(data))


def _items(data: list[Any]) -> str:
    return "<ol>" + "".join(f"<li>{_shown(item)}" for item in data) + "</ol>"
